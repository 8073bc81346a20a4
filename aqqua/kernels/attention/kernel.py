"""Attention inside each view of a packed batch: the Triton kernels.

Sequences of up to 128 tokens, several whole ones in a tile of 64 or 128 rows, one program for a tile and
a head. All scores of a tile are in registers, so there is no online softmax, forward stores nothing but
the output, and backward is one kernel that makes softmax and δ = Σ P∘dP again (longer sequences:
kernel_long.py).

Why 64-row tiles for the shortest sequences too. Per token and head (E = 64, bfloat16) forward moves
4·2E = 512 bytes and computes 4·64·E = 16 kFLOP in a 64-row tile, whatever the sequences are: 32
FLOP/byte, where an H200 can do 184 (790 TFLOP/s over 4.3 TB/s) and an A100 223. Backward: 896 bytes,
41 kFLOP, 46 FLOP/byte. So masked work costs at most a quarter of the matrix peak while memory is the
limit; tiles of 16 or 32 rows would save work nobody waits for, fall off wgmma (M = 64) and be 2 to 4
times as many programs. At 128 rows it is 64 and 91 FLOP/byte: still memory, no longer by much. What
would cost is an empty row: best fit leaves about 1 % of them.

Programs find their rows in a table, so the sequences of a tile need not be neighbours in the pack:
a row of one head is a stretch of 2E bytes in a stride of 6HE anyway, no gather is added. Programs of one
tile and neighbouring heads are neighbours, so that they share DRAM pages, the table and the cosines in L2.

Rotary turns pairs (e, e + E/2). Queries and keys are held as two halves of E/2 columns, each product
is the sum of two, and nothing is shuffled between threads; gradients are turned back in float32.

All sums are in float32, addresses in int64; no two programs write the same row. Tables are loaded in the
kernels themselves: of an address that a function has loaded torch.compile believes that it is written.

Dimension key:  T tokens, H heads, E head width, R rows of a tile, B tiles.
Names:          i_ program index, m_ mask; one letter with its shape is what a program holds.
Specification:  reference.py. Test: tests/kernels/test_attention_triton.py. Timing: bench/kernels/.
Registration and launching: op.py. Launch parameters: launches.py.
`no_type_check`: the shape checks of `make shapes` would wrap each function, and Triton's interpreter would
look for its globals in the wrapper's module.
"""

from typing import no_type_check

import triton
import triton.language as tl

# Python runs the kernels, on tensors of any device: for tests.
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
@no_type_check
def place(H: tl.constexpr):
    """Tile (or block) and head of this program, int64: products with them pass 2**31 in a large pack."""
    i = tl.program_id(0).to(tl.int64)
    return i // H, i % H


@triton.jit
@no_type_check
def dot(a, b):
    """a @ b in float32. The interpreter multiplies the raw bits of bfloat16 unless they are upcast."""
    if INTERPRETED:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
