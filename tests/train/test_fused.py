"""The step in one pass of our kernels is the step of PyTorch's several, and a run may change between them.

On a machine without a GPU Triton's interpreter runs the kernels. Tolerance: AdamW, which divides a gradient
by its own size, carries the rounding of the norms on.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from aqqua.train import fused
from aqqua.train.fused import FusedStep, serving_step
from aqqua.train.headline import headline
from aqqua.train.optim import OptimConfig
from aqqua.train.run import Run, open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import Outcome, rates_at, take_step

MakeConfig = Callable[..., PretrainConfig]
FROZEN = "student.backbone.embed.mask_token"


def opened(make_config: MakeConfig, folder: Path, backend: str) -> Run:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    run = open_run(
        make_config(
            folder,
            optim={"lr": 1e-3, "lr_rule": "none", "backend": backend},
            train={"device": device, "precision": "float32"},
        )
    )
    assert (run.engine.fused is not None) == (backend == "triton")
    return run


def go(run: Run, steps: int = 1) -> list[Outcome]:
    outcomes = []
    for _ in range(steps):
        data = run.feeder.step(run.lanes, run.step)
        outcomes.append(take_step(run, data, rates_at(run)))
        assert outcomes[-1].taken
        run.advance(data, outcomes[-1].n_images)
    return outcomes


def everything(run: Run) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in run.engine.tensors()}


def assert_same_run(a: Run, b: Run) -> None:
    """Student, teacher, moments and counts, under the same names."""
    mine, theirs = everything(a), everything(b)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(
            tensor, theirs[name], rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_a_few_steps_are_those_of_pytorch(make_config, tmp_path):
    ours, plain = (opened(make_config, tmp_path / backend, backend) for backend in ("triton", "torch"))
    for mine, theirs in zip(go(ours, 3), go(plain, 3), strict=True):
        assert mine.losses == pytest.approx(theirs.losses, rel=1e-4)
        assert mine.grad_norms == pytest.approx(theirs.grad_norms, rel=1e-4)
    assert_same_run(ours, plain)
    assert max(mine.grad_norms.values()) > 1e-3
    steps = {name: int(t) for name, t in everything(ours).items() if name.startswith("optimizer.step.")}
    assert set(steps.values()) == {3}


@pytest.mark.parametrize("backends", [("triton", "torch"), ("torch", "triton"), ("triton", "triton")])
def test_a_run_resumes_by_either(backends, make_config, tmp_path):
    undisturbed = opened(make_config, tmp_path / "whole", backends[0])
    go(undisturbed, 4)
    first = opened(make_config, tmp_path / "parts", backends[0])
    go(first, 2)
    first.save()
    second = opened(make_config, tmp_path / "parts", backends[1])
    before, after = everything(first), everything(second)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert torch.equal(tensor, after[name]), name
    go(second, 2)
    assert_same_run(second, undisturbed)
    if backends[0] == backends[1]:
        same = everything(undisturbed)
        assert all(torch.equal(tensor, same[name]) for name, tensor in everything(second).items())


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(how, make_config, tmp_path):
    run = opened(make_config, tmp_path, "triton")
    go(run)
    before, data = everything(run), run.feeder.step(run.lanes, run.step)
    if how == "loss":
        data.batches[1].patches_NF[3, 1] = float("nan")
    else:
        weight = run.model.student.backbone.norm.weight
        weight.register_hook(lambda gradient: gradient * float("inf"))
    assert not take_step(run, data, rates_at(run)).taken
    after = everything(run)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert run.guard.streak == 1


def test_a_first_step_that_is_not_finite_leaves_no_moments(make_config, tmp_path):
    run = opened(make_config, tmp_path, "triton")
    data = run.feeder.step(run.lanes, run.step)
    data.batches[0].patches_NF[0, 0] = float("inf")
    assert not take_step(run, data, rates_at(run)).taken
    assert not [name for name in everything(run) if name.startswith("optimizer.")]


def test_a_frozen_parameter_stays_and_its_teacher_follows(make_config, tmp_path):
    runs = [opened(make_config, tmp_path / backend, backend) for backend in ("triton", "torch")]
    for run in runs:
        parameter = dict(run.model.named_parameters())[FROZEN]
        parameter.requires_grad_(False).fill_(0.5)
        before = parameter.clone()
        go(run, 2)
        assert torch.equal(parameter, before)
        assert not [name for name in everything(run) if name.startswith("optimizer") and FROZEN in name]
        assert dict(run.model.named_parameters())[FROZEN.replace("student", "teacher")].any()
    assert_same_run(*runs)


def test_what_serves(make_config, tmp_path, monkeypatch):
    assert "optim.backend triton" in headline(opened(make_config, tmp_path, "triton"))
    cpu = torch.device("cpu")
    assert serving_step(OptimConfig(), cpu) == "torch"
    monkeypatch.setattr(fused, "choose", lambda *_: "triton")
    assert serving_step(OptimConfig(), cpu) == "triton"
    assert serving_step(OptimConfig(backend="torch"), cpu) == "torch"


def test_student_and_teacher_must_be_of_one_make(make_config, tmp_path):
    run = opened(make_config, tmp_path, "torch")
    with pytest.raises(ValueError, match=r"same parameters, got \['backbone.* build both from one config"):
        FusedStep.of(run.engine.optimizer, run.model.student, run.model.teacher.dino_head)
