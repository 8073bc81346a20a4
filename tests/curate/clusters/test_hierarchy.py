"""The tree of clusters: planted nested clusters come back, and only resampling finds the rare ones."""

import numpy as np
import pytest
import torch
from planted import in_memory, labels_of, nested
from pydantic import ValidationError
from sklearn.metrics import adjusted_rand_score

from aqqua.curate.clusters.hierarchy import HierarchyConfig, Level, build_levels, members_of, nearest_rows
from aqqua.train.ranks import Ranks

SIZES = (20, 5)


def levels_of(x: np.ndarray, seed: int = 0, **config: object) -> list[Level]:
    settings = HierarchyConfig.model_validate({"clusters": SIZES, **config})
    return build_levels(in_memory(x), SIZES, settings, seed, "any", Ranks())


def scores(
    found: list[Level], x: np.ndarray, fine: np.ndarray, coarse: np.ndarray
) -> tuple[float, float, float]:
    """ARI of each level, and the same of level 1 with every planted cluster counting alike."""
    first = labels_of(x.astype(np.float32), found[0].centroids_KD)
    second = found[0].parent_K[first]
    alike = np.concatenate([np.flatnonzero(fine == k)[:5] for k in range(20)])
    return (
        adjusted_rand_score(fine, first),
        adjusted_rand_score(coarse, second),
        adjusted_rand_score(fine[alike], first[alike]),
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_nested_clusters_are_recovered_though_sizes_differ_a_thousandfold(seed):
    x, fine, coarse = nested(seed=seed, spread=0.03)
    counts = np.bincount(fine)
    assert counts.max() >= 1000 * counts.min()
    assert min(scores(levels_of(x, seed, resample=(5, 3)), x, fine, coarse)) > 0.999


def test_without_resampling_crowded_clusters_are_split_and_rare_ones_merged():
    with_it, without = [], []
    for seed in range(4):
        x, fine, coarse = nested(seed=seed, spread=0.1)
        with_it.append(scores(levels_of(x, seed, resample=(5, 3)), x, fine, coarse)[0])
        without.append(scores(levels_of(x, seed, resample=(0, 0)), x, fine, coarse)[0])
    assert min(with_it) > 0.99
    assert np.mean(without) < 0.95


def test_the_same_seed_makes_the_same_tree():
    x, _, _ = nested(largest=2000)
    one, other, third = (levels_of(x, seed, resample_steps=2) for seed in (1, 1, 2))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.centroids_KD, b.centroids_KD)
        assert torch.equal(a.parent_K, b.parent_K)
    assert not torch.equal(one[0].centroids_KD, third[0].centroids_KD)


def test_the_nearest_rows_of_each_cluster_are_kept():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 3)).astype(np.float32)
    centroids = torch.from_numpy(x[:7])
    far = ((x[:, None] - x[None, :7]) ** 2).sum(-1)
    wanted = [
        row
        for k in range(7)
        for row in sorted(np.flatnonzero(far.argmin(1) == k), key=lambda i: far[i, k])[:4]
    ]
    for rows in (300, 11):
        assert nearest_rows(in_memory(x, rows), centroids, 4, Ranks()).tolist() == sorted(wanted)


def test_sizes_follow_the_images():
    config = HierarchyConfig(members=(75, 20, 10, 5))
    assert config.sizes(743_000_000 // 1000) == (9906, 495, 49, 9)
    assert config.sizes(4_000_000_000) == (100_000, 5000, 500, 100)
    assert config.sizes(1) == config.sizes(149) == (1, 1, 1, 1)
    assert HierarchyConfig(clusters=(1000, 100)).sizes(150) == (150, 100)
    assert config.kept(config.sizes(743_000_000)) == (0, 10, 5, 3)


def test_clusters_shrink_with_the_images_as_the_cells_of_a_histogram():
    """By hand: 75 of 743 million, and as N^(1/5): of 3125 = 5^5 times fewer images a fifth."""
    assert members_of(743_000_000) == 75
    assert members_of(743_000_000 // 3125) == pytest.approx(15, rel=1e-5)
    assert members_of(3) == 2
    config = HierarchyConfig()
    assert config.sizes(237_760) == (15850, 1816, 320, 80)
    assert 15850 / members_of(15850) == pytest.approx(1816.5, abs=0.5)
    assert config.sizes(10) == (5, 2, 1, 1)
    assert config.sizes(1) == (1, 1, 1, 1)
    assert config.sizes(4_000_000_000)[0] == 100_000


def test_fewer_vectors_than_clusters_are_a_cluster_each():
    x = np.eye(3, dtype=np.float16)
    found = build_levels(in_memory(x), (3, 2), HierarchyConfig(clusters=(50, 2)), 0, "any", Ranks())
    assert [len(level.centroids_KD) for level in found] == [3, 2]
    one = build_levels(in_memory(x[:1]), (1, 1), HierarchyConfig(clusters=(50, 2)), 0, "any", Ranks())
    assert [level.parent_K.tolist() for level in one] == [[0], [0]]


def test_equal_vectors_leave_one_cluster_on_each_level():
    found = levels_of(np.ones((60, 4), np.float16))
    assert [len(level.centroids_KD) for level in found] == [1, 1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resample": (1,)}, "must have a number for each of the 4 levels"),
        ({"clusters": ()}, "must name 1 to 8 levels, got 0"),
        ({"members": (75, 0)}, "must be at least 1"),
        ({"clusters": (5, 2), "resample": (0, -1)}, "resample at least 0"),
    ],
)
def test_levels_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        HierarchyConfig.model_validate(values)
