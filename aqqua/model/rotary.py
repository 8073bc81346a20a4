"""Rotary position: queries and keys are turned by angles that grow with the patch's place.

The dot product of a query and a key then depends on the distance between their patches. The angles
are made once per pack and used by every layer; CLS and registers are not turned.

Letter key: T tokens, N patch rows, H heads, E head width.
Test: tests/model/test_rotary.py.
"""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aqqua.model.config import ModelConfig
from aqqua.model.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Rotary:
    """Cosines and sines of each token's angles, float32; 1 and 0 for CLS and registers."""

    cos_TE: Float[Tensor, "T E"]
    sin_TE: Float[Tensor, "T E"]

    def rows(self, rows_U: Int[Tensor, " U"]) -> "Rotary":
        """The tables of some tokens alone."""
        return Rotary(self.cos_TE.index_select(0, rows_U), self.sin_TE.index_select(0, rows_U))


def normalised_turns(
    rc_N2: Int[Tensor, "N 2"],
    sides_N2: Int[Tensor, "N 2"],
    frequencies: int,
    base: float,
    normalise: str,
) -> Float[Tensor, "N 2 J"]:
    """Turns (angle / 2π) of the patch centre in [−1, 1] at `frequencies` periods from 1 to base.

    Args:
        rc_N2: patch row and column.
        sides_N2: patch rows and columns of its view.
        frequencies: J periods per axis, base^(j/J).
        base: upper end of the periods.
        normalise: 'separate' divides each axis by its own side, 'min' and 'max' both axes by the
            shorter or longer one, which keeps the aspect.

    Source: DINOv3, layers/rope_position_encoding.py.
    """
    sides = sides_N2.float()
    if normalise == "min":
        sides = sides.amin(dim=1, keepdim=True)
    elif normalise == "max":
        sides = sides.amax(dim=1, keepdim=True)
    at_N2 = 2 * ((rc_N2 + 0.5) / sides) - 1
    periods_J = base ** (torch.arange(frequencies, device=rc_N2.device, dtype=torch.float32) / frequencies)
    return at_N2[:, :, None] / periods_J


def physical_turns(
    rc_N2: Int[Tensor, "N 2"],
    um_per_patch_N: Float[Tensor, " N"],
    frequencies: int,
    shortest_um: float,
    longest_um: float,
) -> Float[Tensor, "N 2 J"]:
    """Turns of the patch centre x_µm / λ_j, λ geometric from shortest_um to longest_um.

    Only the fraction of a turn is returned, taken in float64: thousands of turns of the shortest
    wavelength would otherwise eat the digits of float32. An unknown scale (NaN) gives 0: no turn.
    """
    device = rc_N2.device
    wavelengths_J = torch.logspace(0, 1, frequencies, base=longest_um / shortest_um, dtype=torch.float64)
    at_N2 = (rc_N2 + 0.5).double() * um_per_patch_N[:, None].double()
    turns = at_N2[:, :, None] / (shortest_um * wavelengths_J.to(device))
    return turns.frac().nan_to_num(nan=0.0).float()


def rotary_tables(sequences: Sequences, config: ModelConfig) -> Rotary | None:
    """Cosines and sines for a pack; None where the configured position is not rotary.

    rope: E/4 frequencies per axis, rows then columns. rope_physical: E/8 per axis in micrometres,
    then E/8 per axis in normalised coordinates, which alone speak where the µm/px is unknown.
    """
    if config.position not in ("rope", "rope_physical"):
        return None
    rc_N2, sides_N2, E = sequences.rc_N2, sequences.sides_N2, config.head_width
    physical = config.position == "rope_physical"
    per_axis = E // 8 if physical else E // 4
    turns = [normalised_turns(rc_N2, sides_N2, per_axis, config.rope_base, config.rope_normalise)]
    if physical:
        um_per_patch_N = (sequences.um_per_px_V * sequences.patch_px)[sequences.view_N]
        span = (config.rope_shortest_um, config.rope_longest_um)
        turns.insert(0, physical_turns(rc_N2, um_per_patch_N, per_axis, *span))
    angles_NE = 2 * pi * torch.cat([part.flatten(1) for part in turns], dim=1).tile(2)
    cos_TE = angles_NE.new_ones(sequences.tokens, E).index_copy(0, sequences.patch_rows_N, angles_NE.cos())
    sin_TE = angles_NE.new_zeros(sequences.tokens, E).index_copy(0, sequences.patch_rows_N, angles_NE.sin())
    return Rotary(cos_TE, sin_TE)
