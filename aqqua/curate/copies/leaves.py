"""Which records of a large cell can be near duplicates at all: leaves of like records, and pairs of leaves.

Every bound on candidates (looks.py) is a distance in some quantity that an image has by itself: sides, mean,
contrast, and what poses share of the small picture, of which the directions of largest variance are taken (a
projection never moves two points apart). A cell is split at the median of the quantity that spreads most in
units of its bound, until a leaf holds few records; two leaves whose boxes lie further apart than a bound
hold no pair, so nothing is lost.

Of the records in leaves that are not ruled out, each is then held against the box by itself.

Cost of a cell of n records: O(n log n) to split; (n / LEAF)² / 2 tests of boxes; and products of features of
each leaf with the records left over. Sizes, means and contrasts that spread widely against their bounds rule
out all but a number that does not grow with n. Pictures rule out little: they differ in many directions at
once, a little in each, so of images alike in size, mean and contrast about a fifth to a quarter is left, and
the square remains (bench/data/duplicates.py --synthetic). Memory: 4 (5 + DIRECTIONS) bytes a record of the
cell, twice while they are sorted, and 8 for its place.

Test: tests/curate/copies/test_leaves.py. Figures: bench/data/duplicates.py --synthetic.
"""

from collections.abc import Iterator

import numpy as np

from aqqua.curate.copies.cells import TILE, Tiles
from aqqua.curate.copies.looks import FEATURE_DISTANCE, MEAN_LEVELS, MEAN_SHARE
from aqqua.curate.copies.verify import SamePicture
from aqqua.curate.images.descriptor import invariants

LEAF = 1024  # records at most
DIRECTIONS = 12  # of largest variance
SAMPLE = 4096  # records they are taken from
CHUNK = 1 << 14  # records whose features are held at once
SLACK = 1e-3  # of a bound, for rounding


def near_tiles(records: np.ndarray, places: np.ndarray, rule: SamePicture) -> Iterator[Tiles]:
    """Pairs of tiles of LOOK records that hold every two candidates of a cell.

    Args:
        records: of a bucket, may be mapped.
        places: of the records of the cell.

    Yields:
        Records of the one, of the other, and whether they are the same tile.
    """
    if len(places) <= LEAF:
        tile = records[places]
        yield tile, tile, True
        return
    keys = _keys(records, places, rule)
    order, first = _leaves(keys)
    keys, places = keys[order], places[order]  # those of leaf i are first[i] to first[i + 1]
    low, high = np.minimum.reduceat(keys, first[:-1]), np.maximum.reduceat(keys, first[:-1])
    for i in range(len(first) - 1):
        left = records[places[first[i] : first[i + 1]]]
        yield left, left, True
        leaves = i + 1 + np.flatnonzero(_touch(low[i], high[i], low[i + 1 :], high[i + 1 :]))
        waiting = np.zeros(0, np.int64)
        for begin in range(0, len(leaves), CHUNK // LEAF):
            some = leaves[begin : begin + CHUNK // LEAF].tolist()
            others = np.concatenate([np.arange(first[j], first[j + 1]) for j in some])
            near = others[_touch(low[i], high[i], keys[others], keys[others])]
            waiting = np.concatenate([waiting, near])
            while len(waiting) >= TILE:
                yield left, records[places[waiting[:TILE]]], False
                waiting = waiting[TILE:]
        if len(waiting):
            yield left, records[places[waiting]], False


def _touch(low_K: np.ndarray, high_K: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which of n boxes [n, K] may hold a record within all bounds of one in the first box: [n] bool."""
    gap = np.maximum(low - high_K, low_K - high)
    touches: np.ndarray = (gap <= 1 + SLACK).all(axis=1)
    square = np.square(np.maximum(gap[touches][:, -DIRECTIONS:], 0)).sum(axis=1)
    touches[touches] = square <= (1 + SLACK) ** 2
    return touches


def _keys(records: np.ndarray, places: np.ndarray, rule: SamePicture) -> np.ndarray:
    """Quantities of each record in units of their bounds, float32 [n, 5 + DIRECTIONS].

    A pair differs by at most 1 in each of the first five, and by at most 1 in length in the others.
    """
    directions = _directions(records[places[:: max(len(places) // SAMPLE, 1)]])
    keys = np.empty((len(places), 5 + DIRECTIONS), np.float32)
    for begin in range(0, len(places), CHUNK):
        looks = records[places[begin : begin + CHUNK]]
        out = keys[begin : begin + CHUNK]
        sides = rule.size_px + 0.5  # sides are whole numbers
        out[:, 0], out[:, 1] = looks["order"] / sides, looks["short"] / sides
        out[:, 2] = _mean_key(looks)
        contrast = np.log(np.maximum(looks["deviation"], 1e-6).astype(np.float64))
        out[:, 3] = contrast / max(float(np.log(rule.gain)), 1e-3)
        out[:, 4] = 10 * looks["wide"]
        out[:, 5:] = invariants(looks["picture"]) @ directions / FEATURE_DISTANCE
    return keys


def _mean_key(looks: np.ndarray) -> np.ndarray:
    """A measure of mean luma in which |a - b| <= levels + share · max(a, b) is a difference of at most 1.

    The bound says (levels + share · smaller) >= (1 - share) (levels + share · larger).
    """
    unit = np.where(looks["wide"] == 1, 257.0, 1.0)
    scaled = MEAN_LEVELS + MEAN_SHARE * np.maximum(looks["mean"], 0) / unit
    key: np.ndarray = np.log(scaled) / -np.log1p(-MEAN_SHARE)
    return key


def _directions(sample: np.ndarray) -> np.ndarray:
    """Of largest variance of the features, [F, DIRECTIONS] float32, at right angles and of length 1."""
    features = invariants(sample["picture"]).astype(np.float64)
    _, vectors = np.linalg.eigh(np.cov(features.T))
    return np.ascontiguousarray(vectors[:, : -DIRECTIONS - 1 : -1], np.float32)


def _leaves(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the records, those of a leaf together; and where each leaf begins, then their number."""
    waiting, leaves = [np.arange(len(keys))], []
    while waiting:
        some = waiting.pop()
        if len(some) <= LEAF:
            leaves.append(some)
            continue
        spread = np.ptp(keys[some], axis=0)
        middle = len(some) // 2
        order = np.argpartition(keys[some, int(spread.argmax())], middle)
        waiting += [some[order[middle:]], some[order[:middle]]]
    return np.concatenate(leaves), np.cumsum([0, *(len(leaf) for leaf in leaves)])
