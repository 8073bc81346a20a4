"""Which records of a large cell can be near duplicates at all, without holding each against each.

Every bound on candidates (looks.py) is a distance in some quantity that an image has by itself: sides, mean,
contrast, and what poses share of the small picture, turned so that few numbers say most of it (a turn moves
no two points apart or together). So an image becomes a row of keys, in units of their bounds, and a cell is
split at medians of keys into leaves of 64 rows. Two leaves whose boxes lie further apart than a bound hold
no pair; of the others, rows near the box of a leaf are held against its 64 rows, key by key, until all are
too far; and of pairs that are near, the low frequencies of the pictures must be able to agree in some pose
(csrc/near_keys.cpp). Nothing within the bounds is lost: the candidates are those of looks.candidates, which
holds each against each.

Cost of a cell of n records: n log n to split, (n / 64)² / 2 tests of boxes, and what is left of n² / 2 pairs.
That remains a square: of images of one kind a share lies within all bounds that does not fall as the group
grows, and so do the candidates themselves. Among made images alike in size, mean and contrast boxes leave a
seventh of all pairs, since pictures differ in many directions at once, a little in each. What such a pair
costs is what is small here (bench/data/candidates.py). Memory: 670 bytes a record of the cell, and some 300
for each of 2 million pairs.

Letters: N records of a cell, B leaves of R rows, K keys. Test: tests/curate/copies/test_leaves.py.
"""

from collections.abc import Iterator

import numpy as np

from aqqua._core import near_keys
from aqqua.curate.copies.looks import (
    FEATURE_DISTANCE,
    MEAN_LEVELS,
    MEAN_SHARE,
    PICTURE_CORRELATION,
    candidates,
    judged,
)
from aqqua.curate.copies.verify import SamePicture
from aqqua.curate.images.descriptor import invariants, spectra

FEW = 512  # records: each is held against each
LEAF = 64  # R, as csrc/near_keys.cpp has it
LEAVES_AT_FIRST = 16  # whose pairs are held at once; then as many as bring about the next
PAIRS_AT_ONCE = 1 << 21
APART = 5  # keys that are bounded each by itself; the others are bounded together
SPLITTING = 12  # of the others, those that leaves may be split by
SPLIT_SHARE = 0.25  # and how much less their spread counts: boxes in few of many directions rule out little
SAMPLE = 4096  # records that directions are taken from
CHUNK = 1 << 14  # records whose features are held at once
SLACK = 1e-3  # of a bound, for rounding
ROUNDING = 1e-5  # of the length of features in other directions


def cell_candidates(
    records: np.ndarray, places: np.ndarray, rule: SamePicture, threads: int = 1
) -> Iterator[np.ndarray]:
    """PAIR records of all candidates of a cell, some at a time; `a` is the one of smaller content.

    Args:
        records: LOOK, of a bucket, may be mapped.
        places: of the records of the cell.
        threads: at most so many compare; the pairs do not depend on them.
    """
    if len(places) <= FEW:
        looks = records[places]
        yield candidates(looks, looks, True, rule, by_content=True)
        return
    for rows_P2 in close_pairs(records, places, rule, threads):
        has = np.zeros(len(places), bool)
        has[rows_P2] = True
        looks, number = records[places[has]], np.cumsum(has) - 1
        i, j = number[rows_P2[:, 0]], number[rows_P2[:, 1]]
        yield judged(looks, looks, i, j, rule, by_content=True, threads=threads)


