"""Host hot paths in C++ (csrc/): NumPy in, NumPy out, the GIL released, no torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def fill(tokens_A: NDArray[np.int64], taken: int, room: int) -> tuple[NDArray[np.int64], int, int] | None:
    """Which of the A entries ahead go into a pack of `room` tokens; None: more entries are needed to know.

    Specification: aqqua.plan.fill.fill_reference, which says the meaning over windows.

    Args:
        tokens_A: of each entry ahead, from the lane's position on.
        taken: bit j: entry j is used already. 64 bits.
        room: 1 to 2**62 - 1.

    Returns:
        The entries in the order they were chosen, the first one not used, and which of the 64 from
        there on are (as in `taken`).

    Raises:
        ValueError: an entry that was looked at has not 1 to `room` tokens, a number is outside its range, or
            the array has another type, shape or layout.
    """

def plan_masks(
    *,
    grid_V2: NDArray[np.int32],
    keys_G: NDArray[np.uint64],
    visits_G: NDArray[np.uint64],
    seed: int,
    odds: float,
    low: float,
    high: float,
    aspects_Q: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float32]]:
    """mask_N, masked_M and weight_M of a pack whose first G views are the global ones.

    Specification: aqqua.plan.masks.plan_masks_reference.

    Args:
        low, high: share of a masked view's patches hidden.
        aspects_Q: quantiles of the aspect of a block, aqqua.plan.cut.log_uniform.

    Raises:
        ValueError: an array has another type, shape or layout, a grid is below 1 x 1, a visit is not
            below 2**32, the seed not 0 to 2**64 - 1, a share not 0 to 1, or there is too much to count.
    """

def lane_blocks(
    *, blocks: int, lanes: int, window_blocks: int, lane: int, window: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Blocks of a lane's window, and the epoch of each.

    Specification, arguments and errors: aqqua.plan.order.lane_blocks_reference and lane_blocks.
    """

