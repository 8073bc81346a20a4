"""Additive position codes: where a patch lies in its view, added to the embedded patch.

Each module maps a packing to one row per patch, [N, D]; views of any grid stand side by side. `placed` is the
same code as the tables from which aqqua.kernels.embed makes it while it writes the tokens.
Letter key: N patch rows, D width, M side of a learned table, Q patches of the distinct grids.
Test: tests/model/test_position.py.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from aqqua.kernels.embed import Fractions, Grid, SineCosine, sums_over_views
from aqqua.model.sequences import Sequences

OFFSET = 0.1  # dinov2/models/vision_transformer.py, interpolate_pos_encoding: against rounding of the size


@lru_cache(maxsize=1024)
def _resize_weights(source: int, target: int, offset: bool) -> Tensor:
    """[target, source] weights of a one-dimensional bicubic resize: interpolation is linear, so its
    response to the unit vectors is all there is to know."""
    unit = torch.eye(source)[None, None]  # columns are unit vectors; only rows are resized
    if offset:
        scale = ((target + OFFSET) / source, 1.0)
        return interpolate(unit, scale_factor=scale, mode="bicubic", align_corners=False)[0, 0]
    size = (target, source)
    return interpolate(unit, size=size, mode="bicubic", align_corners=False, antialias=True)[0, 0]


def _runs(grids_G2: Tensor, side: int) -> Iterator[tuple[int, list[int]]]:
    """Grids sorted by width as (columns, heights), the table's own grid by itself."""
    for columns in grids_G2[:, 1].unique().tolist():
        heights = grids_G2[grids_G2[:, 1] == columns, 0].tolist()
        if columns == side and side in heights:
            at = heights.index(side)
            runs = (heights[:at], heights[at : at + 1], heights[at + 1 :])
        else:
            runs = (heights, [], [])
        yield from ((columns, run) for run in runs if run)


class LearnedGrid(nn.Module):
    """A table of M×M positions, resized bicubically to each view's grid.

    A two-dimensional resize is a resize of rows and one of columns, so all grids of one width are
    made by two matrix products; the loop is over distinct widths, not over views.

    Source: DINOv2, interpolate_pos_encoding; `offset` is its first release's form
    (scale (n + 0.1)/M, no antialias), the default that of its models with registers.
    """

    def __init__(self, side: int, width: int, offset: bool = False):
        super().__init__()
        self.offset = offset
        self.table = nn.Parameter(torch.empty(side, side, width))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        nn.init.trunc_normal_(self.table, std=0.02, generator=generator)

    def resized(self, grids_G2: Int[Tensor, "G 2"]) -> Float[Tensor, "Q D"]:
        """Tables of distinct grids end to end, row by row; grids sorted by width."""
        side, parts = len(self.table), []
        for columns, heights in _runs(grids_G2, side):
            if columns == side and heights == [side]:
                parts.append(self.table.flatten(0, 1))  # its own grid, untouched in either form
                continue
            rows_RM = torch.cat([_resize_weights(side, height, self.offset) for height in heights])
            across_CM = _resize_weights(side, columns, self.offset).to(self.table)
            rows_RMD = torch.tensordot(rows_RM.to(self.table), self.table, dims=1)
            parts.append((across_CM @ rows_RMD).flatten(0, 1))  # [R, C, D] -> [R·C, D]
        return torch.cat(parts)

    def forward(self, sequences: Sequences) -> Float[Tensor, "N D"]:
        by_width_G2, grid_V = sequences.grids_V2.flip(1).unique(dim=0, return_inverse=True)
        starts_G = pad(by_width_G2.prod(dim=1).cumsum(0), (1, 0))[:-1]
        table_QD = self.resized(by_width_G2.flip(1))
        first_N = starts_G[grid_V].to(sequences.device)[sequences.view_N]
        local_N = sequences.rc_N2[:, 0] * sequences.sides_N2[:, 1] + sequences.rc_N2[:, 1]
        return table_QD.index_select(0, first_N + local_N)

    def placed(self, sequences: Sequences) -> Grid:
        """The tables of the distinct grids, and where each view's begins."""
        by_width_G2, grid_V = sequences.grids_V2.flip(1).unique(dim=0, return_inverse=True)
        starts_G = pad(by_width_G2.prod(dim=1).cumsum(0), (1, 0))[:-1]
        first_V = starts_G[grid_V].int().to(sequences.device, non_blocking=True)
        places = by_width_G2, grid_V, sequences.prefix, sequences.device
        sums = sums_over_views(*places) if torch.is_grad_enabled() else ()
        return Grid(self.resized(by_width_G2.flip(1)).contiguous(), first_V, sums)


