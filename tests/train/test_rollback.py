"""A run that went wrong goes back to a checkpoint and on behind the data, as if it had been told to."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from same_run import assert_same_run, numbers, saved

from aqqua.train import checkpoint, loop
from aqqua.train.checkpoint import Checkpoint
from aqqua.train.data import StepData
from aqqua.train.folder import CHECKPOINTS
from aqqua.train.guard import NonFiniteError
from aqqua.train.loop import pretrain
from aqqua.train.rollback import ways_back
from aqqua.train.run import Run, open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.spike import SpikeError, Spikes
from aqqua.train.step import Outcome, Rates, take_step

MakeConfig = Callable[..., PretrainConfig]


class Killed(BaseException):
    pass


class Trouble:
    """Stands in for the loop's take_step: a loss far too high, or NaN in the data, at some steps."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        spike: Iterable[int] = (),
        nan: Iterable[int] = (),
        before: dict[int, Callable[[Run], None]] | None = None,
    ) -> None:
        self.spike, self.nan, self.before = set(spike), set(nan), before or {}
        self.rates: dict[int, Rates] = {}
        monkeypatch.setattr(loop, "take_step", self)

    def __call__(self, run: Run, data: StepData, rates: Rates) -> Outcome:
        step = run.step + 1
        self.rates[step] = rates
        if step in self.before:
            self.before[step](run)
        if step in self.nan:
            data.batches[0].patches_NF[5, 7] = float("nan")
        outcome = take_step(run, data, rates)
        if step in self.spike:
            return replace(outcome, losses={**outcome.losses, "total": 1e6})
        return outcome


def config_of(
    make_config: MakeConfig, folder: Path, spike: dict[str, Any] | None = None, **train: Any
) -> Any:
    """Checkpoints every three steps, all kept; what is planted is odd, what a tiny model does is not."""
    settings = {"window": 4, "sigma": 1000.0, "odd_steps": 2, "of_last": 3, **(spike or {})}
    common = {"max_steps": 12, "checkpoint_every": 3, "keep_checkpoints": 20, "images": 1000}
    return make_config(folder, train={**common, "spike": settings, **train})


def at(folder: Path, step: int) -> Checkpoint:
    return checkpoint.load(checkpoint.path_of(folder / CHECKPOINTS, step))


def differing(a: Checkpoint, b: Checkpoint) -> list[str]:
    assert a.tensors.keys() == b.tensors.keys()
    return [name for name in a.tensors if not torch.equal(a.tensors[name], b.tensors[name])]


def noted(folder: Path) -> list[dict[str, Any]]:
    path = folder / "rollbacks.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def die(_run: Run) -> None:
    raise Killed


@pytest.fixture(scope="module")
def gone_back(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trouble]:
    """Twelve steps with a spike at steps 7 and 8: one later than the checkpoint of step 6."""
    folder = tmp_path_factory.mktemp("gone_back")
    with pytest.MonkeyPatch.context() as patch:
        trouble = Trouble(patch, spike=(7, 8))
        pretrain(config_of(make_config, folder))
    return folder, trouble


def test_a_spike_takes_everything_learned_back_and_no_data(gone_back):
    folder, trouble = gone_back
    before, after = at(folder, 6), at(folder, 8)
    assert differing(after, before) == []
    assert after.state["step"] == 8
    assert after.state["images"] == before.state["images"]
    assert after.state["rollbacks"] == [[8, 6]]
    assert after.state["spikes"] == before.state["spikes"]
    assert after.state["lanes"] != before.state["lanes"]
    assert trouble.rates[9] == trouble.rates[7]  # schedules too
    end = saved(folder)
    assert end.step == 12
    assert differing(end, after) != []  # it trains on


def test_the_record_says_which_images_are_left_out(gone_back):
    folder, _ = gone_back
    (row,) = noted(folder)
    assert (row["step"], row["reason"], row["to_step"]) == (8, "spike", 6)
    assert row["lanes_then"] == at(folder, 6).state["lanes"]
    assert row["lanes_now"] == at(folder, 8).state["lanes"]
    assert [line["step"] for line in numbers(folder)] == list(range(1, 13))


