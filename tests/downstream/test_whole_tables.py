"""A table is there whole or not at all, and a reader takes no other."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aqqua.downstream.tables import Table, new_table, schema_of

COLUMNS = (("image_id", pa.string(), False, "name"), ("area", pa.float64(), True, "µm²"))


def write(path, facts):
    schema = schema_of(COLUMNS, facts)
    with new_table(path, schema, "made") as writer:
        writer.write_table(pa.table({"image_id": ["a", "b"], "area": [1.0, None]}, schema=schema))
    return path


def test_what_is_written_is_read(tmp_path):
    table = Table.open(write(tmp_path / "t.parquet", {"command": "x"}), COLUMNS, "sizes", "aqqua sizes")
    assert table.rows == 2
    assert table.facts == {"command": "x"}
    assert [batch.to_pydict() for batch in table.batches(["area"])] == [{"area": [1.0, None]}]


def test_nothing_is_left_when_it_fails(tmp_path):
    with pytest.raises(KeyError), new_table(tmp_path / "t.parquet", schema_of(COLUMNS, {}), "made"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "match"), [("t.csv", "named .parquet"), ("old.parquet", "not exist yet")])
def test_refuses_a_bad_output(tmp_path, name, match):
    (tmp_path / "old.parquet").touch()
    with pytest.raises(ValueError, match=match), new_table(tmp_path / name, schema_of(COLUMNS, {}), "made"):
        pass


def test_refuses_another_table(tmp_path):
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"image_id": ["a"], "area": ["one"]}), other)
    with pytest.raises(
        ValueError, match=r"column area of .* must be double, got string; make it with aqqua sizes"
    ):
        Table.open(other, COLUMNS, "sizes", "aqqua sizes")
    pq.write_table(pa.table({"name": ["a"]}), other)
    with pytest.raises(ValueError, match="must have the columns image_id, area, got name"):
        Table.open(other, COLUMNS, "sizes", "aqqua sizes")
    other.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="must be a Parquet file"):
        Table.open(other, COLUMNS, "sizes", "aqqua sizes")
    with pytest.raises(ValueError, match="the file must exist"):
        Table.open(tmp_path / "none.parquet", COLUMNS, "sizes", "aqqua sizes")


def test_tells_of_a_damaged_page(tmp_path):
    path = write(tmp_path / "t.parquet", {})
    data = bytearray(path.read_bytes())
    data[12] ^= 0xFF
    path.write_bytes(data)
    table = Table.open(path, COLUMNS, "sizes", "aqqua sizes")
    with pytest.raises(ValueError, match="must be whole"):
        list(table.batches())
