"""How an image becomes what a model sees, in words and numbers, for those who run it without aqqua.

The rule itself is aqqua.plan.views.whole_views with aqqua.render.reference; this page only tells it.
Test: tests/downstream/publish/test_preprocessing.py.
"""

import math
from typing import Any

from aqqua.model.config import ModelConfig
from aqqua.plan.view_config import ViewConfig


def preprocessing(config: ModelConfig, views: ViewConfig) -> dict[str, Any]:
    """Numbers and steps, as plain values."""
    return {
        "patch_px": config.patch_px,
        "channels": config.channels,
        "max_patches": views.max_tokens[0],
        "min_patches": views.min_tokens[0],
        "max_magnify": views.max_magnify,
        "max_reduce": views.max_reduce,
        "mean": views.mean,
        "std": views.std,
        "subtract_background": views.subtract_background,
        "um_per_px": "micrometres per pixel after the resize of step 3; NaN where unknown",
        "steps": steps(config, views),
    }


def steps(config: ModelConfig, views: ViewConfig) -> list[str]:
    """The way of an image, in order."""
    level = "0" if views.subtract_background else f"(background - {views.mean:g}) / {views.std:g}"
    colour = "one grey channel" if config.channels == 1 else "three channels; grey is repeated"
    return [
        f"Read the pixels as acquired and divide by 255 (8 bit) or 65535 (16 bit); make {colour}.",
        "Find the background: the lower median of the outermost border pixels, per channel.",
        *_shape(config, views),
        f"Per value v: (v - background) / {views.std:g} + {level}.",
    ]


def _shape(config: ModelConfig, views: ViewConfig) -> list[str]:
    """What becomes of its height and width."""
    least, most, patch_px = views.min_tokens[0], views.max_tokens[0], config.patch_px
    if views.geometry == "square":
        side_px = math.isqrt(most) * patch_px
        return [
            f"Stretch it to {side_px} x {side_px} pixels; divide its um/px by the square root of both zooms' "
            "product."
        ]
    return [
        f"Keep the native resolution if the image takes {least} to {most} patches of {patch_px} px; else "
        f"resize it, both sides by one factor z (1/{views.max_reduce:g} to {views.max_magnify:g}), and "
        "divide its um/px by z. Nothing is stretched to a square.",
        f"Centre it on whole patches, ceil(side / {patch_px} - 0.25) of them per side, the margin filled "
        "with the background.",
    ]
