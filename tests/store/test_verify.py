"""verify finds every kind of damage and names the file; info counts what is there."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged_files import unsealed

from aqqua.store.manifest import file_sha256
from aqqua.store.read import Dataset
from aqqua.store.verify import info, verify

PART = "part-00000.parquet"


def test_a_good_dataset_has_no_problem(make_dataset):
    assert verify(make_dataset(100).path, deep=True) == []


@pytest.mark.parametrize("where", [0.02, 0.5, 0.99])
def test_a_flipped_bit_is_found(make_dataset, where):
    path = make_dataset(100).path
    data = bytearray((path / PART).read_bytes())
    data[int(len(data) * where)] ^= 4
    (path / PART).write_bytes(data)
    problems = verify(path)
    assert problems[0].file == PART
    assert "SHA-256" in problems[0].detail


def test_a_flipped_bit_is_refused_while_reading(make_dataset):
    path = make_dataset(100).path
    data = bytearray((path / PART).read_bytes())
    data[len(data) // 2] ^= 4  # the middle of the file is pixels
    (path / PART).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{PART} row group \d must be readable"):
        list(Dataset.open(path).iter_blocks())
    assert any("must be readable" in problem.detail for problem in verify(path, deep=True))


def test_truncated_missing_and_extra_files_are_named(make_dataset):
    path = make_dataset(100).path
    data = (path / PART).read_bytes()
    (path / PART).write_bytes(data[:-1000])
    (path / "samples.parquet").unlink()
    (path / "notes.txt").write_text("mine")
    problems = {problem.file: problem.detail for problem in verify(path, deep=True)}
    assert set(problems) == {PART, "samples.parquet", "notes.txt"}
    assert problems["samples.parquet"] == "is missing"
    (path / PART).write_bytes(data[:-1000])
    assert "bytes, got" in verify(path)[0].detail


def rewrite(path, column, values):
    """Replace a column, with a manifest that vouches for it: only a deep look can tell."""
    table = pq.read_table(path / PART)
    field = table.schema.field(column)
    table = table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))
    pq.write_table(table, path / PART, row_group_size=64)
    manifest = json.loads((path / "dataset.json").read_text())
    manifest["parts"][0] |= {"bytes": (path / PART).stat().st_size, "sha256": file_sha256(path / PART)}
    (path / "dataset.json").write_text(json.dumps(unsealed(manifest)))


@pytest.mark.parametrize("column", ["content", "key", "box_bottom", "um_per_px"])
def test_deep_finds_a_wrong_value(make_dataset, column):
    path = make_dataset(100).path
    values = pq.read_table(path / PART)[column].to_pylist()
    values[7] = {"content": b"\0" * 16, "key": 1, "box_bottom": 10_000, "um_per_px": -1.0}[column]
    rewrite(path, column, values)
    assert verify(path) == []
    problems = verify(path, deep=True)
    assert [problem.file for problem in problems] == [PART]
    assert "row group 0 row 7" in problems[0].detail


def test_counts_that_do_not_add_up_are_found(make_dataset):
    path = make_dataset(20).path
    manifest = json.loads((path / "dataset.json").read_text())
    manifest["counts"]["read"] += 1
    (path / "dataset.json").write_text(json.dumps(unsealed(manifest)))
    assert [problem.file for problem in verify(path)] == ["dataset.json"]


def test_info_counts_images_and_labels(make_dataset):
    facts = info(make_dataset(200).path)
    assert (facts["images"], facts["blocks"], facts["labels"], facts["unlabelled"]) == (200, 4, 4, 0)
    assert (
        facts["top_labels"] == {f"label{i}": 50 for i in range(4)} or sum(facts["top_labels"].values()) == 200
    )
    assert facts["um_per_px_known_share"] == pytest.approx(0.25)
    assert facts["counts"]["read"] == 200
    assert np.isclose(facts["bytes_per_image"] * 200, facts["bytes"])


def test_a_disk_that_fails_is_a_problem_of_its_file(make_dataset, monkeypatch):
    def fail(_self: Dataset, block: int) -> None:
        raise OSError(5, f"row group {block} must be readable")

    dataset = make_dataset(100)
    monkeypatch.setattr(Dataset, "block", fail)
    found = [str(problem) for problem in verify(dataset.path, deep=True)]
    assert [line.split(":")[0] for line in found] == ["part-00000.parquet"] * 2
    assert "row group 1 must be readable" in found[1]