@pytest.mark.parametrize("when", [9, 11])
def test_a_run_killed_after_it_goes_on_behind_it(gone_back, make_config, tmp_path, monkeypatch, when):
    config = config_of(make_config, tmp_path)
    with monkeypatch.context() as patch:
        Trouble(patch, spike=(7, 8), before={when: die})
        with pytest.raises(Killed):
            pretrain(config)
    pretrain(config)
    assert_same_run(tmp_path, gone_back[0])
    assert noted(tmp_path) == noted(gone_back[0])


def test_a_run_killed_before_it_meets_it_again(gone_back, make_config, tmp_path, monkeypatch):
    """Between two odd steps: a checkpoint knows of the first."""
    config = config_of(make_config, tmp_path)
    with monkeypatch.context() as patch:
        Trouble(patch, spike=(7, 8))
        pretrain(config.model_copy(update={"train": config.train.model_copy(update={"max_steps": 7})}))
        assert noted(tmp_path) == []
        pretrain(config)
    assert_same_run(tmp_path, gone_back[0])


def test_one_odd_step_changes_nothing(make_config, tmp_path, monkeypatch):
    Trouble(monkeypatch, spike=(6,))
    pretrain(config_of(make_config, tmp_path, max_steps=9))
    assert noted(tmp_path) == []
    assert saved(tmp_path).state["rollbacks"] == []


def test_a_checkpoint_that_does_not_verify_is_passed_over(make_config, tmp_path, monkeypatch):
    def damage(run: Run) -> None:
        (checkpoint.path_of(run.folder / CHECKPOINTS, 6) / "state.json").write_text("{}")

    Trouble(monkeypatch, spike=(7, 8), before={8: damage})
    pretrain(config_of(make_config, tmp_path, max_steps=9))
    assert noted(tmp_path)[0]["to_step"] == 3
    assert differing(at(tmp_path, 8), at(tmp_path, 3)) == []


def test_the_limit_ends_the_run(make_config, tmp_path, monkeypatch):
    Trouble(monkeypatch, spike=(7, 8, 10, 11))
    with pytest.raises(SpikeError, match=r"step 11: .* since step 10 after rollback 1 of 1; .* from step 9"):
        pretrain(config_of(make_config, tmp_path, {"rollbacks": 1}))
    assert saved(tmp_path).step == 9  # not the weights of the spike


def test_a_second_spike_goes_back_too(make_config, tmp_path, monkeypatch):
    """Not to what was saved between the first and where it went back to."""
    Trouble(monkeypatch, spike=(8, 9, 11, 12))
    pretrain(config_of(make_config, tmp_path, max_steps=13, checkpoint_every=1))
    assert [(row["step"], row["to_step"]) for row in noted(tmp_path)] == [(9, 7), (12, 10)]
    assert saved(tmp_path).state["rollbacks"] == [[9, 7], [12, 10]]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"checkpoint_every": 100}, "there is no checkpoint before it"),
        ({"spike": {"rollbacks": 0}}, "train.spike.rollbacks is 0"),
    ],
)
def test_without_a_way_back_a_spike_is_said_and_endured(
    make_config, tmp_path, monkeypatch, capsys, settings, why
):
    Trouble(monkeypatch, spike=range(7, 13))
    run = pretrain(config_of(make_config, tmp_path, **settings))
    assert run.step == 12
    assert run.rollbacks == noted(tmp_path) == []
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("far above what is usual since step 7") == said.count(why) == 1


