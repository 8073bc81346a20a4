"""Patch rows to the packed tokens of a pack, in one pass: bias, mask token, position, CLS, scale, registers.

    packing = Packing(offsets_V1, view_T, grids_V2, prefix)
    x_TD = embed(patches_NF @ weight_DF.T, packing, cls_D, registers_RD, bias_D=bias_D, mask_N=mask_N,
                 mask_D=mask_D, scale_VD=scale_VD, position=Fractions(rows_MD, columns_MD))

The patch embedding's product stays a matrix product of its own. Its bias is added here, because its gradient
is a sum over the patches that this op's backward pass reads anyhow.

Letter key: T tokens, V views, N patch rows, D width, R registers, M positions of a table, Q rows of a table
that holds every distinct grid.
Specification: reference.py. Test: tests/kernels/test_embed.py. Timing: bench/kernels/.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aqqua.kernels.choice import BACKENDS, choose
from aqqua.kernels.embed.placing import (
    Fractions,
    Grid,
    Packing,
    Position,
    RowSums,
    SineCosine,
    sums_over_views,
)
from aqqua.kernels.embed.reference import embed_reference

__all__ = [
    "BACKENDS",
    "Fractions",
    "Grid",
    "Packing",
    "Position",
    "RowSums",
    "SineCosine",
    "embed",
    "sums_over_views",
]


def embed(
    rows_ND: Float[Tensor, "N D"],
    packing: Packing,
    cls_D: Float[Tensor, " D"],
    registers_RD: Float[Tensor, "R D"],
    *,
    bias_D: Float[Tensor, " D"] | None = None,
    mask_N: Bool[Tensor, " N"] | None = None,
    mask_D: Float[Tensor, " D"] | None = None,
    scale_VD: Float[Tensor, "V D"] | None = None,
    position: Position | None = None,
    backend: str = "auto",
) -> Float[Tensor, "T D"]:
    """Tokens of a pack: each part of a token is an argument, hence so many.

    Args:
        rows_ND: patches times the weight of the patch embedding, float32, bfloat16 or float16 (float64:
            reference only); may be of another dtype than the rest.
        packing: how the views lie in the pack. Its values are not looked at, which would stall a GPU.
        cls_D: added to by the view's scale; its dtype is the result's.
        registers_RD: one fewer than the packing's prefix; no position is added to them, nor to the CLS.
        bias_D: of the patch embedding.
        mask_N: patches that show mask_D instead of row and bias; needs mask_D.
        mask_D: the mask token.
        scale_VD: what the CLS of each view is told of its µm/px.
        position: code added to each patch, masked ones too.
        backend: 'auto', or a name of BACKENDS to force it.

    Returns:
        Tokens in cls_D's dtype, added up in float32 (by the reference: in that dtype).

    Raises:
        ValueError: shapes, dtypes or layouts do not fit together, or an unknown backend.
        RuntimeError: the forced backend cannot serve here.
    """
    _check_packing(packing, rows_ND)
    _check_shapes(rows_ND, packing, cls_D, registers_RD, bias_D, mask_N, mask_D, scale_VD)
    _check_position(position, packing, rows_ND.shape[1])
    # Both types must be among those that the kernels read; the result's says which rule applies.
    chosen = choose("embed", rows_ND.device, _of_kernels(rows_ND.dtype, cls_D.dtype), backend)
    if chosen == "reference":
        return embed_reference(
            rows_ND, packing, cls_D, registers_RD, bias_D, mask_N, mask_D, scale_VD, position
        )  # fmt: skip
    from aqqua.kernels.embed import op

    mask_D = None if mask_N is None else mask_D
    places = packing.offsets_V1, packing.view_T, packing.grids_V2, packing.prefix
    given = rows_ND, bias_D, cls_D, registers_RD, mask_D, mask_N, scale_VD
    return op.embed(*given, *_flat(position), *places, _sums(position))


def _of_kernels(*dtypes: torch.dtype) -> torch.dtype:
    return torch.float64 if torch.float64 in dtypes else dtypes[-1]


def _flat(position: Position | None) -> tuple[Tensor | None, Tensor | None, Tensor | None, str]:
    if isinstance(position, Grid):
        return position.table_QD, None, position.first_V, "grid"
    if isinstance(position, Fractions):
        return position.rows_MD, position.columns_MD, None, "fractions"
    if isinstance(position, SineCosine):
        return position.unknown_D, position.frequencies, position.relative_V, "sine"
    return None, None, None, "none"


def _sums(position: Position | None) -> list[Tensor]:
    if not isinstance(position, Grid):
        return []
    return [table for sums in position.sums for table in (sums.list_P, sums.lists_S3, sums.starts_K)]


def _check_packing(packing: Packing, rows_ND: Tensor) -> None:
    tables = {"offsets": packing.offsets_V1, "view": packing.view_T, "grids": packing.grids_V2}
    found = {name: table.dtype for name, table in tables.items()}
    if found != {"offsets": torch.int32, "view": torch.int64, "grids": torch.int32}:
        raise ValueError(
            f"embed: offsets and grids must be int32 and view int64, got {found}; convert when packing"
        )
    if packing.grids_V2.shape != (packing.views, 2) or not all(t.is_contiguous() for t in tables.values()):
        raise ValueError(
            f"embed: grids must be [{packing.views}, 2] and all tables of a packing contiguous, got "
            f"{list(packing.grids_V2.shape)}; make them from one Sequences"
        )
    if packing.prefix < 1 or len(rows_ND) != packing.patches:
        raise ValueError(
            f"embed: {len(packing.view_T)} tokens of {packing.views} views with a prefix of "
            f"{packing.prefix} (at least 1) must have {packing.patches} patch rows, got {len(rows_ND)}; "
            "give the rows of this pack"
        )


def _check_shapes(
    rows_ND: Tensor, packing: Packing, cls_D: Tensor, registers_RD: Tensor,
    bias_D: Tensor | None, mask_N: Tensor | None, mask_D: Tensor | None, scale_VD: Tensor | None,
) -> None:  # fmt: skip
    width = rows_ND.shape[1]
    wanted = {
        "rows": (rows_ND, (packing.patches, width)),
        "cls": (cls_D, (width,)),
        "registers": (registers_RD, (packing.prefix - 1, width)),
        "bias": (bias_D, (width,)),
        "mask": (mask_N, (packing.patches,)),
        "mask token": (mask_D, (width,)),
        "scale": (scale_VD, (packing.views, width)),
    }
    _check_each(wanted)
    if mask_N is not None and mask_D is None:
        raise ValueError("embed: a mask needs a mask token, got None; give mask_D")


def _check_position(position: Position | None, packing: Packing, width: int) -> None:
    if isinstance(position, Grid):
        _check_each({
            "table": (position.table_QD, (len(position.table_QD), width)),
            "first": (position.first_V, (packing.views,)),
        })  # fmt: skip
        if position.first_V.dtype != torch.int32:
            raise ValueError(f"embed: first must be int32, got {position.first_V.dtype}; convert it")
        rows = [len(sums.list_P) for sums in position.sums[-1:]]
        if rows not in ([], [len(position.table_QD)]):
            raise ValueError(
                f"embed: sums must make the {len(position.table_QD)} rows of the table, got {rows}; make "
                "both from the same grids"
            )
    elif isinstance(position, Fractions):
        size = (max(len(position.rows_MD), 2), width)
        _check_each({"rows' table": (position.rows_MD, size), "columns' table": (position.columns_MD, size)})
    elif isinstance(position, SineCosine):
        if width % 4 or position.relative_V.dtype != torch.float32:
            raise ValueError(
                f"embed: sine-cosine needs a width divisible by 4 and float32 scales, got {width} and "
                f"{position.relative_V.dtype}; change them"
            )
        _check_each({
            "relative": (position.relative_V, (packing.views,)),
            "frequencies": (position.frequencies, (width // 4,)),
            "unknown": (position.unknown_D, (width,)),
        })  # fmt: skip


def _check_each(wanted: dict[str, tuple[Tensor | None, tuple[int, ...]]]) -> None:
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and (tensor.shape != shape or not tensor.is_contiguous()):
            raise ValueError(
                f"embed: {name} must be contiguous and {list(shape)}, got {list(tensor.shape)}, strides "
                f"{tensor.stride()}; give that of this pack and width"
            )
