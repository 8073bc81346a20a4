"""How often training uses an image in an epoch: its sampling weight, and never if it is held out.

Test: tests/train/test_weighted.py.
"""

from pathlib import Path

import numpy as np

from aqqua.plan.lanes import Weights
from aqqua.store.prefetch import BlockReader
from aqqua.store.read import Dataset
from aqqua.store.split import held_out, held_out_rows
from aqqua.store.weights import SamplingWeights


def training_weights(reader: BlockReader, holdout: float, *, weighted: bool = False) -> Weights | None:
    """Weights of the images that stand for a block, those held out at 0; None if all are 1.

    Args:
        reader: with the columns NAMING (aqqua.store.split) if there is a holdout.
        holdout: share of groups held out.
        weighted: the reader has sampling weights; else each is 1.
    """
    if not holdout:
        return reader.weights if weighted else None

    def weights(block: int) -> np.ndarray:
        kept_I = 1.0 - held_out_rows(reader.table(block), holdout).astype(np.float64)
        return kept_I * reader.weights(block) if weighted else kept_I

    return weights


def planning_weights(dataset: Dataset, holdout: float, path: Path | None) -> Weights | None:
    """The same for one who plans without pixels, from sound files.

    Raises:
        ValueError: there are no weights of this dataset at `path`.
    """
    sampling = None if path is None else SamplingWeights.open(path, dataset)
    if not holdout and sampling is None:
        return None

    def weights(block: int) -> np.ndarray:
        weight_I = np.ones(dataset.rows_of(block))
        if sampling is not None:
            weight_I = sampling.block(block, dataset.sizes(block))
        return weight_I * ~held_out(dataset, block, holdout) if holdout else weight_I

    return weights


def images_per_epoch(dataset: Dataset, holdout: float, sampling: SamplingWeights | None) -> float:
    """Expected images used in an epoch: the sum of the weights, less the share of groups held out."""
    return (dataset.rows if sampling is None else sampling.total) * (1 - holdout)
