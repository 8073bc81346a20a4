"""A curated dataset, made up, for the tests of the page of a curation."""

import sys
from pathlib import Path

import pytest
from made_curation import make_dataset, make_folders

from aqqua.store.read import Dataset

sys.path.append(str(Path(__file__).parents[1] / "evaluate"))  # made_entries
sys.path.append(str(Path(__file__).parents[2] / "bench"))  # made_explorer


@pytest.fixture(scope="session")
def curated_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("curated") / "dataset")


@pytest.fixture(scope="session")
def curated_folders(curated_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_folders(tmp_path_factory.mktemp("columns"), curated_dataset)
