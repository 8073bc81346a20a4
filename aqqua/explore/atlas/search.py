"""Which search serves: exact while that takes minutes, cells above.

The choice is by the number of pairs and the device alone, and is told with what it found: `Search.log` goes
into the facts of an atlas. Test: tests/explore/atlas/test_search.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from aqqua.explore.atlas.cells import make_cells, measure_recall, nearest_in_cells
from aqqua.explore.atlas.neighbours import Found, Points, Want, nearest

EXACT_PAIRS = 50_000**2  # about a minute on a processor core; bench/explore.py
GPU_PAIRS = 5_000_000**2  # a few minutes on one H100, by its float32 peak; not measured


@dataclass
class Search:
    """Finds nearest rows, and keeps how."""

    seed: int = 0
    recall: float = 0.95  # share of the neighbours that should be found where only cells are looked into
    most_cells: int = 64  # that a query looks into, whatever is then found
    exact_pairs: int = EXACT_PAIRS
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    log: list[dict[str, Any]] = field(default_factory=list)

    def __call__(
        self,
        queries: Points,
        base: Points,
        wants: Sequence[Want],
        *,
        same: np.ndarray | None = None,
        tell: Callable[[int], None] = lambda _: None,
    ) -> list[Found]:
        """The nearest base rows of each query; see `nearest`."""
        entry: dict[str, Any] = {"queries": len(queries), "base": len(base), "recall": [1.0] * len(wants)}
        if len(queries) * len(base) <= self.exact_pairs:
            self.log.append({**entry, "method": "exact"})
            return nearest(queries, base, wants, same=same, device=self.device, tell=tell)
        cells = make_cells(base, self.seed)
        found = [measure_recall(cells, want, self.recall, self.most_cells, self.seed) for want in wants]
        entry |= {"recall": [one.share for one in found], "probed": [one.cells for one in found]}
        self.log.append({**entry, "method": "cells", "cells": len(cells.centre_CR)})
        return nearest_in_cells(queries, cells, list(zip(wants, found, strict=True)), same=same, tell=tell)


def best_search(seed: int, recall: float, most_cells: int, exact_pairs: int | None = None) -> Search:
    """A search on this machine's GPU if it has one, else on its processor."""
    if torch.cuda.is_available():
        return Search(seed, recall, most_cells, exact_pairs or GPU_PAIRS, torch.device("cuda"))
    return Search(seed, recall, most_cells, exact_pairs or EXACT_PAIRS)
