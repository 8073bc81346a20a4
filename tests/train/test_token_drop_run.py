"""Runs whose student gets a part of the patches: end to end, resumed, and on two ranks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from crew import train_well
from same_run import assert_same_run, numbers

from aqqua.train.loop import pretrain
from aqqua.train.run import open_run
from aqqua.train.settings import PretrainConfig

STEPS = 6
MakeConfig = Callable[..., PretrainConfig]


def config_of(make_config: MakeConfig, folder: Path, stop: int = STEPS, **rooms: object) -> PretrainConfig:
    views, model = {"token_drop": (0.4, 0.25)}, {"drop_path": 0.2}
    return make_config(folder, views=views, model=model, train={"max_steps": stop, "images": 2000}, **rooms)


@pytest.fixture(scope="module")
def thinned(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that others are compared with."""
    folder = tmp_path_factory.mktemp("thinned") / "run"
    pretrain(config_of(make_config, folder))
    return folder


def test_a_batch_says_what_the_plan_says(make_config, tmp_path):
    run = open_run(config_of(make_config, tmp_path))
    data = run.feeder.step(run.lanes, 0)
    for pack, batch in zip(data.packs, data.batches, strict=True):
        assert batch.kept is not None
        np.testing.assert_array_equal(batch.kept.rows_U, np.flatnonzero(~pack.dropped_N))
        assert int(batch.kept.counts_V.sum()) == len(batch.kept.rows_U) == pack.tokens - 2 * pack.n_views
        assert set(batch.masked_M.tolist()) <= set(batch.kept.rows_U.tolist())
        assert len(batch.patches_NF) == batch.student.patches  # the teacher wants all of the globals


def test_the_student_does_not_get_them(make_config, tmp_path):
    run = open_run(config_of(make_config, tmp_path))
    data = run.feeder.step(run.lanes, 0)
    pack, batch = data.packs[0], data.batches[0]
    taught = run.model.teach(batch)
    targets = run.model.targets([taught], 0.05)
    lost_N = torch.from_numpy(pack.dropped_N)
    lost_N[: batch.teacher.patches] = False  # of locals; the teacher sees those of globals
    losses = []
    for rows_N in (lost_N, ~lost_N):
        spoilt = torch.where(rows_N[:, None], 3 * batch.patches_NF + 1, batch.patches_NF)
        losses.append(run.model.learn(replace(batch, patches_NF=spoilt), taught, targets, pack.n_images).dino)
    usual = run.model.learn(batch, taught, targets, pack.n_images).dino
    assert lost_N.any()
    assert losses[0] == usual
    assert losses[1] != usual


def test_the_run_is_finite_and_a_resumed_one_is_the_run(thinned, make_config, tmp_path):
    assert np.isfinite([row["loss"]["total"] for row in numbers(thinned)]).all()
    for stop in (2, STEPS):
        pretrain(config_of(make_config, tmp_path / "run", stop))
    assert_same_run(tmp_path / "run", thinned)


def test_two_ranks_are_the_same_run(thinned, make_config, tmp_path):
    train_well(2, config_of(make_config, tmp_path / "run"))
    assert_same_run(tmp_path / "run", thinned)


def test_distillation_asks_about_every_patch_of_a_global(make_config, thinned, tmp_path):
    with pytest.raises(ValueError, match=r"leave the 100% .* ask about, got 0\.4; use 0 with distill"):
        pretrain(config_of(make_config, tmp_path / "run", distill={"teacher": thinned}))
    views = {"token_drop": (0.0, 0.5)}
    pretrain(make_config(tmp_path / "run", views=views, distill={"teacher": thinned}, train={"max_steps": 2}))
