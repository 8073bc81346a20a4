"""Small datasets for the tests of the store."""

from collections.abc import Callable
from pathlib import Path

import pytest
from made_images import an_input, record

from aqqua.instruments.record import Found
from aqqua.store.read import Dataset
from aqqua.store.write import ingest


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """A dataset of `count` images of all kinds, blocks of 64."""

    def make(count: int = 300, name: str = "dataset") -> Dataset:
        found: list[Found] = [record(i) for i in range(count)]
        ingest([an_input(found)], tmp_path / name, block_rows=64, workers=1)
        return Dataset.open(tmp_path / name)

    return make
