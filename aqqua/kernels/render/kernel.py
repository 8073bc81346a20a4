"""Views of images to patch rows: the Triton kernel, one launch for all views of a pack.

A view is its image, blurred and then sampled bilinearly where the view's map says. Both are linear, so a
value is a sum over (2r + 2)² source pixels around its point (r = ⌈3σ⌉, 0 where there is no blur), and the
weights are separable: for a point a beyond pixel k, (1 − a)·g(i − k) + a·g(i − k − 1) for column i, and the
same for rows. One program therefore needs no blurred image, no shared memory and no second launch: it walks
the (2r + 2)² pixels and gathers one for each of its output values, which hits the L1 cache as neighbours do.

What that costs. In the reference law (10 native views of each of 465 ISIIS images, patch 16, 65,536
tokens) 45 % of the output pixels are not blurred and a pixel takes 43 gathers on average, of some 17
instructions each (sm_90): 10.8 M pixels are 0.46 G gathers and 8 G instructions of a lane, where an H100
issues some 28,000 G/s: 0.3 ms. The bytes that cannot be avoided are 2.8 MB of pixels and 21.6 MB of bf16
rows, 7 µs of its 3.35 TB/s. So instructions and L1 bound it, far below the step that it prepares; this is
arithmetic, not yet a measurement. A blur into a workspace would take 2·(2r + 1) products of each of its
pixels, but of the bounding box of a turned view, through memory in float32 and in a second launch. A view
reduced to z of its size takes r ~ 6/z: 144/z² gathers here, 12/z³ there, so that the gain is least where
views are dearest: 4 at z = 1, none at z = 1/12. With 3 channels each channel is a value of its own: the
reads of colour lie side by side, and so do the writes. Where a view's colours are mixed, each value walks all
three channels. What follows (specks, light, fold, noise) is a few instructions for each value.

Points are in float32, each product rounded before it is added, as the specification does it (a point
3,000 px out would move by 1/4096 px else, which shows at an edge): hence fma(a, b, 0), which no compiler
merges with what follows.

Dimension key:  B bytes, I images, V views, K specks, U programs, P patch side, C channels of the model.
Names:          i_ index, o_ offsets, m_ mask, b_ values held by one program.
Specification:  reference.py. Launched by op.py. Test: tests/kernels/test_render.py.
"""

from typing import no_type_check

import triton
import triton.language as tl

from aqqua.kernels.registration import interpreted

INTERPRETED = tl.constexpr(interpreted())
RED, GREEN, BLUE = tl.constexpr(0.299), tl.constexpr(0.587), tl.constexpr(0.114)  # luma, ITU-R BT.601
BELL_EXPONENT = tl.constexpr(-0.7213475204444817)  # exp(−k²/2σ²) = 2^(this · k²/σ²)
NOISE_SIGMA = tl.constexpr(147.8005412709718)  # of the sum of four uniform bytes: √(4·(256² − 1)/12)


@triton.jit
@no_type_check
def mix32(x):
    """32-bit finaliser of MurmurHash3."""
    x = (x ^ (x >> 16)) * 0x85EBCA6B
    x = (x ^ (x >> 13)) * 0xC2B2AE35
    return x ^ (x >> 16)


@triton.jit
@no_type_check
def normal(key, b_pixel):
    """Nearly normal noise of mean 0 and σ 1, from the key of a view and the number of a pixel."""
    word = mix32(mix32(b_pixel ^ (key & 0xFFFFFFFF).to(tl.uint32)) ^ (key >> 32 & 0xFFFFFFFF).to(tl.uint32))
    total = (word & 255) + (word >> 8 & 255) + (word >> 16 & 255) + (word >> 24)
    return (total.to(tl.int32) - 510).to(tl.float32) / NOISE_SIGMA


@triton.jit
@no_type_check
def luma_share(c):
    return tl.where(c == 0, RED, tl.where(c == 1, GREEN, BLUE))


@triton.jit
@no_type_check
def luma_of(rgb_ptr):
    return tl.load(rgb_ptr) * RED + tl.load(rgb_ptr + 1) * GREEN + tl.load(rgb_ptr + 2) * BLUE


@triton.jit
@no_type_check
def background_of(rgb_ptr, c, stored):
    """Of channel c of a colour image; of a grey one the luma, for its three levels may differ."""
    return tl.where(stored == 1, luma_of(rgb_ptr), tl.load(rgb_ptr + c))


@triton.jit
@no_type_check
def bell(k, reach, fall):
    """The Gaussian 2^(fall · k²) at a whole distance, cut off beyond `reach`; not normalised."""
    distance = k.to(tl.float32)
    return tl.where(tl.abs(k) <= reach, tl.exp2(fall * distance * distance), 0.0)


