"""The blocks of a lane's window, and its images: repeated or dropped by weight, then mixed.

`lane_blocks` and `mix_window` are served by C++ (aqqua._core); the functions called `_reference` are
their specification. Nothing here has a memory: every window costs the same, whatever came before.

Letters: B blocks of a window, I images in them (blocks one after the other), E entries (the images as
they are used, repeats included). Test: tests/plan/test_order.py. Timing: bench/data/order.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt64

from aqqua import _core
from aqqua.plan.permute import permute_reference
from aqqua.plan.philox import Purpose, require_seed, uniforms

COPY_SHIFT = 24  # a visit is epoch + copy << 24: 16 M epochs, 256 copies
MOST_COPIES = 255  # of an image in an epoch: a visit has no room for more
MOST_LANES = 65536
MOST_WINDOW_BLOCKS = 64
MOST_ENTRIES = (
    1 << 24
)  # of a window, repeats included; 64 blocks of 512 images at 255 copies are half of that
_WINDOW_BITS = 39  # bit 39 of a stream tells windows from epochs, the lane stands above it


@dataclass(frozen=True)
class Entries:
    """The images of one window in the order they are used."""

    block_E: Int64[np.ndarray, " E"]
    row_E: Int64[np.ndarray, " E"]
    visit_E: UInt64[np.ndarray, " E"]  # epoch + copy << COPY_SHIFT
    image_E: Int64[np.ndarray, " E"]  # which of the window's I images

    def __len__(self) -> int:
        return len(self.block_E)


def lane_blocks(
    *, blocks: int, lanes: int, window_blocks: int, lane: int, window: int, seed: int
) -> tuple[Int64[np.ndarray, " B"], Int64[np.ndarray, " B"]]:
    """Blocks of a lane's window, and the epoch of each.

    Args:
        blocks: of the dataset, 1 to 2**62.
        lanes: of the run, 1 to 65536.
        window_blocks: of a window, 1 to 64.
        lane: 0 to lanes - 1.
        window: counted in the lane, 0 to 2**39 - 1, in the first 2**24 epochs.
        seed: of the run, 0 to 2**64 - 1.

    Raises:
        ValueError: a number is outside its range.
    """
    return _core.lane_blocks(
        blocks=blocks, lanes=lanes, window_blocks=window_blocks, lane=lane, window=window, seed=seed
    )


def lane_blocks_reference(
    *, blocks: int, lanes: int, window_blocks: int, lane: int, window: int, seed: int
) -> tuple[Int64[np.ndarray, " B"], Int64[np.ndarray, " B"]]:
    """The specification of `lane_blocks`: the blocks of all epochs in a row, dealt to the lanes in turn."""
    if not 1 <= blocks <= 1 << 62:
        raise ValueError(f"lane_blocks: blocks must be 1 to 2**62, got {blocks}; take a dataset with images")
    _check_lane("lane_blocks", lane, lanes, window)
    if not 1 <= window_blocks <= MOST_WINDOW_BLOCKS:
        raise ValueError(
            f"lane_blocks: window_blocks must be 1 to {MOST_WINDOW_BLOCKS}, got {window_blocks}; "
            "set data.window_blocks"
        )
    require_seed("lane_blocks", seed)
    ordinals = range(window * window_blocks, (window + 1) * window_blocks)
    epochs, places = zip(*(divmod(lane + lanes * ordinal, blocks) for ordinal in ordinals), strict=True)
    if epochs[-1] >= 1 << COPY_SHIFT:
        raise ValueError(
            f"lane_blocks: epochs must be below 2**{COPY_SHIFT}, got {epochs[-1]} in window {window}; "
            "begin a new run"
        )
    found = [
        int(permute_reference(np.array([place], np.uint64), blocks, seed, epoch)[0])
        for epoch, place in zip(epochs, places, strict=True)
    ]
    return np.array(found, np.int64), np.array(epochs, np.int64)


def mix_window(
    block_B: Int64[np.ndarray, " B"],
    epoch_B: Int64[np.ndarray, " B"],
    images_B: Int64[np.ndarray, " B"],
    *,
    lane: int,
    window: int,
    seed: int,
    key_I: UInt64[np.ndarray, " I"] | None = None,
    weight_I: Float64[np.ndarray, " I"] | None = None,
) -> Entries:
    """A window's images in the order they are used.

    Args:
        block_B, epoch_B: from `lane_blocks`.
        images_B: images of each block; none is fine. At most 2**24 in all, repeats included.
        lane, window, seed: as for `lane_blocks`.
        key_I, weight_I: key and sampling weight of each image, both or neither. An image of weight w is
            used floor(w) or ceil(w) times an epoch, w on average; above 255 it is used 255 times.

    Raises:
        ValueError: a number is outside its range, an array has another type or length, or a weight is
            negative or not finite.
    """
    return Entries(
        *_core.mix_window(
            block_B, epoch_B, images_B, lane=lane, window=window, seed=seed, key_I=key_I, weight_I=weight_I
        )
    )


def mix_window_reference(
    block_B: Int64[np.ndarray, " B"],
    epoch_B: Int64[np.ndarray, " B"],
    images_B: Int64[np.ndarray, " B"],
    *,
    lane: int,
    window: int,
    seed: int,
    key_I: UInt64[np.ndarray, " I"] | None = None,
    weight_I: Float64[np.ndarray, " I"] | None = None,
) -> Entries:
    """The specification of `mix_window`, in NumPy."""
    _check_lane("mix_window", lane, MOST_LANES, window)
    require_seed("mix_window", seed)
    _check_blocks(epoch_B, images_B)
    block_I, epoch_I = np.repeat(block_B, images_B), np.repeat(epoch_B, images_B)
    first_I = np.repeat(np.cumsum(images_B) - images_B, images_B)
    row_I = np.arange(len(block_I)) - first_I
    copies_I = np.ones(len(block_I), np.int64)
    if key_I is not None and weight_I is not None:
        _check_weights(weight_I, block_I, row_I)
        draw = uniforms(seed, key_I, epoch_I.astype(np.uint64), Purpose.REPEAT, 1)[:, 0]
        copies_I = repeats(weight_I, draw)
    if copies_I.sum() > MOST_ENTRIES:
        raise ValueError(
            f"mix_window: entries of a window must be 0 to 2**24, got {copies_I.sum()}; lower the weights or "
            "data.window_blocks"
        )
    image_E = np.repeat(np.arange(len(copies_I)), copies_I)
    copy_E = np.arange(len(image_E)) - np.repeat(np.cumsum(copies_I) - copies_I, copies_I)
    if len(image_E):
        stream = (lane << (_WINDOW_BITS + 1)) | (1 << _WINDOW_BITS) | window
        everything = np.arange(len(image_E), dtype=np.uint64)
        mixed = permute_reference(everything, len(image_E), seed, stream).astype(np.int64)
        image_E, copy_E = image_E[mixed], copy_E[mixed]
    visit_E = (epoch_I[image_E] + (copy_E << COPY_SHIFT)).astype(np.uint64)
    return Entries(block_I[image_E], row_I[image_E], visit_E, image_E)


def repeats(weight_I: Float[np.ndarray, " I"], draw_I: Float[np.ndarray, " I"]) -> Int64[np.ndarray, " I"]:
    """How often each image is used in an epoch: its weight on average, never off by one or more.

    Args:
        weight_I: finite, at least 0; above 255 an image is used 255 times.
        draw_I: uniform from [0, 1).
    """
    return np.minimum(np.floor(weight_I + draw_I), MOST_COPIES).astype(np.int64)


def _check_lane(operation: str, lane: int, lanes: int, window: int) -> None:
    if not 1 <= lanes <= MOST_LANES:
        raise ValueError(f"{operation}: lanes must be 1 to {MOST_LANES}, got {lanes}; set data.lanes")
    if not 0 <= lane < lanes:
        raise ValueError(
            f"{operation}: lane must be 0 to lanes - 1, got {lane} of {lanes}; take one of lanes_of_rank"
        )
    if not 0 <= window < 1 << _WINDOW_BITS:
        raise ValueError(
            f"{operation}: window must be 0 to 2**{_WINDOW_BITS} - 1, got {window}; go on from a LaneState"
        )


def _check_blocks(epoch_B: np.ndarray, images_B: np.ndarray) -> None:
    for epoch in epoch_B[(epoch_B < 0) | (epoch_B >= 1 << COPY_SHIFT)][:1]:
        raise ValueError(
            f"mix_window: epochs must be 0 to 2**24 - 1, got {epoch}; take them from lane_blocks"
        )
    total_B = np.cumsum(images_B.clip(-1, MOST_ENTRIES + 1))
    for images in images_B[(images_B < 0) | (total_B > MOST_ENTRIES)][:1]:
        raise ValueError(
            f"mix_window: images of a window must be 0 to 2**24, got {images} in a block; lower "
            "data.window_blocks"
        )


def _check_weights(weight_I: np.ndarray, block_I: np.ndarray, row_I: np.ndarray) -> None:
    wrong = np.flatnonzero(~((weight_I >= 0) & (weight_I < np.inf)))
    if len(wrong):
        i = wrong[0]
        raise ValueError(
            f"mix_window: weights must be finite and at least 0, got {weight_I[i]:g} in row {row_I[i]} of "
            f"block {block_I[i]}; correct the weights"
        )