def mix_window(
    block_B: NDArray[np.int64],
    epoch_B: NDArray[np.int64],
    images_B: NDArray[np.int64],
    *,
    lane: int,
    window: int,
    seed: int,
    key_I: NDArray[np.uint64] | None = None,
    weight_I: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """A window's images in the order they are used: block_E, row_E, visit_E, image_E.

    Specification, arguments and errors: aqqua.plan.order.mix_window_reference and mix_window.
    """

def permute(index: NDArray[np.uint64], n: int, seed: int, stream: int) -> NDArray[np.uint64]:
    """Images of `index` under the permutation of range(n) named by (seed, stream).

    Specification: aqqua.plan.permute.permute_reference.

    Raises:
        ValueError: n is not 1 to 2**62, an index is not below n, `index` has another type, shape or layout,
            or the seed or the stream is not 0 to 2**64 - 1.
    """

def plan_views(
    *,
    key_I: NDArray[np.uint64],
    height_I: NDArray[np.int32],
    width_I: NDArray[np.int32],
    channels_I: NDArray[np.int8],
    bits_I: NDArray[np.int8],
    um_per_px_I: NDArray[np.float32],
    background_I3: NDArray[np.uint16],
    box_I4: NDArray[np.int32],
    visit_I: NDArray[np.uint64],
    seed: int,
    patch_px: int,
    area_S2: NDArray[np.float64],
    tokens_S2: NDArray[np.int32],
    invert_odds_S: NDArray[np.float64],
    solarize_odds_S: NDArray[np.float64],
    blur_odds_S: NDArray[np.float64],
    directions_Q2: NDArray[np.float64],
    aspect_Q: NDArray[np.float64],
    zoom_Q: NDArray[np.float64],
    hue_Q2: NDArray[np.float64],
    quarter_turn_33: NDArray[np.float64],
    square: bool,
    rotate: bool,
    flip: bool,
    organism_aware: bool,
    max_magnify: float,
    max_reduce: float,
    gain: tuple[float, float],
    offset: tuple[float, float],
    saturation: tuple[float, float],
    photometric_odds: float,
    grey_odds: float,
    blur_sigma_px: tuple[float, float],
    noise: tuple[float, float],
    specks: int,
    speck_odds: float,
    speck_radius: tuple[float, float],
    speck_depth: tuple[float, float],
    subtract_background: bool,
    mean: float,
    std: float,
) -> dict[str, NDArray[Any]]:
    """The views of I images, S each: the fields of aqqua.plan.views.Views by name.

    Specification: aqqua.plan.views.plan_views_reference. Letters and meanings: aqqua.store.read.Sizes and
    aqqua.plan.view_config.ViewConfig; Q is aqqua.plan.cut.QUANTILES.

    Args:
        box_I4: any whole numbers; what lies outside the image is brought to its rim.
        visit_I: below 2**32.
        seed: any 64 bits.
        patch_px: side P of a patch, output px, 1 to 1024.
        area_S2: least and largest share of the image's area, of each view.
        tokens_S2: floor and cap of each view's patches.
        directions_Q2: (cos, sin) of every quantile of the angle; used where `rotate`.
        aspect_Q, zoom_Q: quantiles of the aspect and of the scale jitter.
        hue_Q2: (cos, sin) of every quantile of the hue's turn; used where an image has 3 channels.
        quarter_turn_33: aqqua.plan.colour.quarter_turn.
        square: views are stretched to squares (geometry).
        specks: most of a view, K, 0 to 8.

    Raises:
        ValueError: an array has another type, shape or layout; a side of an image is 0, its µm/px neither
            NaN (unknown) nor 1e-30 to 1e30, its bits not 8 or 16; or a number is outside its range
            (odds 0 to 1, tokens 1 to 2**22, others up to 1e6 in size, from 1e-6 where they must be positive).
    """

def render(
    *,
    pixels_I: list[NDArray[np.uint8] | NDArray[np.uint16]],
    height_I: NDArray[np.int32],
    width_I: NDArray[np.int32],
    channels_I: NDArray[np.int8],
    bits_I: NDArray[np.int8],
    background_I3: NDArray[np.uint16],
    image_V: NDArray[np.int64],
    grid_V2: NDArray[np.int32],
    map_V23: NDArray[np.float32],
    sigma_V: NDArray[np.float32],
    scale_V: NDArray[np.float32],
    bias_V3: NDArray[np.float32],
    noise_V: NDArray[np.float32],
    key_V: NDArray[np.uint64],
    speck_VK4: NDArray[np.float32],
    colour_V33: NDArray[np.float32],
    fold_V3: NDArray[np.float32],
    patch_px: int,
    channels: int,
    threads: int,
    simd: str,
    out: NDArray[np.float32] | NDArray[np.uint16],
) -> None:
    """Patch rows of all views, written to `out` [N, P * P * C].

    Specification: aqqua.render.reference.render_reference. Letters and meanings: aqqua.plan.pack.Pack
    and aqqua.store.sizes.Sizes.

    Args:
        pixels_I: (H, W) or (H, W, 3) as planned, C-contiguous; read-only and unaligned ones are fine.
        image_V: which of the images each view shows.
        key_V: random key of each view's noise: the view's key xor the image's visit.
        patch_px: side P of a patch, output px.
        channels: C of the model, 1 or 3.
        threads: at most so many work; the result does not depend on them.
        simd: one of render_simd(), or "auto" for the fastest; the result does not depend on it.
        out: float32, or uint16 for the bits of bfloat16 (rounded to nearest, ties to even).

    Raises:
        ValueError: an array has another type, shape or layout, an image is not as planned, a number
            of a view is not finite, sigma is not 0 to 1000 px, there is too much to count, or this
            machine lacks the instructions.
    """

def render_simd() -> list[str]:
    """Instruction sets that render can use on this machine, the fastest first: avx512, avx2, plain."""

def near_keys(
    keys_BKR: NDArray[np.float32],
    lines_NS: NDArray[np.float32],
    rest_N: NDArray[np.float32],
    *,
    apart: int,
    reach: float,
    correlation: float,
    first: int,
    last: int,
    threads: int = 1,
) -> NDArray[np.int64]:
    """Pairs of N rows whose keys are near and whose pictures may agree: [P, 2], by the first row, then the
    second, which is the larger.

    Args:
        keys_BKR: K keys of rows, in leaves of 64; those of rows that the last leaf lacks are infinite.
        lines_NS, rest_N: of the rows' pictures, as aqqua.curate.images.descriptor.spectra has them.
        apart: of so many keys, each may differ by `reach`; the others may by that in length.
        reach: finite, at least 0.
        correlation: least one of two pictures in the best of eight poses; where what lies above the
            frequencies of the lines could bring it about, the pair is kept.
        first, last: leaves that the first rows are of, from one to before the other.
        threads: at most so many work; the pairs do not depend on them.

    Raises:
        ValueError: an array has another type or shape, or a number is out of range.
    """

def pose_products(
    a_IC: NDArray[np.uint8],
    b_JC: NDArray[np.uint8],
    a_P: NDArray[np.int64],
    b_P: NDArray[np.int64],
    *,
    threads: int = 1,
) -> NDArray[np.int32]:
    """Sums of products of pictures of 16 x 16 bytes, of a with b in each of eight poses: [P, 8].

    Args:
        a_IC, b_JC: pictures, row after row.
        a_P, b_P: which of them, of each pair; fastest where pairs of one `a` follow each other.
        threads: at most so many work; the sums are exact.

    Raises:
        ValueError: an array has another type or shape, or a pair is of a picture that is not there.
    """

def same_pictures(
    a_pixels: NDArray[np.float32],
    a_start: NDArray[np.int64],
    a_shape: NDArray[np.int32],
    b_pixels: NDArray[np.float32],
    b_start: NDArray[np.int64],
    b_shape: NDArray[np.int32],
    a_P: NDArray[np.int64],
    b_P: NDArray[np.int64],
    poses_PK: NDArray[np.int8],
    *,
    size_px: int,
    shift_px: int,
    correlation: float,
    threads: int = 1,
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """How well P pairs of images agree: numbers [P, 6] and the pose of each pair.

    Specification, and the meaning of the numbers: agreement and Agreement of aqqua.curate.copies.verify.
    Equal to it bit for bit where pixels are whole numbers to 255, else within 1e-5 of correlations and
    of the peak.

    Args:
        a_pixels, a_start, a_shape: images one after the other, where each begins, height and width.
        a_P, b_P: the images of each pair.
        poses_PK: of b, that are tried; -1: none.
        threads: at most so many work; the result does not depend on them.

    Raises:
        ValueError: an array has another type, shape or layout, an image lies outside the pixels, or a number
            is outside its range.
    """

def arrange(
    lengths_V: NDArray[np.int32], tile_rows: Sequence[int]
) -> tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
]:
    """The attention tiles of a pack's sequences: order_J, start_B1, rows_B, tile_V, row_V, long_W.

    Specification, arguments and errors: arrange_reference and arrange of aqqua.kernels.attention.tiles.
    Letters and meanings: its Tiles.
    """

def lay_out(
    lengths_V: np.ndarray, tile_V: np.ndarray, row_V: np.ndarray, first: int, tiles: int, rows: int
) -> np.ndarray:
    """Token and sequence of each row of some tiles, int32 [tiles, 2, rows].

    Specification: aqqua.kernels.attention.tiles.lay_out_reference.

    Args:
        first: number of the first of these tiles, which all have `rows` rows.
    """
