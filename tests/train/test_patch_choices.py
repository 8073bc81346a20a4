"""Runs whose packs have patches of several sides: end to end, resumed, on two ranks, and used at any side."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from crew import train_well
from same_run import assert_same_run, numbers, saved

from aqqua.cli import main
from aqqua.train.loop import pretrain
from aqqua.train.run import open_run
from aqqua.train.settings import PretrainConfig

STEPS, SIDES = 6, (6, 8, 11)
MakeConfig = Callable[..., PretrainConfig]


def config_of(make_config: MakeConfig, folder: Path, stop: int = STEPS) -> PretrainConfig:
    return make_config(folder, views={"patch_choices": SIDES}, train={"max_steps": stop, "images": 2000})


@pytest.fixture(scope="module")
def flexible(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that others are compared with."""
    folder = tmp_path_factory.mktemp("flexible") / "run"
    pretrain(config_of(make_config, folder))
    return folder


def test_packs_of_a_step_have_sides_of_their_own_and_one_weight(make_config, flexible, tmp_path):
    run = open_run(config_of(make_config, tmp_path))
    states, seen = run.lanes, set()
    for step in range(STEPS):
        data = run.feeder.step(states, step)
        for pack, batch in zip(data.packs, data.batches, strict=True):
            seen.add(pack.patch_px)
            assert batch.student.patch_px == batch.teacher.patch_px == pack.patch_px
            assert batch.patches_NF.shape == (batch.student.patches, pack.patch_px**2)
        states = data.states
    assert seen == set(SIDES)
    weight = saved(flexible).tensors["teacher.backbone.embed.patch_embed.weight"]
    assert weight.shape == (32, 8**2)
    losses = [row["loss"]["total"] for row in numbers(flexible)]
    assert np.isfinite(losses).all()


def test_a_resumed_run_is_the_run(flexible, make_config, tmp_path):
    for stop in (1, 4, STEPS):
        pretrain(config_of(make_config, tmp_path / "run", stop))
    assert_same_run(tmp_path / "run", flexible)


def test_two_ranks_are_the_same_run(flexible, make_config, tmp_path):
    train_well(2, config_of(make_config, tmp_path / "run"))
    assert_same_run(tmp_path / "run", flexible)


def test_embeddings_at_any_side(flexible, dataset, tmp_path):
    """The model's own side is the default; another sees other patches; both are written in the file."""
    found = {}
    for name, options in {"own": [], "8": ["--patch-px", "8"], "11": ["--patch-px", "11"]}.items():
        out = tmp_path / f"{name}.parquet"
        assert main(["embed", str(flexible), "--data", str(dataset), "--out", str(out), *options]) == 0
        table = pq.read_table(out)
        found[name] = np.stack(table["embedding"].to_numpy())
        assert table.schema.metadata[b"aqqua.patch_px"] == (b"8" if name == "own" else name.encode())
    np.testing.assert_array_equal(found["own"], found["8"])
    assert not np.allclose(found["own"], found["11"], atol=1e-3)
    columns = tmp_path / "columns"
    command = ["embed", str(flexible), "--data", str(dataset), "--out", str(columns), "--patch-px", "11"]
    assert main(command) == 0


def test_a_side_out_of_range_is_a_sentence(flexible, dataset, tmp_path, capsys):
    out = tmp_path / "e.parquet"
    assert main(["embed", str(flexible), "--data", str(dataset), "--out", str(out), "--patch-px", "65"]) != 0
    assert "patch_px must be 1 to 64, got 65" in capsys.readouterr().err
    assert not out.exists()
