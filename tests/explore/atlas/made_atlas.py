"""An atlas and embeddings, made up."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.explore.atlas.table import atlas_schema
from aqqua.store.read import Dataset


def atlas_table(rows: int = 10, ranks: bool = False) -> pa.Table:
    """Random values of every column; `thumbnail` of row i is i in two bytes."""
    random = np.random.default_rng(0)
    schema = atlas_schema(ranks, {"points": rows, "numbers": {}})
    columns = []
    for field in schema:
        if field.name == "thumbnail":
            columns.append(pa.array([i.to_bytes(2, "big") for i in range(rows)], field.type))
        elif pa.types.is_fixed_size_list(field.type):
            values = random.integers(0, rows, rows * field.type.list_size)
            flat = pa.array(values.astype(field.type.value_type.to_pandas_dtype()))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        elif pa.types.is_string(field.type):
            columns.append(pa.array([f"{field.name} {i}" for i in range(rows)]))
        else:
            columns.append(pa.array(np.arange(rows)).cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def write_embeddings_file(
    path: Path, dataset: Dataset, width: int = 12, model: str = "m", seed: int = 0
) -> None:
    """Embeddings in which images of one label lie together, as `aqqua embed` writes them."""
    labels = dataset.table(["label"])["label"].to_pylist()
    number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    random = np.random.default_rng(seed)
    centre = random.normal(size=(len(number), width))
    rows = centre[[number[label] for label in labels]] + 0.3 * random.normal(size=(len(labels), width))
    about = {
        "aqqua.dataset_sha256": dataset.manifest_sha256,
        "aqqua.model_sha256": model,
        "aqqua.pooling": "cls",
    }
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float32).ravel()), width)
    table = dataset.table(["image_id"]).append_column("embedding", column).replace_schema_metadata(about)
    pq.write_table(table, path, row_group_size=dataset.rows_of(0))
