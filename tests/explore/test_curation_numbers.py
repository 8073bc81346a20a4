"""What the page of a curation says in numbers, against counts by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_curation import IMAGES, cluster, copy_of, rows_of, weight

from aqqua.explore.curation_clusters import EXAMPLES, ClusterCounts
from aqqua.explore.curation_numbers import Numbers, gather


@pytest.fixture(scope="module")
def numbers(curated_dataset, curated_folders) -> Numbers:
    return gather(curated_dataset, curated_folders)


def test_images_and_uses_by_everything(numbers):
    assert (numbers.images, numbers.used, numbers.most) == (100, 89, 2.0)
    # ISIIS: 0, 4, 8 weigh nothing, 22 weigh 2; the others: 8 weigh nothing, 67 weigh 1/2.
    assert numbers.uses == 44 + 33.5
    by = numbers.by
    assert by["instrument"].images == {"ISIIS": 25, "UVP6": 75}
    assert by["instrument"].uses == {"ISIIS": 44, "UVP6": 33.5}
    assert by["stratum"] == by["instrument"]
    assert by["class"].images == {"copepod": 25, "snow": 50}
    odd = sum(weight(i) for i in range(IMAGES) if i % 2)
    assert by["class"].uses == {"copepod": 44, "snow": odd}
    assert by["depth"].images == {
        "0 to 100 m": 30,
        "below 100 m": 30,
        "unknown": 40,
    }  # by the weights' config
    assert by["depth"].uses["0 to 100 m"] == sum(map(weight, range(30)))
    assert by["season"].images == {"winter": 50, "summer": 50}
    assert by["province"].images == {"45 to 60 N, 0 to 15 E": 50, "-60 to -45 N, 0 to 15 E": 50}
    assert by["instrument"].largest() == ["UVP6", "ISIIS"]
    shares = np.array([44, 33.5]) / 77.5
    assert by["instrument"].effective()[1] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_weight_0_by_its_first_reason(numbers):
    # 0, 1 near; 4, 5, 6 copies; 2, 3 tiny (4 too, but a copy); 7, 8, 9 for no reason that is known;
    # 99 is blurred, which costs it but half, and lies in the capped cluster.
    expected = {"near an evaluation set": 2, "duplicate": 3, "quality": 2, "capped": 1, "other": 3}
    assert numbers.unused == expected
    assert sum(numbers.unused.values()) == numbers.images - numbers.used


def test_what_was_found(numbers, curated_dataset):
    row = rows_of(curated_dataset)
    assert numbers.kinds == {"near": 1, "exact": 2}
    assert numbers.pairs["near"] == [(row[4], "made/40")]
    assert sorted(numbers.pairs["exact"]) == sorted((row[i], f"made/{copy_of(i)}") for i in (5, 6))
    assert numbers.flags == {"tiny": 3, "blurred": 10}
    assert sorted(numbers.flagged["tiny"]) == sorted(row[i] for i in (2, 3, 4))
    assert numbers.near == 2
    assert sorted(numbers.near_pairs) == sorted([(row[0], "made/70"), (row[1], "made/71")])


def test_clusters_and_their_examples(numbers, curated_dataset):
    clusters = numbers.clusters
    assert clusters.images_K[:4].tolist() == [25, 0, 45, 30]
    assert clusters.uses_K[:4].tolist() == [44, 0, 19, 14.5]
    assert clusters.large(1) == [2, 0]  # by images, by uses
    assert clusters.large(9) == [2, 3, 0]
    assert clusters.ordered({0, 1, 3, 900}) == [3, 0]
    assert clusters.parents[3] == (1,)
    assert [clusters.instrument[k] for k in (0, 2, 3)] == ["ISIIS", "UVP6", "UVP6"]
    assert clusters.labels[2] == {"snow": 30}
    assert numbers.capped == {3}
    row = rows_of(curated_dataset)
    for k in (0, 2, 3):
        members = [i for i in range(IMAGES) if cluster(i) == k]
        assert clusters.at_random(k) == sorted(row[i] for i in members)[:EXAMPLES]
        distance = {row[i]: abs(i - 42) for i in members}
        found = [distance[r] for r in clusters.nearest(k)]
        assert found == sorted(distance.values())[:EXAMPLES]
    assert clusters.nearest(1) == clusters.at_random(1) == []


def test_stages_may_be_missing_and_weights_carry_theirs(curated_dataset, curated_folders):
    alone = gather(curated_dataset, {"weights": curated_folders["weights"]})
    assert alone.levels == alone.near == 0
    assert not alone.kinds
    assert not alone.flags
    assert alone.unused["other"] == 11
    assert alone.fact("clusters", "tree") is None
    with pytest.raises(ValueError, match=r"must be weights and maybe clusters.*got no weights"):
        gather(curated_dataset, {"clusters": curated_folders["clusters"]})
    with pytest.raises(ValueError, match="got thumbs"):
        gather(curated_dataset, {**curated_folders, "thumbs": curated_folders["clusters"]})
    with pytest.raises(ValueError, match="must hold quality, got clusters"):
        gather(curated_dataset, {**curated_folders, "quality": curated_folders["clusters"]})


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 99)), min_size=30, max_size=150), st.integers(1, 40)
)
def test_clusters_do_not_depend_on_the_blocks(images, step):
    """Whatever the blocks, the same counts and examples, the nearest of all and the first."""
    cluster_I = np.array([k for k, _ in images], np.int64)
    distance_I = np.array([d for _, d in images], np.float32)
    counts = ClusterCounts()
    for first in range(0, len(images), step):
        part = slice(first, first + step)
        counts.add(cluster_I[part], np.ones(len(cluster_I[part])), first)
        counts.add_distances(cluster_I[part], distance_I[part], first)
    for k in set(cluster_I.tolist()):
        members = np.flatnonzero(cluster_I == k)
        assert counts.images_K[k] == counts.uses_K[k] == len(members)
        assert counts.at_random(k) == members[:EXAMPLES].tolist()
        nearest = counts.nearest(k)
        assert len(set(nearest)) == len(nearest)
        assert set(nearest) <= set(members.tolist())
        assert distance_I[nearest].tolist() == sorted(distance_I[members].tolist())[:EXAMPLES]
