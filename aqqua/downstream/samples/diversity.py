"""How many kinds there are, and how even. Test: tests/downstream/samples/test_samples_diversity.py."""

import numpy as np
from jaxtyping import Float, Float64, Int64


def richness(abundance_SC: Float[np.ndarray, "S C"]) -> Int64[np.ndarray, " S"]:
    """Classes seen in each sample.

    Raises:
        ValueError: an abundance is below 0 or not finite.
    """
    _check(abundance_SC)
    return (abundance_SC > 0).sum(axis=1)


def shannon(abundance_SC: Float[np.ndarray, "S C"]) -> Float64[np.ndarray, " S"]:
    """−Σ p·ln p over the classes of each sample, in nats; NaN where nothing was seen.

    Give living plankton only: detritus is no diversity.

    Raises:
        ValueError: an abundance is below 0 or not finite.

    Source: Shannon 1948, "A mathematical theory of communication", Bell Syst. Tech. J. 27.
    """
    _check(abundance_SC)
    total_S1 = abundance_SC.sum(axis=1, keepdims=True, dtype=np.float64)
    share_SC = np.divide(abundance_SC, total_S1, out=np.zeros(abundance_SC.shape), where=total_S1 > 0)
    logarithm_SC = np.log(share_SC, out=np.zeros_like(share_SC), where=share_SC > 0)
    # + 0.0: one class alone has 0, not -0.
    return np.where(total_S1[:, 0] > 0, -(share_SC * logarithm_SC).sum(axis=1) + 0.0, np.nan)


def _check(abundance_SC: np.ndarray) -> None:
    if not (np.isfinite(abundance_SC) & (abundance_SC >= 0)).all():
        raise ValueError("diversity: abundances must be 0 or above and finite, got others; leave them out")
