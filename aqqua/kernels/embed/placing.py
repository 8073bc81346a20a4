"""How views lie in a pack, and where a patch lies in its view: the tables and codes that embed takes.

Letter key: T tokens, V views (V1 = V + 1 offsets), D width, N patch rows, M positions of a table, Q rows of a
table that holds every distinct grid, P rows of sums, S lists of rows to sum, K entries of all lists.
Test: tests/kernels/test_embed.py.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

LONGEST = 32  # rows that one sum adds one after the other; longer lists are summed in two stages


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the tokens of V views lie: CLS, registers, then the patches row by row, view after view.

    Attributes:
        offsets_V1: int32, token row where each view starts, then T.
        view_T: int64, the view of each token.
        grids_V2: int32, patch rows and patch columns of each view.
        prefix: tokens before the patches of each view, CLS and registers.
    """

    offsets_V1: Int[Tensor, " V1"]
    view_T: Int[Tensor, " T"]
    grids_V2: Int[Tensor, "V 2"]
    prefix: int

    @property
    def views(self) -> int:
        """V."""
        return self.offsets_V1.shape[0] - 1

    @property
    def patches(self) -> int:
        """N."""
        return self.view_T.shape[0] - self.views * self.prefix


@dataclass(frozen=True, eq=False)
class RowSums:
    """Sums of equally long runs of rows: out[start_s + l] = Σ_k rows[starts[first_s + k] + l].

    Attributes:
        list_P: int32, the list that each row of the result belongs to.
        lists_S3: int32, of each list its first entry in starts_K, its entries, its first row of the result.
        starts_K: int32, first row of each run that is summed.
    """

    list_P: Int[Tensor, " P"]
    lists_S3: Int[Tensor, "S 3"]
    starts_K: Int[Tensor, " K"]


@dataclass(frozen=True, eq=False)
class Grid:
    """A code from a table of the distinct grids of the pack, end to end, row by row.

    Attributes:
        table_QD: the codes; wants a gradient.
        first_V: int32, table row of each view's first patch.
        sums: how the gradient of the table is summed, in one or two stages; empty where none is wanted.
    """

    table_QD: Float[Tensor, "Q D"]
    first_V: Int[Tensor, " V"]
    sums: tuple[RowSums, ...]


@dataclass(frozen=True, eq=False)
class Fractions:
    """φ_row(r/rows) + φ_column(c/columns), each linear between the M positions of its table, M at least 2."""

    rows_MD: Float[Tensor, "M D"]
    columns_MD: Float[Tensor, "M D"]


@dataclass(frozen=True, eq=False)
class SineCosine:
    """[sin | cos] of column, then of row, times the view's scale, at D/4 frequencies.

    Attributes:
        relative_V: float32, µm/px over the reference; NaN where unknown, which counts as 1.
        frequencies: float32, D/4 of them.
        unknown_D: added to every patch of a view of unknown scale; wants a gradient.
    """

    relative_V: Float[Tensor, " V"]
    frequencies: Float[Tensor, " F"]
    unknown_D: Float[Tensor, " D"]


Position = Grid | Fractions | SineCosine


def sums_over_views(
    grids_G2: Int[Tensor, "G 2"],
    grid_V: Int[Tensor, " V"],
    prefix: int,
    device: torch.device | str,
) -> tuple[RowSums, ...]:
    """How token rows are summed over the views of equal grid, for the gradient of a table of grids.

    Args:
        grids_G2: on the CPU, the distinct grids in the order of the table.
        grid_V: on the CPU, the grid of each view.
        prefix: tokens before the patches of each view.
        device: where the model runs.
    """
    area_G = grids_G2.prod(dim=1)
    lengths_V = area_G[grid_V] + prefix
    starts_V = lengths_V.cumsum(0) - lengths_V + prefix
    views_G = torch.bincount(grid_V, minlength=len(area_G))
    stages, starts_K = [], starts_V[grid_V.argsort(stable=True)]
    while True:
        lists_G = (views_G + LONGEST - 1) // LONGEST
        last = int(lists_G.max()) == 1
        owner_S = torch.arange(len(area_G)).repeat_interleave(lists_G)
        entries_S = torch.full_like(owner_S, LONGEST)
        ends = lists_G.cumsum(0) - 1
        entries_S[ends] = views_G - LONGEST * (lists_G - 1)
        first_S = entries_S.cumsum(0) - entries_S
        rows_S = area_G[owner_S]
        out_S = rows_S.cumsum(0) - rows_S
        stages.append(_on_device(rows_S, torch.stack((first_S, entries_S, out_S), dim=1), starts_K, device))
        if last:
            return tuple(stages)
        views_G, starts_K = lists_G, out_S


def _on_device(rows_S: Tensor, lists_S3: Tensor, starts_K: Tensor, device: torch.device | str) -> RowSums:
    """One copy to the device for all tables of a stage."""
    parts = (rows_S, starts_K, lists_S3.flatten())
    table = torch.cat([part.int() for part in parts]).to(device, non_blocking=True)
    ends = [0, *torch.tensor([len(part) for part in parts]).cumsum(0).tolist()]
    rows_S, starts_K, lists = (table[a:b] for a, b in pairwise(ends))
    numbers_S = torch.arange(len(rows_S), dtype=torch.int32, device=device)
    list_P = torch.repeat_interleave(numbers_S, rows_S, output_size=int(parts[0].sum()))
    return RowSums(list_P, lists.unflatten(0, (-1, 3)), starts_K)
