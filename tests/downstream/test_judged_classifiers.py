"""From `aqqua finetune` to a suite: heads of species, traits and carbon beside the probes, by commands."""

import json

import numpy as np
import pytest

from aqqua.cli import main
from aqqua.downstream.classifier import open_judged
from aqqua.downstream.size.table import open_sizes, write_sizes
from aqqua.evaluate.entry import read_entry
from aqqua.store.read import Dataset

SUITE = """
name: sizes
description: sizes and carbon of procedural plankton
datasets: {{ocean: {{labels: sample, instrument: ISIIS}}}}
tiers: {{sample: {{holdout: 0.3}}}}
metrics: [{metrics}]
"""
TRAITS = "traits: {table: sizes.csv, log10: [esd]}\n"
CARBON = "carbon: {table: carbon.csv}\n"


@pytest.fixture(scope="module")
def tables(sample_dataset, tmp_path_factory):
    """A folder of what the images were measured to be: sizes by their outlines, carbon made up of them."""
    folder, dataset = tmp_path_factory.mktemp("measured"), Dataset.open(sample_dataset)
    write_sizes(dataset, folder / "sizes.parquet")
    (folder / "sizes.csv").write_text("object_id,trait_id,value,unit,method\n")
    (folder / "carbon.csv").write_text("object_id,trait_id,value,unit,method\n")
    draw = np.random.default_rng(0)
    with (folder / "sizes.csv").open("a") as sizes, (folder / "carbon.csv").open("a") as carbon:
        for batch in open_sizes(folder / "sizes.parquet").batches(["image_id", "esd_um"]):
            for name, esd in zip(*(batch[key].to_pylist() for key in ("image_id", "esd_um")), strict=True):
                if esd is None:
                    continue
                sizes.write(f"{name},esd,{esd},um,outline\n{name},large,{int(esd > 500)},,outline\n")
                carbon.write(f"{name},poc,{1e-3 * esd**2 * 10 ** draw.normal(0, 0.1)},ng C,CHN analyser\n")
    for name, metrics, parts in (
        ("traits", "traits", TRAITS),
        ("carbon", "carbon", CARBON),
        ("all", "classification, traits, carbon", TRAITS + CARBON),
    ):
        (folder / f"{name}.yaml").write_text(SUITE.format(metrics=metrics) + parts)
    return folder


@pytest.fixture(scope="module")
def classifiers(tables, tiny_run, sample_dataset):
    """Folders of heads of what the tables hold and of species; the run held 0.3 out, and so do they."""
    brief = ["mode=frozen", "epochs=12", "batch_images=16", "optim.head_lr=0.02", "validation_share=0.25"]
    brief += ["--data", str(sample_dataset)]
    for what, more in (
        ("species", ["--labels", "sample"]),
        ("trait", ["--table", str(tables / "sizes.csv"), "--log10", "esd"]),
        ("carbon", ["--table", str(tables / "carbon.csv")]),
    ):
        assert main(["finetune", what, str(tiny_run), *brief, "--out", str(tables / what), *more]) == 0
    return {what: str(tables / what) for what in ("species", "trait", "carbon")}


def judged(capsys, *words, code=0):
    capsys.readouterr()
    assert main(["evaluate", *map(str, words), "--json"]) == code
    said = capsys.readouterr()
    return json.loads(said.out) if code == 0 else said.err


def test_traits_and_carbon_stand_beside_a_linear_probe(tables, classifiers, sample_dataset, capsys, tmp_path):
    of = [
        classifiers["trait"],
        classifiers["carbon"],
        "--suite",
        tables / "all.yaml",
        "--data",
        sample_dataset,
    ]
    found = judged(capsys, *of, "--probes", "knn", "--against", "pixels", "--entries", tmp_path / "entries")
    by = {name: set(found["scores"][name]["sample"]) for name in found["scores"]}
    probes = {"kNN k=1", "kNN k=5", "kNN k=20", "esd, linear", "large, linear", "carbon, linear"}
    assert by == {
        classifiers["trait"]: probes | {"esd, fine-tuned", "large, fine-tuned"},
        classifiers["carbon"]: probes | {"carbon, fine-tuned"},
        "pixels": probes,
    }
    tuned = found["scores"][classifiers["trait"]]["sample"]
    assert set(tuned["esd, fine-tuned"]["figures"]) == {"r2_log10", "rmse_log10", "bias_log10", "spearman"}
    assert set(tuned["large, fine-tuned"]["figures"]) == {"average_precision"}
    assert tuned["esd, fine-tuned"]["figures"]["spearman"]["value"] > 0.3  # it learnt something
    carbon = found["scores"][classifiers["carbon"]]["sample"]["carbon, fine-tuned"]["figures"]
    assert carbon["rmse_log10"]["value"] < 1.5
    assert abs(carbon["bias_log10"]["value"]) < carbon["rmse_log10"]["value"]
    entry = read_entry(next((tmp_path / "entries").glob("*carbon.json")))
    assert entry.tiers["sample"].probes["carbon, fine-tuned"].metrics["rmse_log10"].value == pytest.approx(
        carbon["rmse_log10"]["value"]
    )
    assert entry.model.fine_tuned


