"""GELU and SwiGLU: the Triton kernels.

Both directions compute in float32 from the pre-activation alone, so nothing else need be kept for the
backward pass. Bytes per hidden value in bf16, against the chain of PyTorch's own kernels:

    GELU     forward 2 + 2, backward 4 + 2: the same as PyTorch's, which is one kernel each way too;
             with the activation given again for the product that follows, + 2
    SwiGLU   forward 4 + 2 against 4 + 6 (silu, product); backward 6 + 4 against 16 + 12 (two products,
             silu', the halves put together)

What pays for GELU is memory: the activation, four times the stream's width, need not live until the
backward pass, because the pass that makes da from dh has all it takes to make h again.

A thread holds 8 neighbours of a row (16 bytes in bf16), 16 values in all.

Dimension key:  T tokens in the pack, F width of the hidden layer.
Names:          o_ offsets, m_ mask, b_ values held by one program.
Specification:  reference.py. Launched by op.py. Test: tests/kernels/test_activation.py.
`no_type_check`: a check of shapes wraps a function, and the interpreter then misses its globals.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def parts(a):
    """Φ(a) and a · φ(a) of the normal distribution."""
    distribution = 0.5 * (1.0 + tl.erf(a * 0.7071067811865476))  # 1/√2
    return distribution, a * 0.3989422804014327 * tl.exp(-0.5 * a * a)  # 1/√(2π)


@triton.jit
@no_type_check
def own_tile(F: tl.constexpr, ROWS: tl.constexpr, BLOCK_F: tl.constexpr):
    """Rows and hidden values of this program. Neighbouring programs lie side by side in a row."""
    across: tl.constexpr = tl.cdiv(F, BLOCK_F)
    i_t = tl.program_id(0) // across
    i_f = tl.program_id(0) % across
    o_t = i_t.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    return o_t, i_f * BLOCK_F + tl.arange(0, BLOCK_F)


@triton.jit
@no_type_check
def forward_kernel(
    a_ptr, h_ptr,
    T, F: tl.constexpr, ROWS: tl.constexpr, BLOCK_F: tl.constexpr, GATED: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows, BLOCK_F hidden values. GATED rows hold F gates, then F values to gate."""
    o_t, o_f = own_tile(F, ROWS, BLOCK_F)
    m_tf = (o_t < T)[:, None] & (o_f < F)[None, :]
    if GATED:
        o_a = a_ptr + o_t[:, None] * 2 * F + o_f[None, :]
        b_gate = tl.load(o_a, mask=m_tf, other=0.0).to(tl.float32)
        b_up = tl.load(o_a + F, mask=m_tf, other=0.0).to(tl.float32)
        b_h = b_gate * tl.sigmoid(b_gate) * b_up
    else:
        b_a = tl.load(a_ptr + o_t[:, None] * F + o_f[None, :], mask=m_tf, other=0.0).to(tl.float32)
        b_distribution, _ = parts(b_a)
        b_h = b_a * b_distribution
    tl.store(h_ptr + o_t[:, None] * F + o_f[None, :], b_h, mask=m_tf)


@triton.jit
@no_type_check
def backward_kernel(
    a_ptr, dh_ptr, da_ptr, h_ptr,
    T, F: tl.constexpr, ROWS: tl.constexpr, BLOCK_F: tl.constexpr, GATED: tl.constexpr, AGAIN: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows, BLOCK_F hidden values. With AGAIN, h is written too."""
    o_t, o_f = own_tile(F, ROWS, BLOCK_F)
    m_tf = (o_t < T)[:, None] & (o_f < F)[None, :]
    o_h = o_t[:, None] * F + o_f[None, :]
    b_dh = tl.load(dh_ptr + o_h, mask=m_tf, other=0.0).to(tl.float32)
    if GATED:
        o_a = o_t[:, None] * 2 * F + o_f[None, :]
        b_gate = tl.load(a_ptr + o_a, mask=m_tf, other=0.0).to(tl.float32)
        b_up = tl.load(a_ptr + o_a + F, mask=m_tf, other=0.0).to(tl.float32)
        b_sigmoid = tl.sigmoid(b_gate)
        b_silu = b_gate * b_sigmoid
        b_h = b_silu * b_up
        tl.store(da_ptr + o_a, b_dh * b_up * (b_sigmoid + b_silu * (1.0 - b_sigmoid)), mask=m_tf)
        tl.store(da_ptr + o_a + F, b_dh * b_silu, mask=m_tf)
    else:
        b_a = tl.load(a_ptr + o_h, mask=m_tf, other=0.0).to(tl.float32)
        b_distribution, b_density = parts(b_a)
        b_h = b_a * b_distribution
        tl.store(da_ptr + o_h, b_dh * (b_distribution + b_density), mask=m_tf)
    if AGAIN:
        tl.store(h_ptr + o_h, b_h, mask=m_tf)
