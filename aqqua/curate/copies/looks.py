"""What is compared of an image: a record of its look, pairs of looks worth a closer look, and that closer
look.

Candidates come from the small pictures: the distance of what all eight poses share (descriptor.py), sizes
that fit in some pose, and two moments that poses and shifts do not change. Each such pair is then compared
pixel by pixel (verify.py), for which the candidates' pixels are written to one file in the order of the
dataset: every block is read once more at most, whatever the number of pairs.

Test: tests/curate/copies/test_looks.py, test_duplicates.py.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from aqqua._core import pose_products
from aqqua.curate.copies.verify import POSES_TRIED, Pictures, SamePicture, agreements, is_same
from aqqua.curate.images.descriptor import GRID, difference, invariants
from aqqua.curate.images.signatures import pictures_of
from aqqua.store.read import Dataset
from aqqua.store.sizes import Sizes

# Bounds on candidates: what at least 99.5 % of shifted, compressed, brightened copies of real images keep.
FEATURE_DISTANCE = 0.4
PICTURE_CORRELATION = 0.75  # in the best pose, over the small pictures
POSE_DOUBT = 0.03  # of that correlation: poses that near the best one are tried as well
MEAN_LEVELS, MEAN_SHARE = 3.0, 0.02  # of mean luma: grey levels of 255, and share of itself
VERIFIED_AT_ONCE = 1 << 16
TURNED = np.array([1, 3, 4, 6])  # poses that swap height and width

LOOK = np.dtype(
    [
        ("cell", "u8"),
        ("order", "f4"),  # the longer side, px
        ("row", "i8"),  # of the dataset
        ("content", "u8", 2),
        ("short", "f4"),
        ("tall", "u1"),  # the longer side is the height
        ("wide", "u1"),  # 16 bits
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
    looks["tall"] = sizes.height > sizes.width
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


def candidates(
    left: np.ndarray, right: np.ndarray, same: bool, rule: SamePicture, by_content: bool = False
) -> np.ndarray:
    """PAIR records of looks that may be one picture: each is held against each.

    Args:
        same: left and right are one, so each pair is given once.
        by_content: `a` is the one of smaller content, so that a pair is the same wherever it was found;
            else it is the one from the left.
    """
    lf, rf = invariants(left["picture"]), invariants(right["picture"])
    squared = np.square(lf).sum(axis=1)[:, None] + np.square(rf).sum(axis=1) - 2 * (lf @ rf.T)
    close = squared <= FEATURE_DISTANCE**2
    i, j = np.nonzero(np.triu(close, 1) if same else close)
    return judged(left, right, i, j, rule, by_content)


def judged(
    left: np.ndarray,
    right: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    rule: SamePicture,
    by_content: bool = False,
    threads: int = 1,
) -> np.ndarray:
    """PAIR records of those pairs of looks that may be one picture, of pairs with near features.

    Args:
        i, j: which of left and right, int64 [P]; fastest where pairs of one `i` follow each other.
        by_content: as for `candidates`.
        threads: at most so many compare; the result does not depend on them.
    """
    fit = _fits(left, right, i, j, rule)
    i, j = i[fit], j[fit]
    r = correlations(left["picture"], right["picture"], i, j, threads)
    r[~_poses_fit(left, right, i, j, rule)] = -1
    likely = r.max(axis=1, initial=-1) >= PICTURE_CORRELATION
    i, j, r = i[likely], j[likely], r[likely]
    best = np.argsort(-r, axis=1, kind="stable")[:, :POSES_TRIED]
    r_best = np.take_along_axis(r, best, axis=1)
    pairs = np.zeros(len(i), PAIR)
    pairs["a"], pairs["b"] = left["row"][i], right["row"][j]
    pairs["poses"] = np.where(r_best >= r_best[:, :1] - POSE_DOUBT, best, -1)
    if by_content:
        ac, bc = left["content"][i], right["content"][j]
        swap = (ac[:, 0] > bc[:, 0]) | ((ac[:, 0] == bc[:, 0]) & (ac[:, 1] > bc[:, 1]))
        pairs[swap] = _swapped(pairs[swap])
    return pairs


def correlations(
    left_IGG: np.ndarray, right_JGG: np.ndarray, i: np.ndarray, j: np.ndarray, threads: int = 1
) -> np.ndarray:
    """Of small pictures of bytes, of the left with each pose of the right: float64 [P, 8]; 0 of a flat one.

    Sums of products are whole numbers, so that every machine finds the same.
    """
    left_IC = np.ascontiguousarray(left_IGG.reshape(-1, GRID * GRID))
    right_JC = np.ascontiguousarray(right_JGG.reshape(-1, GRID * GRID))
    products_P8 = pose_products(left_IC, right_JC, i, j, threads=threads)
    (mean_I, length_I), (mean_J, length_J) = _moments(left_IC), _moments(right_JC)
    covariance = products_P8 - (GRID * GRID * mean_I[i] * mean_J[j])[:, None]
    correlation: np.ndarray = covariance / np.maximum(length_I[i] * length_J[j], 1e-6)[:, None]
    return correlation


def _moments(pictures_IC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each picture, and the length of what differs from it: float64 [I]."""
    values = pictures_IC.astype(np.float32)  # sums of 256 squares of bytes are exact: they stay below 2²⁴
    total = values.sum(axis=1).astype(np.float64)
    squares = np.einsum("ic,ic->i", values, values).astype(np.float64)
    return total / GRID**2, np.sqrt(np.maximum(squares - total * total / GRID**2, 0))


