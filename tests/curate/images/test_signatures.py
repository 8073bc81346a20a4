"""Signatures: every kind of image has one, and it does not depend on who made it where."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from held_pictures import column, hold, organism

from aqqua.curate.images.signatures import FIELDS, KIND, pictures_of, sign_part, write_signatures
from aqqua.spread import Engine
from aqqua.store.columns import Columns, write_columns


def odd_pictures() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [
        np.zeros((1, 1), np.uint8),
        np.full((1, 9), 7, np.uint8),
        np.full((30, 30), 255, np.uint8),
        np.full((12, 5, 3), 9, np.uint8),
        draw.integers(0, 65535, (2, 3), np.uint16),
        draw.integers(0, 65535, (20, 31, 3), np.uint16),
        draw.integers(0, 255, (3, 300), np.uint8),
        draw.integers(0, 255, (17, 16, 3), np.uint8),
    ]


def test_every_kind_of_image_has_finite_numbers(tmp_path):
    dataset = hold(tmp_path / "data", odd_pictures())
    signed = write_signatures(dataset, tmp_path / "out")
    table = signed.block(0, [field.name for field in FIELDS])
    assert len(table) == 8
    for field in FIELDS:
        if field.name != "picture":
            assert np.isfinite(table[field.name].to_numpy()).all(), field.name
    flat = column(signed, "scale")
    assert [flat[f"image{i}"] for i in range(4)] == [0, 0, 0, 0]
    assert pictures_of(table).shape == (8, 16, 16)


def test_one_image_is_a_dataset(tmp_path):
    signed = write_signatures(hold(tmp_path / "data", [organism(1)]), tmp_path / "out")
    assert signed.block(0, ["scale"])["scale"].to_pylist()[0] > 10


def test_parts_may_be_signed_by_any_number_of_processes_in_any_order(tmp_path):
    dataset = hold(tmp_path / "data", [organism(n, 20) for n in range(70)], block_rows=2)
    assert dataset.parts > 1
    one = write_signatures(dataset, tmp_path / "one")
    two = write_signatures(dataset, tmp_path / "two", Engine(workers=2))
    with write_columns(tmp_path / "last", dataset, KIND, FIELDS, {}, "test") as writer:
        assert sum(sign_part(writer, part) for part in reversed(range(dataset.parts))) == 70
    last = Columns.open(tmp_path / "last", dataset, KIND)
    names = [dataset.part_name(part) for part in range(dataset.parts)]
    for other in (two, last):
        assert all((one.path / n).read_bytes() == (other.path / n).read_bytes() for n in names)


def test_the_columns_say_what_they_are(tmp_path):
    dataset = hold(tmp_path / "data", [organism(1)])
    write_signatures(dataset, tmp_path / "out")
    facts = Columns.open(tmp_path / "out", dataset, KIND).facts
    assert (facts["algorithm"], facts["config"], facts["made_from"]) == (1, {}, {})
    schema = pq.read_schema(tmp_path / "out" / dataset.part_name(0))
    assert all(schema.field(field.name).metadata[b"description"] for field in FIELDS)
    with pytest.raises(ValueError, match="must hold weights, got signatures"):
        Columns.open(tmp_path / "out", dataset, "weights")


def test_nothing_is_left_when_it_fails(tmp_path):
    dataset = hold(tmp_path / "data", [organism(1)])
    (dataset.path / dataset.part_name(0)).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="dataset:"):
        write_signatures(dataset, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