@no_type_check
def narrow(x, dtype: tl.constexpr):
    """float32 rounded to dtype. The interpreter only cuts bits off for bfloat16, so it is rounded first."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        bits = bits + 0x7FFF + ((bits >> 16) & 1)
        x = ((bits >> 16) << 16).to(tl.float32, bitcast=True)
    return x.to(dtype)


@triton.jit
@no_type_check
def load(ptr, at_R, m_R, COLUMNS: tl.constexpr):
    """Rows at int64 offsets at_R, COLUMNS neighbours each; zeros where m_R does not hold."""
    columns = tl.arange(0, COLUMNS)
    return tl.load(ptr + at_R[:, None] + columns[None, :], mask=m_R[:, None], other=0.0)


@triton.jit
@no_type_check
def store(ptr, at_R, m_R, x_RC, COLUMNS: tl.constexpr):
    columns = tl.arange(0, COLUMNS)
    x_RC = narrow(x_RC, ptr.dtype.element_ty)
    tl.store(ptr + at_R[:, None] + columns[None, :], x_RC, mask=m_R[:, None])


@triton.jit
@no_type_check
def _turn(a, b, cos, sin):
    """The pair (a, b) turned by its angle, float32; with -sin, turned back."""
    x, y = a.to(tl.float32), b.to(tl.float32)
    return x * cos - y * sin, y * cos + x * sin


@triton.jit
@no_type_check
def _left(a, b):  # noqa: ARG001  the signature tl.reduce wants
    return a


@triton.jit
@no_type_check
def _settle(x):
    """x itself, as a reduction of one value each, across which the compiler moves no change of layout.

    Otherwise it loads and turns queries and keys in the layout of a matrix operand, in which several
    threads hold each value: on sm_80 that spills up to 21 kB a thread, on sm_90 it takes a third more
    registers. (Inline assembly would do too, but torch.compile cannot tell what that writes.)
    """
    return tl.reduce(x[:, None, :], 1, _left)


@triton.jit
@no_type_check
def load_pair(
    ptr,
    at_R,
    m_R,
    cos_ptr,
    sin_ptr,
    angle_R,
    E: tl.constexpr,
    ROTARY: tl.constexpr,
):
    """The two halves of rows of queries or keys, turned."""
    a = load(ptr, at_R, m_R, E // 2)
    b = load(ptr + E // 2, at_R, m_R, E // 2)
    if ROTARY:
        cos = load(cos_ptr, angle_R, m_R, E // 2)
        sin = load(sin_ptr, angle_R, m_R, E // 2)
        x, y = _turn(a, b, cos, sin)
        a, b = narrow(x, a.dtype), narrow(y, b.dtype)
    return _settle(a), _settle(b)


@triton.jit
@no_type_check
def store_pair(
    ptr,
    at_R,
    m_R,
    a,
    b,
    cos_ptr,
    sin_ptr,
    angle_R,
    E: tl.constexpr,
    ROTARY: tl.constexpr,
):
    """The two halves of a float32 gradient of queries or keys, turned back."""
    if ROTARY:
        cos = load(cos_ptr, angle_R, m_R, E // 2)
        sin = load(sin_ptr, angle_R, m_R, E // 2)
        a, b = _turn(a, b, cos, -sin)
    store(ptr, at_R, m_R, a, E // 2)
    store(ptr + E // 2, at_R, m_R, b, E // 2)


@triton.jit
@no_type_check
def _tile_softmax(qa, qb, ka, kb, view_R, scale_log2):
    """exp(score − row maximum), 0 between sequences, and its row sums.

    Rows that hold no token attend to each other (sequence -1): finite, and never stored.
    """
    s_RR = dot(qa, tl.trans(ka)) + dot(qb, tl.trans(kb))
    s_RR = tl.where(view_R[:, None] == view_R[None, :], s_RR * scale_log2, float("-inf"))
    p_RR = tl.math.exp2(s_RR - tl.max(s_RR, 1)[:, None])
    return p_RR, tl.sum(p_RR, 1)


@triton.jit
@no_type_check
def tile_forward(
    qkv_ptr,
    out_ptr,
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
):
    """One program: one tile, one head."""
    i_b, i_h = place(H)
    at_table = table_ptr + i_b * 2 * R + tl.arange(0, R)
    token_R = tl.load(at_table).to(tl.int64)
    view_R = tl.load(at_table + R)
    m_R = token_R >= 0
    at_R = token_R * stride_t + i_h * stride_h
    angle_R = token_R * stride_angle
    qa, qb = load_pair(qkv_ptr, at_R, m_R, cos_ptr, sin_ptr, angle_R, E, ROTARY)
    ka, kb = load_pair(qkv_ptr + stride_3, at_R, m_R, cos_ptr, sin_ptr, angle_R, E, ROTARY)
    v_RE = load(qkv_ptr + stride_3 + stride_3, at_R, m_R, E)
    p_RR, sum_R = _tile_softmax(qa, qb, ka, kb, view_R, scale_log2)
    o_RE = dot(narrow(p_RR, v_RE.dtype), v_RE) / sum_R[:, None]
    store(out_ptr, (token_R * H + i_h) * E, m_R, o_RE, E)


@triton.jit
@no_type_check
def tile_backward(
    qkv_ptr,
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
):
    """One program: dq, dk and dv of one tile, one head."""
    i_b, i_h = place(H)
    at_table = table_ptr + i_b * 2 * R + tl.arange(0, R)
    token_R = tl.load(at_table).to(tl.int64)
    view_R = tl.load(at_table + R)
    m_R = token_R >= 0
    at_R = token_R * stride_t + i_h * stride_h
    angle_R = token_R * stride_angle
    qa, qb = load_pair(qkv_ptr, at_R, m_R, cos_ptr, sin_ptr, angle_R, E, ROTARY)
    ka, kb = load_pair(qkv_ptr + stride_3, at_R, m_R, cos_ptr, sin_ptr, angle_R, E, ROTARY)
    v_RE = load(qkv_ptr + stride_3 + stride_3, at_R, m_R, E)
    do_RE = load(dout_ptr, (token_R * H + i_h) * E, m_R, E)

    p_RR, sum_R = _tile_softmax(qa, qb, ka, kb, view_R, scale_log2)
    p_RR = p_RR / sum_R[:, None]
    to_R = (token_R * 3 * H + i_h) * E
    dv_RE = dot(tl.trans(narrow(p_RR, do_RE.dtype)), do_RE)
    store(dqkv_ptr + 2 * H * E, to_R, m_R, dv_RE, E)

    dp_RR = dot(do_RE, tl.trans(v_RE))
    delta_R = tl.sum(p_RR * dp_RR, 1)
    ds_RR = narrow(p_RR * (dp_RR - delta_R[:, None]), qa.dtype)
    dqa, dqb = dot(ds_RR, ka), dot(ds_RR, kb)
    store_pair(dqkv_ptr, to_R, m_R, dqa * scale, dqb * scale, cos_ptr, sin_ptr, angle_R, E, ROTARY)
    ds_RR = tl.trans(ds_RR)
    dka, dkb = dot(ds_RR, qa), dot(ds_RR, qb)
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