@triton.jit
@no_type_check
def unit_of(wide, reach, fall):
    """What makes a level in [0, 1] of a sum of raw levels, weighted by what is not normalised yet."""
    mass = 0.0
    for t in range(0, 2 * reach + 1):
        mass += bell(t - reach, reach, fall)
    return 1.0 / (tl.where(wide, 65535.0, 255.0) * mass * mass)


@triton.jit
@no_type_check
def cover(b_value, b_grey, b_column, b_row, speck_ptr, specks):
    """Levels under the specks of a view. `b_grey` is what became of a grey of 1, which a speck is."""
    for s in range(0, specks):
        b_right, b_down = b_column - tl.load(speck_ptr + 4 * s), b_row - tl.load(speck_ptr + 4 * s + 1)
        radius, level = tl.load(speck_ptr + 4 * s + 2), tl.load(speck_ptr + 4 * s + 3)
        b_distance = tl.sqrt_rn(tl.fma(b_right, b_right, 0.0) + tl.fma(b_down, b_down, 0.0))
        b_share = tl.minimum(tl.maximum(radius + 0.5 - b_distance, 0.0), 1.0)
        b_value += tl.where(radius > 0.0, b_share, 0.0) * (level * b_grey - b_value)
    return b_value


@triton.jit
@no_type_check
def locate(at_ptr, b_column, b_row, reach, side):
    """First source pixel that counts at each point, and how far the point is beyond its blurred pixel.

    Blurred pixels begin `reach` before the image. Whatever the numbers of the map, even NaN, a point is kept
    within -1 .. side + 2 · reach of them: beyond is only background, as it is there.
    """
    shift = tl.load(at_ptr + 2) + (reach.to(tl.float32) - 0.5)
    b_at = tl.fma(tl.load(at_ptr), b_column, 0.0) + tl.fma(tl.load(at_ptr + 1), b_row, 0.0) + shift
    b_at = tl.minimum(tl.maximum(b_at, -1.0), (side + 2 * reach).to(tl.float32))
    b_first = tl.floor(b_at)
    return b_first.to(tl.int32) - 2 * reach, b_at - b_first


@triton.jit
@no_type_check
def gather(
    bytes_ptr, wide, b_left, b_top, b_across, b_down, b_channel, b_background,
    height, width, stored, reach, fall,
):  # fmt: skip
    """Σ of weight · level around each point, in the image's own levels; the weights are not normalised."""
    words_ptr = bytes_ptr.to(tl.pointer_type(tl.uint16))
    taps = 2 * reach + 2
    b_value, g_row_before = b_across * 0.0, 0.0
    for t in range(0, taps):
        g_row = bell(t - reach, reach, fall)
        b_y = b_top + t
        m_row = b_y.to(tl.uint32) < height.to(tl.uint32)  # a negative number is a large one there
        o_row = (b_y * width + b_left) * stored + b_channel
        b_line, g_before = b_across * 0.0, 0.0
        for s in range(0, taps):
            g = bell(s - reach, reach, fall)
            b_x = b_left + s
            m_px = m_row & (b_x.to(tl.uint32) < width.to(tl.uint32))
            o_px = (o_row + s * stored).to(tl.uint32)
            if wide:
                b_level = tl.load(words_ptr + o_px, mask=m_px, other=0).to(tl.float32)
            else:
                b_level = tl.load(bytes_ptr + o_px, mask=m_px, other=0).to(tl.float32)
            b_line += (g + b_across * (g_before - g)) * tl.where(m_px, b_level, b_background)
            g_before = g
        b_value += (g_row + b_down * (g_row_before - g_row)) * b_line
        g_row_before = g_row
    return b_value


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
def spread(o_e, columns, P: tl.constexpr, C: tl.constexpr):
    """Row, column and channel of a view's values in the order of its patch rows."""
    patch, pixel, channel = o_e // (P * P * C), o_e % (P * P * C) // C, o_e % C
    return patch // columns * P + pixel // P, patch % columns * P + pixel % P, channel


@triton.jit
@no_type_check
def sample_grey(bytes_ptr, wide, b_left, b_top, b_across, b_down, background_ptr, height, width, stored,
                reach, fall):  # fmt: skip
    """Raw luma around each point."""
    b_value = b_across * 0.0
    for c in range(0, stored):
        b_background = background_of(background_ptr, c, stored)
        b_plane = gather(
            bytes_ptr, wide, b_left, b_top, b_across, b_down, c, b_background,
            height, width, stored, reach, fall,
        )  # fmt: skip
        b_value += b_plane * tl.where(stored == 1, 1.0, luma_share(c))
    return b_value


