"""KoLeo, the distance of each row to its nearest neighbour: the Triton kernels.

The forward pass is one launch: a program takes BLOCK_I rows through all rows of their crop, products and
norms from the same loads, keeps the best neighbour, and measures the distance to it; the I×I similarities
are never in memory. Products are full float32 (no tf32), as the neighbours are chosen by them: 2·I²·D FLOPs
per crop, 0.3 GFLOP for the some 300 images of a pack at D = 1,024, all from the L2 cache.

A row's gradient has its own term and one of each row whose nearest neighbour it is. The backward program
of a row looks those up in the list of neighbours, in order: a gather in place of a scatter, so no atomics,
and the same bits in every run.

Dimension key:  G crops, I images of the pack, D width.
Names:          i_ program index, o_ offsets, m_ mask, b_ values held by one program.
Specification:  reference.py. Launched by op.py. Test: tests/kernels/test_segment.py.
`no_type_check`: a check of shapes wraps a function, and the interpreter then misses its globals.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def forward_kernel(
    features_ptr, image_ptr, loss_ptr, nearest_ptr, distance_ptr, norm_ptr,
    images, eps,
    D: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_D: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_I rows of one crop. nearest is −1, and the loss 0, where no row shows another image.

    In one piece, as all that the search finds of a row is needed to measure its distance. UPCAST: multiply in
    float32, as the interpreter must for bf16.
    """
    i_g = tl.program_id(1).to(tl.int64)
    features_ptr += i_g * images * D
    o_i = tl.program_id(0) * BLOCK_I + tl.arange(0, BLOCK_I)
    m_i = o_i < images
    o_d = tl.arange(0, BLOCK_D)
    b_image = tl.load(image_ptr + o_i, mask=m_i, other=0)
    b_best = tl.full([BLOCK_I], -float("inf"), dtype=tl.float32)
    b_nearest = tl.full([BLOCK_I], -1, dtype=tl.int32)
    b_norm = tl.full([BLOCK_I], 1.0, dtype=tl.float32)
    b_nearest_norm = tl.full([BLOCK_I], 1.0, dtype=tl.float32)
    for first in range(0, images, BLOCK_J):
        o_j = first + tl.arange(0, BLOCK_J)
        m_j = o_j < images
        b_product = tl.zeros([BLOCK_I, BLOCK_J], dtype=tl.float32)
        b_square = tl.zeros([BLOCK_I], dtype=tl.float32)
        b_square_j = tl.zeros([BLOCK_J], dtype=tl.float32)
        for column in range(0, D, BLOCK_D):
            m_d = (column + o_d < D)[None, :]
            o_id = o_i.to(tl.int64)[:, None] * D + (column + o_d)[None, :]
            o_jd = o_j.to(tl.int64)[:, None] * D + (column + o_d)[None, :]
            b_i = tl.load(features_ptr + o_id, mask=m_i[:, None] & m_d, other=0.0)
            b_j = tl.load(features_ptr + o_jd, mask=m_j[:, None] & m_d, other=0.0)
            if UPCAST:
                b_i = b_i.to(tl.float32)
                b_j = b_j.to(tl.float32)
            b_product = tl.dot(b_i, tl.trans(b_j), b_product, input_precision="ieee")
            b_square += tl.sum(b_i.to(tl.float32) * b_i.to(tl.float32), axis=1)
            b_square_j += tl.sum(b_j.to(tl.float32) * b_j.to(tl.float32), axis=1)
        b_norm = tl.sqrt(b_square)
        b_norm_j = tl.sqrt(b_square_j)
        b_alike = b_product / (floored(b_norm, eps)[:, None] * floored(b_norm_j, eps)[None, :])
        # NaN is the nearest of all, as torch's argmax has it: it must reach the loss, not be passed over.
        b_alike = tl.where(b_alike != b_alike, float("inf"), b_alike)
        b_image_j = tl.load(image_ptr + o_j, mask=m_j, other=0)
        m_other = (b_image[:, None] != b_image_j[None, :]) & m_j[None, :]
        b_top, b_at = tl.max(tl.where(m_other, b_alike, -float("inf")), axis=1, return_indices=True)
        m_better = b_top > b_best
        b_best = tl.where(m_better, b_top, b_best)
        b_nearest = tl.where(m_better, first + b_at, b_nearest)
        m_at = tl.arange(0, BLOCK_J)[None, :] == b_at[:, None]
        b_top_norm = tl.sum(tl.where(m_at, b_norm_j[None, :], 0.0), axis=1)
        b_nearest_norm = tl.where(m_better, b_top_norm, b_nearest_norm)

    m_found = m_i & (b_nearest >= 0)
    b_square = tl.zeros([BLOCK_I], dtype=tl.float32)
    for column in range(0, D, BLOCK_D):
        m_d = (column + o_d < D)[None, :]
        o_id = o_i.to(tl.int64)[:, None] * D + (column + o_d)[None, :]
        o_nd = b_nearest.to(tl.int64)[:, None] * D + (column + o_d)[None, :]
        b_i = tl.load(features_ptr + o_id, mask=m_found[:, None] & m_d, other=0.0).to(tl.float32)
        b_n = tl.load(features_ptr + o_nd, mask=m_found[:, None] & m_d, other=0.0).to(tl.float32)
        b_apart = b_i / floored(b_norm, eps)[:, None] - b_n / floored(b_nearest_norm, eps)[:, None] + eps
        b_apart = tl.where(m_d, b_apart, 0.0)
        b_square += tl.sum(b_apart * b_apart, axis=1)
    b_distance = tl.sqrt(b_square)
    o_gi = i_g * images + o_i
    tl.store(loss_ptr + o_gi, tl.where(m_found, -tl.log(b_distance + eps), 0.0), mask=m_i)
    tl.store(nearest_ptr + o_gi, b_nearest, mask=m_i)
    tl.store(distance_ptr + o_gi, b_distance, mask=m_i)
    tl.store(norm_ptr + o_gi, b_norm, mask=m_i)


