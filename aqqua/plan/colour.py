"""Colour jitter as one matrix of each view: hue turned, saturation scaled, brightness of a pixel untouched.

A matrix M takes a colour v (red, green, blue in [0, 1]) to M · v. It keeps luma (LUMA · M = LUMA) and greys
(M · 1 = 1), so a model of one channel sees nothing of it and an image without colour stays as it is. Hue is
turned in the chroma plane of YIQ (NTSC), not in HSV as torchvision does: there a turn changes luma too.

Letters: I images, S views of one image, C channels, Q quantiles of a table. C++: csrc/plan_look.cpp.
Test: tests/plan/test_colour.py.
"""

import math
from functools import cache

import numpy as np
from jaxtyping import Float64

from aqqua.plan.cut import QUANTILES

LUMA = (0.299, 0.587, 0.114)  # grey of a colour, ITU-R BT.601: the Y of YIQ
_I = (0.596, -0.274, -0.322)  # orange to blue
_Q = (0.211, -0.523, 0.312)  # purple to green
_GREY = np.array([LUMA, LUMA, LUMA])  # the matrix that leaves only luma


@cache
def quarter_turn() -> Float64[np.ndarray, "3 3"]:
    """What a quarter turn of the hue makes of a colour's chroma; of a grey it makes 0.

    With C the chroma, C = v - luma of v, a turn by an angle gives luma + cos · C + sin · quarter_turn · C.
    """
    # Chroma of one unit of I and of Q: solutions of LUMA · c = 0 with I · c, Q · c = 1, 0 and 0, 1, by
    # Cramer's rule; a library's inverse could differ by a bit from machine to machine.
    of_i, of_q = _cross(_Q, LUMA), _cross(LUMA, _I)
    volume = sum(a * b for a, b in zip(_I, of_i, strict=True))
    return np.array(
        [[(of_q[c] * _I[k] - of_i[c] * _Q[k]) / volume for k in range(3)] for c in range(3)], np.float64
    )


def _cross(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


@cache
def hues(low: float, high: float) -> Float64[np.ndarray, "Q 2"]:
    """(cos, sin) of QUANTILES angles evenly over [low, high] turns; exactly (1, 0) where both are 0."""
    turns = [low + (high - low) * ((i + 0.5) / QUANTILES) for i in range(QUANTILES)]
    return np.array([(math.cos(2 * math.pi * t), math.sin(2 * math.pi * t)) for t in turns])


def colour_matrix(cos: np.ndarray, sin: np.ndarray, saturation: np.ndarray) -> Float64[np.ndarray, "I S 3 3"]:
    """Hue turned, then saturation scaled. Written about the identity, which (1, 0, 1) gives exactly."""
    cos, sin, saturation = (values[..., None, None] for values in (cos, sin, saturation))
    turned = np.eye(3) + (cos - 1) * (np.eye(3) - _GREY) + sin * quarter_turn()
    return turned + (1 - saturation) * (_GREY - turned)


def coloured(matrix: np.ndarray, colour_IC: np.ndarray) -> Float64[np.ndarray, "I S 3"]:
    """The matrix of each view applied to a colour of its image, in the order that csrc/plan_look.cpp adds."""
    red, green, blue = (colour_IC[:, None, k : k + 1] for k in range(3))
    return matrix[..., 0] * red + matrix[..., 1] * green + matrix[..., 2] * blue
