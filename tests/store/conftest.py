"""Small datasets for the tests of the store, and readers that a test's end closes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
from made_images import an_input, record

from aqqua.instruments.record import Found
from aqqua.store import shelf, substitute
from aqqua.store.prefetch import BlockReader, ReadConfig
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


@pytest.fixture
def make_reader() -> Iterator[Callable[..., BlockReader]]:
    made = []

    def make(dataset: Dataset, columns: tuple[str, ...] = (), **config: object) -> BlockReader:
        made.append(BlockReader(dataset, ReadConfig.model_validate(config), columns))
        return made[-1]

    yield make
    for reader in made:
        reader.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses of a reader."""
    monkeypatch.setattr(substitute, "RETRY_S", (0.01, 0.01))
    monkeypatch.setattr(shelf, "POLL_S", 0.01)
    monkeypatch.setattr(shelf, "CLOSE_S", 0.05)


@pytest.fixture
def hang() -> Iterator[Event]:
    """Reads that wait for this hang until the test is over."""
    event = Event()
    yield event
    event.set()
