"""Specks over a view: detritus and marine snow that lies before the organism, as the instrument shows it.

In bright field a particle is darker than the water, in dark field brighter; so a speck's level lies between
the image's background and black where the background is bright, between it and white where it is dark.
Specks have draws of their own, so a plan without them is the same bit for bit.

Letters: I images, S views of one image, K specks of a view. C++: csrc/plan_look.cpp.
Test: tests/plan/test_specks.py.
"""

import numpy as np
from jaxtyping import Float64, UInt64

from aqqua.plan.colour import LUMA
from aqqua.plan.philox import Purpose, between, uniforms
from aqqua.plan.view_config import MOST_SPECKS, ViewConfig

_WORDS = 4  # of a view (whether, how many, two free), then of each speck: x, y, radius, depth


def draw_specks(
    seed: int,
    keys_I: UInt64[np.ndarray, " I"],
    visits_I: UInt64[np.ndarray, " I"],
    size_px_IS2: np.ndarray,
    background_IC: np.ndarray,
    config: ViewConfig,
) -> Float64[np.ndarray, "I S K 4"]:
    """(x, y, radius, level) of each speck; all 0 where a view has fewer than K.

    Args:
        size_px_IS2: height and width of each view, output px.
        background_IC: of each image, [0, 1].
    """
    count, views = config.specks, config.views
    u = uniforms(seed, keys_I, visits_I, Purpose.SPECKS, _WORDS * (1 + MOST_SPECKS) * views)
    u_ISKW = u.reshape(len(keys_I), views, 1 + MOST_SPECKS, _WORDS)[:, :, : 1 + count]
    has = u_ISKW[:, :, 0, 0] < config.speck_odds
    number = np.where(has, 1 + np.floor(u_ISKW[:, :, 0, 1] * count), 0.0)
    height, width = (size_px_IS2[..., k, None] for k in range(2))
    luma = background_IC[:, 0] * LUMA[0] + background_IC[:, 1] * LUMA[1] + background_IC[:, 2] * LUMA[2]
    end = np.where(luma > 0.5, 0.0, 1.0)[:, None, None]
    luma = luma[:, None, None]
    drawn = u_ISKW[:, :, 1:]
    specks = np.stack(
        [
            drawn[..., 0] * width,
            drawn[..., 1] * height,
            np.minimum(height, width) * between(config.speck_radius, drawn[..., 2]),
            luma + between(config.speck_depth, drawn[..., 3]) * (end - luma),
        ],
        axis=-1,
    )
    return np.where((np.arange(count) < number[..., None])[..., None], specks, 0.0)
