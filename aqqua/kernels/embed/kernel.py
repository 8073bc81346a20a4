"""Patch rows to packed tokens: the Triton kernels.

One pass over the tokens in each direction. Bytes per patch and channel with float32 tokens and bf16 rows (in
brackets all bf16), beside the codes, whose tables stay in the caches:

    forward    read row 2 (2); write token 4 (2)                                            6 (4)
    backward   read dtoken 4 (2); write drow 2 (2)                                          6 (4)
               once more 4 (2) for the gradient of a learned grid or of the fractional tables

Nothing but memory limits that, except the sine and cosine of the gsd code. A program holds ROWS tokens and
128 channels: a row of 128 float32 is four per lane of one warp, 16 bytes. Passes that sum over tokens have
one warp, so that the sums stay inside a lane and need no shared memory. Views are found per token by a table,
so a pack of ten-token views fills the programs as well as one of large views, and the number of launches does
not depend on how many views or grids there are.

Sums over tokens (bias, mask token, CLS, registers, ...) are made in two stages, without atomics: each program
adds its own tokens and writes one row of partials, which are then summed in order.

The gradient of a table of grids is a sum over the views of equal grid, list by list (placing.RowSums). That
of the two fractional tables is a product of the weights of the linear interpolation, max(0, 1 − |place − m|),
and the tokens' gradients: the only product of matrices here, in three TF32 passes, nearly float32.

Dimension key:  T tokens in the pack, V views, D width, R prefix tokens of a view, N patch rows, M positions
                of a table, P rows of sums.
Names:          i_ program index, o_ offsets, m_ mask, b_ values held by one program.
Specification:  reference.py. Launched by op.py. Test: tests/kernels/test_embed.py.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def own_columns(D: tl.constexpr, BLOCK_D: tl.constexpr, VECTOR: tl.constexpr):
    """Number of this program among those of its columns, how many these are, and the columns."""
    across: tl.constexpr = tl.cdiv(D, BLOCK_D)
    o_d = tl.max_contiguous((tl.program_id(0) % across) * BLOCK_D + tl.arange(0, BLOCK_D), VECTOR)
    return tl.program_id(0) // across, tl.num_programs(0) // across, o_d


@triton.jit
@no_type_check
def own_tokens(tile, T, R, offsets_ptr, view_ptr, ROWS: tl.constexpr):
    """Tokens of a tile, which of them exist, their views, and their places among the view's patches.

    Places in the prefix are negative: −R is the CLS. int64, as T · D passes 2**31 in a large pack.
    """
    o_t = tl.arange(0, ROWS).to(tl.int64) + tile * ROWS
    m_t = o_t < T
    b_view = tl.load(view_ptr + o_t, mask=m_t, other=0)
    b_place = o_t - tl.load(offsets_ptr + b_view, mask=m_t, other=0) - R
    return o_t, m_t, b_view, b_place


@triton.jit
@no_type_check
def row_and_column(grids_ptr, b_view, b_place, m_n):
    """Patch row and column of each patch, and the sides of its grid, as float32."""
    b_rows = tl.load(grids_ptr + 2 * b_view, mask=m_n, other=1)
    b_columns = tl.load(grids_ptr + 2 * b_view + 1, mask=m_n, other=1)
    b_local = tl.where(m_n, b_place, 0).to(tl.int32)
    b_r, b_c = b_local // b_columns, b_local % b_columns
    return b_r.to(tl.float32), b_c.to(tl.float32), b_rows.to(tl.float32), b_columns.to(tl.float32)


@triton.jit
@no_type_check
def place_in_table(b_index, b_side, M):
    """Where the middle of a patch lies among M positions over the side."""
    b_at = tl.div_rn(b_index + 0.5, b_side) * M - 0.5
    return tl.minimum(tl.maximum(b_at, 0.0), M - 1.0)


@triton.jit
@no_type_check
def between(table_ptr, b_at, M, o_d, m_nd, D: tl.constexpr):
    """Rows of a table at fractional places."""
    b_low = tl.minimum(tl.floor(b_at).to(tl.int32), M - 2)
    o_low = b_low[:, None] * D + o_d[None, :]
    b_left = tl.load(table_ptr + o_low, mask=m_nd, other=0.0).to(tl.float32)
    b_right = tl.load(table_ptr + o_low + D, mask=m_nd, other=0.0).to(tl.float32)
    return b_left + (b_at - b_low.to(tl.float32))[:, None] * (b_right - b_left)


@triton.jit
@no_type_check
def sine_cosine(frequencies_ptr, unknown_ptr, relative_ptr, b_view, b_r, b_c, m_n, o_d, m_d, D: tl.constexpr):
    """[sin | cos] of column, then of row; with the vector of unknown scale where it is."""
    quarter: tl.constexpr = D // 4
    b_relative = tl.load(relative_ptr + b_view, mask=m_n, other=1.0)
    b_unknown = b_relative != b_relative
    b_scale = tl.where(b_unknown, 1.0, b_relative)
    b_frequency = tl.load(frequencies_ptr + o_d % quarter, mask=m_d, other=0.0)
    b_at = tl.where((o_d < 2 * quarter)[None, :], (b_c * b_scale)[:, None], (b_r * b_scale)[:, None])
    b_angle = b_at * b_frequency[None, :]
    b_code = tl.where(((o_d // quarter) % 2 == 0)[None, :], tl.sin(b_angle), tl.cos(b_angle))
    b_vector = tl.load(unknown_ptr + o_d, mask=m_d, other=0.0).to(tl.float32)
    return b_code + tl.where(b_unknown[:, None], b_vector[None, :], 0.0)


@triton.jit
@no_type_check
def forward_kernel(
    rows_ptr, bias_ptr, masked_ptr, mask_ptr, cls_ptr, scale_ptr, registers_ptr,
    code_ptr, other_ptr, of_view_ptr, grids_ptr, offsets_ptr, view_ptr, x_ptr,
    T, R, M,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr, VECTOR: tl.constexpr,
    BIAS: tl.constexpr, MASK: tl.constexpr, SCALE: tl.constexpr,
    GRID: tl.constexpr, FRACTIONS: tl.constexpr, SINE: tl.constexpr,
):  # fmt: skip
    """One program: ROWS tokens, BLOCK_D channels.

    code_ptr, other_ptr, of_view_ptr: with GRID the table and each view's first row of it; with FRACTIONS the
    tables of rows and columns; with SINE the vector of unknown scale, the frequencies and each view's scale.
    """
    tile, _, o_d = own_columns(D, BLOCK_D, VECTOR)
    o_t, m_t, b_view, b_place = own_tokens(tile, T, R, offsets_ptr, view_ptr, ROWS)
    m_d = o_d < D
    m_n = m_t & (b_place >= 0)
    m_nd = m_n[:, None] & m_d[None, :]
    o_n = o_t - (b_view + 1) * R
    m_own = m_n
    if MASK:
        m_own = m_n & (tl.load(masked_ptr + o_n, mask=m_n, other=0) == 0)
    o_nd = o_n[:, None] * D + o_d[None, :]
    b_x = tl.load(rows_ptr + o_nd, mask=m_own[:, None] & m_d[None, :], other=0.0).to(tl.float32)
    if BIAS:
        b_bias = tl.load(bias_ptr + o_d, mask=m_d, other=0.0).to(tl.float32)
        b_x += tl.where(m_own[:, None], b_bias[None, :], 0.0)
    if MASK:
        b_mask = tl.load(mask_ptr + o_d, mask=m_d, other=0.0).to(tl.float32)
        b_x += tl.where((m_n & ~m_own)[:, None], b_mask[None, :], 0.0)

    if GRID:
        b_code = tl.load(of_view_ptr + b_view, mask=m_n, other=0) + b_place
        b_x += tl.load(code_ptr + b_code[:, None] * D + o_d[None, :], mask=m_nd, other=0.0).to(tl.float32)
    if FRACTIONS:
        b_r, b_c, b_rows, b_columns = row_and_column(grids_ptr, b_view, b_place, m_n)
        b_x += between(code_ptr, place_in_table(b_r, b_rows, M), M, o_d, m_nd, D)
        b_x += between(other_ptr, place_in_table(b_c, b_columns, M), M, o_d, m_nd, D)
    if SINE:
        b_r, b_c, _, _ = row_and_column(grids_ptr, b_view, b_place, m_n)
        b_sine = sine_cosine(other_ptr, code_ptr, of_view_ptr, b_view, b_r, b_c, m_n, o_d, m_d, D)
        b_x += tl.where(m_n[:, None], b_sine, 0.0)

    m_cls = m_t & (b_place == -R)
    b_cls = tl.load(cls_ptr + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_x += tl.where(m_cls[:, None], b_cls[None, :], 0.0)
    if SCALE:
        o_vd = b_view[:, None] * D + o_d[None, :]
        b_x += tl.load(scale_ptr + o_vd, mask=m_cls[:, None] & m_d[None, :], other=0.0).to(tl.float32)
    m_register = m_t & (b_place < 0) & (b_place > -R)
    o_rd = (b_place + R - 1)[:, None] * D + o_d[None, :]
    b_x += tl.load(registers_ptr + o_rd, mask=m_register[:, None] & m_d[None, :], other=0.0).to(tl.float32)
    tl.store(x_ptr + o_t[:, None] * D + o_d[None, :], b_x, mask=m_t[:, None] & m_d[None, :])


@triton.jit
@no_type_check
def patches_backward_kernel(
    dx_ptr, masked_ptr, relative_ptr, offsets_ptr, view_ptr, drows_ptr, partial_ptr,
    T, R,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr, VECTOR: tl.constexpr,
    MASK: tl.constexpr, SINE: tl.constexpr,
):  # fmt: skip
    """One program: every so-manieth tile of ROWS tokens, BLOCK_D channels.

    drows, 0 where masked; partial_ptr is [programs, 3, D]: sums over the patches that show themselves, the
    masked ones, and those of unknown scale.
    """
    i_p, programs, o_d = own_columns(D, BLOCK_D, VECTOR)
    m_d = o_d < D
    b_own = tl.zeros([BLOCK_D], dtype=tl.float32)
    b_masked = tl.zeros([BLOCK_D], dtype=tl.float32)
    b_unknown = tl.zeros([BLOCK_D], dtype=tl.float32)
    for tile in range(i_p, tl.cdiv(T, ROWS), programs):
        o_t, m_t, b_view, b_place = own_tokens(tile, T, R, offsets_ptr, view_ptr, ROWS)
        m_n = m_t & (b_place >= 0)
        m_nd = m_n[:, None] & m_d[None, :]
        o_n = o_t - (b_view + 1) * R
        b_dx = tl.load(dx_ptr + o_t[:, None] * D + o_d[None, :], mask=m_nd, other=0.0).to(tl.float32)
        if SINE:
            b_relative = tl.load(relative_ptr + b_view, mask=m_n, other=1.0)
            b_unknown += tl.sum(tl.where((b_relative != b_relative)[:, None], b_dx, 0.0), axis=0)
        if MASK:
            m_mask = tl.load(masked_ptr + o_n, mask=m_n, other=0) != 0
            b_masked += tl.sum(tl.where(m_mask[:, None], b_dx, 0.0), axis=0)
            b_dx = tl.where(m_mask[:, None], 0.0, b_dx)
        b_own += tl.sum(b_dx, axis=0)
        tl.store(drows_ptr + o_n[:, None] * D + o_d[None, :], b_dx, mask=m_nd)
    o_p = partial_ptr + i_p * 3 * D + o_d
    tl.store(o_p, b_own, mask=m_d)
    tl.store(o_p + D, b_masked, mask=m_d)
    tl.store(o_p + 2 * D, b_unknown, mask=m_d)


@triton.jit
@no_type_check
def prefix_backward_kernel(
    dx_ptr, offsets_ptr, dscale_ptr, partial_ptr,
    V, R,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr, VECTOR: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """One program: one prefix token of every so-manieth tile of ROWS views, BLOCK_D channels.

    partial_ptr is [programs, R, D]; dscale is the gradient of each view's CLS.
    """
    i_pr, all_pr, o_d = own_columns(D, BLOCK_D, VECTOR)
    i_p, i_r = i_pr // R, i_pr % R
    m_d = o_d < D
    b_sum = tl.zeros([BLOCK_D], dtype=tl.float32)
    for tile in range(i_p, tl.cdiv(V, ROWS), all_pr // R):
        o_v = tl.arange(0, ROWS).to(tl.int64) + tile * ROWS
        m_vd = (o_v < V)[:, None] & m_d[None, :]
        o_t = tl.load(offsets_ptr + o_v, mask=o_v < V, other=0).to(tl.int64) + i_r
        b_dx = tl.load(dx_ptr + o_t[:, None] * D + o_d[None, :], mask=m_vd, other=0.0).to(tl.float32)
        b_sum += tl.sum(b_dx, axis=0)
        if SCALE:
            m_cls = tl.where(i_r == 0, m_vd, False)
            tl.store(dscale_ptr + o_v[:, None] * D + o_d[None, :], b_dx, mask=m_cls)
    tl.store(partial_ptr + i_pr.to(tl.int64) * D + o_d, b_sum, mask=m_d)


@triton.jit
@no_type_check
def sum_rows_kernel(
    rows_ptr, list_ptr, lists_ptr, starts_ptr, out_ptr,
    P,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows of the result, BLOCK_D channels. See placing.RowSums."""
    tile, _, o_d = own_columns(D, BLOCK_D, VECTOR)
    m_d = o_d < D
    o_p = tl.arange(0, ROWS).to(tl.int64) + tile * ROWS
    m_p = o_p < P
    b_list = tl.load(list_ptr + o_p, mask=m_p, other=0).to(tl.int64)
    b_first = tl.load(lists_ptr + 3 * b_list, mask=m_p, other=0)
    b_entries = tl.load(lists_ptr + 3 * b_list + 1, mask=m_p, other=0)
    b_within = o_p - tl.load(lists_ptr + 3 * b_list + 2, mask=m_p, other=0)
    b_sum = tl.zeros([ROWS, BLOCK_D], dtype=tl.float32)
    for k in range(0, tl.max(b_entries, axis=0)):
        m_k = k < b_entries
        o_row = tl.load(starts_ptr + b_first + k, mask=m_k, other=0) + b_within
        m_kd = m_k[:, None] & m_d[None, :]
        b_sum += tl.load(rows_ptr + o_row[:, None] * D + o_d[None, :], mask=m_kd, other=0.0).to(tl.float32)
    tl.store(out_ptr + o_p[:, None] * D + o_d[None, :], b_sum, mask=m_p[:, None] & m_d[None, :])


