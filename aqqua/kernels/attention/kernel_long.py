"""Attention inside each view of a packed batch: the Triton kernels for views longer than a tile.

One program for 64 rows (a block) of a sequence and a head. Forward walks the keys with an online softmax
and stores the log-sum-exp: 4 bytes a row, where making it again in backward would read all keys again.
Backward walks the queries for dk and dv of its rows, then the keys for dq of the same rows: seven products
where five are the least, but no atomics, no float32 dq in memory to fill with zeros, add to and convert,
the same bits in every run, and one launch. δ = Σ O∘dO is made from the output as it is met.

The work grows with whole blocks, not whole tiles: 257 tokens (16 × 16 patches and CLS) are 25 products of
64 × 64 scores of which 65 % are needed; tiles of 128 × 128 need 45 % of theirs, 192 × 192 too. Per token and
head (E = 64, bfloat16) that is 82 kFLOP forward over 512 bytes, 287 kFLOP backward over 1,024: unlike the
tile kernels, limited by the matrix units, so each program keeps wgmma (M = 64) busy and several share an SM.
The blocks of a sequence are neighbours in the grid and find each other's rows in L2.

Key and names: kernel.py, with B blocks and N rows of the block a loop has reached.
Specification:  reference.py. Test: tests/kernels/test_attention_triton.py. Timing: bench/kernels/.
"""

from typing import no_type_check

import triton
import triton.language as tl

from aqqua.kernels.attention.kernel import dot, load, load_pair, narrow, place, store, store_pair


@triton.jit
@no_type_check
def block_forward(
    qkv_ptr,
    out_ptr,
    lse_ptr,
    table_ptr,
    cos_ptr,
    sin_ptr,
    scale_log2,
    stride_t,
    stride_3,
    stride_h,
    stride_angle,
    H: tl.constexpr,
    E: tl.constexpr,
    R: tl.constexpr,
    ROTARY: tl.constexpr,
    STAGES: tl.constexpr,
):
    """One program: R query rows of one sequence, one head, all keys. lse_ptr: log2 Σ 2^score, [B, H, R]."""
    i_b, i_h = place(H)
    start = tl.load(table_ptr + i_b * 4).to(tl.int64)
    length = tl.load(table_ptr + i_b * 4 + 1)
    first = tl.load(table_ptr + i_b * 4 + 2)
    rows = tl.arange(0, R)
    token_R = start + first + rows
    m_R = first + rows < length
    at_R = token_R * stride_t + i_h * stride_h
    qa, qb = load_pair(qkv_ptr, at_R, m_R, cos_ptr, sin_ptr, token_R * stride_angle, E, ROTARY)

    max_R = tl.full([R], float("-inf"), tl.float32)
    sum_R = tl.zeros([R], tl.float32)
    o_RE = tl.zeros([R, E], tl.float32)
    for key in tl.range(0, length, R, num_stages=STAGES):
        token_N = start + key + rows
        m_N = key + rows < length
        at_N = token_N * stride_t + i_h * stride_h
        ka, kb = load_pair(qkv_ptr + stride_3, at_N, m_N, cos_ptr, sin_ptr, token_N * stride_angle, E, ROTARY)
        v_NE = load(qkv_ptr + stride_3 + stride_3, at_N, m_N, E)
        s_RN = dot(qa, tl.trans(ka)) + dot(qb, tl.trans(kb))
        s_RN = tl.where(m_N[None, :], s_RN * scale_log2, float("-inf"))
        new_R = tl.maximum(max_R, tl.max(s_RN, 1))
        p_RN = tl.math.exp2(s_RN - new_R[:, None])
        shrink_R = tl.math.exp2(max_R - new_R)
        sum_R = sum_R * shrink_R + tl.sum(p_RN, 1)
        o_RE = o_RE * shrink_R[:, None] + dot(narrow(p_RN, v_NE.dtype), v_NE)
        max_R = new_R
    store(out_ptr, (token_R * H + i_h) * E, m_R, o_RE / sum_R[:, None], E)
    tl.store(lse_ptr + (i_b * H + i_h) * R + rows, max_R + tl.math.log2(sum_R))