@triton.jit
@no_type_check
def sample_colour(bytes_ptr, wide, b_left, b_top, b_across, b_down, background_ptr, height, width, stored,
                  reach, fall, channel, mixed, colour_ptr):  # fmt: skip
    """Raw level of each value's channel around its point, and what becomes of a grey of 1.

    A value is made of its own channel; of a view whose colours are mixed, of all three.
    """
    b_value, b_grey = b_across * 0.0, b_across * 0.0
    for c in range(0, tl.where(mixed, 3, 1)):
        b_from = tl.where(mixed, c, channel)
        b_background = tl.load(background_ptr + b_from)
        b_stored = tl.where(stored == 1, 0, b_from)  # grey is repeated
        b_plane = gather(
            bytes_ptr, wide, b_left, b_top, b_across, b_down, b_stored, b_background,
            height, width, stored, reach, fall,
        )  # fmt: skip
        b_share = tl.where(mixed, tl.load(colour_ptr + 3 * channel + c), 1.0)
        b_value += b_plane * b_share
        b_grey += b_share
    return b_value, b_grey


@triton.jit
@no_type_check
def render_kernel(
    pixels_ptr, offset_ptr, height_ptr, width_ptr, channels_ptr, bits_ptr, background_ptr,
    image_ptr, grid_ptr, map_ptr, sigma_ptr, reach_ptr, scale_ptr, bias_ptr, noise_ptr, key_ptr,
    speck_ptr, colour_ptr, coloured_ptr, fold_ptr, row_ptr, tile_ptr, first_ptr, out_ptr, specks,
    P: tl.constexpr, C: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_E values of one view, in the order of its patch rows."""
    i_u = tl.program_id(0)
    i_v = tl.load(tile_ptr + i_u)
    i_i = tl.load(image_ptr + i_v)
    columns = tl.load(grid_ptr + 2 * i_v + 1)
    first_e, o_block = (i_u - tl.load(first_ptr + i_v)) * BLOCK_E, tl.arange(0, BLOCK_E)
    o_e, left_e = first_e + o_block, tl.load(grid_ptr + 2 * i_v) * columns * (P * P * C) - first_e
    m_e = o_block < left_e
    row, column, channel = spread(o_e, columns, P, C)
    height, width = tl.load(height_ptr + i_i), tl.load(width_ptr + i_i)
    stored, wide = tl.load(channels_ptr + i_i), tl.load(bits_ptr + i_i) == 16
    sigma, reach = tl.load(sigma_ptr + i_v), tl.load(reach_ptr + i_v)
    width_of_bell = tl.where(reach > 0, sigma, 1.0)
    fall = 1.0 / (width_of_bell * width_of_bell) * BELL_EXPONENT
    b_column, b_row = column.to(tl.float32) + 0.5, row.to(tl.float32) + 0.5
    b_left, b_across = locate(map_ptr + 6 * i_v, b_column, b_row, reach, width)
    b_top, b_down = locate(map_ptr + 6 * i_v + 3, b_column, b_row, reach, height)
    b_top = tl.where(m_e, b_top, -(1 << 30))  # so that nothing is loaded beyond the view's last value

    bytes_ptr = pixels_ptr + tl.load(offset_ptr + i_i)  # int64: the pixels of a pack may pass 2**31 bytes
    background_ptr += 3 * i_i
    if C == 1:
        b_grey = 1.0
        b_value = sample_grey(bytes_ptr, wide, b_left, b_top, b_across, b_down, background_ptr,
                              height, width, stored, reach, fall)  # fmt: skip
        b_bias, b_fold = luma_of(bias_ptr + 3 * i_v), luma_of(fold_ptr + 3 * i_v)
    else:
        mixed = tl.load(coloured_ptr + i_v) != 0
        b_value, b_grey = sample_colour(bytes_ptr, wide, b_left, b_top, b_across, b_down, background_ptr,
                                        height, width, stored, reach, fall, channel, mixed,
                                        colour_ptr + 9 * i_v)  # fmt: skip
        b_bias, b_fold = tl.load(bias_ptr + 3 * i_v + channel), tl.load(fold_ptr + 3 * i_v + channel)
    b_value *= unit_of(wide, reach, fall)
    # Worked out anew from a number that the compiler cannot know to be the same: kept through the loops
    # above, these would take registers that the gathers need.
    again_e = (i_u - tl.load(first_ptr + i_v, volatile=True)) * BLOCK_E + o_block
    row, column, _ = spread(again_e, columns, P, C)
    b_column, b_row = column.to(tl.float32) + 0.5, row.to(tl.float32) + 0.5
    b_value = cover(b_value, b_grey, b_column, b_row, speck_ptr + 4 * specks * i_v, specks)
    b_value = b_value * tl.load(scale_ptr + i_v) + b_bias
    b_value = tl.minimum(b_value, b_fold - b_value)
    b_noise = normal(tl.load(key_ptr + i_v), (row * (columns * P) + column).to(tl.uint32))
    b_value += b_noise * tl.load(noise_ptr + i_v)
    out_ptr += tl.load(row_ptr + i_v) * (P * P * C) + first_e  # int64: N rows may pass 2**31 values
    tl.store(out_ptr + o_block, narrow(b_value, out_ptr.dtype.element_ty), mask=o_block < left_e)
