"""Sampling weights beside a dataset, as training reads them: how often an image is used in an epoch.

They are Columns of kind `weights`, made by aqqua.curate.balance.weights; any such columns with a `weight`
will do. A block's weights are read by the thread that reads its images, and belong to the images that are
served: where a damaged block is replaced (aqqua.store.substitute), they are the substitute's. Damage to the
weights themselves ends the run: without them, which images are used would be a guess.
Test: tests/store/test_sampling_weights.py, tests/train/test_weighted.py.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from aqqua.store.columns import KEY, Columns
from aqqua.store.read import Dataset
from aqqua.store.sizes import Sizes

KIND, WEIGHT, WEIGHT_SUM = "weights", "weight", "weight_sum"  # of the columns; field; among the facts


class SamplingWeights:
    """Weights of a dataset's images, for reading. Opening costs one manifest; safe in many threads."""

    def __init__(self, columns: Columns, total: float) -> None:
        self._columns = columns
        self.total = total  # Σ weights: images an epoch uses, those held out included

    def __reduce__(self) -> tuple[type["SamplingWeights"], tuple[Columns, float]]:
        return SamplingWeights, (self._columns, self.total)

    @staticmethod
    def open(path: Path | str, dataset: Dataset) -> "SamplingWeights":
        """Open the weights of a dataset: their folder, or that of a curation which has them.

        Raises:
            ValueError: the folder holds no weights, those of another dataset, or is damaged.
        """
        inside = Path(path) / KIND  # of a whole curation
        columns = Columns.open(inside if inside.is_dir() else path, dataset, KIND)
        total = columns.facts.get(WEIGHT_SUM)
        if not isinstance(total, int | float) or not 0 < total < np.inf:
            raise ValueError(
                f"weights: {path} must state a {WEIGHT_SUM} above 0 among its facts, got {total}; make the "
                "weights again, with some above 0"
            )
        return SamplingWeights(columns, float(total))

    @property
    def sha256(self) -> str:
        """Names these weights."""
        return self._columns.sha256

    def block(self, block: int, sizes: Sizes) -> Float64[np.ndarray, " I"]:
        """Weights of a block's images, in their order: expected uses in an epoch, finite and at least 0.

        Args:
            block: its number.
            sizes: of its images, whose keys the weights must be of.

        Raises:
            ValueError: the file is damaged, of other images, or holds what is no weight.
            OSError: the disk failed.
        """
        table = self._columns.block(block, [KEY.name, WEIGHT])
        where = f"weights: {self._columns.path} block {block}"
        key_I, weight_I = (table[name].to_numpy() for name in (KEY.name, WEIGHT))
        if not np.array_equal(key_I, sizes.key):
            raise ValueError(
                f"{where} must have the keys of the dataset's images, got others; make the weights again"
            )
        weight_I = weight_I.astype(np.float64)
        if not (np.isfinite(weight_I) & (weight_I >= 0)).all():
            bad = weight_I[~(np.isfinite(weight_I) & (weight_I >= 0))][0]
            raise ValueError(f"{where} must have weights finite and at least 0, got {bad}; make them again")
        return weight_I
