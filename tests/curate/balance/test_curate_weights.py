"""Weights from what curation found: who is used how often, and that nothing else decides it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_columns import (
    make_clusters,
    make_columns,
    make_contamination,
    make_dataset,
    make_duplicates,
    numbers,
)
from pydantic import ValidationError

from aqqua.cli import curating
from aqqua.curate.balance.census import WeightsConfig
from aqqua.curate.balance.weights import effective, make_weights
from aqqua.store.columns import Columns
from aqqua.store.read import Dataset
from aqqua.store.weights import SamplingWeights

IMAGES = 300


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return make_dataset(tmp_path / "dataset", IMAGES)


def weigh(
    dataset: Dataset, tmp_path: Path, folders: dict[str, Path], **config: Any
) -> tuple[np.ndarray, dict[str, Any]]:
    """Weight of the images 0, 1, ... and the facts."""
    out = tmp_path / f"weights{len(list(tmp_path.iterdir()))}"
    facts = make_weights(dataset, out, WeightsConfig.model_validate(config), folders)
    sampling = SamplingWeights.open(out, dataset)
    weight = np.zeros(dataset.rows)
    for block in range(dataset.blocks):
        weight[numbers(dataset, block)] = sampling.block(block, dataset.sizes(block))
    assert Columns.open(out, dataset, "weights").facts == facts
    assert sampling.total == pytest.approx(weight.sum(), rel=1e-12)
    return weight, facts


def cluster(i: int) -> tuple[int, int]:
    """Finest and coarsest of image i: 10 in 1 of 7; 3 in 2 of 7; the others in 3 of 8."""
    return (1, 7) if i < 10 else (2, 7) if i < 13 else (3, 8)


def test_nothing_found_weighs_one_and_instruments_are_levelled(dataset, tmp_path):
    weight, facts = weigh(dataset, tmp_path, {}, strata={"alpha": 1.0})
    assert weight == pytest.approx(np.ones(IMAGES))
    weight, facts = weigh(dataset, tmp_path, {}, strata={"alpha": 0.5, "by": ["instrument"]})
    isiis = np.arange(IMAGES) % 3 == 0
    share = np.sqrt(100) / (np.sqrt(100) + np.sqrt(200))
    assert weight[isiis].sum() == pytest.approx(share * IMAGES, rel=1e-6)
    assert weight.sum() == pytest.approx(IMAGES, rel=1e-6)
    assert np.ptp(weight[isiis]) == 0
    assert facts["mean_weight"] == pytest.approx(1, rel=1e-6)
    assert facts["effective"]["strata"]["uses"] > facts["effective"]["strata"]["images"]


def test_water_flows_down_the_tree_within_a_stratum(dataset, tmp_path):
    clusters = make_clusters(tmp_path / "clusters", dataset, cluster)
    weight, facts = weigh(dataset, tmp_path, {"clusters": clusters}, strata={"by": []}, max_repeats=20)
    # 7 and 8 get 150 each; below 7, 3 images take all of 20 uses each and 10 share the rest.
    assert weight[:10] == pytest.approx(np.full(10, 9.0))
    assert weight[10:13] == pytest.approx(np.full(3, 20.0))
    assert weight[13:] == pytest.approx(np.full(287, 150 / 287))
    assert facts["max_weight"] == 20
    assert facts["clusters"][0] == {"name": "3", "images": 287, "uses": 150.0}


def test_an_image_is_never_used_more_than_allowed_and_the_epoch_stays_as_long(dataset, tmp_path):
    clusters = make_clusters(tmp_path / "clusters", dataset, cluster)
    for repeats in (1, 1.5, 4):
        weight, _ = weigh(dataset, tmp_path, {"clusters": clusters}, max_repeats=repeats)
        assert weight.max() <= repeats
        assert weight.sum() == pytest.approx(IMAGES, rel=1e-6)


def test_copies_and_what_is_near_an_evaluation_weigh_nothing(dataset, tmp_path):
    def copied(i: int) -> str | None:
        return "specks/0" if 1 <= i < 60 else None

    folders = {
        "clusters": make_clusters(tmp_path / "clusters", dataset, cluster),
        "duplicates": make_duplicates(tmp_path / "duplicates", dataset, copied),
        "contamination": make_contamination(tmp_path / "contamination", dataset, lambda i: 50 <= i < 100),
    }
    weight, facts = weigh(dataset, tmp_path, folders, strata={"by": []}, max_repeats=50)
    assert (weight[1:100] == 0).all()
    assert weight[0] == pytest.approx(50)  # all that is left of its branch: as often as it may be
    assert weight[100:] == pytest.approx(np.full(200, 250 / 200))
    assert facts["unused"] == {"near an evaluation set": 50, "duplicate": 49, "quality": 0}


def test_flags_cost_their_factor_and_several_the_least(dataset, tmp_path):
    given = {0: ["blurred"], 1: ["tiny", "blurred"], 2: ["odd"]}

    def flags(i: int) -> Any:
        return (given.get(i, []),)

    fields = [pa.field("flags", pa.list_(pa.string()), False)]
    quality = make_columns(tmp_path / "q", dataset, "quality", flags, fields)
    factors = {"blurred": 0.25, "tiny": 0.0}
    weight, facts = weigh(dataset, tmp_path, {"quality": quality}, strata={"by": []}, flags=factors)
    full = IMAGES / (IMAGES - 2 + 0.25)
    assert weight[[0, 1, 2, 3]] == pytest.approx([full / 4, 0, full, full])
    assert facts["flags"] == {"blurred": 2, "tiny": 1, "odd": 1}
    assert facts["unused"]["quality"] == 1


def test_capped_clusters_keep_to_their_share(dataset, tmp_path):
    clusters = make_clusters(tmp_path / "clusters", dataset, cluster)
    config: dict[str, Any] = {"strata": {"by": []}, "max_repeats": 100}
    cap = {"clusters": {1: [3]}, "share": 0.2}
    weight, facts = weigh(dataset, tmp_path, {"clusters": clusters}, **config, cap=cap)
    assert weight[13:].sum() == pytest.approx(60, rel=1e-6)
    assert weight[:10].sum() == pytest.approx(120, rel=1e-6)
    assert facts["capped"]["clusters"] == [3]
    assert facts["capped"]["share_of_uses"] == pytest.approx(0.2)
    # The others cannot take so much: the cap holds, and the epoch is shorter.
    weight, facts = weigh(
        dataset, tmp_path, {"clusters": clusters}, strata={"by": []}, max_repeats=4, cap=cap
    )
    assert weight[:13] == pytest.approx(np.full(13, 4))
    assert weight[13:].sum() == pytest.approx(13 * 4 * 0.2 / 0.8, rel=1e-6)
    assert facts["mean_weight"] < 0.3
    with pytest.raises(ValueError, match="must be of the 2 levels there are"):
        weigh(dataset, tmp_path, {"clusters": clusters}, cap={"clusters": {3: [1]}})


def test_a_stratum_of_nothing_but_capped_clusters_is_told_of(dataset, tmp_path):
    folders = {
        "clusters": make_clusters(tmp_path / "clusters", dataset, lambda i: (1, 7) if i % 3 == 0 else (2, 8))
    }
    strata = {"by": ["instrument"]}
    weight, facts = weigh(dataset, tmp_path, folders, strata=strata, cap={"clusters": {1: [1]}})
    assert facts["capped"]["emptied_strata"] == ["ISIIS"]
    assert facts["capped"]["emptied"] == 1
    assert weight[::3].sum() == 0
    assert "ISIIS: all their clusters are capped" in "\n".join(
        curating._lines(tmp_path, {}, {"weights": facts})
    )
    _, facts = weigh(dataset, tmp_path, folders, strata=strata, cap={"clusters": {1: [1]}, "share": 1})
    assert facts["capped"]["emptied_strata"] == []
    with pytest.raises(ValueError, match="some usable image must lie in no capped cluster"):
        weigh(dataset, tmp_path, folders, strata=strata, cap={"clusters": {2: [7, 8]}})


def test_labels_name_capped_clusters_only_where_they_may(tmp_path):
    def label(i: int) -> str | None:
        return None if i % 2 else "Detritus_other" if i >= 13 else "copepod"

    dataset = make_dataset(tmp_path / "dataset", IMAGES, label=label)
    folders = {"clusters": make_clusters(tmp_path / "clusters", dataset, cluster)}
    config = {"strata": {"by": []}, "max_repeats": 100}
    weight, facts = weigh(dataset, tmp_path, folders, **config)
    assert facts["capped"]["number"] == 0
    assert weight[13:].sum() == pytest.approx(150)
    weight, facts = weigh(dataset, tmp_path, folders, **config, cap={"labels": True})
    assert facts["capped"]["clusters"] == [3]
    assert weight[13:].sum() == pytest.approx(30, rel=1e-6)


def test_all_that_a_person_wants_to_see_stands_beside_the_weight(dataset, tmp_path):
    folders = {"clusters": make_clusters(tmp_path / "clusters", dataset, cluster)}
    make_weights(dataset, tmp_path / "out", WeightsConfig(), folders)
    columns = Columns.open(tmp_path / "out", dataset, "weights")
    assert columns.schema.names == [
        *("key", "image_id", "weight", "cluster_1", "cluster_2", "duplicate_of", "flags"),
        *("near_evaluation", "stratum"),
    ]
    assert columns.facts["made_from"].keys() == {"clusters"}
    table = columns.block(0, ["image_id", "cluster_1", "stratum"])
    assert table["image_id"].to_pylist() == dataset.table(["image_id"], blocks=[0])["image_id"].to_pylist()
    assert table["cluster_1"].to_pylist() == [cluster(i)[0] for i in numbers(dataset, 0)]
    assert set(table["stratum"].to_pylist()) <= {
        f"{name} | unknown | unknown | unknown" for name in ("IFCB", "ISIIS")
    }


def test_what_cannot_be_is_refused(dataset, tmp_path):
    everything = make_contamination(tmp_path / "all", dataset, lambda _i: True)
    with pytest.raises(ValueError, match=r"some image must be usable, got none of 300"):
        weigh(dataset, tmp_path, {"contamination": everything})
    with pytest.raises(ValueError, match="must hold clusters, got contamination"):
        weigh(dataset, tmp_path, {"clusters": everything})
    for wrong in ({"max_repeats": 0.5}, {"flags": {"tiny": 2}}, {"cap": {"clusters": {0: [1]}}}):
        with pytest.raises(ValidationError):
            WeightsConfig.model_validate(wrong)


def test_effective_numbers():
    assert effective([3, 3, 3, 0]) == pytest.approx(3)
    assert effective([1]) == 1