def _poses_fit(
    left: np.ndarray, right: np.ndarray, i: np.ndarray, j: np.ndarray, rule: SamePicture
) -> np.ndarray:
    """In which poses the right one is about as high and wide as the left one: [P, 8] bool."""
    a_long, b_long = _both("order", left, right, i, j)
    a_short, b_short = _both("short", left, right, i, j)
    a_tall, b_tall = _both("tall", left, right, i, j)
    upright = a_tall == b_tall
    # Sorted sides fit already (_fits): the same side up they do, else only where images are nearly square.
    swapped = np.maximum(np.abs(a_long - b_short), np.abs(a_short - b_long)) <= rule.size_px
    turned = np.isin(np.arange(8), TURNED)
    fits: np.ndarray = (turned != upright[:, None]) | swapped[:, None]
    return fits


def _both(
    name: str, left: np.ndarray, right: np.ndarray, i: np.ndarray, j: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A field of both of each pair; out of records that lie far apart it is taken first."""
    return np.ascontiguousarray(left[name])[i], np.ascontiguousarray(right[name])[j]


def _swapped(pairs: np.ndarray) -> np.ndarray:
    """The same pairs with a and b exchanged: turns go the other way, mirrored poses are their own inverse."""
    swapped = pairs.copy()
    swapped["a"], swapped["b"] = pairs["b"], pairs["a"]
    back = np.array([0, 3, 2, 1, 4, 5, 6, 7, -1], np.int8)  # the last is of no pose
    swapped["poses"] = back[pairs["poses"]]
    return swapped


def _fits(left: np.ndarray, right: np.ndarray, i: np.ndarray, j: np.ndarray, rule: SamePicture) -> np.ndarray:
    """Which pairs are within the bounds that need no picture: [P] bool."""
    names = ("order", "short", "wide", "deviation", "mean", "content")
    both = {name: _both(name, left, right, i, j) for name in names}
    a, b = ({name: pair[k] for name, pair in both.items()} for k in (0, 1))
    ratio = a["deviation"] / np.maximum(b["deviation"], 1e-6)
    unit = np.where(a["wide"] == 1, 257.0, 1.0)  # grey levels of 65,535 in one of 255
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

    def mapped(self) -> Pictures:
        """All of them, from the file."""
        floats = np.memmap(self.path, np.float32, "r") if len(self.rows) else np.zeros(0, np.float32)
        return Pictures(floats, self.start, self.shape)


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


def verified(
    pairs: np.ndarray, a_pixels: Pixels, b_pixels: Pixels, rule: SamePicture, threads: int = 1
) -> np.ndarray:
    """Indices of the pairs that are the same picture; fastest where pairs are sorted by `a`.

    Args:
        threads: at most so many compare; the result does not depend on them.
    """
    found = [np.zeros(0, np.int64)]
    a, b = a_pixels.mapped(), b_pixels.mapped()
    for begin in range(0, len(pairs), VERIFIED_AT_ONCE):
        some = pairs[begin : begin + VERIFIED_AT_ONCE]
        a_P, b_P = np.searchsorted(a_pixels.rows, some["a"]), np.searchsorted(b_pixels.rows, some["b"])
        poses_PK = np.ascontiguousarray(some["poses"])
        agreed = agreements(a, b, a_P, b_P, poses_PK, rule, threads)
        found.append(begin + np.flatnonzero(is_same(agreed, rule, a_pixels.wide[a_P])))
    return np.concatenate(found)
