"""The nearest rows of each row by cosine, exactly: block against block, the best kept.

One sweep over the products answers several questions at once (`Want`): the nearest of all, and the nearest
among other instruments, which no number of the former would hold where instruments lie apart. Rows are
float16 in memory and float32 in the products. Equal cosines are ordered by row.

Above some hundred thousand rows a sweep is too long for a CPU; aqqua.explore.atlas.cells looks only where
the nearest can be. Letter key: Q queries, B base rows, R width, K neighbours. Test:
tests/explore/atlas/test_neighbours.py. Timing: bench/explore.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from aqqua.curate.clusters.vectors import CPU

NONE = 4_294_967_295  # in place of a row where there is no neighbour
_QUERIES, _BASE = 1024, 8192  # of a tile: 32 MB of products
_GPU_QUERIES, _GPU_BASE = 4096, 65_536


@dataclass(frozen=True)
class Want:
    """A question about every query."""

    k: int
    foreign: bool = False  # only rows of another group count


@dataclass(frozen=True)
class Found:
    """The answer: nearest first."""

    row_QK: Int64[np.ndarray, "Q K"]  # of the base; NONE where there are fewer than K
    similarity_QK: Float32[np.ndarray, "Q K"]  # cosine; 0 where there is none

    @staticmethod
    def nobody(queries: int, k: int) -> "Found":
        """No neighbours at all."""
        return Found(np.full((queries, k), NONE, np.int64), np.zeros((queries, k), np.float32))


@dataclass(frozen=True)
class Points:
    """Rows among which neighbours are looked for, or for which."""

    unit_BR: Float[np.ndarray, "B R"]  # of length one
    group_B: Int64[np.ndarray, " B"]  # instrument of each

    def __len__(self) -> int:
        return len(self.unit_BR)

    def rows(self, rows: slice | np.ndarray, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
        """Features in float32 and groups of some rows."""
        unit = torch.from_numpy(np.ascontiguousarray(self.unit_BR[rows]))
        return unit.to(device).float(), torch.from_numpy(self.group_B[rows]).to(device)


class Best:
    """The K nearest of some queries so far."""

    def __init__(self, queries: int, k: int, device: torch.device = CPU) -> None:
        self.similarity_QK = torch.full((queries, k), -torch.inf, device=device)
        self.row_QK = torch.full((queries, k), NONE, dtype=torch.int64, device=device)

    def take(self, similarity_QB: Tensor, row_B: Tensor, queries: Tensor | None = None) -> None:
        """More of the base, with -inf where a row does not count.

        Args:
            queries: which of the queries the rows of `similarity_QB` are; None: all.
        """
        k = self.row_QK.shape[1]
        at = slice(None) if queries is None else queries
        top_QK, column_QK = similarity_QB.topk(min(k, similarity_QB.shape[1]), dim=1)
        similarity = torch.cat([self.similarity_QK[at], top_QK], 1)
        rows = torch.cat([self.row_QK[at], row_B[column_QK]], 1)
        best, column = similarity.topk(k, dim=1)
        self.similarity_QK[at], self.row_QK[at] = best, rows.gather(1, column)

    def found(self) -> Found:
        """In their order."""
        row_QK, order = self.row_QK.sort(dim=1)
        similarity_QK, by_similarity = self.similarity_QK.gather(1, order).sort(
            dim=1, descending=True, stable=True
        )
        row_QK = row_QK.gather(1, by_similarity)
        nobody = ~similarity_QK.isfinite()
        row_QK, similarity_QK = row_QK.masked_fill(nobody, NONE), similarity_QK.masked_fill(nobody, 0.0)
        return Found(row_QK.cpu().numpy(), similarity_QK.cpu().numpy())


def nearest(
    queries: Points,
    base: Points,
    wants: Sequence[Want],
    *,
    same: np.ndarray | None = None,
    device: torch.device = CPU,
    tell: Callable[[int], None] = lambda _: None,
) -> list[Found]:
    """The nearest base rows of each query, one answer for each want.

    Args:
        same: the base row that each query is itself and which does not count; None: it is none of them.
        tell: takes how many queries are done.
    """
    step, base_step = (_GPU_QUERIES, _GPU_BASE) if device.type == "cuda" else (_QUERIES, _BASE)
    found: list[list[Found]] = [[] for _ in wants]
    for first in range(0, len(queries), step):
        part = slice(first, min(first + step, len(queries)))
        itself = None if same is None else torch.from_numpy(same[part]).to(device)
        bests = _sweep(queries.rows(part, device), itself, base, wants, base_step)
        for answers, best in zip(found, bests, strict=True):
            answers.append(best.found())
        tell(part.stop)
    return [joined(answers) for answers in found]


def _sweep(
    queries: tuple[Tensor, Tensor], itself: Tensor | None, base: Points, wants: Sequence[Want], step: int
) -> list[Best]:
    query_QR, group_Q = queries
    bests = [Best(len(query_QR), want.k, query_QR.device) for want in wants]
    for first in range(0, len(base), step):
        base_BR, group_B = base.rows(slice(first, first + step), query_QR.device)
        row_B = torch.arange(first, first + len(base_BR), device=query_QR.device)
        similarity_QB = query_QR @ base_BR.T
        if itself is not None:
            similarity_QB.masked_fill_(itself[:, None] == row_B, -torch.inf)
        for want, best in zip(wants, bests, strict=True):
            same_group = group_Q[:, None] == group_B if want.foreign else None
            best.take(allowed(similarity_QB, same_group), row_B)
    return bests


def allowed(similarity_QB: Tensor, forbidden_QB: Tensor | None) -> Tensor:
    """-inf where a row must not be a neighbour."""
    return similarity_QB if forbidden_QB is None else similarity_QB.masked_fill(forbidden_QB, -torch.inf)


def joined(answers: Sequence[Found]) -> Found:
    """Answers about parts of the queries, one after the other."""
    rows = np.concatenate([answer.row_QK for answer in answers])
    return Found(rows, np.concatenate([answer.similarity_QK for answer in answers]))
