"""From labels, traits and carbon to a saved classifier that predicts."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from drawn_shapes import shapes

from aqqua.downstream.classifier import load_classifier
from aqqua.downstream.learn import Request, finetune_carbon, finetune_species, finetune_traits, labelled
from aqqua.downstream.predict import predict
from aqqua.downstream.predictions import Predictions
from aqqua.evaluate.finetune.config import FinetuneConfig
from aqqua.evaluate.models import save_embedder
from aqqua.store.read import Dataset
from aqqua.store.split import NAMING, held_out_rows
from aqqua.taxonomy.classes import TaxonClass

CONFIG = FinetuneConfig(
    mode="frozen", epochs=8, batch_images=32, validation_share=0.25, optim={"head_lr": 0.01}
)
DISK = TaxonClass("Coscinodiscus", 148917, ("Chromista", None, None, None, None, "Coscinodiscus", None))
ROD = TaxonClass("rod", None, (None,) * 7)


@pytest.fixture
def asked(classifier, shapes_folder, tmp_path) -> Request:
    save_embedder(classifier.embedder, tmp_path / "model.safetensors")
    paths = tmp_path / "model.safetensors", shapes_folder, tmp_path / "out"
    return Request(*paths, CONFIG, "aqqua finetune", 0.2)


def test_species_are_learnt_saved_and_predicted(asked, shapes_of, tmp_path):
    made = finetune_species(asked, {"disk": DISK, "rod": ROD})
    again = load_classifier(asked.out)
    assert again.classes == made.classes == (DISK, ROD)
    assert again.sha256 == made.sha256
    assert again.name == "out"
    facts = json.loads((asked.out / "classifier.json").read_text())["facts"]
    assert facts["task"] == "species"
    assert facts["dataset_sha256"] == shapes_of.manifest_sha256
    assert facts["command"] == "aqqua finetune"
    assert facts["config"] == CONFIG.model_dump(mode="json")
    held = int(held_out_rows(shapes_of.table(NAMING), 0.2).sum())
    metrics = facts["metrics"]
    assert 0 < held == 120 - metrics["train_images"] - metrics["validation_images"]
    assert facts["left_out"]["held out"] == held
    predict(again, shapes_of, tmp_path / "p.parquet", "")
    table = pa.concat_tables(Predictions.open(tmp_path / "p.parquet").batches(["label", "class"]))
    wanted = [{"disk": "Coscinodiscus", "rod": "rod"}[name] for name in table["label"].to_pylist()]
    assert np.mean(np.array(wanted) == np.array(table["class"].to_pylist())) > 0.8


def test_labels_that_count(shapes_of):
    everything = np.ones(120, bool)
    found = labelled(shapes_of, everything, None)
    assert [one.name for one in found.classes] == ["disk", "rod"]
    assert len(found.row_N) == 120
    names = shapes_of.table(["label"])["label"].to_pylist()
    assert [found.classes[c].name for c in found.label_N] == names
    with pytest.raises(ValueError, match=r"every label must be in the label map, got 'rod' in row \d+"):
        labelled(shapes_of, everything, {"disk": DISK})
    with pytest.raises(ValueError, match=r"at least two classes .* got 1 of"):
        labelled(shapes_of, everything, {"disk": DISK, "rod": None})
    few = np.array(names) == "disk"
    few[names.index("rod")] = True
    with pytest.raises(ValueError, match=f"got 1 of {few.sum()} images"):
        labelled(shapes_of, few, None)


def traits_csv(folder, rows) -> object:
    lines = ["object_id,trait_id,value,unit,method", *rows]
    (folder / "traits.csv").write_text("\n".join(lines) + "\n")
    return folder / "traits.csv"


def test_traits_are_learnt_from_a_table(asked, tmp_path):
    drawn = shapes(120)
    rows = [f"shape{i:03},length,{one.length_px},px,ruler" for i, one in enumerate(drawn)]
    rows += [f"shape{i:03},rod,{int(one.label == 'rod')},,eye" for i, one in enumerate(drawn) if i % 3]
    made = finetune_traits(asked, traits_csv(tmp_path, rows), log10=["length"])
    assert [(t.trait_id, t.kind, t.log10) for t in made.traits] == [
        ("length", "continuous", True), ("rod", "binary", False),
    ]  # fmt: skip
    assert load_classifier(asked.out).traits == made.traits
    assert set(made.facts["metrics"]["scores"]) == {"length", "rod"}


def test_a_trait_that_is_not_in_the_table(asked, tmp_path):
    table = traits_csv(tmp_path, ["shape001,length,1,px,ruler"])
    with pytest.raises(ValueError, match="must be among length, got width"):
        finetune_traits(asked, table, kinds={"width": "binary"})


def test_carbon_is_learnt_in_picograms(asked, tmp_path):
    drawn = shapes(120)
    rows = [f"shape{i:03},poc,{one.length_px**2 / 1000},ng C,bottle" for i, one in enumerate(drawn)]
    made = finetune_carbon(asked, traits_csv(tmp_path, rows))
    (carbon,) = made.traits
    assert (carbon.trait_id, carbon.unit, carbon.log10) == ("carbon", "pg", True)
    middle = np.exp(np.mean([2 * np.log(one.length_px) for one in drawn]))
    assert 10**carbon.mean == pytest.approx(middle, rel=0.2)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["shape001,poc,1,pg,bottle", "shape002,poc,2,pg,protist"], "row 3: carbon must be measured"),
        (["shape001,poc,1,pg,diatom/protist"], "row 2: carbon must be measured, got a value of .*diatom/"),
        (["shape001,poc,1,pg,bottle", "shape002,poc,0,pg,bottle"], r"row 3: poc must be above 0 .* got 0\.0"),
        (["shape001,poc,1,um3,bottle"], r"one of pg, ng, .* got poc in 'um3'"),
        (["shape001,poc,1,pg,b", "shape001,volume,1,um3,b"], "one trait, carbon, .* got poc, volume"),
    ],
)
def test_carbon_that_is_none(asked, tmp_path, rows, said):
    with pytest.raises(ValueError, match=said):
        finetune_carbon(asked, traits_csv(tmp_path, rows), relations=["protist"])


def test_a_used_output_and_a_wrong_holdout_are_refused_before_the_work(asked):
    with pytest.raises(ValueError, match="holdout must be 0 to below 1, got 1"):
        finetune_species(replace(asked, holdout=1.0))
    asked.out.mkdir()
    with pytest.raises(ValueError, match="must not exist yet"):
        finetune_species(asked)


def test_a_run_says_what_is_held_out_and_real_files_can_be_learnt(tiny_run, sample_dataset, tmp_path):
    """Images as five instruments store them: grey and colour, with and without a scale, some unlabelled."""
    config = CONFIG.model_copy(update={"mode": "lora", "epochs": 1, "turn": "any"})
    made = finetune_species(Request(tiny_run, sample_dataset, tmp_path / "out", config, ""))
    assert made.facts["holdout"] == 0.3
    assert made.facts["left_out"]["no trusted label"] > 0
    predict(made, Dataset.open(sample_dataset), tmp_path / "p.parquet", "")
    assert Predictions.open(tmp_path / "p.parquet").rows == Dataset.open(sample_dataset).rows
