"""The cases that kernels are timed on can be made, and all their backends compute the same."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import ObjectiveConfig

BENCH = Path(__file__).parents[2] / "bench" / "kernels"
SMALL = {
    "residual_norm": {"tokens": 60, "widths": (24,)},
    "activation": {"tokens": 8, "widths": (("gelu", 16, 8), ("swiglu", 16, 8))},
    "segment": {"tokens": 104, "width": 16, "heads": 2, "images": (5,)},
}
STUDENT = (
    ModelConfig(width=16, heads=1, layers=1, patch_px=2),
    ObjectiveConfig(head={"prototypes": 8, "hidden": 8, "bottleneck": 4}),
)


@pytest.mark.parametrize("name", SMALL)
def test_cases_can_be_made_and_agree(name, device, monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module(name)
    found = list(module.cases(device=device, **SMALL[name]))
    assert len({case.name for case in found}) == len(found) >= 4
    for case in found:
        assert {"eager", "torch.compile", "triton"} <= case.forward.keys() == case.both.keys()
        assert 0 < case.forward_bytes < case.both_bytes
        for calls in (case.forward, case.both):
            torch.testing.assert_close(calls["triton"](), calls["eager"](), rtol=0.1, atol=0.1)


def test_the_optimizers_cases_can_be_made_and_agree(device, monkeypatch):
    """Whole steps, which have no backward side."""
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.delitem(sys.modules, "optim", raising=False)
    module = importlib.import_module("optim")
    plain, copying = module.cases(device=device, models={"one block": STUDENT})
    assert 0 < plain.forward_bytes < copying.forward_bytes
    for case in (plain, copying):
        assert case.forward.keys() == {"eager", "fused", "torch.compile", "triton"}
        assert not case.both
        for _ in range(2):
            eager, fused, ours = (case.forward[name]() for name in ("eager", "fused", "triton"))
            assert len(eager) > 30
            torch.testing.assert_close(fused, eager)
            for mine, theirs in zip(ours[1:], eager[1:], strict=True):
                torch.testing.assert_close(
                    mine, theirs, rtol=2**-7 if mine.dtype != torch.float32 else 1e-4, atol=1e-5
                )
