"""Features made equally wide in every direction, so that no single one decides who is near.

Self-supervised features are often dominated by a few directions, and a cosine hears little else. Whitening is
fitted on training rows without a label, and is the same for a model and its baselines.
Source: Jégou & Chum 2012, "Negative evidences and co-occurences in image retrieval", section 3.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

FLOOR = 0.01  # of the largest standard deviation: narrower directions are noise, and are not blown up to 1


@dataclass(frozen=True)
class Whitening:
    """x ↦ (x − mean) axes."""

    mean_D: np.ndarray
    axes_DR: np.ndarray  # principal axes, each divided by the deviation along it

    def __call__(self, rows_ND: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N R"]:
        return (rows_ND - self.mean_D) @ self.axes_DR


def fit_whitening(train_ND: Float[np.ndarray, "N D"]) -> Whitening:
    """Whitening by the principal axes of the rows; R is the smaller of N and D.

    Each axis is divided by sqrt(s² + (FLOOR · s_max)²), s the standard deviation along it. Rows that are
    all alike become zero.
    """
    mean_D = train_ND.mean(axis=0, dtype=np.float64)
    _, singular_R, axes_RD = np.linalg.svd(train_ND - mean_D, full_matrices=False)
    deviation_R = singular_R / np.sqrt(len(train_ND))
    widest = deviation_R.max(initial=0.0)
    if widest == 0:
        return Whitening(mean_D, np.zeros_like(axes_RD.T))
    return Whitening(mean_D, axes_RD.T / np.sqrt(deviation_R**2 + (FLOOR * widest) ** 2))
