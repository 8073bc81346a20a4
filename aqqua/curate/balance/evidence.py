"""What the stages of curation found out about the images of a block, side by side.

Each of the four is a folder of Columns and may be missing: clusters, duplicates, quality, contamination.
Test: tests/curate/balance/test_curate_weights.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32

from aqqua.store.columns import Columns
from aqqua.store.read import Dataset

STAGES = ("clusters", "duplicates", "quality", "contamination")


@dataclass(frozen=True)
class Found:
    """Of the I images of a block."""

    cluster_IL: Int32[np.ndarray, "I L"]  # the finest first; L is 0 without clusters
    duplicate_of: pa.Array  # string, null for what is kept
    flags: list[list[str]]
    near_I: Bool[np.ndarray, " I"]  # an evaluation set


@dataclass(frozen=True)
class Evidence:
    """Columns of the stages that were run. Picklable."""

    dataset: Dataset
    clusters: Columns | None = None
    duplicates: Columns | None = None
    quality: Columns | None = None
    contamination: Columns | None = None

    @staticmethod
    def open(dataset: Dataset, folders: dict[str, Path]) -> "Evidence":
        """Open what there is.

        Args:
            dataset: of which all are.
            folders: by stage, of STAGES.

        Raises:
            ValueError: a folder does not hold its stage's columns, or those of another dataset.
        """
        assert set(folders) <= set(STAGES), f"evidence: stages must be among {STAGES}, got {set(folders)}"
        return Evidence(
            dataset, **{kind: Columns.open(path, dataset, kind) for kind, path in folders.items()}
        )

    @property
    def levels(self) -> int:
        """Of the clusters."""
        names = [] if self.clusters is None else self.clusters.schema.names
        return sum(name.startswith("cluster_") for name in names)

    def sha256(self) -> dict[str, str]:
        """Names the columns of each stage."""
        columns = {stage: getattr(self, stage) for stage in STAGES}
        return {stage: found.sha256 for stage, found in columns.items() if found is not None}

    def of(self, block: int) -> Found:
        """What is known of a block's images.

        Raises:
            ValueError: a file is damaged.
        """
        rows = self.dataset.rows_of(block)
        names = [f"cluster_{level}" for level in range(1, self.levels + 1)]
        clusters = _read(self.clusters, block, names)
        duplicates = _read(self.duplicates, block, ["duplicate_of"])
        near = _read(self.contamination, block, ["near_evaluation"])
        cluster_IL = np.zeros((rows, len(names)), np.int32)
        for level, name in enumerate(names):
            assert clusters is not None
            cluster_IL[:, level] = clusters[name].to_numpy()
        return Found(
            cluster_IL,
            pa.nulls(rows, pa.string())
            if duplicates is None
            else duplicates["duplicate_of"].combine_chunks().cast(pa.string()),
            self._flags(block, rows),
            np.zeros(rows, bool) if near is None else near["near_evaluation"].to_numpy().astype(bool),
        )

    def _flags(self, block: int, rows: int) -> list[list[str]]:
        """Names of each image's flags."""
        table = _read(self.quality, block, ["flags"])
        return [[] for _ in range(rows)] if table is None else table["flags"].to_pylist()


def _read(columns: Columns | None, block: int, names: Sequence[str]) -> pa.Table | None:
    return None if columns is None else columns.block(block, names)
