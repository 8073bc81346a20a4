"""Which token rows go through a residual branch under stochastic depth, and where they lie there.

A branch runs on the views it keeps, re-packed end to end, so that dropped views cost nothing. The two
directions of that re-packing are tables: the pack's row of each kept token, and the place of each of the
pack's tokens among the kept ones.

Letter key: T tokens, V views, B branches (two per layer), U tokens kept by one branch, S views kept by one
branch. Test: tests/kernels/test_residual_norm.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Kept:
    """The tokens of a pack that one branch works on.

    Attributes:
        rows_U: int64, token row of each kept token, in the branch's order; no row twice.
        position_T: int32, place of each token of the pack in the branch, −1 where it is dropped.
    """

    rows_U: Int[Tensor, " U"]
    position_T: Int[Tensor, " T"]

    @classmethod
    def of(cls, rows_U: Int[Tensor, " U"], tokens: int) -> "Kept":
        """The tables of given rows of a pack of `tokens` tokens (as Sequences.select returns them)."""
        position_T = torch.full((tokens,), -1, dtype=torch.int32, device=rows_U.device)
        places_U = torch.arange(len(rows_U), dtype=torch.int32, device=rows_U.device)
        return cls(rows_U, position_T.index_copy_(0, rows_U, places_U))


def kept_of_branches(
    lengths_V: Int[Tensor, " V"], kept_BS: Sequence[Int[Tensor, " _"]], device: torch.device | str
) -> list[Kept]:
    """The tables of all branches of a model at once: a dozen launches per pack instead of some per layer.

    Args:
        lengths_V: tokens of each view of the pack, on the CPU.
        kept_BS: for each branch, on the CPU, the views it keeps, in its own order.
        device: where the model runs.
    """
    tokens, stride = int(lengths_V.sum()), -(-int(lengths_V.sum()) // 4) * 4  # every table 16-byte aligned
    lengths_S = torch.cat([lengths_V[views] for views in kept_BS])
    starts_V = lengths_V.cumsum(0) - lengths_V
    starts_S = torch.cat([starts_V[views] for views in kept_BS])
    sizes_B = torch.tensor([int(lengths_V[views].sum()) for views in kept_BS])
    branch_S = torch.arange(len(kept_BS)).repeat_interleave(torch.tensor([len(views) for views in kept_BS]))
    ends_S, ends_B = lengths_S.cumsum(0), sizes_B.cumsum(0)
    # Per kept view: shift to the pack's row, shift to the place in its branch, start of its branch's table.
    shifts_3S = torch.stack(
        (starts_S - ends_S + lengths_S, (sizes_B - ends_B)[branch_S], branch_S * stride),
    ).to(device, non_blocking=True)
    total = int(sizes_B.sum())
    spread_3U = torch.repeat_interleave(
        shifts_3S, lengths_S.to(device, non_blocking=True), dim=1, output_size=total
    )
    token_U = torch.arange(total, device=device)
    rows_U = token_U + spread_3U[0]
    position_BT = torch.full((len(kept_BS), stride), -1, dtype=torch.int32, device=device)
    position_BT.view(-1).index_copy_(0, rows_U + spread_3U[2], (token_U + spread_3U[1]).int())
    parts = rows_U.split(sizes_B.tolist())
    return [Kept(rows, position[:tokens]) for rows, position in zip(parts, position_BT, strict=True)]
