"""Atlases for the tests of the server."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_explorer import made_atlas, made_table

from aqqua.explore.server.asked import AskedAtlas

ROWS = 3000


@pytest.fixture(scope="session")
def atlas_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_atlas(tmp_path_factory.mktemp("served") / "o'neill atlas.parquet", ROWS, hostile=True)


@pytest.fixture(scope="session")
def second_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_atlas(tmp_path_factory.mktemp("served") / "second.parquet", 500, seed=4)


@pytest.fixture(scope="session")
def asked(atlas_path: Path) -> AskedAtlas:
    return AskedAtlas(atlas_path)


@pytest.fixture(scope="session")
def of_dataset(curated_dataset, tmp_path_factory):
    """An atlas of some images of a real dataset, in another order."""
    columns = curated_dataset.table(["image_id", "key"])
    order = np.random.default_rng(0).permutation(len(columns))[:60]
    chosen = columns.take(pa.array(order))
    table = made_table(len(chosen))
    schema = table.schema
    for name in ("image_id", "key"):
        place = schema.get_field_index(name)
        table = table.set_column(place, schema.field(name), chosen[name].cast(schema.field(name).type))
    path = tmp_path_factory.mktemp("atlas") / "of.parquet"
    pq.write_table(table.replace_schema_metadata(schema.metadata), path)
    return path, chosen
