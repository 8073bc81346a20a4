"""Clusters of points: planted groups, numbered by size."""

import numpy as np

from aqqua.explore.atlas.clusters import clusters_of


def test_planted_groups_by_size():
    random = np.random.default_rng(0)
    planted = random.permutation(np.repeat([0, 1, 2], [20, 70, 40]))
    unit = np.eye(4)[planted] + 0.02 * random.normal(size=(130, 4))
    found = clusters_of(unit.astype(np.float16), 3, 0)
    assert found.dtype == np.int32
    assert [found[planted == group].tolist() for group in (1, 2, 0)] == [[0] * 70, [1] * 40, [2] * 20]


def test_how_many_by_default():
    unit = np.random.default_rng(1).normal(size=(800, 5)).astype(np.float32)
    assert len(np.unique(clusters_of(unit, None, 0))) == 20
    assert len(np.unique(clusters_of(unit[:4], 9, 0))) == 4
