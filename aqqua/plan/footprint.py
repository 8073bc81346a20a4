"""How wide one Gaussian must be that blurs a view and band-limits its reduction at once.

Test: tests/plan/test_views_look.py.
"""

import numpy as np

LARGEST_SIGMA = 1000  # source px; what a renderer takes, as csrc/render.cpp: it bounds the memory of a plan


def footprint_sigma(blur_px: np.ndarray, zoom: np.ndarray) -> np.ndarray:
    """σ in source px of one Gaussian that blurs by `blur_px` output px and band-limits a reduction.

    A pixel seen at zoom z < 1 covers 1/z source pixels; ½·√(1/z² − 1) is the Gaussian that turns a
    footprint of one pixel into that one.
    """
    shrink = np.minimum(zoom, 1.0)
    return np.sqrt(0.25 * (1 / (shrink * shrink) - 1) + (blur_px / zoom) * (blur_px / zoom))