def test_a_suite_of_values_alone_needs_no_class(tables, classifiers, sample_dataset, capsys):
    of = [classifiers["trait"], "--suite", tables / "traits.yaml", "--data", sample_dataset, "--against"]
    found = judged(capsys, *of)
    assert set(found["scores"][classifiers["trait"]]["sample"]) == {
        "esd, linear", "esd, fine-tuned", "large, linear", "large, fine-tuned",
    }  # fmt: skip
    assert main(["evaluate", *map(str, of)]) == 0
    said = capsys.readouterr().out
    assert "with measured values" in said
    assert "esd, fine-tuned: r2 log10" in said
    again = judged(capsys, classifiers["species"], *of[1:])
    why = again["fine_tuned_heads_not_judged"][classifiers["species"]]["sample"]
    assert why == "it tells classes, which the suite does not ask for"


def test_species_are_judged_where_they_were_held_out(classifiers, sample_dataset, capsys):
    of = [classifiers["species"], "--suite", "sample", "--data", sample_dataset, "--probes", "knn"]
    found = judged(capsys, *of, "--against", "untrained")
    assert len(found["scores"]) == 2  # the backbone of the folder with fresh weights beside it
    tiers = found["scores"][classifiers["species"]]
    assert "fine-tuned" in tiers["sample"]
    tuned = tiers["sample"]["fine-tuned"]["figures"]
    assert {"macro_f1", "ece", "lca_distance_edges", "bray_curtis_cc"} <= set(tuned)
    assert "temperature" not in tuned  # it has its own, and nothing is fitted here
    asked = tiers["sample"]["kNN k=5"]["images"]
    assert tiers["sample"]["fine-tuned"]["images"] == asked
    others = {name: set(probes) for name, probes in tiers.items() if name != "sample"}
    assert others
    assert not any("fine-tuned" in probes for probes in others.values())  # it had learnt from them
    why = found["fine_tuned_heads_not_judged"][classifiers["species"]]
    assert set(why) == set(others)
    assert all("it had learnt from" in reason for reason in why.values())


def test_shares_and_the_unknown_are_asked_for_by_the_sample_suite(sample_dataset, capsys):
    found = judged(
        capsys, "handcrafted", "--suite", "sample", "--data", sample_dataset, "--tier", "sample", "--probes",
        "knn", "--against",
    )  # fmt: skip
    (tiers,) = found["scores"].values()
    figures = tiers["sample"]["kNN k=5"]["figures"]
    assert {"bray_curtis_cc", "bray_curtis_acc", "bray_curtis_pacc", "bray_curtis_emq"} <= set(figures)
    assert all(0 <= figures[name]["value"] <= 1 for name in figures if name.startswith("bray_curtis"))
    novelty = tiers["sample"]["novelty"]["figures"]
    assert {"novelty_auroc", "novelty_fpr95", "oscd"} <= set(novelty)
    assert 0 <= novelty["novelty_auroc"]["value"] <= 1


def test_values_of_a_relation_judge_nobody(tables, classifiers, sample_dataset, capsys, tmp_path):
    text = (tables / "carbon.csv").read_text().replace("CHN analyser", "protist", 1)
    (tmp_path / "carbon.csv").write_text(text)
    (tmp_path / "carbon.yaml").write_text((tables / "carbon.yaml").read_text())
    said = judged(
        capsys, classifiers["carbon"], "--suite", tmp_path / "carbon.yaml", "--data", sample_dataset, code=2
    )
    assert "row 2: carbon must be measured, got a value of the relation protist" in said
    assert "Traceback" not in said


def test_a_classifier_that_does_not_say_what_it_learnt_from(classifier, tmp_path):
    from aqqua.downstream.classifier import save_classifier

    save_classifier(classifier, tmp_path / "old")
    with pytest.raises(ValueError, match="must say what it learnt from to be judged, got no holdout"):
        open_judged(str(tmp_path / "old"))