@triton.jit
@no_type_check
def fractions_backward_kernel(
    dx_ptr, grids_ptr, offsets_ptr, view_ptr, partial_ptr,
    T, R, M,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """One program: every so-manieth tile of ROWS tokens, BLOCK_D channels, BLOCK_M positions of both tables.

    partial_ptr is [programs, 2, M, D]: rows, columns.
    """
    i_p, programs, o_d = own_columns(D, BLOCK_D, 4)
    o_m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    m_d = o_d < D
    b_places = o_m.to(tl.float32)
    b_drows = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    b_dcolumns = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    for tile in range(i_p, tl.cdiv(T, ROWS), programs):
        o_t, m_t, b_view, b_place = own_tokens(tile, T, R, offsets_ptr, view_ptr, ROWS)
        m_n = m_t & (b_place >= 0)
        o_td = o_t[:, None] * D + o_d[None, :]
        b_dx = tl.load(dx_ptr + o_td, mask=m_n[:, None] & m_d[None, :], other=0.0).to(tl.float32)
        b_r, b_c, b_rows, b_columns = row_and_column(grids_ptr, b_view, b_place, m_n)
        b_row = place_in_table(b_r, b_rows, M)
        b_share = tl.maximum(1.0 - tl.abs(b_places[:, None] - b_row[None, :]), 0.0)
        b_drows = tl.dot(b_share, b_dx, b_drows, input_precision="tf32x3")
        b_column = place_in_table(b_c, b_columns, M)
        b_share = tl.maximum(1.0 - tl.abs(b_places[:, None] - b_column[None, :]), 0.0)
        b_dcolumns = tl.dot(b_share, b_dx, b_dcolumns, input_precision="tf32x3")
    m_md = (o_m < M)[:, None] & m_d[None, :]
    o_md = i_p.to(tl.int64) * 2 * M * D + o_m[:, None] * D + o_d[None, :]
    tl.store(partial_ptr + o_md, b_drows, mask=m_md)
    tl.store(partial_ptr + M * D + o_md, b_dcolumns, mask=m_md)
