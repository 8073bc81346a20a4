"""The nearest rows of each row among very many: only in the cells around it, and how many are so missed.

k-means cuts the rows of each group (instrument) into cells. A query looks into the cells whose centres are
nearest to it; for the nearest of other groups, into the nearest cells of those. Queries are not answered one
by one, as an index does: all that look into a cell are multiplied with its rows at once, which a CPU does an
order of magnitude faster, and no package is needed for it.

How many cells suffice is measured, not guessed: for some hundred queries the exact neighbours are found, and
how far down the list of cells they lie gives the share that is found (recall) with any number of cells. The
nearest of other groups can lie almost anywhere; so that their search stays linear in the rows there is a most
number of cells, and the recall is then lower, and told.

Letter key: Q queries, B base rows, R width, C cells, P cells of a query. Test:
tests/explore/atlas/test_atlas_cells.py. Timing: bench/explore.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from aqqua.curate.clusters.kmeans import KMeansConfig, lloyd
from aqqua.curate.clusters.nearest import Nearest
from aqqua.curate.clusters.seeding import stream_of
from aqqua.curate.clusters.vectors import ArrayVectors, Prepared
from aqqua.explore.atlas.neighbours import Best, Found, Points, Want, joined, nearest
from aqqua.plan.permute import permute
from aqqua.train.ranks import Ranks

MEMBERS = 512  # rows of a mean cell: large enough for a fast product
ITERATIONS = 10  # of k-means: cells need not be the best ones
FITTED = 64  # rows of a cell that k-means is fitted on, on average
PROBED = 512  # queries whose exact neighbours are found, to count cells
BATCH = 65_536  # queries in work at a time


@dataclass(frozen=True)
class Recall:
    """What looking into some cells finds of the exact neighbours of PROBED queries."""

    cells: int  # that a query looks into
    share: float  # 0 to 1, of all neighbours


@dataclass(frozen=True)
class Cells:
    """Rows in cells, none of two groups."""

    points: Points
    centre_CR: Float32[np.ndarray, "C R"]
    group_C: Int64[np.ndarray, " C"]
    cell_B: Int64[np.ndarray, " B"]

    @cached_property
    def order_B(self) -> np.ndarray:
        """Rows, cell by cell."""
        return np.argsort(self.cell_B, kind="stable")

    @cached_property
    def first_C(self) -> np.ndarray:
        """Where each cell begins in that order, then the number of rows; C + 1."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.cell_B, minlength=len(self.centre_CR)))])

    def members(self, cell: int) -> np.ndarray:
        """Rows of a cell."""
        return self.order_B[self.first_C[cell] : self.first_C[cell + 1]]

    def nearest_cells(self, unit_QR: Tensor, group_Q: Tensor, cells: int, foreign: bool) -> Tensor:
        """Cells that each query looks into, nearest first; -1 where there are no more. [Q, P]"""
        score_QC = unit_QR @ torch.from_numpy(self.centre_CR).T
        if foreign:
            score_QC.masked_fill_(group_Q[:, None] == torch.from_numpy(self.group_C), -torch.inf)
        best, cell_QP = score_QC.topk(min(cells, score_QC.shape[1]), dim=1)
        return cell_QP.masked_fill(best == -torch.inf, -1)


