"""What is done per view or per image of a pack: pooling, taking the CLS and the patches apart, KoLeo.

Letter key: T tokens, V views (V1 = V + 1 offsets), D width, H heads, E head width, R rows of a prefix,
N patch rows, G crops per image, I images.
Specification: reference.py. Test: tests/kernels/test_segment.py. Timing: bench/kernels/.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aqqua.kernels.choice import BACKENDS, choose
from aqqua.kernels.segment import reference

__all__ = ["BACKENDS", "attentive_pool", "cls_gather", "koleo", "mean_pool", "split_prefix"]

WIDEST = 2048  # of a head or of a KoLeo row, which lie in the registers of one program


def mean_pool(
    x_TD: Float[Tensor, "T D"], offsets_V1: Int[Tensor, " V1"], prefix: int, backend: str = "auto"
) -> Float[Tensor, "V1-1 D"]:
    """Mean of each view's patch rows, in float32.

    Args:
        x_TD: all tokens, contiguous, float32, bfloat16 or float16 (float64: reference only).
        offsets_V1: int32, on x_TD's device: row where each view starts, then T.
        prefix: rows at the start of each view (CLS, registers) that are left out; 0 for tensors of patches
            alone. A view must hold at least so many rows; one that holds no more gives 0.
        backend: 'auto', or a name of BACKENDS to force it.

    Raises:
        ValueError: x_TD is not contiguous, offsets are not int32, prefix is negative, or an unknown backend.
        RuntimeError: the forced backend cannot serve here.
    """
    _check("mean_pool", x_TD, offsets_V1, prefix, least=0)
    if choose("segment", x_TD.device, x_TD.dtype, backend) == "reference":
        return reference.mean_pool_reference(x_TD, offsets_V1, prefix)
    from aqqua.kernels.segment import op

    return op.mean_pool(x_TD, offsets_V1, prefix)


def attentive_pool(
    values_THE: Float[Tensor, "T H E"],
    scores_TH: Float[Tensor, "T H"],
    offsets_V1: Int[Tensor, " V1"],
    prefix: int,
    backend: str = "auto",
) -> Float[Tensor, "V1-1 H E"]:
    """Σ softmax(scores) · values over each view's patch rows, head by head, in float32.

    Args:
        values_THE: contiguous; E up to 2048.
        scores_TH: contiguous, one score per token and head; may be of another dtype.
        offsets_V1, prefix, backend: as for mean_pool.

    Raises:
        ValueError, RuntimeError: as for mean_pool; or values and scores do not fit together.
    """
    _check("attentive_pool", values_THE, offsets_V1, prefix, least=0)
    fit = values_THE.ndim == 3 and values_THE.shape[:2] == scores_TH.shape and values_THE.shape[2] <= WIDEST
    if not fit or not scores_TH.is_contiguous():
        raise ValueError(
            f"attentive_pool: values and scores must be contiguous, [T, H, E] with E up to {WIDEST} and "
            f"[T, H], got {list(values_THE.shape)} and {list(scores_TH.shape)}; reshape them"
        )
    if choose("segment", values_THE.device, values_THE.dtype, backend) == "reference":
        return reference.attentive_pool_reference(values_THE, scores_TH, offsets_V1, prefix)
    from aqqua.kernels.segment import op

    return op.attentive_pool(values_THE, scores_TH, offsets_V1, prefix)[0]


def split_prefix(
    x_TD: Float[Tensor, "T D"], offsets_V1: Int[Tensor, " V1"], prefix: int, backend: str = "auto"
) -> tuple[Float[Tensor, "V1-1 R D"], Float[Tensor, "N D"]]:
    """CLS and registers of each view, and the patch rows of all: one pass each way over the tokens.

    Args:
        prefix: R, at least 1; every view holds at least so many rows.
        x_TD, offsets_V1, backend: as for mean_pool.

    Raises:
        ValueError, RuntimeError: as for mean_pool.
    """
    _check("split_prefix", x_TD, offsets_V1, prefix, least=1)
    if choose("segment", x_TD.device, x_TD.dtype, backend) == "reference":
        return reference.split_prefix_reference(x_TD, offsets_V1, prefix)
    from aqqua.kernels.segment import op

    return op.split_prefix(x_TD, offsets_V1, prefix)


def cls_gather(
    x_TD: Float[Tensor, "T D"], offsets_V1: Int[Tensor, " V1"], backend: str = "auto"
) -> Float[Tensor, "V1-1 D"]:
    """The CLS row of each view. Every view holds at least one row; otherwise as mean_pool."""
    _check("cls_gather", x_TD, offsets_V1, 1, least=1)
    if choose("segment", x_TD.device, x_TD.dtype, backend) == "reference":
        return reference.take_prefix_reference(x_TD, offsets_V1, 1)[:, 0]
    from aqqua.kernels.segment import op

    return op.take_prefix(x_TD, offsets_V1, 1)[:, 0]


def koleo(
    features_GID: Float[Tensor, "G I D"], image_I: Int[Tensor, " I"] | None = None, backend: str = "auto"
) -> Float[Tensor, ""]:
    """Sum over rows of −log(distance to the nearest row of the crop that shows another image), in float32.

    Args:
        features_GID: CLS features, one row per global crop and image; contiguous. Rows of more than 2048
            values have the reference alone, which 'auto' then takes.
        image_I: integers on the features' device; equal numbers are the same image, which is no neighbour of
            itself. A row without any other image counts 0. None: all images differ.
        backend: 'auto', or a name of BACKENDS to force it.

    Raises:
        ValueError: shapes do not fit together, features are not contiguous, or an unknown backend.
        RuntimeError: the forced backend cannot serve here.
    """
    wide = features_GID.ndim == 3 and features_GID.shape[2] > WIDEST
    if features_GID.ndim != 3 or not features_GID.is_contiguous() or (wide and backend == "triton"):
        raise ValueError(
            f"koleo: features must be contiguous and [G, I, D], for 'triton' with D up to {WIDEST}, got "
            f"{list(features_GID.shape)}, strides {features_GID.stride()}; make them contiguous"
        )
    if wide and backend == "auto":
        backend = "reference"
    if image_I is None:
        image_I = torch.arange(features_GID.shape[1], device=features_GID.device)
    if image_I.shape != features_GID.shape[1:2]:
        raise ValueError(
            f"koleo: image must name each of the {features_GID.shape[1]} images, got {list(image_I.shape)}; "
            "give one number per image"
        )
    with torch.autocast(features_GID.device.type, enabled=False):
        if choose("segment", features_GID.device, features_GID.dtype, backend) == "reference":
            return reference.koleo_reference(features_GID, image_I)
        from aqqua.kernels.segment import op

        return op.koleo_forward(features_GID, image_I)[0].sum()


def _check(name: str, x_T: Tensor, offsets_V1: Tensor, prefix: int, least: int) -> None:
    if not x_T.is_contiguous():
        raise ValueError(f"{name}: tokens must be contiguous, got strides {x_T.stride()}; make them so")
    if offsets_V1.dtype != torch.int32:
        raise ValueError(f"{name}: offsets must be int32, got {offsets_V1.dtype}; convert when packing")
    if prefix < least:
        raise ValueError(f"{name}: prefix must be at least {least}, got {prefix}; correct it")
