"""An atlas for Apple's embedding-atlas, another viewer of maps: one Parquet file, nothing left to compute.

    uvx embedding-atlas FILE --x x --y y --text label --image image --neighbors neighbors

Its command line takes the names of columns: numbers for x and y; text; images as Hugging Face stores them, a
struct of `bytes` and `path`; and neighbours as a struct `{"ids": [...], "distances": [...]}` whose ids are
rows from 0. All other columns become charts and filters there. It draws with WebGPU, which some computers
lack; the page of aqqua explore does not need that.

Source: https://apple.github.io/embedding-atlas/tool.html (packages/docs/tool.md at 0904442); images:
https://huggingface.co/docs/datasets/about_dataset_features#image-feature.
Test: tests/explore/server/test_embedding_atlas.py.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.explore.atlas.table import ROW_GROUP, Atlas
from aqqua.explore.server.asked import NONE
from aqqua.explore.server.columns import HIDDEN
from aqqua.store.new_file import new_file

WHO = "explore export"
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NEIGHBORS = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])


def export_embedding_atlas(atlas: Path, out: Path) -> int:
    """Write the file; returns the number of points.

    Args:
        atlas: of aqqua explore build.
        out: new, named .parquet.

    Raises:
        ValueError: the file is no atlas, or `out` exists or has another name.
        RuntimeError: the disk is full or failed.
    """
    opened = Atlas.open(atlas)
    schema = _schema(pq.read_schema(atlas))
    with (
        new_file(out, WHO, ".parquet") as partial,
        pq.ParquetWriter(partial, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for piece in _pieces(atlas, schema):
            writer.write_table(piece, row_group_size=ROW_GROUP)
    return opened.rows


def _schema(atlas: pa.Schema) -> pa.Schema:
    """Position, picture, neighbours, then everything that a person filters by, with plain words."""
    shown = [field for field in atlas if field.name not in HIDDEN]
    plain = [
        pa.field(one.name, one.type.value_type if pa.types.is_dictionary(one.type) else one.type)
        for one in shown
    ]
    first = [("image_id", pa.string()), ("x", pa.float32()), ("y", pa.float32())]
    return pa.schema([*first, ("image", IMAGE), ("neighbors", NEIGHBORS), *plain])


def _pieces(atlas: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """A row group of the atlas at a time."""
    with pq.ParquetFile(atlas, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            pictures = table["thumbnail"].combine_chunks()
            paths = pa.nulls(len(table), pa.string())
            made = {
                "image": pa.StructArray.from_arrays([pictures, paths], fields=list(IMAGE)),
                "neighbors": _neighbors(table),
            }
            columns = [made[name] if name in made else table[name] for name in schema.names]
            yield pa.table(dict(zip(schema.names, columns, strict=True))).cast(schema)


def _neighbors(table: pa.Table) -> pa.StructArray:
    """Rows and cosine distances, nearest first; a point with fewer neighbours has shorter lists."""
    row = _flat(table, "neighbours").astype(np.int64)
    distance = 1 - _flat(table, "neighbour_similarity").astype(np.float32)
    there = row != NONE
    ends = np.concatenate([[0], there.reshape(len(table), -1).sum(axis=1).cumsum()]).astype(np.int32)
    lists = [pa.ListArray.from_arrays(ends, pa.array(values[there])) for values in (row, distance.clip(0))]
    return pa.StructArray.from_arrays(lists, fields=list(NEIGHBORS))


def _flat(table: pa.Table, name: str) -> np.ndarray:
    flat: np.ndarray = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat
