"""Clusters beside a dataset: numbers, tree and distances fit together, on any number of ranks."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from planted import WIDTH, a_dataset, embedded, numbers_of
from several_ranks import cluster_columns, run_on_ranks
from sklearn.metrics import adjusted_rand_score

from aqqua.curate.clusters.assign import ClustersConfig, cluster_images, sizes_of
from aqqua.curate.clusters.hierarchy import HierarchyConfig
from aqqua.curate.clusters.tree import NO_PARENT, read_tree, read_whitening
from aqqua.store.columns import Columns

IMAGES = 500
CONFIG = ClustersConfig.model_validate(
    {"whiten": False, "hierarchy": {"clusters": [6, 2], "resample": [0, 2], "resample_steps": 2}}
)
DRAW = np.random.default_rng(0)
INSTRUMENTS = ["UVP6" if i == 300 else ("IFCB", "ISIIS")[i % 5 == 0] for i in range(IMAGES)]
FINE = DRAW.integers(0, 6, IMAGES)
COARSE_CENTRE = DRAW.normal(size=(2, WIDTH)) * 8
CENTRE = COARSE_CENTRE[np.arange(6) // 3] + DRAW.normal(size=(6, WIDTH)) * 2
VECTORS = (CENTRE[FINE] + DRAW.normal(size=(IMAGES, WIDTH)) * 0.05).astype(np.float16)


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory) -> Columns:
    folder = tmp_path_factory.mktemp("clusters")
    dataset = a_dataset(folder / "dataset", INSTRUMENTS)
    assert dataset.parts > 2
    return embedded(dataset, folder / "embeddings", lambda i: VECTORS[i])


@pytest.fixture(scope="module")
def clusters(embeddings, tmp_path_factory) -> Columns:
    out = tmp_path_factory.mktemp("out") / "clusters"
    cluster_images(embeddings, out, CONFIG)
    assert [path.name for path in out.parent.iterdir()] == ["clusters"]
    return Columns.open(out, embeddings.dataset, "clusters")


def by_image(clusters: Columns, name: str) -> np.ndarray:
    found = np.full(IMAGES, -1.0)
    for block in range(clusters.dataset.blocks):
        found[numbers_of(clusters.dataset, block)] = clusters.block(block, [name])[name].to_numpy()
    return found


def test_planted_clusters_come_back_within_each_instrument(clusters):
    first, second = (by_image(clusters, name) for name in ("cluster_1", "cluster_2"))
    for name in ("IFCB", "ISIIS"):
        mine = np.array(INSTRUMENTS) == name
        assert adjusted_rand_score(FINE[mine], first[mine]) == 1
        assert adjusted_rand_score(FINE[mine] // 3, second[mine]) == 1
    for level in (first, second):
        owners = {(k, INSTRUMENTS[i]) for i, k in enumerate(level)}
        assert len(owners) == len(set(level))  # no number is of two instruments


def test_the_tree_says_what_the_columns_say(clusters):
    levels = read_tree(clusters)
    first, second = (by_image(clusters, name).astype(int) for name in ("cluster_1", "cluster_2"))
    assert [len(level.images_K) for level in levels] == clusters.facts["clusters"] == [13, 5]
    np.testing.assert_array_equal(levels[0].parent_K[first], second)
    for level, label in zip(levels, (first, second), strict=True):
        np.testing.assert_array_equal(level.images_K, np.bincount(label, minlength=len(level.images_K)))
        assert [level.instruments[k] for k in label] == INSTRUMENTS
    assert set(levels[1].parent_K) == {NO_PARENT}
    far = np.linalg.norm(VECTORS.astype(np.float64) - levels[0].centroid_KD[first], axis=1)
    np.testing.assert_allclose(by_image(clusters, "distance"), far, atol=1e-5)
    assert clusters.facts["instruments"]["UVP6"] == {
        "images": 1, "sampled": 1, "clusters": [1, 1], "inertia": [0.0, 0.0], "converged": [True, True]
    }  # fmt: skip


def test_whitened_clusters_are_found_again_from_what_the_tree_holds(embeddings, tmp_path):
    config = CONFIG.model_copy(update={"whiten": True})
    cluster_images(embeddings, tmp_path / "out", config)
    found = Columns.open(tmp_path / "out", embeddings.dataset, "clusters")
    whitening, (level, _) = read_whitening(found), read_tree(found)
    assert sorted(whitening) == ["IFCB", "ISIIS", "UVP6"]
    first, distance = (by_image(found, name) for name in ("cluster_1", "distance"))
    for name in ("IFCB", "ISIIS"):
        mine = np.array(INSTRUMENTS) == name
        white = whitening[name](VECTORS[mine].astype(np.float32))
        np.testing.assert_allclose(np.linalg.norm(white, axis=1).mean() ** 2, WIDTH, rtol=0.7)
        far = np.linalg.norm(white - level.centroid_KD[first[mine].astype(int)], axis=1)
        np.testing.assert_allclose(distance[mine], far, atol=1e-3)
        assert adjusted_rand_score(FINE[mine], first[mine]) == 1


def test_clusters_as_they_are_name_no_whitening(clusters):
    assert read_whitening(clusters) == {}


def test_levels_in_which_every_instrument_has_one_cluster_vanish():
    rule = HierarchyConfig(members=(10, 10, 10))
    assert sizes_of([5000, 7], rule) == [(500, 50, 5), (1, 1, 1)]
    assert sizes_of([900, 7], rule) == [(90, 9), (1, 1)]
    assert sizes_of([7], rule) == [(1,)]


def test_the_folder_is_one_table_without_its_tree(clusters):
    table = pq.read_table(clusters.path)
    assert table.schema.names == ["key", "cluster_1", "cluster_2", "distance"]
    assert len(table) == IMAGES


def test_two_ranks_write_the_same_bytes(embeddings, tmp_path):
    config = CONFIG.model_copy(update={"whiten": True})
    one, two = tmp_path / "one", tmp_path / "two"
    cluster_images(embeddings, one, config)
    run_on_ranks(2, cluster_columns, embeddings.dataset.path, embeddings.path, two, config.model_dump_json())
    names = sorted(path.name for path in one.iterdir())
    assert sorted(path.name for path in two.iterdir()) == names
    for name in names:
        assert (two / name).read_bytes() == (one / name).read_bytes()


def test_an_embedding_that_is_no_number_is_named_and_nothing_is_left(embeddings, tmp_path):
    def vector_of(number: int) -> np.ndarray:
        return np.full(WIDTH, np.nan if number == 3 else 1.0)

    broken = embedded(embeddings.dataset, tmp_path / "embeddings", vector_of)
    with pytest.raises(ValueError, match=r"must be finite, got nan in image a/3 \(key \d+\)"):
        cluster_images(broken, tmp_path / "out", CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings"]


def test_normalised_embeddings_differ_by_direction_alone(embeddings, tmp_path):
    def vector_of(number: int) -> np.ndarray:
        return (1 + number % 3) * (np.arange(WIDTH) == number % 2)

    columns = embedded(embeddings.dataset, tmp_path / "embeddings", vector_of)
    config = ClustersConfig.model_validate(
        {"whiten": False, "normalise": True, "hierarchy": {"clusters": [2]}}
    )
    cluster_images(columns, tmp_path / "out", config)
    found = Columns.open(tmp_path / "out", embeddings.dataset, "clusters")
    assert np.abs(by_image(found, "distance")).max() < 1e-6
    first = by_image(found, "cluster_1")
    assert all(len(set(first[np.array(INSTRUMENTS) == name])) <= 2 for name in ("IFCB", "ISIIS"))