@triton.jit
@no_type_check
def block_backward(
    qkv_ptr,
    out_ptr,
    lse_ptr,
    dout_ptr,
    dqkv_ptr,
    table_ptr,
    cos_ptr,
    sin_ptr,
    scale,
    scale_log2,
    stride_t,
    stride_3,
    stride_h,
    stride_angle,
    H: tl.constexpr,
    E: tl.constexpr,
    R: tl.constexpr,
    ROTARY: tl.constexpr,
    STAGES: tl.constexpr,
):
    """One program: dk and dv of R rows of one sequence, one head, over all its queries; then their dq.

    Scores lie as [keys, queries] in the first half and as [queries, keys] in the second, so that the
    left side of every product that follows is in registers already.
    """
    i_b, i_h = place(H)
    start = tl.load(table_ptr + i_b * 4).to(tl.int64)
    length = tl.load(table_ptr + i_b * 4 + 1)
    first = tl.load(table_ptr + i_b * 4 + 2)
    block = tl.load(table_ptr + i_b * 4 + 3).to(tl.int64)  # the first of this sequence
    rows = tl.arange(0, R)
    token_R = start + first + rows
    m_R = first + rows < length
    at_R = token_R * stride_t + i_h * stride_h
    angle_R = token_R * stride_angle
    to_R = (token_R * 3 * H + i_h) * E

    ka, kb = load_pair(qkv_ptr + stride_3, at_R, m_R, cos_ptr, sin_ptr, angle_R, E, ROTARY)
    v_RE = load(qkv_ptr + stride_3 + stride_3, at_R, m_R, E)
    dka = tl.zeros([R, E // 2], tl.float32)
    dkb = tl.zeros([R, E // 2], tl.float32)
    dv_RE = tl.zeros([R, E], tl.float32)
    for query in tl.range(0, length, R, num_stages=STAGES):
        token_N = start + query + rows
        m_N = query + rows < length  # a query beyond the end is 0 with gradient 0: it adds nothing
        at_N = token_N * stride_t + i_h * stride_h
        qa, qb = load_pair(qkv_ptr, at_N, m_N, cos_ptr, sin_ptr, token_N * stride_angle, E, ROTARY)
        do_NE = load(dout_ptr, (token_N * H + i_h) * E, m_N, E)
        o_NE = load(out_ptr, (token_N * H + i_h) * E, m_N, E)
        delta_N = tl.sum(o_NE.to(tl.float32) * do_NE.to(tl.float32), 1)
        lse_N = tl.load(lse_ptr + ((block + query // R) * H + i_h) * R + rows)
        s_RN = dot(ka, tl.trans(qa)) + dot(kb, tl.trans(qb))
        # A key beyond the end has any weight here; its own row of dk and dv is all it reaches.
        p_RN = tl.math.exp2(s_RN * scale_log2 - lse_N[None, :])
        dv_RE += dot(narrow(p_RN, do_NE.dtype), do_NE)
        dp_RN = dot(v_RE, tl.trans(do_NE))
        ds_RN = narrow(p_RN * (dp_RN - delta_N[None, :]), qa.dtype)
        dka += dot(ds_RN, qa)
        dkb += dot(ds_RN, qb)
    store(dqkv_ptr + 2 * H * E, to_R, m_R, dv_RE, E)
    store_pair(
        dqkv_ptr + H * E,
        to_R,
        m_R,
        dka * scale,
        dkb * scale,
        cos_ptr,
        sin_ptr,
        angle_R,
        E,
        ROTARY,
    )

    qa, qb = load_pair(qkv_ptr, at_R, m_R, cos_ptr, sin_ptr, angle_R, E, ROTARY)
    do_RE = load(dout_ptr, (token_R * H + i_h) * E, m_R, E)
    o_RE = load(out_ptr, (token_R * H + i_h) * E, m_R, E)
    delta_R = tl.sum(o_RE.to(tl.float32) * do_RE.to(tl.float32), 1)
    lse_R = tl.load(lse_ptr + (i_b * H + i_h) * R + rows)
    dqa = tl.zeros([R, E // 2], tl.float32)
    dqb = tl.zeros([R, E // 2], tl.float32)
    for key in tl.range(0, length, R, num_stages=STAGES):
        token_N = start + key + rows
        m_N = key + rows < length
        at_N = token_N * stride_t + i_h * stride_h
        ka, kb = load_pair(qkv_ptr + stride_3, at_N, m_N, cos_ptr, sin_ptr, token_N * stride_angle, E, ROTARY)
        v_NE = load(qkv_ptr + stride_3 + stride_3, at_N, m_N, E)
        s_RN = dot(qa, tl.trans(ka)) + dot(qb, tl.trans(kb))
        # Without the mask a key beyond the end could weigh infinity, and infinity times 0 is no number.
        p_RN = tl.where(m_N[None, :], tl.math.exp2(s_RN * scale_log2 - lse_R[:, None]), 0.0)
        dp_RN = dot(do_RE, tl.trans(v_NE))
        ds_RN = narrow(p_RN * (dp_RN - delta_R[:, None]), ka.dtype)
        dqa += dot(ds_RN, ka)
        dqb += dot(ds_RN, kb)
    store_pair(dqkv_ptr, to_R, m_R, dqa * scale, dqb * scale, cos_ptr, sin_ptr, angle_R, E, ROTARY)