def make_cells(points: Points, seed: int) -> Cells:
    """Cells of about MEMBERS rows in each group."""
    centres: list[np.ndarray] = []
    groups: list[np.ndarray] = []
    cell_B = np.empty(len(points), np.int64)
    for group in np.unique(points.group_B).tolist():
        rows = np.flatnonzero(points.group_B == group)
        wanted = -(-len(rows) // MEMBERS)
        few = min(len(rows), max(FITTED * wanted, MEMBERS))
        order = permute(np.arange(few, dtype=np.uint64), len(rows), seed, stream_of("atlas cells", group))
        sample = Prepared(ArrayVectors(points.unit_BR[np.sort(rows[order.astype(np.int64)])]))
        start = _start(sample, wanted, seed, group)
        config = KMeansConfig.model_validate({"iterations": ITERATIONS})
        found = lloyd(sample, start, config, Ranks()).centroids_KD
        assign, first = Nearest(found), sum(len(some) for some in centres)
        for at in range(0, len(rows), BATCH):
            part = rows[at : at + BATCH]
            cell_B[part] = assign(points.rows(part)[0])[0].numpy() + first
        centres.append(found.numpy())
        groups.append(np.full(len(found), group, np.int64))
    return Cells(points, np.concatenate(centres), np.concatenate(groups), cell_B)


def _start(sample: Prepared, wanted: int, seed: int, group: int) -> Float32[Tensor, "C R"]:
    """Rows drawn at random: k-means++ would take longer than all else, its passes being as many as cells."""
    drawn = permute(
        np.arange(wanted, dtype=np.uint64), sample.source.rows, seed, stream_of("atlas seeds", group)
    )
    return sample.take(drawn.astype(np.int64).tolist(), Ranks())


def measure_recall(cells: Cells, want: Want, recall: float, most: int, seed: int) -> Recall:
    """The least number of cells with which such a share of exact neighbours is found, and the share.

    Queries are rows of the base, drawn by the seed.

    Args:
        recall: the share wanted.
        most: cells; where more were needed the share is lower.
    """
    points, total = cells.points, len(cells.points)
    drawn = permute(np.arange(min(PROBED, total), dtype=np.uint64), total, seed, stream_of("atlas recall"))
    rows = drawn.astype(np.int64)
    queries = Points(points.unit_BR[rows], points.group_B[rows])
    exact = nearest(queries, points, [want], same=rows)[0].row_QK
    cell_QP = cells.nearest_cells(*queries.rows(slice(None)), len(cells.centre_CR), want.foreign).numpy()
    place_QC = np.empty((len(rows), len(cells.centre_CR) + 1), np.int64)  # -1 goes into the last column
    np.put_along_axis(place_QC, cell_QP, np.arange(cell_QP.shape[1])[None], axis=1)
    there = exact < total
    of_neighbour = place_QC[np.nonzero(there)[0], cells.cell_B[exact[there]]]
    if not len(of_neighbour):
        return Recall(1, 1.0)
    share_P = np.cumsum(np.bincount(of_neighbour, minlength=1)) / len(of_neighbour)
    enough = int(np.searchsorted(share_P, recall - 1e-12))
    enough = min(enough, len(share_P) - 1, most - 1)
    return Recall(enough + 1, float(share_P[enough]))


def nearest_in_cells(
    queries: Points,
    cells: Cells,
    wants: Sequence[tuple[Want, Recall]],
    *,
    same: np.ndarray | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> list[Found]:
    """The nearest base rows of each query, one answer for each want; as `nearest`, but some are missed."""
    found: list[list[Found]] = [[] for _ in wants]
    for first in range(0, len(queries), BATCH):
        part = slice(first, min(first + BATCH, len(queries)))
        itself = None if same is None else torch.from_numpy(same[part])
        query = queries.rows(part)
        for answers, (want, recall) in zip(found, wants, strict=True):
            answers.append(_look(query, itself, cells, want, recall.cells).found())
        tell(part.stop)
    return [joined(answers) for answers in found]


def _look(query: tuple[Tensor, Tensor], itself: Tensor | None, cells: Cells, want: Want, count: int) -> Best:
    unit_QR, group_Q = query
    best = Best(len(unit_QR), want.k)
    pieces = [slice(at, at + 4096) for at in range(0, len(unit_QR), 4096)]  # scores of all cells are many
    cell_QP = torch.cat([cells.nearest_cells(unit_QR[p], group_Q[p], count, want.foreign) for p in pieces])
    flat, order = cell_QP.flatten().sort(stable=True)
    bounds = torch.searchsorted(flat, torch.arange(len(cells.centre_CR) + 1)).tolist()
    asking = order // cell_QP.shape[1]
    for cell in range(len(cells.centre_CR)):
        who, members = asking[bounds[cell] : bounds[cell + 1]], cells.members(cell)
        if not len(who) or not len(members):
            continue
        row_B = torch.from_numpy(members)
        for some in who.split(8192):
            similarity = unit_QR[some] @ cells.points.rows(members)[0].T
            if itself is not None:
                similarity.masked_fill_(itself[some, None] == row_B, -torch.inf)
            best.take(similarity, row_B, some)
    return best
