"""k-means out of core: scikit-learn's answer, falling inertia, repair, the same on any number of ranks."""

import weakref

import numpy as np
import pytest
import torch
from planted import WIDTH, in_memory, labels_of, nested
from several_ranks import run_on_ranks, save_clustering
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from aqqua.curate.clusters.kmeans import KMeansConfig, lloyd, mini_batch
from aqqua.curate.clusters.seeding import seed_centroids
from aqqua.curate.clusters.vectors import ArrayVectors, Prepared
from aqqua.train.ranks import Ranks

ALONE = Ranks()


def blobs(rows: int = 4000, clusters: int = 12, spread: float = 2.0) -> np.ndarray:
    draw = np.random.default_rng(1)
    centre = draw.normal(size=(clusters, WIDTH)) * 2
    x = centre[draw.integers(0, clusters, rows)] + draw.normal(size=(rows, WIDTH)) * spread
    return x.astype(np.float32)


@pytest.mark.parametrize("iterations", [1, 3, 300])
def test_is_lloyds_algorithm_as_scikit_learn_has_it(iterations):
    x = blobs()
    start = x[:12]
    config = KMeansConfig(iterations=iterations, tolerance=0)
    ours = lloyd(in_memory(x), torch.from_numpy(start), config, ALONE)
    theirs = KMeans(12, init=start, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd").fit(x)
    np.testing.assert_allclose(ours.centroids_KD.numpy(), theirs.cluster_centers_, atol=2e-5)
    assert abs(ours.inertia / theirs.inertia_ - 1) < 1e-5  # theirs is a float32
    assert (labels_of(x, ours.centroids_KD).numpy() == theirs.labels_).mean() > 0.999
    assert ours.count_K.tolist() == np.bincount(theirs.labels_, minlength=12).tolist() or iterations < 300
    assert ours.converged == (iterations == 300)


def test_inertia_never_rises_even_with_repair():
    x = blobs()
    start = torch.from_numpy(x[:12])
    start[3:] = start[0]  # nine clusters begin empty
    found = lloyd(in_memory(x), start, KMeansConfig(tolerance=0, iterations=100), ALONE)
    falls = np.diff(found.history)
    assert len(falls) > 5
    assert (falls <= 1e-9 * found.history[0]).all()
    assert int(found.count_K.min()) > 0


def test_empty_clusters_go_where_the_inertia_is():
    x, label, _ = nested(supers=6, of_each=1)
    start = torch.stack([torch.from_numpy(x[label == k]).float().mean(0) for k in (0, 1, 2, 3, 4, 0)])
    found = lloyd(in_memory(x), start, KMeansConfig(), ALONE)
    assert found.history[0] > 10 * found.inertia
    assert adjusted_rand_score(label, labels_of(x.astype(np.float32), found.centroids_KD)) > 0.999


def test_the_farthest_vector_is_the_same_wherever_chunks_begin():
    x = blobs(999)
    start = torch.from_numpy(x[:1]).repeat(5, 1)
    one, other = (lloyd(in_memory(x, rows), start, KMeansConfig(iterations=4), ALONE) for rows in (999, 10))
    assert torch.equal(one.centroids_KD, other.centroids_KD)
    assert one.history == other.history


def test_float16_and_float32_are_the_same_vectors():
    x = blobs().astype(np.float16)
    start = torch.from_numpy(x[:12]).float()
    half, single = (lloyd(in_memory(v), start, KMeansConfig(), ALONE) for v in (x, x.astype(np.float32)))
    assert torch.equal(half.centroids_KD, single.centroids_KD)


def test_mini_batches_come_near_lloyd():
    x = blobs()
    start = seed_centroids(in_memory(x, 100), 12, 0, 0, ALONE)
    full = lloyd(in_memory(x), start, KMeansConfig(), ALONE)
    some = mini_batch(in_memory(x, 100), start, 0, ALONE, passes=3)
    inertia = lloyd(in_memory(x), some, KMeansConfig(iterations=1), ALONE).history[0]
    assert inertia < 0.5 * (full.history[0] + full.inertia)
    assert inertia < 1.03 * full.inertia


def test_two_ranks_find_what_one_finds(tmp_path):
    x, _, _ = nested()
    x.tofile(tmp_path / "x")
    x[:20].astype(np.float32).tofile(tmp_path / "start")
    for ranks in (1, 2):
        run_on_ranks(ranks, save_clustering, tmp_path / "x", tmp_path / "start", tmp_path / f"{ranks}.npz")
    one, two = (np.load(tmp_path / f"{ranks}.npz", allow_pickle=False) for ranks in (1, 2))
    assert len(one.files) == 7
    for name in one.files:
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.parametrize("clusters", [1, 3, 40])
def test_equal_vectors_are_one_cluster(clusters):
    vectors = in_memory(np.full((40, 5), 0.25, np.float16))
    found = lloyd(vectors, seed_centroids(vectors, clusters, 0, 0, ALONE), KMeansConfig(), ALONE)
    assert (found.inertia, found.converged) == (0, True)
    assert sorted(found.count_K.tolist()) == [0] * (clusters - 1) + [40]
    assert (found.centroids_KD == 0.25).all()


def test_one_chunk_is_held_at_a_time():
    class Counting(ArrayVectors):
        alive = most = 0

        def chunk(self, chunk):
            copy = super().chunk(chunk).copy()
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(copy, self._gone)
            return copy

        def _gone(self):
            self.alive -= 1

    source = Counting(blobs(), 100)
    vectors = Prepared(source)
    lloyd(
        vectors,
        mini_batch(vectors, seed_centroids(vectors, 12, 0, 0, ALONE), 0, ALONE),
        KMeansConfig(),
        ALONE,
    )
    assert source.chunks == 40
    assert source.most <= 2  # the next one is read before the name of the last one is given to it


def test_numbers_beyond_what_squares_can_hold_are_refused():
    with pytest.raises(ValueError, match=r"numbers must be at most 1e\+15, got 1e\+20"):
        lloyd(in_memory(np.full((3, 2), 1e20, np.float32)), torch.zeros(1, 2), KMeansConfig(), ALONE)
