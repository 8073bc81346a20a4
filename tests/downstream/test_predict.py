"""From a dataset to predictions: of classes, and of traits as a long table."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from aqqua.downstream.classifier import Classifier
from aqqua.downstream.predict import TRAITS_SCHEMA, predict
from aqqua.downstream.predictions import KEPT, Predictions
from aqqua.evaluate.finetune.heads import TraitHead
from aqqua.evaluate.finetune.traits import Trait

LENGTH = Trait(
    trait_id="length", unit="um", kind="continuous", log10=True, mean=1.0, std=0.5, error_low=-0.5,
    error_high=1.0,
)  # fmt: skip
EGGS = Trait(trait_id="eggs", kind="binary")


def test_every_image_gets_its_row(classifier, shapes_of, tmp_path):
    seen: list[int] = []
    rows = predict(classifier, shapes_of, tmp_path / "p.parquet", "aqqua predict c", seen.append)
    found = Predictions.open(tmp_path / "p.parquet")
    assert rows == found.rows == 120
    assert seen == [*range(16, 120, 16), 120]
    table = pa.concat_tables(found.batches())
    for name in KEPT:
        assert table[name].to_pylist() == shapes_of.table([name])[name].to_pylist(), name
    wanted = np.concatenate([classifier.probabilities(shapes_of, b) for b in range(shapes_of.blocks)])
    stored = np.array(table["scores"].to_pylist(), np.float16)
    np.testing.assert_array_equal(stored, wanted.astype(np.float16))
    assert found.facts == {
        "model_sha256": classifier.sha256,
        "dataset_sha256": shapes_of.manifest_sha256,
        "classifier_name": "made",
        "command": "aqqua predict c",
        "thresholds": json.dumps([0.1, 0.2, 0.0]),
    }


def test_traits_become_a_long_table_with_intervals_where_known(classifier, shapes_of, tmp_path):
    head = TraitHead(64, (LENGTH, EGGS)).eval()
    torch.nn.init.normal_(head.linear.weight, std=0.1)
    made = Classifier("sizer", classifier.embedder, head, (), (LENGTH, EGGS), 1.0, None, {})
    assert predict(made, shapes_of, tmp_path / "t.parquet", "aqqua predict sizer") == 240
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.schema.equals(TRAITS_SCHEMA)
    assert table.schema.metadata[b"aqqua.model_sha256"].decode() == made.sha256
    assert set(table["method"].to_pylist()) == {"sizer"}
    outputs = torch.cat([made.outputs(shapes_of, b) for b in range(shapes_of.blocks)]).double().numpy()
    length = table.filter(pa.compute.equal(table["trait_id"].cast(pa.string()), "length"))
    assert length["object_id"].to_pylist() == shapes_of.table(["image_id"])["image_id"].to_pylist()
    value = 10 ** (outputs[:, 0] * 0.5 + 1)
    np.testing.assert_allclose(length["value"].to_numpy(), value, rtol=1e-6)
    np.testing.assert_allclose(length["low"].to_numpy(), value * 10**-0.25, rtol=1e-6)
    np.testing.assert_allclose(length["high"].to_numpy(), value * 10**0.5, rtol=1e-6)
    eggs = table.filter(pa.compute.equal(table["trait_id"].cast(pa.string()), "eggs"))
    np.testing.assert_allclose(eggs["value"].to_numpy(), 1 / (1 + np.exp(-outputs[:, 1])), rtol=1e-5)
    assert eggs["low"].null_count == eggs["high"].null_count == 120


def test_rows_of_traits_are_gathered_to_row_groups(classifier, shapes_of, tmp_path, monkeypatch):
    head = TraitHead(64, (LENGTH, EGGS)).eval()
    torch.nn.init.normal_(head.linear.weight, std=0.1)
    made = Classifier("sizer", classifier.embedder, head, (), (LENGTH, EGGS), 1.0, None, {})
    predict(made, shapes_of, tmp_path / "one.parquet", "")
    monkeypatch.setattr("aqqua.downstream.predict.ROW_GROUP", 50)
    predict(made, shapes_of, tmp_path / "some.parquet", "")
    one, some = (pq.ParquetFile(tmp_path / f"{name}.parquet") for name in ("one", "some"))
    assert one.metadata.num_row_groups == 1
    groups = [some.metadata.row_group(g).num_rows for g in range(some.metadata.num_row_groups)]
    assert groups == [50, 50, 50, 50, 40]
    assert one.read().to_pylist() == some.read().to_pylist()


def test_a_used_output_is_refused(classifier, shapes_of, tmp_path):
    (tmp_path / "p.parquet").write_text("mine")
    head = TraitHead(64, (EGGS,)).eval()
    traits = Classifier("t", classifier.embedder, head, (), (EGGS,), 1.0, None, {})
    for one in (classifier, traits):
        with pytest.raises(ValueError, match=r"must not exist yet|must be a new file"):
            predict(one, shapes_of, tmp_path / "p.parquet", "")
    assert (tmp_path / "p.parquet").read_text() == "mine"