def close_pairs(
    records: np.ndarray, places: np.ndarray, rule: SamePicture, threads: int = 1
) -> Iterator[np.ndarray]:
    """Pairs of a cell that no bound rules out: which of `places`, int64 [P, 2], some at a time, each once."""
    directions_FF = _directions(records[places[:: max(len(places) // SAMPLE, 1)]])
    order = _leaves(_keys(records, places, rule, directions_FF[:, :SPLITTING]))
    keys_BKR = _packed(records, places[order], rule, directions_FF)
    lines_NS, rest_N = _spectra(records, places[order])
    first, leaves = 0, LEAVES_AT_FIRST
    while first < len(keys_BKR):
        last = min(first + leaves, len(keys_BKR))
        pairs_P2 = near_keys(
            keys_BKR, lines_NS, rest_N, apart=APART, reach=1 + SLACK, correlation=PICTURE_CORRELATION - SLACK,
            first=first, last=last, threads=threads,
        )  # fmt: skip
        yield order[pairs_P2]
        first = last
        leaves = min(max(leaves * PAIRS_AT_ONCE // max(len(pairs_P2), 1), 1), 2 * leaves)


def _keys(
    records: np.ndarray, places: np.ndarray, rule: SamePicture, directions_FD: np.ndarray
) -> np.ndarray:
    """Quantities of each record in units of their bounds, float32 [N, APART + D].

    A pair differs by at most 1 in each of the first APART, and by at most 1 in length in the others.
    """
    keys = np.empty((len(places), APART + directions_FD.shape[1]), np.float32)
    for begin in range(0, len(places), CHUNK):
        looks = records[places[begin : begin + CHUNK]]
        out = keys[begin : begin + CHUNK]
        sides = rule.size_px + 0.5  # sides are whole numbers
        out[:, 0], out[:, 1] = looks["order"] / sides, looks["short"] / sides
        out[:, 2] = _mean_key(looks)
        contrast = np.log(np.maximum(looks["deviation"], 1e-6).astype(np.float64))
        out[:, 3] = contrast / max(float(np.log(rule.gain)), 1e-3)
        out[:, 4] = 10 * looks["wide"]
        # So that 1 + SLACK, which the others may reach, is just the bound.
        unit = (1 + SLACK) * (1 - ROUNDING) / FEATURE_DISTANCE
        out[:, APART:] = invariants(looks["picture"]) @ (directions_FD * np.float32(unit))
    return keys


def _packed(
    records: np.ndarray, places: np.ndarray, rule: SamePicture, directions_FF: np.ndarray
) -> np.ndarray:
    """Keys of leaves, float32 [B, K, R]; those of rows that the last leaf lacks are infinite."""
    leaves = -(-len(places) // LEAF)
    keys_BKR = np.full((leaves, APART + len(directions_FF), LEAF), np.inf, np.float32)
    at_once = CHUNK // LEAF
    for begin in range(0, leaves, at_once):
        some = _keys(records, places[begin * LEAF : (begin + at_once) * LEAF], rule, directions_FF)
        for leaf, first in enumerate(range(0, len(some), LEAF), begin):
            rows = some[first : first + LEAF]
            keys_BKR[leaf, :, : len(rows)] = rows.T
    return keys_BKR


def _spectra(records: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of all records, as near_keys wants them."""
    found = [
        spectra(records[places[begin : begin + CHUNK]]["picture"]) for begin in range(0, len(places), CHUNK)
    ]
    lines_NS, rest_N = (np.concatenate(one) for one in zip(*found, strict=True))
    return lines_NS, rest_N


def _mean_key(looks: np.ndarray) -> np.ndarray:
    """A measure of mean luma in which |a - b| <= levels + share · max(a, b) is a difference of at most 1.

    The bound says (levels + share · smaller) >= (1 - share) (levels + share · larger).
    """
    unit = np.where(looks["wide"] == 1, 257.0, 1.0)
    scaled = MEAN_LEVELS + MEAN_SHARE * np.maximum(looks["mean"], 0) / unit
    key: np.ndarray = np.log(scaled) / -np.log1p(-MEAN_SHARE)
    return key


def _directions(sample: np.ndarray) -> np.ndarray:
    """All directions of the features, [F, F] float32, at right angles and of length 1, of largest variance
    first."""
    features = invariants(sample["picture"]).astype(np.float64)
    _, vectors = np.linalg.eigh(np.cov(features.T))
    return np.ascontiguousarray(vectors[:, ::-1], np.float32)


def _leaves(keys: np.ndarray) -> np.ndarray:
    """Indices of the records, those of a leaf together: each LEAF in a row are one, the last may be less."""
    weight = np.where(np.arange(keys.shape[1]) < APART, 1, SPLIT_SHARE)
    waiting, leaves = [np.arange(len(keys))], []
    while waiting:
        some = waiting.pop()
        if len(some) <= LEAF:
            leaves.append(some)
            continue
        spread = keys[some].std(axis=0) * weight
        middle = max(len(some) // 2 // LEAF, 1) * LEAF
        order = np.argpartition(keys[some, int(spread.argmax())], middle)
        waiting += [some[order[middle:]], some[order[:middle]]]
    return np.concatenate(leaves)
