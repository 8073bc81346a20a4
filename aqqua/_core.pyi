"""Host hot paths in C++ (csrc/): NumPy in, NumPy out, the GIL released, no torch."""

import numpy as np
from numpy.typing import NDArray

def fill(tokens_A: NDArray[np.int64], taken: int, room: int) -> tuple[NDArray[np.int64], int, int] | None:
    """Which of the A entries ahead go into a pack of `room` tokens; None: more entries are needed to know.

    Specification: aqqua.plan.fill.fill_reference, which says the meaning over windows.

    Args:
        tokens_A: of each entry ahead, from the lane's position on.
        taken: bit j: entry j is used already.

    Returns:
        The entries in the order they were chosen, the first one not used, and which of the 64 from
        there on are (as in `taken`).

    Raises:
        ValueError: an entry that was looked at has not 1 to `room` tokens.
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
            below 2**32, a share is not 0 to 1, or there is too much to count.
    """

def permute(index: NDArray[np.uint64], n: int, seed: int, stream: int) -> NDArray[np.uint64]:
    """Images of `index` under the permutation of range(n) named by (seed, stream).

    Specification: aqqua.plan.permute.permute_reference.

    Raises:
        ValueError: n is not 1 to 2**62, or an index is not below n.
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
    patch_px: int,
    channels: int,
    threads: int,
    out: NDArray[np.float32],
) -> None:
    """Patch rows of all views, written to `out` [N, P * P * C].

    Specification: aqqua.render.reference.render_reference. Letters and meanings: aqqua.plan.pack.Pack
    and aqqua.store.read.Sizes.

    Args:
        pixels_I: (H, W) or (H, W, 3) as planned, C-contiguous; read-only and unaligned ones are fine.
        image_V: which of the images each view shows.
        key_V: random key of each view's noise: the view's key xor the image's visit.
        patch_px: side P of a patch, output px.
        channels: C of the model, 1 or 3.
        threads: at most so many work; the result does not depend on them.

    Raises:
        ValueError: an array has another type, shape or layout, an image is not as planned, a number
            of a view is not finite, sigma is not 0 to 1000 px, or there is too much to count.
    """
