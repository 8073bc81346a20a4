"""What is compared of an image: a record of its look, pairs of looks worth a closer look, and that closer
look.

Candidates come from the small pictures: the distance of what all eight poses share (descriptor.py), sizes
that fit in some pose, and two moments that poses and shifts do not change. Each such pair is then compared
pixel by pixel (verify.py), for which the candidates' pixels are written to one file in the order of the
dataset: every block is read once more at most, whatever the number of pairs.

Test: tests/curate/copies/test_looks.py, test_duplicates.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from aqqua.curate.copies.verify import POSES_TRIED, SamePicture, agreement, is_same
from aqqua.curate.images.descriptor import GRID, difference, invariants, poses, unit_pictures
from aqqua.curate.images.signatures import pictures_of
from aqqua.store.read import Dataset
from aqqua.store.sizes import Sizes

# Bounds on candidates: what at least 99.5 % of shifted, compressed, brightened copies of real images keep.
FEATURE_DISTANCE = 0.4
PICTURE_CORRELATION = 0.75  # in the best pose, over the small pictures
POSE_DOUBT = 0.03  # of that correlation: poses that near the best one are tried as well
MEAN_LEVELS, MEAN_SHARE = 3.0, 0.02  # of mean luma: grey levels of 255, and share of itself
PAIRS_AT_ONCE = 4096

LOOK = np.dtype(
    [
        ("cell", "u8"),
        ("order", "f4"),  # the longer side, px
        ("row", "i8"),  # of the dataset
        ("content", "u8", 2),
        ("short", "f4"),
        ("wide", "u1"),
        ("mean", "f4"),
        ("deviation", "f4"),
        ("picture", "u1", (GRID, GRID)),
    ]
)
SIGNATURE_NAMES = ("picture", "scale", "mean", "deviation")
PAIR = np.dtype([("a", "i8"), ("b", "i8"), ("poses", "i1", POSES_TRIED)])  # rows; poses of b, -1: none


def looks_of(signatures: pa.Table, sizes: Sizes, content: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """LOOK records of a block's images; `cell` stays 0."""
    looks = np.zeros(len(sizes), LOOK)
    looks["order"] = np.maximum(sizes.height, sizes.width)
    looks["short"] = np.minimum(sizes.height, sizes.width)
    looks["row"], looks["content"] = rows, content
    looks["wide"] = sizes.bits == 16
    looks["mean"], looks["deviation"] = signatures["mean"].to_numpy(), signatures["deviation"].to_numpy()
    looks["picture"] = pictures_of(signatures)
    return looks


def can_be_near(signatures: pa.Table, sizes: Sizes, rule: SamePicture) -> np.ndarray:
    """Which images have enough of a picture to say more than that they are equal: [I] bool."""
    large = np.minimum(sizes.height, sizes.width) >= rule.short_px
    answer: np.ndarray = large & (signatures["scale"].to_numpy() > 0)
    return answer


def contents_of(table: pa.Table) -> np.ndarray:
    """Column `content` as two words a row, uint64 [I, 2]."""
    return np.frombuffer(b"".join(table["content"].to_pylist()), "<u8").reshape(-1, 2)


def candidates(left: np.ndarray, right: np.ndarray, same: bool, rule: SamePicture) -> np.ndarray:
    """PAIR records of looks that may be one picture; `same`: left and right are one, so each pair once."""
    lf, rf = invariants(left["picture"]), invariants(right["picture"])
    squared = np.square(lf).sum(axis=1)[:, None] + np.square(rf).sum(axis=1) - 2 * (lf @ rf.T)
    close = squared <= FEATURE_DISTANCE**2
    if same:
        close = np.triu(close, 1)
    i, j = np.nonzero(close)
    fit = _fits(left[i], right[j], rule)
    i, j = i[fit], j[fit]
    lu, ru = unit_pictures(left["picture"]), poses(unit_pictures(right["picture"]))
    found = [np.zeros(0, PAIR)]
    for begin in range(0, len(i), PAIRS_AT_ONCE):
        ii, jj = i[begin : begin + PAIRS_AT_ONCE], j[begin : begin + PAIRS_AT_ONCE]
        r = np.einsum("pkij,kij->kp", ru[:, jj], lu[ii], optimize=True)
        good = r.max(axis=1) >= PICTURE_CORRELATION
        pairs = np.zeros(int(good.sum()), PAIR)
        pairs["a"], pairs["b"] = left["row"][ii[good]], right["row"][jj[good]]
        best = np.argsort(-r[good], axis=1, kind="stable")[:, :POSES_TRIED]
        doubt = r[good].max(axis=1, keepdims=True) - np.take_along_axis(r[good], best, axis=1)
        pairs["poses"] = np.where(doubt <= POSE_DOUBT, best, -1)
        found.append(pairs)
    return np.concatenate(found)


