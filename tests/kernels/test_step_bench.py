"""The cases a whole step is timed on: all backends do the same step, and the count of operations is right."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import ObjectiveConfig
from aqqua.plan.view_config import ViewConfig

BENCH = Path(__file__).parents[2] / "bench"
MODEL = ModelConfig(width=32, heads=1, layers=1, patch_px=8, drop_path=0.0, registers=0)
VIEWS = ViewConfig(locals=2, max_tokens=(16, 6))
OBJECTIVE = ObjectiveConfig(head={"prototypes": 32, "hidden": 16, "bottleneck": 16})


@pytest.fixture
def step(monkeypatch):
    for folder in ("kernels", "data"):
        monkeypatch.syspath_prepend(BENCH / folder)
    for name in ("step", "made", "case"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("step")


def test_every_backend_takes_the_same_step(step, device):
    """But the compiled one: it is left to the GPU, where compiling is worth its minute."""
    (case,) = step.cases(device, {"tiny": MODEL}, 120, OBJECTIVE, VIEWS)
    assert set(case.both) == {"eager", "torch.compile", "triton", "triton recompute"}
    want = case.both["eager"]()
    again = case.both["eager"]()
    for name in ("triton", "triton recompute"):
        found = case.both[name]()
        for ours, theirs, repeated in zip(found, want, again, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0.03, atol=1e-3)
            torch.testing.assert_close(repeated, theirs)  # nothing moved
    assert not case.forward


def test_operations_by_hand(step):
    """One block, no heads to speak of: weights of 12 D² + patches, tokens, and attention."""
    batch = step.made_batch(MODEL, VIEWS, 120, torch.device("cpu"))
    n, m = batch.student.lengths.double(), batch.teacher.lengths.double()
    D, F = 32, 64
    weights = 12 * D * D + F * D
    head = sum(
        p.numel() for p in step.SelfSupervised(MODEL, OBJECTIVE).student.dino_head.parameters() if p.ndim == 2
    )
    masked = len(batch.masked_M)

    def forward(lengths, rows):
        return float(2 * weights * lengths.sum() + 4 * D * lengths.square().sum() + 2 * head * rows)

    want = 3 * forward(n, len(n) + masked) + forward(m, len(m) + masked)
    assert step.useful_flops(MODEL, OBJECTIVE, batch) == pytest.approx(want, rel=1e-9)