@triton.jit
@no_type_check
def floored(norm, eps):
    """max(norm, eps), NaN where norm is."""
    return tl.where(norm < eps, eps, norm)


@triton.jit
@no_type_check
def unit_row(features_ptr, norm_ptr, row, o_d, eps, D: tl.constexpr):
    """A row of length 1, [BLOCK_D], and its length before."""
    norm = tl.load(norm_ptr + row)
    b_row = tl.load(features_ptr + row * D + o_d, mask=o_d < D, other=0.0).to(tl.float32)
    return b_row / floored(norm, eps), norm


@triton.jit
@no_type_check
def pull(b_from, b_to, dloss_ptr, distance_ptr, row, eps, m_d):
    """Gradient of a row's −log(distance + eps) with respect to `from`; its negative is that of `to`."""
    distance = tl.load(distance_ptr + row)
    slope = tl.where(distance == 0.0, 0.0, -1.0 / ((distance + eps) * distance))
    return tl.load(dloss_ptr + row) * slope * tl.where(m_d, b_from - b_to + eps, 0.0)


@triton.jit
@no_type_check
def backward_kernel(
    dloss_ptr, features_ptr, nearest_ptr, distance_ptr, norm_ptr, dfeatures_ptr,
    images, eps,
    D: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program: one row of one crop."""
    i_g = (tl.program_id(0) // images).to(tl.int64) * images  # first row of the crop
    i_i = tl.program_id(0) % images
    o_d = tl.arange(0, BLOCK_D)
    m_d = o_d < D
    b_x, norm = unit_row(features_ptr, norm_ptr, i_g + i_i, o_d, eps, D)
    b_dx = tl.zeros([BLOCK_D], dtype=tl.float32)
    nearest = tl.load(nearest_ptr + i_g + i_i)
    if nearest >= 0:
        b_y, _ = unit_row(features_ptr, norm_ptr, i_g + nearest, o_d, eps, D)
        b_dx += pull(b_x, b_y, dloss_ptr, distance_ptr, i_g + i_i, eps, m_d)
    for first in range(0, images, BLOCK_I):
        o_j = first + tl.arange(0, BLOCK_I)
        m_hit = tl.load(nearest_ptr + i_g + o_j, mask=o_j < images, other=-1) == i_i
        done = first - 1
        for _ in range(0, tl.sum(m_hit.to(tl.int32), axis=0)):
            done = tl.min(tl.where(m_hit & (o_j > done), o_j, images), axis=0)
            b_y, _ = unit_row(features_ptr, norm_ptr, i_g + done, o_d, eps, D)
            b_dx -= pull(b_y, b_x, dloss_ptr, distance_ptr, i_g + done, eps, m_d)
    # Through the division by the length; one below the floor is a constant.
    b_radial = tl.where(norm < eps, 0.0, tl.sum(b_dx * b_x, axis=0)) * b_x
    b_df = (b_dx - b_radial) / floored(norm, eps)
    tl.store(dfeatures_ptr + (i_g + i_i) * D + o_d, b_df, mask=m_d)
