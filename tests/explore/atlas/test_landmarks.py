"""Landmarks on disk, and points placed by them."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from aqqua.curate.clusters.whiten import Whitening
from aqqua.explore.atlas.landmarks import FACTS, Landmarks, landmarks_path
from aqqua.explore.atlas.search import Search


@pytest.fixture
def landmarks():
    random = np.random.default_rng(0)
    unit = random.normal(size=(90, 5))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    whitening = Whitening(
        random.normal(size=8).astype(np.float32), random.normal(size=(8, 5)).astype(np.float32)
    )
    xy = random.uniform(-1, 1, (90, 2)).astype(np.float32)
    return Landmarks(
        unit.astype(np.float16), xy, np.arange(90, dtype=np.uint64), whitening, {"model_sha256": "m"}
    )


def test_saved_and_opened(landmarks, tmp_path):
    path = landmarks_path(tmp_path / "map.parquet")
    assert path.name == "map.landmarks.parquet"
    landmarks.save(path)
    found = Landmarks.open(path)
    for name in ("unit_LR", "xy_L2", "key_L"):
        assert np.array_equal(getattr(found, name), getattr(landmarks, name))
    assert np.array_equal(found.whitening.mean_D, landmarks.whitening.mean_D)
    assert np.array_equal(found.whitening.axes_DR, landmarks.whitening.axes_DR)
    assert found.facts == {"model_sha256": "m"}
    assert pq.read_schema(path).names == ["key", "features", "x", "y"]


def test_points_go_near_the_landmarks_they_are_like(landmarks):
    rows = np.array([3, 40])
    placed = landmarks.positions(landmarks.unit_LR[rows], Search())
    assert (np.abs(placed) <= 1).all()
    alone = Landmarks(
        landmarks.unit_LR[:1], landmarks.xy_L2[:1], landmarks.key_L[:1], landmarks.whitening, {}
    )
    np.testing.assert_allclose(
        alone.positions(landmarks.unit_LR[rows], Search()), landmarks.xy_L2[[0, 0]], atol=1e-6
    )


def test_other_files_are_refused(landmarks, tmp_path):
    path = tmp_path / "x.landmarks.parquet"
    with pytest.raises(ValueError, match="must be the landmarks of an atlas, got"):
        Landmarks.open(path)
    landmarks.save(path)
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[FACTS.encode()])
    broken = {**about, "whitening": {**about["whitening"], "mean": "!!"}}
    for facts in ({}, {**about, "version": 9}, {**about, "width": 7}, broken):
        pq.write_table(table.replace_schema_metadata({FACTS: json.dumps(facts)}), path)
        with pytest.raises(ValueError, match="must be the landmarks of an atlas"):
            Landmarks.open(path)
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(ValueError, match="must be the landmarks of an atlas"):
        Landmarks.open(path)
