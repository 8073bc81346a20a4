"""Curation from end to end, as a user runs it: embed, curate, pretrain with the weights, again."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from aqqua.cli import curating, main
from aqqua.curate import pipeline
from aqqua.curate.pipeline import REPORT, STAGES, CurateConfig
from aqqua.store.columns import Columns
from aqqua.store.read import Dataset
from aqqua.store.weights import SamplingWeights

SMALL = "clusters.hierarchy.members=[10,4]"


@pytest.fixture(scope="module")
def embeddings(tiny_run, sample_dataset, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("embeddings") / "embeddings"
    assert main(["embed", str(tiny_run), "--data", str(sample_dataset), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def curated(sample_dataset, embeddings, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("curation") / "curated"
    assert main(command(sample_dataset, out, embeddings)) == 0
    return out


def command(dataset: Path, out: Path, embeddings: Path, *more: str) -> list[str]:
    return ["curate", str(dataset), "--out", str(out), "--embeddings", str(embeddings), SMALL, *more]


def test_every_stage_stands_beside_the_dataset(curated, sample_dataset):
    dataset = Dataset.open(sample_dataset)
    made = {"signatures", "duplicates", "quality", "clusters", "weights"}
    assert {path.name for path in curated.iterdir()} == {*made, REPORT}
    for stage in made:
        assert Columns.open(curated / stage, dataset, stage).verify() == []
    assert SamplingWeights.open(curated, dataset).total == pytest.approx(dataset.rows, rel=1e-6)


def test_what_was_made_is_kept_and_what_differs_is_refused(curated, sample_dataset, embeddings, capsys):
    before = {path: path.stat().st_mtime_ns for path in curated.rglob("*.parquet")}
    assert main([*command(sample_dataset, curated, embeddings), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["made"] == []
    assert {path: path.stat().st_mtime_ns for path in curated.rglob("*.parquet")} == before
    assert main(command(sample_dataset, curated, embeddings, "quality.tiny_px=20")) == 2
    said = capsys.readouterr().err
    assert "quality must be of the same settings and columns" in said
    assert "quality.tiny_px was 10.0, now 20.0" in said


def test_what_a_killed_run_leaves_does_not_stand_in_the_way(
    sample_dataset, embeddings, tmp_path, monkeypatch, capsys
):
    """Its scratch folders stay, as nobody is there to remove them."""
    monkeypatch.setattr(tempfile.TemporaryDirectory, "_rmtree", lambda *_, **_more: None)
    arguments = ["curate", str(sample_dataset), "--out", str(tmp_path), "--evaluation", str(sample_dataset)]
    arguments += ["--embeddings", str(embeddings), SMALL, "--no-report"]
    stages = ["signatures", "duplicates", "contamination", "clusters"]
    assert main([*arguments, "--only", *stages]) == 0
    left = {path.name.partition(".partial-")[0] for path in tmp_path.iterdir() if ".partial-" in path.name}
    assert left == {"duplicates", "contamination", "sample"}
    capsys.readouterr()
    assert main([*arguments, "--only", *stages, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["made"] == []


def test_what_stands_in_the_way_is_told_before_any_work(sample_dataset, embeddings, tmp_path, capsys):
    wrong = tmp_path / "out"
    for out in (sample_dataset, embeddings):  # an output that is something else
        assert main(["curate", str(sample_dataset), "--out", str(out)]) == 2
        assert "must be a new folder or an earlier curation" in capsys.readouterr().err
    for path, message in ((tmp_path / "nothere", "got nothing"), (sample_dataset, "must hold _columns.json")):
        assert main(command(sample_dataset, wrong, path)) == 2
        assert message in capsys.readouterr().err
    assert not wrong.exists()


def test_the_answer_says_what_it_was_made_without_and_where_to_look(sample_dataset, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["curate", str(sample_dataset), "--out", str(out), "--only", "signatures", "quality"]) == 0
    assert "bubble is not looked for in " in capsys.readouterr().out
    assert main(["curate", str(sample_dataset), "--out", str(out), "--only", "weights"]) == 0
    said = capsys.readouterr().out
    assert "made without   duplicates, contamination, clusters" in said
    assert f"look at         {out / REPORT}" in said
    assert "classes        effective number" in said


def test_a_stage_that_is_gone_is_made_again_and_the_same(
    curated, sample_dataset, embeddings, tmp_path, capsys
):
    copy = tmp_path / "copy"
    shutil.copytree(curated, copy)
    shutil.rmtree(copy / "weights")
    (copy / REPORT).unlink()
    assert main([*command(sample_dataset, copy, embeddings, "--only", "weights"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["made"] == ["weights"]
    for path in (curated / "weights").iterdir():
        assert (copy / "weights" / path.name).read_bytes() == path.read_bytes()
    assert (copy / REPORT).read_bytes() == (curated / REPORT).read_bytes()


def test_nothing_near_an_evaluation_set_is_trained_on(sample_dataset, tmp_path, capsys):
    """The set itself is the evaluation: all of it is near."""
    out = tmp_path / "curated"
    arguments = ["curate", str(sample_dataset), "--out", str(out), "--evaluation", str(sample_dataset)]
    assert main([*arguments, "--only", "signatures", "contamination"]) == 0
    dataset = Dataset.open(sample_dataset)
    near = Columns.open(out / "contamination", dataset, "contamination")
    assert all(
        all(near.block(b, ["near_evaluation"])["near_evaluation"].to_pylist()) for b in range(dataset.blocks)
    )
    report = json.loads((out / "contamination.json").read_text())
    assert report
    capsys.readouterr()
    assert main([*arguments, "--only", "contamination", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["made"] == []  # kept as it was
    assert main([*arguments, "contamination.same.size_px=1", "--only", "contamination"]) == 2
    assert "contamination.same.size_px was 2, now 1" in capsys.readouterr().err
    assert main([*arguments, "--only", "weights"]) == 2  # no image is left


def test_signatures_of_another_algorithm_are_not_kept(
    curated, sample_dataset, embeddings, capsys, monkeypatch
):
    monkeypatch.setattr(pipeline, "ALGORITHM", 0)
    assert main(command(sample_dataset, curated, embeddings)) == 2
    assert "signatures was 1, now 0" in capsys.readouterr().err


def test_a_stray_word_is_told_where_it_may_belong(sample_dataset, tmp_path, capsys):
    assert main(["curate", str(sample_dataset), "embeddings", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "got 'embeddings'; give embeddings with --embeddings" in said
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_named(sample_dataset, tmp_path, capsys):
    arguments = ["curate", str(sample_dataset), "--out", str(tmp_path / "out"), "--only"]
    for stage, message in (
        ("clusters", "give --embeddings"),
        ("contamination", "give --evaluation"),
        ("quality", "run --only signatures first"),
    ):
        assert main([*arguments, stage]) == 2
        assert message in capsys.readouterr().err
    assert main(["curate", str(sample_dataset), "--out", str(tmp_path / "x"), "weights.max_repeat=3"]) == 2
    assert "max_repeats" in capsys.readouterr().err


def test_a_run_is_trained_with_the_weights_and_no_others(curated, sample_dataset, tmp_path, capsys):
    sizes = ["model.width=32", "model.layers=2", "model.heads=2", "objective.head.prototypes=64"]
    run = [
        "pretrain",
        "configs/sample.yaml",
        f"data.path={sample_dataset}",
        f"run={tmp_path / 'run'}",
        *sizes,
    ]
    run += ["train.tensorboard=false", "data.lanes=1"]
    assert main([*run, f"data.weights={curated}", "train.images=40"]) == 0
    capsys.readouterr()
    assert main([*run, "train.images=80"]) == 2
    assert "weights" in capsys.readouterr().err


def test_settings_are_printed_and_the_verb_knows_the_stages(sample_dataset, tmp_path, capsys):
    assert main(["curate", str(sample_dataset), "--out", str(tmp_path), SMALL, "--print-config"]) == 0
    assert "members:\n    - 10\n    - 4\n" in capsys.readouterr().out
    assert curating._STAGES == STAGES
    assert set(CurateConfig.model_fields) <= set(STAGES)