class FactorisedFractional(nn.Module):
    """φ_row(r/rows) + φ_column(c/columns): two learned tables over the fraction of the side.

    The tables hold M positions; between them the code is interpolated linearly, so any grid is served
    without resizing. Source: NaViT (Dehghani 2023), section 2.1, fractional coordinates.
    """

    def __init__(self, side: int, width: int):
        super().__init__()
        self.rows = nn.Parameter(torch.empty(side, width))
        self.columns = nn.Parameter(torch.empty(side, width))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        for table in (self.rows, self.columns):
            nn.init.trunc_normal_(table, std=0.02, generator=generator)

    def forward(self, sequences: Sequences) -> Float[Tensor, "N D"]:
        side = len(self.rows)
        at_N2 = ((sequences.rc_N2 + 0.5) / sequences.sides_N2 * side - 0.5).clamp(0, side - 1)
        low_N2 = at_N2.floor().long().clamp(max=side - 2)
        part_N2 = (at_N2 - low_N2).to(self.rows.dtype)
        codes = [
            torch.lerp(
                table.index_select(0, low_N2[:, axis]),
                table.index_select(0, low_N2[:, axis] + 1),
                part_N2[:, axis, None],
            )
            for axis, table in enumerate((self.rows, self.columns))
        ]
        return codes[0] + codes[1]

    def placed(self, sequences: Sequences) -> Fractions:  # noqa: ARG002  the other codes need it
        """The two tables."""
        return Fractions(self.rows, self.columns)


def gsd_sine_cosine(
    rc_N2: Int[Tensor, "N 2"], scale_N: Float[Tensor, " N"], width: int
) -> Float[Tensor, "N D"]:
    """Sine-cosine code of position × ground sample distance; columns fill the first half of D.

    A patch lies at (its index) × (µm/px over the reference), so that equal places in micrometres get
    equal codes whatever the resolution: the code of patch 2 at 0.5 is that of patch 1 at 1.

    Source: Scale-MAE (Reed 2023), eq. 2; ω_i = 10000^(−i/(D/4)), halves [sin | cos].
    """
    angles_N2Q = (rc_N2.flip(1) * scale_N[:, None])[:, :, None] * _frequencies(width, rc_N2.device)
    return torch.cat((angles_N2Q.sin(), angles_N2Q.cos()), dim=-1).flatten(1)


def _frequencies(width: int, device: torch.device) -> Float[Tensor, " Q"]:
    quarter = width // 4
    return 10000.0 ** (-torch.arange(quarter, device=device, dtype=torch.float32) / quarter)


class GsdSineCosine(nn.Module):
    """Fixed sine-cosine code at each view's physical scale; unknown: the reference and a learned offset."""

    def __init__(self, width: int, reference_um_per_px: float, patch_px: int):
        super().__init__()
        self.width = width
        self.reference_um_per_px = reference_um_per_px
        self.patch_px = patch_px
        self.unknown = nn.Parameter(torch.empty(width))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        nn.init.trunc_normal_(self.unknown, std=0.02, generator=generator)

    def forward(self, sequences: Sequences) -> Float[Tensor, "N D"]:
        relative_V = self._relative(sequences)
        code_ND = gsd_sine_cosine(
            sequences.rc_N2, relative_V.nan_to_num(nan=1.0)[sequences.view_N], self.width
        )
        # Unknown is a value of its own: without the learned offset it would pass for the reference scale.
        return code_ND + relative_V.isnan()[sequences.view_N, None] * self.unknown

    def placed(self, sequences: Sequences) -> SineCosine:
        """Each view's relative scale, the frequencies and the learned offset."""
        relative_V = self._relative(sequences)
        return SineCosine(relative_V, _frequencies(self.width, relative_V.device), self.unknown)

    def _relative(self, sequences: Sequences) -> Float[Tensor, " V"]:
        """Physical length of a patch step, the model's own patch at the reference being 1."""
        side = sequences.patch_px / self.patch_px
        return sequences.um_per_px_V / self.reference_um_per_px * side
