"""Attention inside each view of a packed batch: no view sees another."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aqqua.kernels.attention import cuda
from aqqua.kernels.attention.choice import BACKENDS, available, choose, choose_other
from aqqua.kernels.attention.grouped import varlen_attention_grouped
from aqqua.kernels.attention.launches import DTYPES, WIDTHS, largest_tile
from aqqua.kernels.attention.reference import turn_reference, varlen_attention_reference
from aqqua.kernels.attention.schedule import NARROW, WIDE, Schedule, make_schedule, schedule_of

__all__ = [
    "BACKENDS",
    "Schedule",
    "available",
    "choose",
    "largest_tile",
    "make_schedule",
    "qkv_attention",
    "varlen_attention",
]

_HOST = {"grouped": varlen_attention_grouped, "reference": varlen_attention_reference}
_GPU = {"flash4": cuda.flash4, "flash2": cuda.flash2, "torch_varlen": cuda.torch_varlen}


def _check(q: Tensor, k: Tensor, v: Tensor, offsets_V1: Tensor, lengths_V: Tensor) -> None:
    if not (q.shape == k.shape == v.shape and q.dtype == k.dtype == v.dtype and q.ndim == 3):
        shapes = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in (q, k, v))
        raise ValueError(f"varlen_attention: q, k, v must be alike and [T, H, E], got {shapes}; reshape them")
    if offsets_V1.dtype != torch.int32:
        raise ValueError(
            f"varlen_attention: offsets must be int32, got {offsets_V1.dtype}; convert when packing"
        )
    if lengths_V.device.type != "cpu":
        raise ValueError(
            f"varlen_attention: lengths must lie on the CPU, got {lengths_V.device}; keep the host copy"
        )
    if len(lengths_V) + 1 != len(offsets_V1) or int(lengths_V.sum()) != len(q):
        raise ValueError(
            f"varlen_attention: lengths must add up to the {len(q)} tokens of {len(offsets_V1) - 1} views, "
            f"got {int(lengths_V.sum())} tokens of {len(lengths_V)}; take both from one Sequences"
        )


def varlen_attention(
    q_THE: Float[Tensor, "T H E"],
    k_THE: Float[Tensor, "T H E"],
    v_THE: Float[Tensor, "T H E"],
    offsets_V1: Int[Tensor, " V1"],
    lengths: Int[Tensor, " V"],
    max_length: int,
    backend: str = "auto",
) -> Float[Tensor, "T H E"]:
    """softmax(q kᵀ / √E) v inside each view.

    Args:
        q_THE, k_THE, v_THE: queries, keys, values of all tokens; H heads of width E.
        offsets_V1: int32, on their device: token row where each view starts, then T.
        lengths: tokens of each view, on the CPU (the host side of offsets_V1, so that nothing waits
            for the GPU).
        max_length: longest view.
        backend: 'auto', or a name of BACKENDS to force it.

    Returns:
        One row per token, in q's dtype.

    Raises:
        ValueError: shapes, dtypes or lengths do not fit together, or an unknown backend.
        RuntimeError: the forced backend cannot serve here.
    """
    _check(q_THE, k_THE, v_THE, offsets_V1, lengths)
    name = choose(q_THE.device, q_THE.dtype, backend)
    if name == "triton":
        qkv_T3HE = torch.stack((q_THE, k_THE, v_THE), dim=1)  # a copy: qkv_attention needs none
        return qkv_attention(qkv_T3HE, offsets_V1, lengths, max_length, backend=name)
    if name in _HOST:
        return _HOST[name](q_THE, k_THE, v_THE, lengths)
    return _GPU[name](q_THE, k_THE, v_THE, offsets_V1, max_length)


def qkv_attention(
    qkv_T3HE: Float[Tensor, "T 3 H E"],
    offsets_V1: Int[Tensor, " V1"],
    lengths: Int[Tensor, " V"],
    max_length: int,
    *,
    rotary: tuple[Float[Tensor, "T E"], Float[Tensor, "T E"]] | None = None,
    schedule: Schedule | None = None,
    backend: str = "auto",
) -> Float[Tensor, "T H E"]:
    """softmax(q kᵀ / √E) v inside each view, of a fused projection, with rotary position.

    What `varlen_attention` is of queries and keys turned before, without their copies where the backend
    is 'triton': it turns them in registers, reads q, k and v where the projection wrote them and writes
    one gradient for all three. Views beyond its limit go to the best of the other backends.

    Args:
        qkv_T3HE: queries, keys and values of all tokens; any strides but neighbours within a head.
        offsets_V1, lengths, max_length: as in `varlen_attention`.
        rotary: cosines and sines of each token's angles, float32; both halves of a row are equal
            (model.rotary.Rotary). Not differentiated.
        schedule: `make_schedule` of these lengths, made once per pack for all layers; only 'triton' reads
            it. None: made from the lengths and remembered for the last few packs.
        backend: 'auto', or a name of BACKENDS to force it.

    Returns:
        One row per token, in qkv's dtype. With 'triton', views that share a tile share their numbers'
        health: a NaN or infinity in one reaches the others (0 · NaN); finite values never do.

    Raises:
        ValueError: shapes, dtypes, lengths, tables or schedule do not fit together, or an unknown backend.
        RuntimeError: the forced backend cannot serve here.
    """
    _check_qkv(qkv_T3HE, rotary)
    name = choose(qkv_T3HE.device, qkv_T3HE.dtype, backend)
    if name != "triton":
        return _turned(qkv_T3HE, offsets_V1, lengths, max_length, rotary, name)
    if schedule is None:
        tile = largest_tile(qkv_T3HE.device, qkv_T3HE.dtype)
        schedule = schedule_of(tuple(lengths.tolist()), qkv_T3HE.device, tile)
    return _by_triton(qkv_T3HE, rotary, schedule)


def _by_triton(qkv_T3HE: Tensor, rotary: tuple[Tensor, Tensor] | None, schedule: Schedule) -> Tensor:
    """Our kernels, and for views beyond their limit the best of the other backends."""
    _check_triton(qkv_T3HE, schedule)
    from aqqua.kernels.attention.op import attend  # needs Triton: where it serves only

    def serve_rest(qkv_U3HE: Tensor, angles: tuple[Tensor, Tensor] | None) -> Tensor:
        rest = schedule.rest
        assert rest is not None
        other = choose_other(qkv_U3HE.device, qkv_U3HE.dtype)
        return _turned(qkv_U3HE, rest.offsets, rest.lengths, rest.max_length, angles, other)

    return attend(qkv_T3HE, schedule, rotary, serve_rest)


def _turned(
    qkv_T3HE: Tensor,
    offsets_V1: Tensor,
    lengths: Tensor,
    max_length: int,
    rotary: tuple[Tensor, Tensor] | None,
    backend: str,
) -> Tensor:
    """Attention of the slices of a fused projection, turned first."""
    q_THE, k_THE, v_THE = qkv_T3HE.unbind(1)
    if rotary is not None:
        q_THE, k_THE = turn_reference(q_THE, *rotary), turn_reference(k_THE, *rotary)
    return varlen_attention(q_THE, k_THE, v_THE, offsets_V1, lengths, max_length, backend)


def _check_qkv(qkv_T3HE: Tensor, rotary: tuple[Tensor, Tensor] | None) -> None:
    if qkv_T3HE.ndim != 4 or qkv_T3HE.shape[1] != 3:
        raise ValueError(
            f"qkv_attention: qkv must be [T, 3, H, E], got {list(qkv_T3HE.shape)}; unflatten the projection"
        )
    T, _, _, E = qkv_T3HE.shape
    for table in rotary or ():
        if table.shape != (T, E) or table.stride(1) != 1 or table.device != qkv_T3HE.device:
            raise ValueError(
                f"qkv_attention: rotary tables must be [{T}, {E}], rows in one piece, on {qkv_T3HE.device}, "
                f"got {list(table.shape)}, strides {table.stride()}, on {table.device}; make them anew"
            )


def _check_triton(qkv_T3HE: Tensor, schedule: Schedule) -> None:
    """What only our kernels ask."""
    if qkv_T3HE.shape[3] not in WIDTHS or qkv_T3HE.dtype not in DTYPES:
        raise ValueError(
            f"qkv_attention: 'triton' needs heads of {', '.join(map(str, WIDTHS))} in float32 or half "
            f"precision, got {qkv_T3HE.shape[3]} in {qkv_T3HE.dtype}; change the heads or the backend"
        )
    if qkv_T3HE.stride(3) != 1:
        raise ValueError(
            f"qkv_attention: the values of a head must be neighbours, got strides {qkv_T3HE.stride()}; "
            "call contiguous()"
        )

    if schedule.tokens != len(qkv_T3HE) or schedule.narrow_B2R.device != qkv_T3HE.device:
        raise ValueError(
            f"qkv_attention: the schedule must be of {len(qkv_T3HE)} tokens on {qkv_T3HE.device}, got "
            f"{schedule.tokens} on {schedule.narrow_B2R.device}; make it from the pack's lengths"
        )
    if len(schedule.wide_B2R) and largest_tile(qkv_T3HE.device, qkv_T3HE.dtype) < WIDE:
        raise ValueError(
            f"qkv_attention: tiles must have at most {NARROW} rows for {qkv_T3HE.dtype} on this device, got "
            f"{WIDE}; make the schedule with largest_tile(device, dtype)"
        )
