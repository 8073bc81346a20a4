"""Whole images turned and mirrored: the mild augmentation of fine-tuning.

Crops as in pretraining would cut off what a label speaks of. Here the whole image stays in sight at its own
resolution; a quarter turn moves pixels and interpolates nothing. Drawn by (seed, image, visit), as all views.
Letters: I images. Test: tests/plan/test_turned.py.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float64, UInt64

from aqqua.plan.cut import directions
from aqqua.plan.philox import Purpose, uniforms
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import Views, whole_views
from aqqua.store.sizes import Sizes

Turn = Literal["none", "quarter", "any"]
_QUARTERS = np.array([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)])  # cosine, sine


def turned_views(
    sizes: Sizes,
    visits_I: UInt64[np.ndarray, " I"],
    seed: int,
    patch_px: int,
    views: ViewConfig,
    turn: Turn,
    flip: bool,
) -> Views:
    """One view of each whole image, turned about its centre and mirrored half of the time.

    Args:
        visits_I: which visit of each image this is; another visit is turned otherwise.
        views: how images are shown; of it the floor and cap of global views, zoom and background.
        turn: not at all, by quarters, or by any angle; by any angle, the frame grows to hold all of the
            image (to twice the patches of a square one), and its corners are background.
    """
    cos_I, sin_I, mirror_I = _drawn(sizes, visits_I, seed, turn, flip)
    height, width = sizes.height.astype(np.float64), sizes.width.astype(np.float64)
    # The frame that just holds the turned image; sine and cosine of a table leave dust above whole pixels.
    frame_h = np.ceil(height * np.abs(cos_I) + width * np.abs(sin_I) - 1e-6)
    frame_w = np.ceil(width * np.abs(cos_I) + height * np.abs(sin_I) - 1e-6)
    framed = replace(sizes, height=frame_h.astype(np.int32), width=frame_w.astype(np.int32))
    planned = whole_views(framed, patch_px, views.max_tokens[0], views.min_tokens[0], views)
    to_frame_I23 = planned.map_IS23[:, 0].astype(np.float64)
    turn_I22 = np.stack(
        [np.stack([mirror_I * cos_I, -mirror_I * sin_I], -1), np.stack([sin_I, cos_I], -1)], -2
    )
    to_frame_I23[:, :, 2] -= np.stack([frame_w, frame_h], -1) / 2
    map_I23 = turn_I22 @ to_frame_I23
    map_I23[:, :, 2] += np.stack([width, height], -1) / 2
    return replace(planned, map_IS23=map_I23[:, None].astype(np.float32))


def _drawn(
    sizes: Sizes, visits_I: np.ndarray, seed: int, turn: Turn, flip: bool
) -> tuple[Float64[np.ndarray, " I"], Float64[np.ndarray, " I"], Float64[np.ndarray, " I"]]:
    """Cosine and sine of each image's turn, and -1 where it is mirrored."""
    u_I2 = uniforms(seed, sizes.key, visits_I, Purpose.TURN, 2)
    table = {"none": _QUARTERS[:1], "quarter": _QUARTERS, "any": directions()}[turn]
    direction_I2 = table[(u_I2[:, 0] * len(table)).astype(np.int64)]
    return direction_I2[:, 0], direction_I2[:, 1], np.where((u_I2[:, 1] < 0.5) & flip, -1.0, 1.0)
