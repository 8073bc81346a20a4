"""An atlas from end to end: real images of the sample ocean, made-up embeddings, UMAP once."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_atlas import write_embeddings_file
from PIL import Image

from aqqua.explore.atlas import drawn
from aqqua.explore.atlas.build import build_atlas
from aqqua.explore.atlas.inputs import AtlasConfig, AtlasInputs
from aqqua.explore.atlas.known import ranks_of
from aqqua.explore.atlas.landmarks import Landmarks, landmarks_path
from aqqua.explore.atlas.neighbours import NONE
from aqqua.explore.atlas.table import RANKS, Atlas
from aqqua.store.read import Dataset

QUICK = {"seed": 3, "umap": {"epochs": 30}, "trust_points": 60, "threads": 1}


def config_of(**changes):
    return AtlasConfig.model_validate({**QUICK, **changes})


@pytest.fixture(scope="module")
def dataset(sample_dataset):
    return Dataset.open(sample_dataset)


@pytest.fixture(scope="module")
def embeddings(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("embeddings") / "e.parquet"
    write_embeddings_file(path, dataset)
    return path


@pytest.fixture(scope="module")
def built(dataset, embeddings, tmp_path_factory):
    """Atlas, facts and stages, with every optional table."""
    folder = tmp_path_factory.mktemp("atlas")
    keys = dataset.table(["key"])["key"].combine_chunks()
    labels = dataset.table(["label"])["label"].to_pylist()
    count = pa.array(np.arange(len(keys), dtype=np.float64))
    sizes = {name: count for name in ("esd_um", "area_um2", "volume_sphere_um3")}
    pq.write_table(
        pa.table({"key": keys[:40], "class": ["a"] * 40, "score": [0.5] * 40}), folder / "p.parquet"
    )
    pq.write_table(pa.table({"key": keys, **sizes}), folder / "s.parquet")
    pq.write_table(pa.table({"key": keys, "carbon_pg": count}), folder / "c.parquet")
    tables = {
        "predictions": folder / "p.parquet",
        "sizes": folder / "s.parquet",
        "carbon": folder / "c.parquet",
    }
    first = next(label for label in labels if label)
    lineages = {first: ("Animalia", None, "Copepoda", None, None, None, None)}
    inputs = AtlasInputs(dataset, embeddings, folder / "map.parquet", tables, lineages, command="aqqua ...")
    stages = []
    facts = build_atlas(inputs, config_of(), lambda stage, done, of: stages.append((stage, done, of)))
    return Atlas.open(inputs.out), facts, stages


@pytest.fixture
def _without_umap(monkeypatch):
    """Maps that are the two widest directions."""
    monkeypatch.setattr(drawn, "fit_umap", lambda *given: given[2].astype(np.float32))


def positions(atlas):
    table = atlas.table(["x", "y"])
    return np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)


def test_rows_are_the_images_in_their_order(built, dataset):
    atlas, _, stages = built
    wanted = dataset.table(["image_id", "key", "label", "time", "depth_m", "um_per_px", "height"])
    assert atlas.table(wanted.column_names).equals(wanted.cast(atlas.table(wanted.column_names).schema))
    words = dataset.table(["instrument", "sample"]).to_pylist()
    assert atlas.table(["instrument", "sample"]).to_pylist() == words
    assert stages[-1] == ("thumbnails", 150, 150)
    assert [s for s, _, _ in stages if s == "map"]


def test_the_map_is_in_the_square(built):
    atlas, _, _ = built
    xy = positions(atlas)
    assert np.abs(xy).max() == pytest.approx(1)
    assert np.ptp(xy, axis=0).max() == pytest.approx(2)


def test_neighbours_and_scores(built):
    atlas, _, _ = built
    table = atlas.table(
        ["neighbours", "foreign", "neighbour_similarity", "instrument", "label", "label_issue"]
    )
    rows = table["neighbours"].combine_chunks().flatten().to_numpy().reshape(-1, 20)
    foreign = table["foreign"].combine_chunks().flatten().to_numpy().reshape(-1, 10)
    instrument = np.array(table["instrument"].to_pylist())
    assert not (rows == np.arange(150)[:, None]).any()
    assert (instrument[foreign] != instrument[:, None]).all()
    similarity = table["neighbour_similarity"].combine_chunks().flatten().to_numpy().reshape(-1, 20)
    assert (np.diff(similarity.astype(float), axis=1) <= 0).all()
    issue, labels = table["label_issue"].to_pylist(), table["label"].to_pylist()
    assert all(score is None for score, label in zip(issue, labels, strict=True) if label is None)
    assert all(0 <= score <= 1 for score in issue if score is not None)


def test_other_tables_and_ranks(built):
    atlas, _, _ = built
    table = atlas.table(
        ["class", "score", "carbon_pg", "esd_um", "kingdom", "taxon_class", "species", "label"]
    )
    assert table["class"].to_pylist() == ["a"] * 40 + [None] * 110
    assert table["carbon_pg"].to_pylist() == list(range(150))
    there = [kingdom == "Animalia" for kingdom in table["kingdom"].to_pylist()]
    assert any(there)
    assert [c == "Copepoda" for c in table["taxon_class"].to_pylist()] == there
    with pytest.raises(ValueError, match="must have 7 ranks, got 1 for x"):
        ranks_of(pa.chunked_array([["x"]]), {"x": ("Animalia",)})
    assert len(RANKS) == 7


def test_thumbnails_are_pictures_with_bars_where_the_scale_is_known(built):
    atlas, _, _ = built
    table = atlas.table(["thumb_width", "thumb_height", "um_per_px", "height", "width"]).to_pylist()
    for data, row in zip(atlas.thumbnails(range(150)), table, strict=True):
        assert Image.open(io.BytesIO(data)).size == (row["thumb_width"], row["thumb_height"])
        assert max(row["thumb_width"], row["thumb_height"]) <= 96
        if row["um_per_px"] is None:
            assert row["thumb_height"] <= row["height"]


def test_facts_say_how_and_how_good(built, dataset):
    atlas, facts, _ = built
    assert atlas.facts == json.loads(json.dumps({"version": 1, **facts}))
    assert facts["dataset_sha256"] == dataset.manifest_sha256
    assert (facts["model_sha256"], facts["seed"], facts["points"], facts["command"]) == (
        "m",
        3,
        150,
        "aqqua ...",
    )
    assert facts["umap"]["fitted"] == 150
    numbers = facts["numbers"]
    assert numbers["purity_label"] > 0.5 > numbers["purity_label_chance"]
    assert numbers["purity_label_on_map"] > 2 * numbers["purity_label_chance"]
    assert numbers["trustworthiness"] > 0.7
    assert numbers["continuity"] > 0.7
    assert (numbers["sampled"], numbers["of"]) == (60, 150)


def test_the_same_again(built, dataset, embeddings, tmp_path):
    atlas, facts, _ = built
    again = build_atlas(AtlasInputs(dataset, embeddings, tmp_path / "again.parquet"), config_of())
    assert {**again, "command": facts["command"]} == facts
    columns = ["x", "y", "neighbours", "cluster", "novelty", "label_issue", "thumbnail"]
    assert Atlas.open(tmp_path / "again.parquet").table(columns).equals(atlas.table(columns))


def test_new_points_find_their_places_on_the_old_map(built, dataset, embeddings, tmp_path):
    atlas, _, _ = built
    out = tmp_path / "placed.parquet"
    facts = build_atlas(AtlasInputs(dataset, embeddings, out, place_on=atlas.path), config_of())
    assert facts["umap"]["placed_on"]["points"] == 150
    old, new = positions(atlas), positions(Atlas.open(out))
    assert np.median(np.linalg.norm(old - new, axis=1)) < 0.1  # of a map two wide
    kept = Landmarks.open(landmarks_path(out))
    assert np.array_equal(kept.key_L, Landmarks.open(landmarks_path(atlas.path)).key_L)
    write_embeddings_file(tmp_path / "other.parquet", dataset, model="other")
    inputs = AtlasInputs(dataset, tmp_path / "other.parquet", tmp_path / "no.parquet", place_on=atlas.path)
    with pytest.raises(ValueError, match="embeddings of the same model, m, got other"):
        build_atlas(inputs, config_of())


@pytest.mark.usefixtures("_without_umap")
def test_a_map_lies_like_an_older_one(built, dataset, tmp_path):
    atlas, _, _ = built
    write_embeddings_file(tmp_path / "e.parquet", dataset, model="other", seed=5)
    facts = build_atlas(
        AtlasInputs(dataset, tmp_path / "e.parquet", tmp_path / "new.parquet", align_to=atlas.path),
        config_of(),
    )
    assert facts["umap"]["aligned"]["shared"] == 150
    assert facts["umap"]["aligned"]["to_model_sha256"] == "m"
    old, new = positions(atlas), positions(Atlas.open(tmp_path / "new.parquet"))
    cross = (new - new.mean(0)).T @ (old - old.mean(0))
    np.testing.assert_allclose(cross, cross.T, atol=1e-3)  # no turn brings them nearer
    assert np.linalg.eigvalsh(cross).min() >= -1e-3


@pytest.mark.usefixtures("_without_umap")
def test_a_sample_of_the_images_with_few_landmarks(dataset, embeddings, tmp_path):
    config = config_of(points=90, umap={"landmarks": 50})
    facts = build_atlas(AtlasInputs(dataset, embeddings, tmp_path / "few.parquet"), config)
    assert (facts["images"], facts["points"], facts["umap"]["fitted"]) == (150, 90, 50)
    atlas = Atlas.open(tmp_path / "few.parquet")
    labels = set(dataset.table(["label"])["label"].to_pylist())
    assert set(atlas.table(["label"])["label"].to_pylist()) == labels
    rows = atlas.table(["neighbours"])["neighbours"].combine_chunks().flatten().to_numpy()
    assert rows.max() < 90 < NONE


def test_refused(dataset, embeddings, built, tmp_path):
    atlas, _, _ = built
    with pytest.raises(ValueError, match="must not exist yet"):
        build_atlas(AtlasInputs(dataset, embeddings, atlas.path), config_of())
    both = AtlasInputs(dataset, embeddings, tmp_path / "x.parquet", align_to=atlas.path, place_on=atlas.path)
    with pytest.raises(ValueError, match="at most one older atlas"):
        build_atlas(both, config_of())
    assert list(tmp_path.iterdir()) == []
