"""Which implementation of a kernel serves."""

import pkgutil

import pytest
import torch

import aqqua.kernels
from aqqua.kernels import choice
from aqqua.kernels.choice import choose

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_auto_is_triton_on_a_gpu_for_ops_that_were_measured(monkeypatch):
    monkeypatch.setattr(choice, "_INSTALLED", True)
    monkeypatch.setattr(choice, "TRITON_FIRST", frozenset({"optim"}))
    assert choose("embed", GPU, torch.bfloat16) == "reference"
    assert choose("optim", CPU, torch.float32) == "reference"
    assert choose("optim", GPU, torch.bfloat16) == "triton"
    assert choose("optim", GPU, torch.float64) == "reference"
    monkeypatch.setattr(choice, "_INSTALLED", False)
    assert choose("optim", GPU, torch.bfloat16) == "reference"


def test_a_forced_name_serves_or_says_why_not(monkeypatch):
    monkeypatch.setattr(choice, "_INSTALLED", True)
    assert choose("optim", GPU, torch.float32, "reference") == "reference"
    assert choose("optim", GPU, torch.float32, "triton") == "triton"
    with pytest.raises(RuntimeError, match=r"optim backend 'triton' needs float32, .* got torch.float64"):
        choose("optim", GPU, torch.float64, "triton")
    monkeypatch.setattr(choice, "interpreted", lambda: False)
    with pytest.raises(RuntimeError, match=r"'triton' needs a CUDA device, got cpu; use 'auto'"):
        choose("optim", CPU, torch.float32, "triton")
    monkeypatch.setattr(choice, "_INSTALLED", False)
    with pytest.raises(RuntimeError, match=r"'triton' needs the package triton, got none; install it"):
        choose("optim", GPU, torch.float32, "triton")
    with pytest.raises(ValueError, match=r"optim backend must be one of auto, triton, reference, got 'cuda'"):
        choose("optim", GPU, torch.float32, "cuda")


def test_every_op_has_a_folder_and_is_known():
    folders = {module.name for module in pkgutil.iter_modules(aqqua.kernels.__path__) if module.ispkg}
    assert folders == {*choice.OPS, "attention"}
    assert set(choice.OPS) >= choice.TRITON_FIRST
