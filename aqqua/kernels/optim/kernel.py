"""Clip, AdamW, teacher and copies: the Triton kernels.

    squares_kernel   one program per chunk of a tensor: its sum of squares
    factors_kernel   one program in all: norms and clip factors of the modules; whether the step is taken;
                     and for each tensor its count and the numbers of its row (below), in float64
    update_kernel    one program per chunk: every value read and written once

Bytes per parameter with float32 gradients, a teacher and a 16-bit copy: 4 for the squares; parameter,
gradient, two moments and teacher read 20, all but the gradient and the copy written 18: 38. PyTorch's fused
AdamW, foreach lerp and foreach copy move 28 + 12 + 6 = 46 behind the same 4, and 8 more for a clip that is a
pass of its own. About 20 FLOPs per parameter: memory alone is the limit. A thread has 4 neighbours of each of
five tensors in flight, 80 bytes, and a chunk is long enough that the two dependent look-ups in front of it
(chunk, then tensor) do not show.

A sum of squares is made in a fixed order: every run gives the same bits. A chunk is whole blocks and a rest,
so that only the rest is masked: a mask of unknown divisibility would cost the wide loads.

Names:          i_ program index, o_ offsets, m_ mask, b_ values held by one program.
Letter key:     S tensors, C chunks, M modules, G groups.
Tables:         tensors [S, 8] int64: addresses of parameter, average, square, teacher, copy (0: none), then
                values, module, group. gradients [S] int64: addresses, 0 for none. chunks [C, 2] int32:
                tensor, and which of its chunks; sorted by module, whose first chunks are in first [M + 1].
                rows [S, 16] float32: clip, decay, 1 − β₁, β₂, 1 − β₂, lr / bias₁, 1 / √bias₂, ε,
                1 − momentum, taken.
Specification:  reference.py. Launched by op.py. Test: tests/kernels/test_optim_kernels.py.
`no_type_check`: a check of shapes wraps a function, and the interpreter then misses its globals.
"""

from typing import no_type_check

import triton
import triton.language as tl

VECTOR = tl.constexpr(4)  # neighbours of a thread: 16 bytes of float32, and as many values of 16 bits


@triton.jit
@no_type_check
def own_chunk(chunks_ptr, tensors_ptr, CHUNK: tl.constexpr):
    """This program's tensor, the first value of its chunk, and how many values the chunk has."""
    i_c = tl.program_id(0).to(tl.int64)
    i_s = tl.load(chunks_ptr + 2 * i_c)
    first = tl.load(chunks_ptr + 2 * i_c + 1).to(tl.int64) * CHUNK  # int64: a tensor may pass 2**31
    left = tl.minimum(tl.load(tensors_ptr + 8 * i_s + 5) - first, CHUNK)
    return i_s, first, left.to(tl.int32)


