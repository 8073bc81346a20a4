"""Patch rows to packed tokens: the specification, in plain PyTorch.

What aqqua.model.embed and aqqua.model.position compute, which say where each code comes from.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aqqua.kernels.embed.placing import Fractions, Grid, Packing, Position


def embed_reference(
    rows_ND: Float[Tensor, "N D"],
    packing: Packing,
    cls_D: Float[Tensor, " D"],
    registers_RD: Float[Tensor, "R D"],
    bias_D: Float[Tensor, " D"] | None,
    mask_N: Bool[Tensor, " N"] | None,
    mask_D: Float[Tensor, " D"] | None,
    scale_VD: Float[Tensor, "V D"] | None,
    position: Position | None,
) -> Float[Tensor, "T D"]:
    """Bias, mask token, position; in front of each view its CLS with its scale, and the registers."""
    local_T = torch.arange(len(packing.view_T), device=rows_ND.device)
    local_T = local_T - packing.offsets_V1[packing.view_T] - packing.prefix
    patch_T = local_T >= 0
    x_ND = rows_ND.to(cls_D.dtype)
    if bias_D is not None:
        x_ND = x_ND + bias_D
    if mask_N is not None and mask_D is not None:
        x_ND = torch.where(mask_N[:, None], mask_D, x_ND)
    if position is not None:
        x_ND = x_ND + _code(position, packing, packing.view_T[patch_T], local_T[patch_T]).to(x_ND.dtype)
    cls_VD = cls_D.expand(packing.views, -1)
    if scale_VD is not None:
        cls_VD = cls_VD + scale_VD.to(cls_VD.dtype)
    prefix_VRD = torch.cat((cls_VD[:, None], registers_RD.expand(packing.views, -1, -1)), dim=1)
    x_TD = x_ND.new_zeros(len(patch_T), x_ND.shape[1])
    x_TD = x_TD.index_copy(0, patch_T.nonzero()[:, 0], x_ND)
    return x_TD.index_copy(0, (~patch_T).nonzero()[:, 0], prefix_VRD.flatten(0, 1))


def _code(position: Position, packing: Packing, view_N: Tensor, local_N: Tensor) -> Tensor:
    if isinstance(position, Grid):
        return position.table_QD[position.first_V[view_N] + local_N]
    sides_N2 = packing.grids_V2[view_N]
    rc_N2 = torch.stack((local_N // sides_N2[:, 1], local_N % sides_N2[:, 1]), dim=1)
    if isinstance(position, Fractions):
        side = len(position.rows_MD)
        at_N2 = ((rc_N2 + 0.5) / sides_N2 * side - 0.5).clamp(0, side - 1)
        return _between(position.rows_MD, at_N2[:, 0]) + _between(position.columns_MD, at_N2[:, 1])
    relative_N = position.relative_V[view_N]
    at_N2 = rc_N2.flip(1) * relative_N.nan_to_num(nan=1.0)[:, None]
    angles_N2F = at_N2[:, :, None] * position.frequencies
    code_ND = torch.cat((angles_N2F.sin(), angles_N2F.cos()), dim=-1).flatten(1)
    return code_ND + relative_N.isnan()[:, None] * position.unknown_D


def _between(table_MD: Tensor, at_N: Tensor) -> Tensor:
    low_N = at_N.floor().long().clamp(max=len(table_MD) - 2)
    return torch.lerp(table_MD[low_N], table_MD[low_N + 1], (at_N - low_N).to(table_MD.dtype)[:, None])
