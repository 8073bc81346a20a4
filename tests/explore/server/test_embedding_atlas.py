"""The export for embedding-atlas has the columns and types that its command line documents."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_explorer import made_table
from PIL import Image

from aqqua.cli import main
from aqqua.explore.atlas.table import NEIGHBOURS
from aqqua.explore.server.asked import NONE
from aqqua.explore.server.embedding_atlas import export_embedding_atlas

ROWS = 3000  # more than a row group


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An atlas in which one point has three neighbours only, and what is exported of it."""
    folder, table = tmp_path_factory.mktemp("embedding_atlas"), made_table(ROWS)
    place, field = table.schema.get_field_index("neighbours"), table.schema.field("neighbours")
    near = table["neighbours"].combine_chunks().flatten().to_numpy().reshape(ROWS, -1).copy()
    near[7, 3:] = NONE
    fewer = pa.FixedSizeListArray.from_arrays(pa.array(near.ravel()), type=field.type)
    table = table.set_column(place, field, fewer)
    pq.write_table(table, folder / "atlas.parquet", row_group_size=2048)
    assert export_embedding_atlas(folder / "atlas.parquet", folder / "out.parquet") == ROWS
    return table, pq.read_table(folder / "out.parquet"), folder


def test_columns_have_the_documented_types(made):
    _, out, _ = made
    assert out.schema.field("x").type == out.schema.field("y").type == pa.float32()
    assert out.schema.field("label").type == pa.string()
    assert out.schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kinds = {one.name: one.type for one in out.schema.field("neighbors").type}
    assert kinds == {"ids": pa.list_(pa.int64()), "distances": pa.list_(pa.float32())}
    assert not {"neighbours", "foreign", "thumbnail", "key"} & set(out.schema.names)
    assert not any(pa.types.is_dictionary(field.type) for field in out.schema)


def test_values_are_those_of_the_atlas(made):
    table, out, _ = made
    for name in ("image_id", "x", "y", "label", "depth_m", "time", "cluster"):
        assert out[name].to_pylist() == table[name].to_pylist()
    assert [one["bytes"] for one in out["image"].to_pylist()] == table["thumbnail"].to_pylist()
    assert Image.open(io.BytesIO(out["image"][0].as_py()["bytes"])).width == table["thumb_width"][0].as_py()


def test_neighbours_are_rows_from_zero_and_growing_distances(made):
    table, out, _ = made
    told = out["neighbors"].to_pylist()
    assert [len(one["ids"]) for one in told] == [3 if row == 7 else NEIGHBOURS for row in range(ROWS)]
    assert told[2500]["ids"] == table["neighbours"][2500].as_py()
    cosine = np.array(table["neighbour_similarity"][2500].as_py(), np.float32)
    assert told[2500]["distances"] == pytest.approx(1 - cosine)
    assert all(one["distances"] == sorted(one["distances"]) and one["distances"][0] >= 0 for one in told)
    assert len(told[7]["distances"]) == 3


def test_the_command_line_writes_it_and_refuses_what_does_not_fit(made, capsys):
    _, _, folder = made
    asked = ["explore", "export", str(folder / "atlas.parquet"), "--format", "embedding-atlas", "--out"]
    assert main([*asked, str(folder / "cli.parquet")]) == 0
    assert pq.read_metadata(folder / "cli.parquet").num_rows == ROWS
    for more, said in (
        ([str(folder / "x.html")], "parquet"),
        ([str(folder / "y.parquet"), "--beside", str(folder / "atlas.parquet")], "one atlas"),
    ):
        assert main([*asked, *more]) != 0
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error