@triton.jit
@no_type_check
def pointer_of(address, first, TYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """The value `first` of the tensor at this address. ALIGNED: to 16 bytes, as chunks then are."""
    pointer = address.to(tl.pointer_type(TYPE)) + first
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
@no_type_check
def lerp(start, end, weight):
    """As torch.lerp: weight 0 gives start and 1 end, to the bit."""
    near_start = start + weight * (end - start)
    near_end = end - (end - start) * (1.0 - weight)
    return tl.where(weight < 0.5, near_start, near_end)


@triton.jit
@no_type_check
def squares_kernel(
    gradients_ptr, tensors_ptr, chunks_ptr, partial_ptr,
    GRADIENT: tl.constexpr, ALIGNED: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: the sum of squares of one chunk; 0 without a gradient."""
    i_s, first, left = own_chunk(chunks_ptr, tensors_ptr, CHUNK)
    address = tl.load(gradients_ptr + i_s)
    left = tl.where(address != 0, left, 0)
    gradient_ptr = pointer_of(address, first, GRADIENT, ALIGNED)
    o = tl.max_contiguous(tl.arange(0, BLOCK), VECTOR)
    b_sum = tl.zeros([BLOCK], dtype=tl.float32)
    whole = left // BLOCK * BLOCK
    for block in range(0, whole, BLOCK):
        b_gradient = tl.load(gradient_ptr + block + o).to(tl.float32)
        b_sum += b_gradient * b_gradient
    if whole < left:
        b_gradient = tl.load(gradient_ptr + whole + o, mask=whole + o < left, other=0.0).to(tl.float32)
        b_sum += b_gradient * b_gradient
    tl.store(partial_ptr + tl.program_id(0), tl.sum(b_sum, axis=0))


@triton.jit
@no_type_check
def module_squares(partial_ptr, first_ptr, M: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):
    """Sums of squares of the modules, [BLOCK_M]."""
    o_m = tl.arange(0, BLOCK_M)
    o_c = tl.arange(0, BLOCK_C)
    b_squares = tl.zeros([BLOCK_M], dtype=tl.float32)
    for i_m in range(M):
        start = tl.load(first_ptr + i_m)
        end = tl.load(first_ptr + i_m + 1)
        b_sum = tl.zeros([BLOCK_C], dtype=tl.float32)
        for c in range(start, end, BLOCK_C):
            b_sum += tl.load(partial_ptr + c + o_c, mask=c + o_c < end, other=0.0)
        b_squares = tl.where(o_m == i_m, tl.sum(b_sum, axis=0), b_squares)
    return b_squares


@triton.jit
@no_type_check
def factors_kernel(
    partial_ptr, first_ptr, squares_ptr, norms_ptr, found_ptr, gradients_ptr, tensors_ptr, rates_ptr,
    counts_ptr, rows_ptr,
    S, max_norm,
    M: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
    SUM: tl.constexpr, SCALE: tl.constexpr, CLIP: tl.constexpr, FLAG: tl.constexpr,
):  # fmt: skip
    """One program. SUM: squares of the modules from the chunks'; SCALE: and all that follows from them."""
    o_m = tl.arange(0, BLOCK_M)
    m_m = o_m < M
    if SUM:
        b_squares = module_squares(partial_ptr, first_ptr, M, BLOCK_M, BLOCK_C)
    else:
        b_squares = tl.load(squares_ptr + o_m, mask=m_m, other=0.0)
    if not SCALE:
        tl.store(squares_ptr + o_m, b_squares, mask=m_m)
    else:
        b_norm = tl.sqrt_rn(b_squares)
        tl.store(norms_ptr + o_m, b_norm, mask=m_m)
        b_clip = tl.full([BLOCK_M], 1.0, dtype=tl.float32)
        if CLIP:
            b_clip = tl.div_rn(b_clip * max_norm, b_norm + 1e-6)
            b_clip = tl.minimum(b_clip, 1.0, propagate_nan=tl.PropagateNan.ALL)
        taken = tl.full([], 1.0, dtype=tl.float32)
        if FLAG:
            m_bad = m_m & ((b_squares < float("inf")) == 0)  # NaN is not less than anything
            found = tl.maximum(tl.load(found_ptr), tl.max(m_bad.to(tl.float32), axis=0))
            tl.store(found_ptr, found)
            taken = tl.where(found == 0.0, 1.0, 0.0)
        for s in range(0, S, BLOCK_S):
            o_s = s + tl.arange(0, BLOCK_S)
            write_rows(
                b_clip, o_m, o_s, o_s < S, taken, gradients_ptr, tensors_ptr, rates_ptr, counts_ptr, rows_ptr
            )


@triton.jit
@no_type_check
def write_rows(
    b_clip, o_m, o_s, m_s, taken, gradients_ptr, tensors_ptr, rates_ptr, counts_ptr, rows_ptr
):  # fmt: skip
    """Counts and rows of some tensors. In float64, as 1 − 0.999 in float32 is off by a part in 10⁵."""
    m_given = m_s & (tl.load(gradients_ptr + o_s, mask=m_s, other=0) != 0)
    b_count = tl.load(counts_ptr + o_s, mask=m_s, other=0.0) + tl.where(m_given, taken, 0.0)
    tl.store(counts_ptr + o_s, b_count, mask=m_s)
    b_module = tl.load(tensors_ptr + 8 * o_s + 6, mask=m_s, other=0)
    o_g = rates_ptr + 6 * tl.load(tensors_ptr + 8 * o_s + 7, mask=m_s, other=0)
    b_lr = tl.load(o_g, mask=m_s, other=0.0)
    b_decay = tl.load(o_g + 1, mask=m_s, other=0.0)
    b_beta1 = tl.load(o_g + 2, mask=m_s, other=0.5)
    b_beta2 = tl.load(o_g + 3, mask=m_s, other=0.5)
    b_eps = tl.load(o_g + 4, mask=m_s, other=0.0)
    b_momentum = tl.load(o_g + 5, mask=m_s, other=0.0)
    b_power = tl.maximum(b_count, 1.0).to(tl.float64)  # a tensor that no gradient has reached has count 0
    b_bias1 = 1.0 - tl.exp(b_power * tl.log(b_beta1))
    b_bias2 = 1.0 - tl.exp(b_power * tl.log(b_beta2))
    b_own_clip = tl.sum(tl.where(b_module[:, None] == o_m[None, :], b_clip[None, :], 0.0), axis=1)
    o_row = rows_ptr + 16 * o_s
    tl.store(o_row, b_own_clip, mask=m_s)
    tl.store(o_row + 1, (1.0 - b_lr * b_decay).to(tl.float32), mask=m_s)
    tl.store(o_row + 2, (1.0 - b_beta1).to(tl.float32), mask=m_s)
    tl.store(o_row + 3, b_beta2.to(tl.float32), mask=m_s)
    tl.store(o_row + 4, (1.0 - b_beta2).to(tl.float32), mask=m_s)
    tl.store(o_row + 5, (b_lr / b_bias1).to(tl.float32), mask=m_s)
    tl.store(o_row + 6, (1.0 / tl.sqrt(b_bias2)).to(tl.float32), mask=m_s)
    tl.store(o_row + 7, b_eps.to(tl.float32), mask=m_s)
    tl.store(o_row + 8, (1.0 - b_momentum).to(tl.float32), mask=m_s)
    tl.store(o_row + 9, tl.zeros_like(b_count) + taken, mask=m_s)


@triton.jit
@no_type_check
def update_block(
    p_ptr, average_ptr, square_ptr, teacher_ptr, copy_ptr, gradient_ptr, o, m, given,
    clip, decay, new1, beta2, new2, step, root2, eps, follow,
    TEACHER: tl.constexpr, COPY: tl.constexpr,
):  # fmt: skip
    """One block of values. m: those that exist; given: whether there is a gradient; then the row."""
    m_given = tl.where(given, m, False)
    b_p = tl.load(p_ptr + o, mask=m, other=0.0)
    b_gradient = tl.load(gradient_ptr + o, mask=m_given, other=0.0).to(tl.float32)
    b_average = tl.load(average_ptr + o, mask=m_given, other=0.0)
    b_square = tl.load(square_ptr + o, mask=m_given, other=0.0)
    if TEACHER:
        b_teacher = tl.load(teacher_ptr + o, mask=m, other=0.0)
    b_gradient *= clip
    b_average = lerp(b_average, b_gradient, new1)
    b_square = beta2 * b_square + new2 * (b_gradient * b_gradient)
    b_divisor = tl.sqrt_rn(b_square) * root2 + eps
    b_p = tl.where(given, decay * b_p - tl.div_rn(step * b_average, b_divisor), b_p)
    tl.store(p_ptr + o, b_p, mask=m_given)
    tl.store(average_ptr + o, b_average, mask=m_given)
    tl.store(square_ptr + o, b_square, mask=m_given)
    if TEACHER:
        tl.store(teacher_ptr + o, lerp(b_teacher, b_p, follow), mask=m)
    if COPY:
        tl.store(copy_ptr + o, b_p.to(copy_ptr.dtype.element_ty), mask=m)


@triton.jit
@no_type_check
def update_kernel(
    gradients_ptr, tensors_ptr, chunks_ptr, rows_ptr,
    GRADIENT: tl.constexpr, COPIED: tl.constexpr, TEACHER: tl.constexpr, COPY: tl.constexpr,
    ALIGNED: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: one chunk of parameter, moments, teacher and copy; nothing if the step is not taken."""
    i_s, first, left = own_chunk(chunks_ptr, tensors_ptr, CHUNK)
    address = tl.load(gradients_ptr + i_s)
    given = address != 0
    o_s = tensors_ptr + 8 * i_s
    gradient_ptr = pointer_of(address, first, GRADIENT, ALIGNED)
    p_ptr = pointer_of(tl.load(o_s), first, tl.float32, ALIGNED)
    average_ptr = pointer_of(tl.load(o_s + 1), first, tl.float32, ALIGNED)
    square_ptr = pointer_of(tl.load(o_s + 2), first, tl.float32, ALIGNED)
    teacher_ptr = pointer_of(tl.load(o_s + 3), first, tl.float32, ALIGNED)
    copy_ptr = pointer_of(tl.load(o_s + 4), first, COPIED, ALIGNED)
    # Read here: the stores in the loop might, for all the compiler knows, change them.
    o_row = rows_ptr + 16 * i_s
    clip, decay, new1 = tl.load(o_row), tl.load(o_row + 1), tl.load(o_row + 2)
    beta2, new2, step = tl.load(o_row + 3), tl.load(o_row + 4), tl.load(o_row + 5)
    root2, eps, follow = tl.load(o_row + 6), tl.load(o_row + 7), tl.load(o_row + 8)
    left = tl.where(tl.load(o_row + 9) != 0.0, left, 0)
    o = tl.max_contiguous(tl.arange(0, BLOCK), VECTOR)
    whole = left // BLOCK * BLOCK
    for block in range(0, whole, BLOCK):
        update_block(
            p_ptr + block, average_ptr + block, square_ptr + block, teacher_ptr + block, copy_ptr + block,
            gradient_ptr + block, o, tl.full([BLOCK], True, tl.int1), given,
            clip, decay, new1, beta2, new2, step, root2, eps, follow, TEACHER, COPY,
        )  # fmt: skip
    if whole < left:
        update_block(
            p_ptr + whole, average_ptr + whole, square_ptr + whole, teacher_ptr + whole, copy_ptr + whole,
            gradient_ptr + whole, o, whole + o < left, given,
            clip, decay, new1, beta2, new2, step, root2, eps, follow, TEACHER, COPY,
        )  # fmt: skip
