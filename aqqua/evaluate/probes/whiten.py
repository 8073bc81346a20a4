"""Features made equally wide in every direction, so that no single one decides who is near.

A cosine hears little but the widest directions. Whitening is fitted on training rows without a label, and is
the same for a model and its baselines. The formula is that of aqqua.curate.clusters.whiten.
"""

import numpy as np
from jaxtyping import Float

from aqqua.curate.clusters.whiten import FLOOR, Whitening, whitening_of

__all__ = ["FLOOR", "Whitening", "fit_whitening"]


def fit_whitening(train_ND: Float[np.ndarray, "N D"]) -> Whitening:
    """Whitening by the principal axes of the rows; R is the smaller of N and D."""
    mean_D = train_ND.mean(axis=0, dtype=np.float64)
    _, singular_R, axes_RD = np.linalg.svd(train_ND - mean_D, full_matrices=False)
    return whitening_of(mean_D, axes_RD.T, singular_R / np.sqrt(len(train_ND)))
