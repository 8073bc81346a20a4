"""A sample of rows in which rare strata stay: all of what is few, a share of what is many.

A stratum is an instrument and a label. Each gets at least one row where there is room; the rest is dealt out
in proportion to the square roots of their sizes, so that what fills an archive (detritus, badfocus) is still
the most, but leaves room. Which rows of a stratum is said by a random permutation of all rows, so the sample
depends on the seed and the order of the dataset alone.

Two passes over the strata, in chunks; memory is that of the sample, whatever the number of rows.
Letter key: I rows of a chunk, N chosen rows, S strata. Test: tests/explore/atlas/test_atlas_sample.py.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int64

from aqqua.curate.balance.waterfill import water_fill
from aqqua.curate.clusters.seeding import stream_of
from aqqua.plan.permute import permute
from aqqua.store.read import Dataset

SPARE = 6.0  # standard deviations by which the second pass keeps more than it needs, to be cut afterwards


def quotas(count_S: Int64[np.ndarray, " S"], most: int) -> Int64[np.ndarray, " S"]:
    """How many rows of each stratum are chosen: whole numbers that add up to `most`, none beyond its count.

    Args:
        count_S: rows of each stratum.
        most: 1 to their sum.
    """
    least_S = np.minimum(count_S, 1 if most >= int((count_S > 0).sum()) else 0)
    rest_S = count_S - least_S
    target = most - int(least_S.sum())
    demand_S = np.sqrt(np.maximum(rest_S, 1).astype(np.float64))
    share_S = water_fill(rest_S.astype(np.float64), np.array([float(target)]), None, demand_S)
    found_S = np.minimum(np.floor(share_S + 1e-9).astype(np.int64), rest_S)
    missing = target - int(found_S.sum())
    room_S = rest_S > found_S
    order_S = np.lexsort((np.arange(len(count_S)), -(share_S - found_S), ~room_S))
    found_S[order_S[:missing]] += 1
    return least_S + found_S


def stratified(
    chunks: Callable[[], Iterator[Int64[np.ndarray, " I"]]], most: int, seed: int, purpose: str
) -> Int64[np.ndarray, " N"]:
    """Numbers of the chosen rows, ascending; all rows where there are no more than `most`.

    Args:
        chunks: the stratum of each row, 0 to S - 1, in chunks; called twice.
        most: rows to choose, at least 1.
        purpose: names the draw, so that two samples of one seed differ.
    """
    count_S = np.zeros(0, np.int64)
    for stratum_I in chunks():
        count_I = np.bincount(stratum_I, minlength=len(count_S))
        count_I[: len(count_S)] += count_S
        count_S = count_I.astype(np.int64)
    total = int(count_S.sum())
    if total <= most:
        return np.arange(total, dtype=np.int64)
    quota_S = quotas(count_S, most)
    # Places of a stratum's rows are spread evenly over 0 to total, so those below this bar are about enough.
    enough_S = quota_S + SPARE * np.sqrt(quota_S) + SPARE**2
    bar_S = np.where(quota_S == count_S, total, total * enough_S / np.maximum(count_S, 1))
    row_I, place_I, stratum_I = _below(chunks(), bar_S, total, seed, stream_of("atlas", purpose))
    order = np.lexsort((place_I, stratum_I))
    sorted_I = stratum_I[order]
    first_S = np.searchsorted(sorted_I, np.arange(len(count_S)))
    rank_I = np.arange(len(order)) - first_S[sorted_I]
    return np.sort(row_I[order[rank_I < quota_S[sorted_I]]])


def _below(
    chunks: Iterator[np.ndarray], bar_S: np.ndarray, total: int, seed: int, stream: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, place in the permutation and stratum of every row whose place is below its stratum's bar."""
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    first = 0
    for stratum_I in chunks:
        row_I = np.arange(first, first + len(stratum_I), dtype=np.uint64)
        place_I = permute(row_I, total, seed, stream).astype(np.int64)
        kept = place_I < bar_S[stratum_I]
        found.append((row_I[kept].astype(np.int64), place_I[kept], stratum_I[kept]))
        first += len(stratum_I)
    rows, places, strata = zip(*found, strict=True)
    return np.concatenate(rows), np.concatenate(places), np.concatenate(strata)


def strata_of(dataset: Dataset) -> Callable[[], Iterator[Int64[np.ndarray, " I"]]]:
    """The stratum of each image of a dataset, block by block: its instrument and label."""
    number: dict[tuple[str, str | None], int] = {}

    def chunks() -> Iterator[np.ndarray]:
        for block in range(dataset.blocks):
            table = dataset.table(["instrument", "label"], [block])
            both = zip(table["instrument"].to_pylist(), table["label"].to_pylist(), strict=True)
            yield np.array([number.setdefault(pair, len(number)) for pair in both], np.int64)

    return chunks


def choose_images(dataset: Dataset, most: int, seed: int) -> Int64[np.ndarray, " N"]:
    """Rows of a dataset's images that become points, ascending."""
    if dataset.rows <= most:
        return np.arange(dataset.rows, dtype=np.int64)
    return stratified(strata_of(dataset), most, seed, "points")
