"""A flat map of features by UMAP, and the placing of further points on a map that is there.

UMAP is fitted on a sample (the landmarks) in one thread from a stored seed, so the same machine makes the
same map again. It gets neighbours that were found exactly, not its own approximate ones, and starts from the
two widest directions of the features, as a random start would lose what lies far apart (Kobak & Linderman
2021, "Initialization is critical for preserving global data structure"). A further point goes to the weighted
geometric median of its nearest landmarks: their mean could lie in the void between two groups.

Source: McInnes et al. 2018, arXiv 1802.03426; densMAP: Narayan et al. 2021. Letter key: L landmarks, Q
points, R width, K neighbours. Test: tests/explore/atlas/test_umap_map.py. Timing: bench/explore.py.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64
from pydantic import BaseModel, ConfigDict, Field

from aqqua.explore.atlas.neighbours import NONE, Found

PLACED_BY = 10  # landmarks that say where a further point lies
MEDIAN_STEPS = 20  # of Weiszfeld's iteration; positions then move by less than a thousandth of the map
_CLOSE = 1e-6  # of the map: distance below which two positions are one


class UmapConfig(BaseModel):
    """How the map is drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    neighbours: int = Field(15, ge=2, le=200, description="of each landmark, itself counted; McInnes 2018")
    min_dist: float = Field(0.1, ge=0, le=0.99, description="how tightly points are packed; McInnes 2018")
    epochs: int | None = Field(
        None,
        ge=10,
        le=10_000,
        description="None: 500 up to 10,000 landmarks, 200 above, as umap-learn has it",
    )
    densmap: bool = Field(False, description="let crowded regions be dense on the map too; Narayan 2021")
    landmarks: int = Field(
        100_000, ge=50, description="points that UMAP is fitted on at most; others are placed by these"
    )


def fit_umap(
    unit_LR: Float[np.ndarray, "L R"],
    found: Found,
    start_L2: Float[np.ndarray, "L 2"],
    config: UmapConfig,
    seed: int,
) -> Float32[np.ndarray, "L 2"]:
    """Positions of the landmarks.

    Args:
        unit_LR: features of length one.
        found: nearest landmarks of each, itself left out; at least config.neighbours - 1.
        start_L2: positions to start from.
        seed: 0 to 2**32 - 1.

    Raises:
        RuntimeError: umap-learn is not installed.
    """
    umap = _umap()
    among = min(config.neighbours, len(unit_LR) - 1)
    itself_L1 = np.arange(len(unit_LR), dtype=np.int64)[:, None]
    row_LK = np.hstack([itself_L1, found.row_QK[:, : among - 1]]).astype(np.int32)
    distance_LK = np.hstack([np.zeros_like(itself_L1), 1 - found.similarity_QK[:, : among - 1]])
    with warnings.catch_warnings():
        # One thread because of the seed, no `transform` because of the given neighbours: both known.
        warnings.filterwarnings("ignore", category=UserWarning)
        fitted = umap.UMAP(
            n_neighbors=among,
            min_dist=config.min_dist,
            n_epochs=config.epochs,
            densmap=config.densmap,
            metric="cosine",
            init=np.ascontiguousarray(start_L2, np.float32),
            precomputed_knn=(row_LK, distance_LK.clip(0).astype(np.float32)),
            force_approximation_algorithm=True,  # else neighbours of few points are found anew
            random_state=seed,
            n_jobs=1,
        ).fit(np.asarray(unit_LR, np.float32))
    found_L2: np.ndarray = np.asarray(fitted.embedding_, np.float32)
    if not np.isfinite(found_L2).all():
        raise RuntimeError("atlas: UMAP must place every point, got none for some; choose more neighbours")
    return found_L2


def versions() -> dict[str, str]:
    """Of what draws the map."""
    from importlib.metadata import version

    return {name: version(name) for name in ("umap-learn", "numba")}


def _umap() -> Any:
    try:
        import umap
    except ImportError as error:
        raise RuntimeError(
            "explore build needs the package umap-learn, got none; pip install 'aqqua[explore]'"
        ) from error
    return umap


def place(
    found: Found, xy_L2: Float[np.ndarray, "L 2"], tell: Callable[[int], None] = lambda _: None
) -> Float32[np.ndarray, "Q 2"]:
    """Positions of further points, by the landmarks nearest to each.

    A landmark weighs exp(-(d - d_1) / spread), where d is its cosine distance, d_1 that of the nearest, and
    spread the mean of d - d_1: the same for sparse and crowded regions.
    """
    placed_Q2 = np.empty((len(found.row_QK), 2), np.float32)
    size = float(np.ptp(xy_L2, axis=0).max()) or 1.0
    for first in range(0, len(placed_Q2), 65_536):
        part = slice(first, first + 65_536)
        row_QK, similarity_QK = found.row_QK[part], found.similarity_QK[part].astype(np.float64)
        beyond_QK = similarity_QK[:, :1] - similarity_QK
        spread_Q1 = beyond_QK.mean(axis=1, keepdims=True).clip(1e-9)
        weight_QK = np.where(row_QK == NONE, 0.0, np.exp(-beyond_QK / spread_Q1))
        xy_QK2 = xy_L2[np.where(row_QK == NONE, 0, row_QK)].astype(np.float64)
        placed_Q2[part] = _medians(xy_QK2, weight_QK, _CLOSE * size)
        tell(first + len(row_QK))
    return placed_Q2


def _medians(
    xy_QK2: Float64[np.ndarray, "Q K 2"], weight_QK: Float64[np.ndarray, "Q K"], close: float
) -> Float64[np.ndarray, "Q 2"]:
    """Weighted geometric medians (Weiszfeld 1937), begun at the mean."""
    share_QK = weight_QK
    for _ in range(MEDIAN_STEPS + 1):
        at_Q2 = (share_QK[..., None] * xy_QK2).sum(axis=1) / share_QK.sum(axis=1, keepdims=True)
        distance_QK = np.sqrt(((xy_QK2 - at_Q2[:, None]) ** 2).sum(axis=2))
        share_QK = weight_QK / np.maximum(distance_QK, close)
    return at_Q2


def fit_into_square(xy_N2: Float[np.ndarray, "N 2"]) -> Float32[np.ndarray, "N 2"]:
    """Moved and scaled into [-1, 1], width and height alike."""
    low_2, high_2 = xy_N2.min(axis=0).astype(np.float64), xy_N2.max(axis=0).astype(np.float64)
    scale = 2.0 / (float((high_2 - low_2).max()) or 1.0)
    scaled_N2: np.ndarray = ((xy_N2 - (low_2 + high_2) / 2) * scale).clip(-1, 1)
    return scaled_N2.astype(np.float32)
