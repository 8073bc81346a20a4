"""Small data sets of made-up records, and suites about them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_suite import MAP

from aqqua.evaluate.suites.suite import Suite
from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.read import Dataset
from aqqua.store.write import ingest


@dataclass(frozen=True)
class Numbered:
    """A small picture that is nobody else's."""

    number: int

    def load(self, _tree: Tree) -> np.ndarray:
        return np.random.default_rng(self.number).integers(0, 255, (3, 5), np.uint8)


@pytest.fixture
def hold(tmp_path: Path) -> Callable[[str, list[dict[str, Any]]], Dataset]:
    """A data set of a name from facts of its images; `content` numbers the picture."""

    def made(name: str, facts: list[dict[str, Any]]) -> Dataset:
        records = [
            Record(
                object_id=f"o{i}",
                pixels=Numbered(f.get("content", i)),
                instrument=f.get("instrument", "IFCB"),
                um_per_px=None,
                sample=f.get("sample", ""),
                group=f.get("group", ""),
                time=datetime(2026, f["month"], 3, tzinfo=UTC) if "month" in f else None,
                lat=f.get("lat"),
                lon=f.get("lon"),
                label=f.get("label", "a"),
                label_status=f.get("status", "validated"),
            )
            for i, f in enumerate(facts)
        ]
        ingest([(Tree(root=Path("m"), label="m"), iter(records))], tmp_path / name, block_rows=32, workers=1)
        return Dataset.open(tmp_path / name)

    return made


@pytest.fixture
def suite_of(tmp_path: Path) -> Callable[..., Suite]:
    """A suite of data sets that all use MAP."""
    (tmp_path / "letters.yaml").write_text(MAP)

    def made(
        *keys: str, tiers: dict[str, Any], dataset: dict[str, Any] | None = None, **values: Any
    ) -> Suite:
        one = {"labels": str(tmp_path / "letters.yaml"), **(dataset or {})}
        sets = dict.fromkeys(keys or ("first",), one)
        whole = {"name": "made", "description": "made up", "datasets": sets, "tiers": tiers, **values}
        return Suite.model_validate(whole)

    return made