def test_numbers_that_are_not_finite_go_back_and_then_give_up(make_config, tmp_path, monkeypatch):
    Trouble(monkeypatch, nan=(5, 6, 7, 9, 10, 11))
    with pytest.raises(NonFiniteError, match=r"step 11: .* in a row after rollback 1 of 1; .* is saved"):
        pretrain(config_of(make_config, tmp_path, {"rollbacks": 1}))
    (row,) = noted(tmp_path)
    assert (row["step"], row["reason"], row["to_step"]) == (7, "not finite", 3)
    assert differing(at(tmp_path, 7), at(tmp_path, 3)) == []
    assert at(tmp_path, 7).state["guard"] == {"streak": 0, "skipped": 3}
    found = saved(tmp_path)
    assert found.step == 11
    assert all(tensor.isfinite().all() for tensor in found.tensors.values())
    skipped = [json.loads(line)["step"] for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert skipped == [5, 6, 7, 9, 10, 11]


def test_a_full_disk_at_the_rollback_ends_nothing(make_config, tmp_path, monkeypatch, capsys):
    save = checkpoint.save

    def full(folder: Path, made: Checkpoint, keep: int) -> Path:
        if made.step == 8:
            raise OSError(28, "No space left on device")
        return save(folder, made, keep)

    monkeypatch.setattr(checkpoint, "save", full)
    Trouble(monkeypatch, spike=(7, 8))
    run = pretrain(config_of(make_config, tmp_path, max_steps=9))
    assert run.rollbacks == [[8, 6]]
    assert "no checkpoint of step 8" in capsys.readouterr().err


def test_an_older_checkpoint_still_loads(gone_back, make_config):
    run = open_run(config_of(make_config, gone_back[0]))
    found = saved(gone_back[0])
    old = {key: value for key, value in found.state.items() if key not in ("spikes", "rollbacks")}
    run.restore(Checkpoint(found.step, found.tensors, old))
    assert (run.spikes, run.rollbacks) == (Spikes(), [])


@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_a_step_after_going_back_is_the_step_after_a_resume(make_config, tmp_path, backend):
    """By either optimizer, whose kernels keep pointers; a checkpoint before the first step has no moments."""
    optim = {"lr": 1e-3, "lr_rule": "none", "backend": backend}
    config = make_config(tmp_path, optim=optim, train={"precision": "float32"})
    run = open_run(config)

    def go(run: Run, steps: int) -> None:
        for _ in range(steps):
            data = run.feeder.step(run.lanes, run.step)
            outcome = take_step(run, data, loop.rates_at(run))
            assert outcome.taken
            run.advance(data, outcome.n_images)

    run.save()
    go(run, 1)
    run.save()
    places, want = run.lanes, {}
    for start in (0, 1):
        go(run, 1)
        run.go_back(at(tmp_path, start))
        assert {name for name, _ in run.engine.tensors()} == at(tmp_path, start).tensors.keys()
        run.lanes, run.step = (run.feeder.start(), 0) if start == 0 else (places, 1)
        go(run, 1)
        want[start] = {name: tensor.clone() for name, tensor in run.engine.tensors()}
    assert [n for n, t in at(tmp_path, 1).tensors.items() if not torch.equal(t, want[0][n])] == []
    resumed = open_run(config)
    go(resumed, 1)
    assert [n for n, t in resumed.engine.tensors() if not torch.equal(t, want[1][n])] == []


@pytest.mark.parametrize(
    ("steps", "began", "rollbacks", "best"),
    [
        ((1500, 1000, 500), 1601, [], [1500, 1000, 500]),
        ((1500, 1000, 500), 1600, [], [1500, 1000, 500]),
        ((1500, 1000, 500), 1599, [], [1000, 500, 1500]),  # trouble may have begun before it showed
        ((1500, 1000), 1000, [], []),
        ((90, 60), 100, [], [90, 60]),
        ((1553, 1500), 1600, [[1553, 1000]], [1553]),
        ((1600, 1553, 1500, 1000), 1800, [[1553, 1000]], [1600, 1553, 1000]),
        ((), 5, [], []),
    ],
)
def test_the_newest_that_is_far_enough_comes_first(steps, began, rollbacks, best):
    assert ways_back(steps, began, rollbacks) == best
