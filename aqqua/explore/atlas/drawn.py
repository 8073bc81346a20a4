"""The map of an atlas: drawn anew from landmarks, or that of an older atlas with the points placed on it.

Letter key: N points, L landmarks, R width. Test: tests/explore/atlas/test_build.py.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int64

from aqqua.curate.clusters.whiten import Whitening
from aqqua.explore.atlas.align import align
from aqqua.explore.atlas.features import ChosenVectors, unit_features
from aqqua.explore.atlas.inputs import Job
from aqqua.explore.atlas.landmarks import Landmarks, landmarks_path
from aqqua.explore.atlas.neighbours import Found, Points, Want
from aqqua.explore.atlas.sample import stratified
from aqqua.explore.atlas.table import Atlas
from aqqua.explore.atlas.umap_map import fit_into_square, fit_umap, versions


@dataclass(frozen=True)
class Map:
    """Positions of the points, and what they come from."""

    xy_N2: Float32[np.ndarray, "N 2"]
    landmarks: Landmarks
    facts: dict[str, Any]


@dataclass(frozen=True)
class Features:
    """Of the points; whitened by their own covariance, or as those of an older map."""

    unit_NR: Float16[np.ndarray, "N R"]
    whitening: Whitening
    older: Landmarks | None  # of the map that the points are placed on

    @staticmethod
    def of(job: Job) -> "Features":
        """
        Raises:
            ValueError: the embeddings do not fit the older map, or one is not finite.
        """
        older = None if job.inputs.place_on is None else Landmarks.open(landmarks_path(job.inputs.place_on))
        if older is not None:
            ours, theirs = job.source.facts["model_sha256"], older.facts.get("model_sha256")
            if None not in (ours, theirs) and ours != theirs:
                raise ValueError(
                    f"explore build: points must be placed by embeddings of the same model, {theirs}, got "
                    f"{ours}; embed with that model, or align maps instead"
                )
        vectors, total = ChosenVectors(job.source.vectors, job.known.row_N), len(job.known)
        given = None if older is None else older.whitening
        unit_NR, whitening = unit_features(vectors, given, lambda done: job.tell("features", done, total))
        return Features(unit_NR, whitening, older)


def draw(job: Job, features: Features, found: Found) -> Map:
    """The map.

    Args:
        found: neighbours of each point among all.

    Raises:
        ValueError: an older atlas does not fit.
        RuntimeError: umap-learn is not installed.
    """
    if features.older is None or job.inputs.place_on is None:
        return _drawn(job, features, found)
    old, total = Atlas.open(job.inputs.place_on), len(job.known)
    tell = partial(job.tell, "place")
    xy_N2 = features.older.positions(features.unit_NR, job.search, lambda done: tell(done, total))
    facts = {"placed_on": {"points": old.rows, "dataset_sha256": old.facts.get("dataset_sha256")}}
    return Map(xy_N2, features.older, {**old.facts.get("umap", {}), **facts})


def _drawn(job: Job, features: Features, found: Found) -> Map:
    """A new map: UMAP of the landmarks, the other points placed by these."""
    known, umap, unit_NR = job.known, job.config.umap, features.unit_NR
    stratum_N = known.instrument_N * (int(known.label_N.max()) + 2) + known.label_N + 1
    chosen_L = stratified(lambda: iter([stratum_N]), umap.landmarks, job.config.seed, "landmarks")
    base = Points(unit_NR[chosen_L], known.instrument_N[chosen_L])
    job.tell("map", 0, len(base))
    among = Want(min(umap.neighbours, len(base)) - 1)
    if len(base) < len(known) or among.k > found.row_QK.shape[1]:
        found = job.search(base, base, [among], same=np.arange(len(base)))[0]
    start_L2 = base.unit_BR[:, :2].astype(np.float32)
    xy_L2 = fit_umap(base.unit_BR, found, start_L2, umap, job.config.seed)
    job.tell("map", len(base), len(base))
    landmarks = Landmarks(base.unit_BR, xy_L2, known.key_N[chosen_L], features.whitening, {})
    return _finished(job, features, _all_positions(job, landmarks, unit_NR, chosen_L), chosen_L)


def _all_positions(
    job: Job, landmarks: Landmarks, unit_NR: np.ndarray, chosen_L: Int64[np.ndarray, " L"]
) -> Float32[np.ndarray, "N 2"]:
    """Landmarks where UMAP put them, the other points among them."""
    xy_N2 = np.empty((len(unit_NR), 2), np.float32)
    xy_N2[chosen_L] = landmarks.xy_L2
    other_N = np.ones(len(unit_NR), bool)
    other_N[chosen_L] = False
    if other_N.any():
        rows = np.flatnonzero(other_N)
        xy_N2[rows] = landmarks.positions(
            unit_NR[rows], job.search, lambda done: job.tell("place", done, len(rows))
        )
    return xy_N2


def _finished(job: Job, features: Features, xy_N2: np.ndarray, chosen_L: np.ndarray) -> Map:
    """Turned towards an older map if there is one, and fitted into the square."""
    facts: dict[str, Any] = {**job.config.umap.model_dump(), **versions(), "fitted": len(chosen_L)}
    key_N = job.known.key_N
    if job.inputs.align_to is not None:
        old = Atlas.open(job.inputs.align_to)
        table = old.table(["key", "x", "y"])
        old_xy = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
        turn = align(xy_N2, key_N, old_xy, table["key"].to_numpy())
        xy_N2 = xy_N2.astype(np.float64) @ turn.turn_22
        facts["aligned"] = {
            "shared": turn.shared,
            "disparity": round(turn.disparity, 4),
            "to_model_sha256": old.facts.get("model_sha256"),
        }
    xy_N2 = fit_into_square(xy_N2)
    about = {"model_sha256": job.source.facts["model_sha256"], "seed": job.config.seed}
    unit_LR = features.unit_NR[chosen_L]
    landmarks = Landmarks(unit_LR, xy_N2[chosen_L], key_N[chosen_L], features.whitening, about)
    return Map(xy_N2, landmarks, facts)
