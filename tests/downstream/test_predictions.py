"""The table of predictions: what goes in comes out, in bounded pieces; other files get one clear sentence."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_predictions import CLASSES, made_rows, made_scores

from aqqua.downstream import predictions
from aqqua.downstream.class_list import classes_from_json, classes_to_json
from aqqua.downstream.predictions import CLASSES_KEY, FACTS, KEPT, Predictions, PredictionsWriter

SAID = {name: f"the {name}" for name in FACTS}


def write(path, counts=(5, 300, 1, 94), **facts) -> tuple[pa.Table, np.ndarray]:
    """A table in several goes; what went in."""
    tables = [made_rows(n, sum(counts[:i])) for i, n in enumerate(counts)]
    scores = [made_scores(n, i) for i, n in enumerate(counts)]
    with PredictionsWriter(path, CLASSES, {**SAID, **facts}) as writer:
        for table, scores_IC in zip(tables, scores, strict=True):
            writer.write(table, scores_IC)
    return pa.concat_tables(tables).unify_dictionaries(), np.concatenate(scores)


@pytest.mark.parametrize("row_group", [64, 400, 1 << 16])
def test_what_goes_in_comes_out(tmp_path, monkeypatch, row_group):
    monkeypatch.setattr(predictions, "ROW_GROUP", row_group)
    table, scores = write(tmp_path / "p.parquet", note="more")
    found = Predictions.open(tmp_path / "p.parquet")
    assert found.classes == CLASSES
    assert found.facts == {**SAID, "note": "more"}
    assert found.rows == 400
    batches = list(found.batches())
    assert max(map(len, batches)) <= row_group
    assert len(batches) == -(-400 // row_group)
    back = pa.concat_tables(batches).unify_dictionaries()
    for name in KEPT:
        assert back[name].to_pylist() == table[name].to_pylist(), name
    best = scores.argmax(axis=1)
    assert back["class"].to_pylist() == [CLASSES[c].name for c in best]
    assert back["aphia_id"].to_pylist() == [CLASSES[c].aphia_id for c in best]
    assert back["qualifier"].to_pylist() == [CLASSES[c].qualifier for c in best]
    assert back["living"].to_pylist() == [CLASSES[c].living for c in best]
    np.testing.assert_array_equal(back["score"].to_numpy(), scores.max(axis=1))
    stored = np.array(back["scores"].to_pylist(), np.float16)
    np.testing.assert_array_equal(stored, scores.astype(np.float16))


def test_some_columns_and_an_empty_table(tmp_path):
    write(tmp_path / "p.parquet")
    found = Predictions.open(tmp_path / "p.parquet")
    (batch,) = found.batches(["class", "image_id"])
    assert batch.column_names == ["class", "image_id"]
    with pytest.raises(ValueError, match="got 'klass'"):
        next(found.batches(["klass"]))
    with PredictionsWriter(tmp_path / "none.parquet", CLASSES, SAID):
        pass
    empty = Predictions.open(tmp_path / "none.parquet")
    assert empty.rows == sum(map(len, empty.batches())) == 0


def test_nothing_is_left_of_what_failed(tmp_path):
    writer = PredictionsWriter(tmp_path / "p.parquet", CLASSES, SAID)
    with pytest.raises(ValueError, match="sum to 1"), writer:
        writer.write(made_rows(3), 2 * made_scores(3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (np.full((2, 3), np.nan), "must be 0 to 1 and sum to 1, got .* for made/image0"),
        (np.array([[1, 0, 0], [0.5, 0.4, 0]]), "sum to 1, got .* for made/image1"),
        (np.array([[1, 0, 0], [1.5, -0.5, 0]]), "must be 0 to 1"),
        (np.ones((2, 2)) / 2, r"must be \(2, 3\), images x classes, got \(2, 2\)"),
        (np.ones((1, 3)) / 3, r"must be \(2, 3\)"),
    ],
)
def test_scores_that_are_no_probabilities_are_refused(tmp_path, scores, said):
    with (
        pytest.raises(ValueError, match=said),
        PredictionsWriter(tmp_path / "p.parquet", CLASSES, SAID) as writer,
    ):
        writer.write(made_rows(2), scores.astype(np.float32))


def test_an_output_that_cannot_be_is_refused_before_the_work(tmp_path):
    (tmp_path / "there.parquet").write_text("mine")
    with pytest.raises(ValueError, match="must not exist yet"):
        PredictionsWriter(tmp_path / "there.parquet", CLASSES, SAID)
    with pytest.raises(ValueError, match=r"must be named \.parquet"):
        PredictionsWriter(tmp_path / "p.csv", CLASSES, SAID)
    with pytest.raises(ValueError, match="got no command"):
        PredictionsWriter(tmp_path / "p.parquet", CLASSES, {k: v for k, v in SAID.items() if k != "command"})
    with pytest.raises(ValueError, match="'detritus' twice"):
        PredictionsWriter(tmp_path / "p.parquet", [*CLASSES, CLASSES[2]], SAID)
    assert (tmp_path / "there.parquet").read_text() == "mine"


def changed(path, out, change) -> None:
    """The same table with another schema or metadata."""
    pq.write_table(change(pq.read_table(path)), out)


def with_classes(table: pa.Table, text: str) -> pa.Table:
    return table.replace_schema_metadata({**table.schema.metadata, CLASSES_KEY.encode(): text})


METADATA = {
    "other Parquet": (lambda t: t.replace_schema_metadata(None), "must state aqqua.classes"),
    "no hash": (
        lambda t: t.replace_schema_metadata({CLASSES_KEY: classes_to_json(CLASSES)}),
        "must state aqqua.model_sha256",
    ),
    "fewer classes": (
        lambda t: with_classes(t, classes_to_json(CLASSES[:2])),
        r"column scores .* must be fixed_size_list.*\[2\], got .*\[3\]",
    ),
    "bad list": (
        lambda t: with_classes(t, '[{"name": 3}]'),
        "classes must be a JSON list of classes, got at 0.name",
    ),
    "no column": (lambda t: t.drop_columns(["sample"]), "must have the columns image_id, key"),
    "other type": (
        lambda t: t.set_column(t.schema.get_field_index("lat"), "lat", t["lat"].cast(pa.float32())),
        "column lat .* must be double, got float",
    ),
}


@pytest.mark.parametrize("what", METADATA)
def test_a_wrong_file_gets_one_clear_sentence(tmp_path, what):
    write(tmp_path / "p.parquet")
    change, said = METADATA[what]
    changed(tmp_path / "p.parquet", tmp_path / "other.parquet", change)
    with pytest.raises(ValueError, match=said) as caught:
        Predictions.open(tmp_path / "other.parquet")
    assert "\n" not in str(caught.value)
    assert "other.parquet" in str(caught.value)


def test_no_file_no_parquet_and_a_damaged_one(tmp_path):
    with pytest.raises(ValueError, match="the file must exist"):
        Predictions.open(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("PAR1 nothing")
    with pytest.raises(ValueError, match="must be a Parquet file"):
        Predictions.open(tmp_path / "text.parquet")
    write(tmp_path / "p.parquet")
    data = bytearray((tmp_path / "p.parquet").read_bytes())
    data[600:700] = bytes(100)
    (tmp_path / "p.parquet").write_bytes(data)
    with pytest.raises(ValueError, match=r"must be whole, got: .*; make it again"):
        list(Predictions.open(tmp_path / "p.parquet").batches())


def test_classes_come_back_from_json_and_strangers_do_not():
    assert classes_from_json(classes_to_json(CLASSES), "here") == CLASSES
    good = json.loads(classes_to_json(CLASSES))
    wrong = [
        ([], "at least one, .* got none"),
        ([{**good[0], "colour": 1}], "got at 0.colour"),
        ([{**good[0], "aphia_id": 0}], "got at 0.aphia_id"),
        ([{**good[0], "aphia_id": "1080"}], "got at 0.aphia_id"),
        ({"a": 1}, "got at the list"),
    ]
    for value, said in wrong:
        with pytest.raises(ValueError, match=f"^here: classes must be .*{said}"):
            classes_from_json(json.dumps(value), "here")


MEMORY = """
import sys
from pathlib import Path
from made_predictions import CLASSES, made_rows, made_scores
from aqqua.downstream.predictions import FACTS, Predictions, PredictionsWriter
table, scores = made_rows(16384), made_scores(16384)
with PredictionsWriter(Path(sys.argv[1]), CLASSES, dict.fromkeys(FACTS, "x")) as writer:
    for _ in range(int(sys.argv[2])):
        writer.write(table, scores)
assert sum(map(len, Predictions.open(sys.argv[1]).batches())) == writer.rows
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1000)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path, request):
    """Two row groups, then eight: 390,000 rows more. In full with a million: bench/data/predictions.py."""

    def peak_mb(writes: int) -> int:
        command = [sys.executable, "-c", MEMORY, str(tmp_path / f"{writes}.parquet"), str(writes)]
        root = request.config.rootpath
        paths = {"PYTHONPATH": f"{root}:{root / 'tests' / 'downstream'}"}
        done = subprocess.run(command, env=paths, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert peak_mb(32) - peak_mb(8) < 100  # MB
