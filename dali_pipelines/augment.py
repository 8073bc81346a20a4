"""The steps of a view as DALI graph functions, one for each number of the plan; none of them draws.

What each must give is said by aqqua/render/reference.py; how near it comes, by docs/dali.md. Values are
float32 [H, W, C] in layout HWC, differences to the background from `difference` to `sample`, so that what
lies beyond the image is 0 and both the Gaussian and the sampling can take 0 for it.
Test: tests/dali_pipelines/test_augment.py.
"""

from nvidia.dali import fn, math, types
from nvidia.dali.data_node import DataNode

from aqqua.render.reference import LUMA

FULL = {8: 255.0, 16: 65535.0}  # the largest level
NOISE_SIGMA = 147.8005412709718  # of the sum of four uniform bytes: √(4·(256² − 1)/12)
_FIRST, _SECOND = 0x85EBCA6B, 0xC2B2AE35  # MurmurHash3, fmix32; aqqua/plan/murmur.py


def unit(page: DataNode, bits: int) -> DataNode:
    """Levels of 8 or 16 bits in [0, 1]."""
    return fn.cast(page, dtype=types.FLOAT) / FULL[bits]


def to_channels(values: DataNode, stored: int, channels: int) -> DataNode:
    """Colour becomes luma (ITU-R BT.601), grey is repeated."""
    if stored == channels:
        return values
    if channels == 3:
        return values * types.Constant([1.0, 1.0, 1.0], shape=[1, 1, 3], dtype=types.FLOAT)
    luma = types.Constant(list(LUMA), shape=[1, 1, 3], dtype=types.FLOAT)
    grey = fn.reductions.sum(values * luma, axes=[2], keep_dims=True)
    return fn.reshape(grey, layout="HWC")


def difference(values: DataNode, background: DataNode) -> DataNode:
    """What the image is above its background [1, 1, C]."""
    return fn.reshape(values - background, layout="HWC")


def blur(values: DataNode, start: DataNode, grown: DataNode, window: DataNode, sigma: DataNode) -> DataNode:
    """The Gaussian of the view, on the endless plane of the background.

    Args:
        values: differences.
        start: [2] first row and column of the grown page. It grows by one more than the Gaussian reaches, on
            each side, so that DALI, which mirrors at the rim, mirrors zeros; without a blur, not at all.
        grown: [2] its sides.
        window: [1] taps; 1 leaves the values as they are.
        sigma: [1] px.
    """
    laid = fn.slice(
        values, start=start, shape=grown, axes=[0, 1], out_of_bounds_policy="pad", fill_values=0.0
    )
    return fn.gaussian_blur(laid, window_size=window, sigma=sigma)


def sample(values: DataNode, map_23: DataNode, size: DataNode) -> DataNode:
    """Bilinear values at the mapped points; 0 beyond the page.

    DALI counts as the plan does: (0, 0) is the corner of the first pixel, whose centre is (½, ½).

    Args:
        values: differences.
        map_23: output px -> px of the page.
        size: [2] rows and columns.
    """
    return fn.warp_affine(
        values, matrix=map_23, size=size, fill_value=0.0, inverse_map=True, interp_type=types.INTERP_LINEAR
    )


def occlude(values: DataNode, speck: DataNode, x: DataNode, y: DataNode) -> DataNode:
    """One speck of detritus in front of the organism: v += a · (level − v).

    a is 1 within the speck and falls to 0 over a pixel at its rim; a speck of radius 0 is none.

    Args:
        values: [H, W, C] levels.
        speck: [4] x, y and radius in output px, and level.
        x: [1, W, 1] centres of the columns, float32.
        y: [H, 1, 1] centres of the rows.
    """
    across, down, radius, level = (fn.slice(speck, start=k, shape=1, axes=[0]) for k in range(4))
    distance = math.sqrt((x - across) * (x - across) + (y - down) * (y - down))
    share = math.clamp(radius + 0.5 - distance, 0.0, 1.0) * (radius > 0.0)
    return values + share * (level - values)


def colour(values: DataNode, matrix: DataNode) -> DataNode:
    """The colour of each pixel times a matrix [3, 3]: out = matrix · (r, g, b).

    Args:
        values: [H, W, 3].
        matrix: rows give red, green and blue.
    """
    total = None
    for k in range(3):
        column = fn.reshape(fn.slice(matrix, start=k, shape=1, axes=[1]), shape=[1, 1, 3])
        part = fn.slice(values, start=k, shape=1, axes=[2]) * column
        total = part if total is None else total + part
    return total


def light(values: DataNode, scale: DataNode, bias: DataNode) -> DataNode:
    """Gain, offset, polarity and normalisation in one: scale · v + bias, [1, 1, 1] and [1, 1, C]."""
    return values * scale + bias


def fold(values: DataNode, top: DataNode) -> DataNode:
    """Solarisation: y <- min(y, top − y), with [1, 1, C]."""
    return math.min(values, top - values)


def pixel_number(row: DataNode, column: DataNode, columns: DataNode) -> DataNode:
    """Number of each pixel of the view, row by row, [H, W, 1] uint32."""
    return row * columns + column


def add_noise(values: DataNode, sigma: DataNode, key: tuple[DataNode, DataNode], pixel: DataNode) -> DataNode:
    """Nearly normal noise, the sum of four hashed bytes per pixel: the bits of the specification.

    Args:
        values: [H, W, C].
        sigma: [1, 1, 1]; 0 adds nothing.
        key: lower and upper half of the view's key, [1, 1, 1] uint32.
        pixel: `pixel_number`.
    """
    low, high = key
    word = _finaliser(_finaliser(pixel ^ low) ^ high)
    total = (word & _word(255)) + (word >> _word(8) & _word(255)) + (word >> _word(16) & _word(255))
    total = total + (word >> _word(24))
    return values + sigma * ((fn.cast(total, dtype=types.FLOAT) - 510.0) / NOISE_SIGMA)


def _finaliser(x: DataNode) -> DataNode:
    """fmix32 of MurmurHash3; products of uint32 wrap around."""
    x = (x ^ (x >> _word(16))) * _word(_FIRST)
    x = (x ^ (x >> _word(13))) * _word(_SECOND)
    return x ^ (x >> _word(16))


def _word(value: int) -> object:
    return types.Constant(value, dtype=types.UINT32)


def patch_rows(values: DataNode, cut: DataNode, rows: DataNode) -> DataNode:
    """Cut into P × P patches, row-major; a row holds (pixel row, pixel column, channel).

    Args:
        values: [H, W, C].
        cut: [4] patch rows, P, patch columns, P · C.
        rows: [2] patches, P · P · C.
    """
    grid = fn.reshape(values, shape=cut)
    return fn.reshape(fn.transpose(grid, perm=[0, 2, 1, 3]), shape=rows)
