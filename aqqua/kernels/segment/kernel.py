"""Pooling and gathering per view: the Triton kernels.

A packed batch lays the tokens of V views end to end: view v owns rows offsets[v] .. offsets[v+1], of which
the first few (CLS, registers) are its prefix. One program holds one view and a block of columns, so a view's
sum is one program's sum in one order, and each row of a gradient, prefix and all, is written by the one
program that owns its view: no atomics, no pass that fills with zeros beforehand. Per token of width D in
bf16 the forward passes read 2·D bytes and the backward passes write 2·D (the attentive one also reads the
values again); what is pooled is V rows, far fewer. PyTorch's index_add and index_put move two to three
times that and, on a GPU, add in any order.

Dimension key:  T tokens, V views, D width, H heads, E head width, R rows of a prefix.
Names:          i_ program index, o_ offsets, m_ mask, b_ values held by one program.
Specification:  reference.py. Launched by op.py. Test: tests/kernels/test_segment.py.
`no_type_check`: a check of shapes wraps a function, and the interpreter then misses its globals.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def own_view(offsets_ptr, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """This program's view, its first row, the row after its last, and its columns."""
    across: tl.constexpr = tl.cdiv(D, BLOCK_D)
    i_v = (tl.program_id(0) // across).to(tl.int64)  # int64: T · D passes 2**31 in a large pack
    o_d = (tl.program_id(0) % across) * BLOCK_D + tl.arange(0, BLOCK_D)
    return i_v, tl.load(offsets_ptr + i_v), tl.load(offsets_ptr + i_v + 1), o_d


@triton.jit
@no_type_check
def mean_forward_kernel(
    x_ptr, offsets_ptr, y_ptr, prefix,
    D: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program: one view, BLOCK_D channels."""
    i_v, start, end, o_d = own_view(offsets_ptr, D, BLOCK_D)
    m_d = o_d < D
    b_sum = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for first in range(start + prefix, end, BLOCK_T):
        o_t = first + tl.arange(0, BLOCK_T)
        o_td = o_t.to(tl.int64)[:, None] * D + o_d[None, :]
        b_sum += tl.load(x_ptr + o_td, mask=(o_t < end)[:, None] & m_d[None, :], other=0.0).to(tl.float32)
    count = tl.maximum(end - start - prefix, 1)
    tl.store(y_ptr + i_v * D + o_d, tl.sum(b_sum, axis=0) / count, mask=m_d)


@triton.jit
@no_type_check
def mean_backward_kernel(
    dy_ptr, offsets_ptr, dx_ptr, prefix,
    D: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program: one view, BLOCK_D channels. dx = dy / count, 0 in the prefix."""
    i_v, start, end, o_d = own_view(offsets_ptr, D, BLOCK_D)
    m_d = o_d < D
    count = tl.maximum(end - start - prefix, 1)
    b_share = tl.load(dy_ptr + i_v * D + o_d, mask=m_d, other=0.0).to(tl.float32) / count
    for first in range(start, end, BLOCK_T):
        o_t = first + tl.arange(0, BLOCK_T)
        o_td = o_t.to(tl.int64)[:, None] * D + o_d[None, :]
        b_dx = tl.where((o_t >= start + prefix)[:, None], b_share[None, :], 0.0)
        tl.store(dx_ptr + o_td, b_dx, mask=(o_t < end)[:, None] & m_d[None, :])


@triton.jit
@no_type_check
def split_kernel(
    x_ptr, offsets_ptr, prefix_ptr, patches_ptr, R,
    D: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
    BACKWARD: tl.constexpr, PREFIX: tl.constexpr, PATCHES: tl.constexpr,
):  # fmt: skip
    """One program: one view, BLOCK_D channels, between its place in the pack and in the two parts.

    Forward copies from x to the parts that are asked for. BACKWARD makes all rows of x, as a gradient, from
    the parts that there are, 0 for those that there are not.
    """
    i_v, start, end, o_d = own_view(offsets_ptr, D, BLOCK_D)
    m_d = o_d < D
    last = end
    if not BACKWARD and not PATCHES:
        last = tl.minimum(start + R, end)
    for first in range(start, last, BLOCK_T):
        o_t = first + tl.arange(0, BLOCK_T)
        m_t = o_t < last
        o_td = o_t.to(tl.int64)[:, None] * D + o_d[None, :]
        m_prefix = (m_t & (o_t < start + R))[:, None] & m_d[None, :]
        m_patches = (m_t & (o_t >= start + R))[:, None] & m_d[None, :]
        o_prefix = (i_v * R + (o_t - start))[:, None] * D + o_d[None, :]
        o_patches = (o_t - (i_v + 1) * R)[:, None] * D + o_d[None, :]
        if BACKWARD:
            b_x = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
            if PREFIX:
                b_x += tl.load(prefix_ptr + o_prefix, mask=m_prefix, other=0.0).to(tl.float32)
            if PATCHES:
                b_x += tl.load(patches_ptr + o_patches, mask=m_patches, other=0.0).to(tl.float32)
            tl.store(x_ptr + o_td, b_x, mask=m_t[:, None] & m_d[None, :])
        else:
            b_x = tl.load(x_ptr + o_td, mask=m_t[:, None] & m_d[None, :], other=0.0)
            tl.store(prefix_ptr + o_prefix, b_x, mask=m_prefix)
            if PATCHES:
                tl.store(patches_ptr + o_patches, b_x, mask=m_patches)


@triton.jit
@no_type_check
def attentive_forward_kernel(
    values_ptr, scores_ptr, offsets_ptr, y_ptr, lse_ptr, prefix,
    H: tl.constexpr, E: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """One program: one view, one head. A running maximum keeps the exponentials in range."""
    i_v = (tl.program_id(0) // H).to(tl.int64)
    i_h = tl.program_id(0) % H
    start = tl.load(offsets_ptr + i_v) + prefix
    end = tl.load(offsets_ptr + i_v + 1)
    o_e = tl.arange(0, BLOCK_E)
    b_sum = tl.zeros([BLOCK_T, BLOCK_E], dtype=tl.float32)
    highest = tl.full((), -float("inf"), dtype=tl.float32)
    total = tl.full((), 0.0, dtype=tl.float32)
    for first in range(start, end, BLOCK_T):
        o_th = (first + tl.arange(0, BLOCK_T)).to(tl.int64) * H + i_h
        m_t = first + tl.arange(0, BLOCK_T) < end
        b_score = tl.load(scores_ptr + o_th, mask=m_t, other=-float("inf")).to(tl.float32)
        m_te = m_t[:, None] & (o_e < E)[None, :]
        b_value = tl.load(values_ptr + o_th[:, None] * E + o_e[None, :], mask=m_te, other=0.0).to(tl.float32)
        new = tl.maximum(highest, tl.max(b_score, axis=0))
        level = tl.where(new == -float("inf"), 0.0, new)  # all −inf so far: exp(−inf − 0) is 0, not NaN
        shrink = tl.exp(highest - level)
        b_weight = tl.exp(b_score - level)
        total = total * shrink + tl.sum(b_weight, axis=0)
        b_sum = b_sum * shrink + b_weight[:, None] * b_value
        highest = new
    b_y = tl.sum(b_sum, axis=0)
    if end > start:
        b_y = b_y / total
    tl.store(y_ptr + tl.program_id(0).to(tl.int64) * E + o_e, b_y, mask=o_e < E)
    tl.store(lse_ptr + tl.program_id(0), highest + tl.log(total))


@triton.jit
@no_type_check
def attentive_backward_kernel(
    dy_ptr, y_ptr, values_ptr, scores_ptr, lse_ptr, offsets_ptr, dvalues_ptr, dscores_ptr, prefix,
    H: tl.constexpr, E: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """One program: one view, one head. dvalue = p · dy, dscore = p · (dy · value − dy · y); prefix rows 0."""
    i_v = (tl.program_id(0) // H).to(tl.int64)
    i_h = tl.program_id(0) % H
    start = tl.load(offsets_ptr + i_v)
    end = tl.load(offsets_ptr + i_v + 1)
    o_e = tl.arange(0, BLOCK_E)
    o_y = tl.program_id(0).to(tl.int64) * E + o_e
    b_dy = tl.load(dy_ptr + o_y, mask=o_e < E, other=0.0).to(tl.float32)
    level = tl.sum(b_dy * tl.load(y_ptr + o_y, mask=o_e < E, other=0.0), axis=0)
    lse = tl.load(lse_ptr + tl.program_id(0))
    for first in range(start, end, BLOCK_T):
        o_t = first + tl.arange(0, BLOCK_T)
        o_th = o_t.to(tl.int64) * H + i_h
        m_pooled = (o_t >= start + prefix) & (o_t < end)
        m_pooled_e = m_pooled[:, None] & (o_e < E)[None, :]
        o_the = o_th[:, None] * E + o_e[None, :]
        b_score = tl.load(scores_ptr + o_th, mask=m_pooled, other=-float("inf")).to(tl.float32)
        b_value = tl.load(values_ptr + o_the, mask=m_pooled_e, other=0.0).to(tl.float32)
        b_weight = tl.where(m_pooled, tl.exp(b_score - lse), 0.0)
        b_along = tl.sum(b_value * b_dy[None, :], axis=1)
        m_t = o_t < end
        b_dscore = tl.where(m_pooled, b_weight * (b_along - level), 0.0)
        tl.store(dscores_ptr + o_th, b_dscore, mask=m_t)
        tl.store(
            dvalues_ptr + o_the, b_weight[:, None] * b_dy[None, :], mask=m_t[:, None] & (o_e < E)[None, :]
        )
