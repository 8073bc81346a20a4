"""The atlas on disk: strict opening, thumbnails without the rest, nothing half written."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_atlas import atlas_table

from aqqua.explore.atlas.table import FACTS, RANKS, Atlas, write_whole

ROWS = 250


@pytest.fixture
def table():
    return atlas_table(ROWS)


@pytest.fixture
def atlas(tmp_path, table):
    pieces = (table.slice(first, 37) for first in range(0, ROWS, 37))
    write_whole(tmp_path / "a.parquet", table.schema, pieces, row_group=100)
    return Atlas.open(tmp_path / "a.parquet")


def test_what_was_written_is_read(atlas, table):
    assert atlas.rows == ROWS
    assert atlas.columns == table.schema.names
    assert atlas.facts == {"version": 1, "points": ROWS, "numbers": {}}
    read = atlas.table(["y", "image_id", "neighbours"])
    assert read.column_names == ["y", "image_id", "neighbours"]
    assert read.equals(table.select(["y", "image_id", "neighbours"]))
    assert read["neighbours"].type.list_size == 20
    groups = [pq.ParquetFile(atlas.path).metadata.row_group(g).num_rows for g in range(3)]
    assert groups == [100, 100, 50]


def test_thumbnails_of_some_rows_read_their_row_groups_alone(atlas, monkeypatch):
    rows = [249, 0, 0, 101]
    read, original = [], atlas._file.read_row_group
    monkeypatch.setattr(atlas._file, "read_row_group", lambda g, **how: read.append(g) or original(g, **how))
    assert atlas.thumbnails(rows) == [row.to_bytes(2, "big") for row in rows]
    assert sorted(read) == [0, 1, 2]
    assert atlas.thumbnails([120]) == [(120).to_bytes(2, "big")]
    assert len(read) == 3
    with pytest.raises(ValueError, match=r"row must be 0 to 249, got 250"):
        atlas.thumbnails([250])
    with pytest.raises(ValueError, match=r"columns must be among image_id, .*, got 'nonsense'"):
        atlas.table(["nonsense"])


def test_ranks_are_columns_where_given():
    assert atlas_table(3, ranks=True).schema.names[-7:] == list(RANKS)


def test_words_as_dictionaries_and_nullable_fields_of_others_are_read(tmp_path, table):
    loose = table.set_column(0, "image_id", table["image_id"].dictionary_encode())
    item = pa.list_(pa.uint32(), 10)
    column = loose.schema.get_field_index("foreign")
    loose = loose.set_column(column, "foreign", loose["foreign"].cast(item))
    pq.write_table(loose, tmp_path / "loose.parquet")
    assert Atlas.open(tmp_path / "loose.parquet").rows == ROWS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns("novelty"), "must have the column novelty, got none"),
        (lambda t: t.set_column(2, "x", t["x"].cast(pa.float64())), "x of .* must be float, got double"),
        (
            lambda t: t.set_column(2, "x", pa.array([None] * ROWS, pa.float32())),
            "x of .* must never be null, got a null",
        ),
        (lambda t: t.replace_schema_metadata({}), "must be an atlas, got another Parquet file"),
        (lambda t: t.replace_schema_metadata({FACTS: "{"}), "must be JSON"),
        (lambda t: t.replace_schema_metadata({FACTS: "[1]"}), "must be 1, got None"),
        (
            lambda t: t.replace_schema_metadata({FACTS: json.dumps({"version": 2})}),
            "version of .* must be 1, got 2; update aqqua",
        ),
        (lambda t: t.slice(0, 0), "must hold a point, got none"),
    ],
)
def test_other_files_are_refused(tmp_path, table, change, message):
    pq.write_table(change(table), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=message):
        Atlas.open(tmp_path / "other.parquet")


def test_no_parquet_at_all(tmp_path):
    (tmp_path / "text.parquet").write_text("hello")
    for name in ("text.parquet", "nothing.parquet"):
        with pytest.raises(ValueError, match="must be a Parquet file"):
            Atlas.open(tmp_path / name)


def test_nothing_is_left_of_a_broken_build(tmp_path, table):
    def pieces():
        yield table
        raise RuntimeError("the dataset is damaged")

    with pytest.raises(RuntimeError, match="damaged"):
        write_whole(tmp_path / "a.parquet", table.schema, pieces(), row_group=10)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told(tmp_path, table):
    def pieces():
        yield table
        raise OSError(28, "No space left on device")

    with pytest.raises(RuntimeError, match=r"must have room for the output, got .*No space.*free"):
        write_whole(tmp_path / "a.parquet", table.schema, pieces())
    assert list(tmp_path.iterdir()) == []


def test_the_output_is_new_and_named_parquet(tmp_path, table):
    (tmp_path / "a.parquet").touch()
    with pytest.raises(ValueError, match="must not exist yet"):
        write_whole(tmp_path / "a.parquet", table.schema, iter([table]))
    with pytest.raises(ValueError, match=r"must be named \.parquet"):
        write_whole(tmp_path / "a.csv", table.schema, iter([table]))


def test_damage_is_found(atlas):
    raw = bytearray(atlas.path.read_bytes())
    groups = pq.ParquetFile(atlas.path).metadata.row_group(0)
    column = next(groups.column(i) for i in range(50) if groups.column(i).path_in_schema == "thumbnail")
    raw[column.data_page_offset + column.total_compressed_size // 2] ^= 255
    atlas.path.write_bytes(bytes(raw))
    damaged = Atlas.open(atlas.path)
    with pytest.raises(ValueError, match=r"must be readable, got .*; it is damaged"):
        damaged.table(["thumbnail"])
    with pytest.raises(ValueError, match=r"must be readable, got .*; it is damaged"):
        damaged.thumbnails([0])
