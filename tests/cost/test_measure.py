"""Predictions beside a few real steps. None asserts a time: what holds is counted, what is timed is given."""

from pathlib import Path
from typing import Any

import pytest
import torch

from aqqua.cost import measure as module
from aqqua.cost.engines import engines_of
from aqqua.cost.estimate import memory_of
from aqqua.cost.measure import Compared, Stretches, measure, measured_lines, tensor_peak
from aqqua.train.run import open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.useful import Useful


@pytest.fixture
def make(sample_dataset: Path, tmp_path: Path):
    def config(**rooms: dict[str, Any]) -> PretrainConfig:
        settings: dict[str, dict[str, Any]] = {
            "data": {"path": sample_dataset, "lanes": 1, "pack_tokens": 2048},
            "views": {"locals": 4, "max_tokens": (64, 16)},
            "model": {"width": 64, "layers": 2, "heads": 2, "patch_px": 8, "drop_path": 0.0},
            "objective": {"head": {"prototypes": 512, "hidden": 64, "bottleneck": 32}},
            "train": {"images": 10_000, "device": "cpu", "threads": 1, "tensorboard": False},
        }
        merged = {name: {**of, **rooms.get(name, {})} for name, of in settings.items()}
        return PretrainConfig.model_validate({"run": tmp_path / "run", **merged})

    return config


RUNS = {
    "small": {},
    "drop-path, 14 px": {"model": {"drop_path": 0.3, "patch_px": 14}},
    "deep, swiglu, no registers": {"model": {"layers": 6, "ffn": "swiglu", "registers": 0}},
    "two packs": {"data": {"lanes": 2}},
    "many prototypes": {"objective": {"head": {"prototypes": 8192, "hidden": 64, "bottleneck": 32}}},
    "mostly weights": {"model": {"width": 256, "heads": 4}, "data": {"pack_tokens": 1024}},
}


@pytest.mark.parametrize("rooms", RUNS.values(), ids=RUNS)
def test_memory_of_a_step_within_a_tenth(make, rooms):
    """The bar; of what tensors hold at most, by the allocator's own record."""
    torch.set_num_threads(1)
    found = measure(make(**rooms), 2)
    assert found.tensor_bytes.predicted == pytest.approx(found.tensor_bytes.measured, rel=0.1)


@pytest.mark.parametrize("ibot_head", [None, {"prototypes": 96, "hidden": 48, "bottleneck": 24}])
def test_bytes_of_weights_teacher_gradients_and_moments_are_exact(make, ibot_head):
    config = make(objective={"ibot_head": ibot_head}, model={"ffn": "swiglu"})
    run = open_run(config)
    coming = run.feeder.steps(run.lanes, run.step)
    packs, _ = tensor_peak(run, coming)
    coming.close()
    useful = Useful.of(config, run.device, run.compute_dtype)
    predicted = memory_of(useful.work(packs), engines_of(config)[0], 1)
    state = dict(run.engine.tensors())
    moments = [t for name, t in state.items() if name.startswith("optimizer.exp")]
    of_side = {
        side: [t for n, t in state.items() if n.startswith(f"{side}.")] for side in ("student", "teacher")
    }
    gradients = [p.grad for p in run.model.parameters() if p.grad is not None]
    measured = [sum(t.nbytes for t in of) for of in (*of_side.values(), gradients, moments)]
    assert measured == [predicted.weights, predicted.teacher, predicted.gradients, predicted.optimizer]


def test_a_pace_is_taken_to_other_steps_by_hand():
    first = Stretches(2, {"teacher": 10.0, "optimizer": 4.0}, {"teacher": 5.0, "optimizer": 1.0})
    second = Stretches(4, {"teacher": 30.0, "optimizer": 8.0}, {"teacher": 12.0, "optimizer": 4.0})
    assert first.predicted(second) == {"teacher": 15.0, "optimizer": 2.0}
    teacher, optimizer, step = module._compare(first, second)
    assert teacher == Compared("teacher", 15 / 4, 3.0)
    assert optimizer == Compared("optimizer", 0.5, 1.0)
    assert (step.predicted, step.measured) == (17 / 4, 4.0)
    assert step.ratio == 17 / 16


def test_what_steps_had_to_do_is_counted_from_their_packs(make, monkeypatch):
    """Operations of each stretch add up to those of the step, the optimizer's bytes count once a step."""
    taken = []
    whole = module._one_step
    monkeypatch.setattr(module, "_one_step", lambda *a: taken.append(whole(*a)) or taken[-1])
    config = make(data={"lanes": 2}, model={"drop_path": 0.2})
    found = measure(config, 5)
    assert [len(packs) for packs in taken] == [2] * 7  # one warms up, one is for the memory
    assert (found.pace.steps, found.taken.steps) == (2, 3)
    packs = [pack for step in taken[3:6] for pack in step]
    useful, todo = Useful(config.model, config.objective), found.taken.todo
    assert todo["teacher"] + todo["student"] + todo["backward"] == pytest.approx(useful.flops(packs))
    assert todo["other"] == pytest.approx(sum(pack.n_images for pack in packs))
    bytes_once = useful.work(packs).traffic()["optimizer"].total
    assert todo["optimizer"] == 3 * bytes_once
    step = found.whole_step_s
    flops = useful.flops(packs) / 3
    assert found.tflop_per_s == pytest.approx(flops / step.measured / 1e12)
    assert found.mfu is None
    assert step.measured == pytest.approx(sum(found.taken.seconds.values()) / 3)
    assert all(part.measured > 0 for part in found.step_s)


def test_nothing_stays(make, tmp_path):
    config = make()
    text = "\n".join(measured_lines(measure(config, 2)))
    assert list(tmp_path.iterdir()) == []
    for part in ("teacher", "sinkhorn", "student", "backward", "optimizer", "other", "step", "tensors"):
        assert f"\n           {part} " in text
    assert text.startswith("measured   1 step on cpu, ")
    assert "TFLOP/s" in text


def test_a_single_step_cannot_be_halved(make):
    with pytest.raises(ValueError, match=r"--steps must be at least 2 to measure, got 1; take more"):
        measure(make(), 1)
