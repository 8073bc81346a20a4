"""Where k-means starts: far groups are found however small, and no row twice."""

import numpy as np
import pytest
import torch
from planted import in_memory, labels_of, nested

from aqqua.curate.clusters import seeding
from aqqua.curate.clusters.seeding import plus_plus, seed_centroids
from aqqua.train.ranks import Ranks


@pytest.mark.parametrize("steps", [1000, 4])
def test_every_far_group_gets_a_start(steps, monkeypatch):
    monkeypatch.setattr(seeding, "STEPS", steps)
    x, label, _ = nested(supers=12, of_each=1)
    start = seed_centroids(in_memory(x), 12, 0, 1, Ranks())
    found = labels_of(x, start).numpy()
    if steps == 1000:  # one at a time: each of its own group
        assert len({tuple(set(label[found == k])) for k in range(12)}) == 12
    assert len(torch.unique(start, dim=0)) == 12


def test_same_seed_same_start():
    vectors = in_memory(nested()[0])
    first = seed_centroids(vectors, 7, 3, 4, Ranks())
    assert torch.equal(first, seed_centroids(vectors, 7, 3, 4, Ranks()))
    assert not torch.equal(first, seed_centroids(vectors, 7, 4, 4, Ranks()))
    assert not torch.equal(first, seed_centroids(vectors, 7, 3, 5, Ranks()))


@pytest.mark.parametrize("clusters", [1, 5, 50])
def test_equal_vectors_are_taken_in_turn(clusters):
    assert len(set(plus_plus(torch.ones(50, 3), clusters, 0, 0).tolist())) == clusters
    few = torch.tensor(np.repeat(np.eye(3, dtype=np.float32), [20, 20, 10], axis=0))
    rows = plus_plus(few, clusters, 0, 0)
    assert len(set(rows.tolist())) == clusters
    assert len(torch.unique(few[rows], dim=0)) == min(clusters, 3)


@pytest.mark.parametrize("clusters", [0, 51])
def test_more_clusters_than_vectors_are_refused(clusters):
    with pytest.raises(ValueError, match=rf"clusters must be 1 to the number of vectors, 50, got {clusters}"):
        seed_centroids(in_memory(np.ones((50, 2), np.float32)), clusters, 0, 0, Ranks())