def _fits(a: np.ndarray, b: np.ndarray, rule: SamePicture) -> np.ndarray:
    unit = np.where(a["wide"] == 1, 257.0, 1.0)  # grey levels of 65,535 in one of 255
    ratio = a["deviation"] / np.maximum(b["deviation"], 1e-6)
    mean_bound = MEAN_LEVELS * unit + MEAN_SHARE * np.maximum(a["mean"], b["mean"])
    fits: np.ndarray = (
        (np.abs(a["order"] - b["order"]) <= rule.size_px)
        & (np.abs(a["short"] - b["short"]) <= rule.size_px)
        & (a["wide"] == b["wide"])
        & (ratio <= rule.gain)
        & (ratio >= 1 / rule.gain)
        & (np.abs(a["mean"] - b["mean"]) <= mean_bound)
        & (a["content"] != b["content"]).any(axis=1)
    )
    return fits


@dataclass(frozen=True)
class Pixels:
    """Differences to background of some images of a dataset, in one file, mapped when they are read."""

    path: Path
    rows: np.ndarray  # [n] int64, sorted
    start: np.ndarray  # [n] int64, floats into the file
    shape: np.ndarray  # [n, 2] int32
    wide: np.ndarray  # [n] bool

    def of(self, row: int) -> tuple[np.ndarray, bool]:
        """Difference float32 [H, W], and whether the image has 16 bits."""
        k = int(np.searchsorted(self.rows, row))
        height, width = self.shape[k].tolist()
        count, offset = height * width, 4 * int(self.start[k])
        values = np.fromfile(self.path, np.float32, count, offset=offset)
        return values.reshape(height, width), bool(self.wide[k])


def spill_pixels(dataset: Dataset, rows: np.ndarray, path: Path) -> Pixels:
    """Write the pixels of some rows of a dataset, sorted and without repeats; reads each block once."""
    starts, shapes, wide = np.zeros(len(rows), np.int64), np.zeros((len(rows), 2), np.int32), []
    first = first_rows(dataset)
    block_of = np.searchsorted(first, rows, side="right") - 1
    end = 0
    with path.open("wb") as file:
        for number in np.unique(block_of).tolist():
            block = dataset.block(number)
            for k in np.flatnonzero(block_of == number).tolist():
                i = int(rows[k] - first[number])
                values = difference(block.pixels(i), block.sizes.background[i])
                starts[k], shapes[k] = end, values.shape
                wide.append(block.sizes.bits[i] == 16)
                file.write(np.ascontiguousarray(values).tobytes())
                end += values.size
    return Pixels(path, rows, starts, shapes, np.array(wide, bool))


def first_rows(dataset: Dataset) -> np.ndarray:
    """Row of the dataset at which each block begins: int64 [blocks]."""
    return np.concatenate([[0], np.cumsum([dataset.rows_of(b) for b in range(dataset.blocks)])])[:-1]


def verified(pairs: np.ndarray, a_pixels: Pixels, b_pixels: Pixels, rule: SamePicture) -> Iterator[int]:
    """Indices of the pairs that are the same picture; pairs are sorted by `a`: each a is read once."""
    held, a_HW, wide = -1, np.zeros((0, 0), np.float32), False
    for k, (a, b) in enumerate(zip(pairs["a"].tolist(), pairs["b"].tolist(), strict=True)):
        if a != held:
            held, (a_HW, wide) = a, a_pixels.of(a)
        tried = [pose for pose in pairs["poses"][k].tolist() if pose >= 0]
        found = agreement(a_HW, b_pixels.of(b)[0], tried, rule)
        if is_same(found, rule, float(np.abs(a_HW).max()), wide):
            yield k
