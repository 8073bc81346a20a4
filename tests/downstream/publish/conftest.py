"""One dataset and its tables for all tests of a folder. Read only."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from made_published import (
    FACTS,
    a_dataset,
    a_record,
    prediction_rows,
    write_carbon,
    write_predictions,
    write_sizes,
)

from aqqua.store.read import Dataset


@dataclass(frozen=True)
class Made:
    """A dataset with the tables made from it."""

    dataset: Dataset
    predictions: Path
    sizes: Path
    carbon: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    records = [a_record(number) for number in range(20)]
    records.append(
        a_record(20, object_id=" x" * 140, label_status="unlabelled", label=None)
    )  # too long an id
    records.append(a_record(24, object_id="50% or\tmore "))
    dataset = a_dataset(folder / "dataset", records)
    facts = {**FACTS, "dataset_sha256": dataset.manifest_sha256}
    return Made(
        dataset,
        write_predictions(folder / "predictions.parquet", prediction_rows(dataset), facts),
        write_sizes(folder / "sizes.parquet", dataset),
        write_carbon(folder / "carbon.parquet", dataset),
    )
