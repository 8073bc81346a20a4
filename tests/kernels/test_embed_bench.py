"""The cases that embed is timed on can be made, and all their backends compute the same."""

import importlib
import sys
from pathlib import Path

import torch

BENCH = Path(__file__).parents[2] / "bench" / "kernels"


def test_cases_can_be_made_and_agree(device, monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.delitem(sys.modules, "embed", raising=False)
    module = importlib.import_module("embed")
    found = list(module.cases(device=device, tokens=120, widths=(16,), square=(2, 3)))
    assert len({case.name for case in found}) == len(found) == 8
    for case in found:
        assert {"eager", "torch.compile", "triton"} <= case.forward.keys() == case.both.keys()
        assert ("loop over sizes" in case.forward) == ("learned" in case.name)
        assert 0 < case.forward_bytes < case.both_bytes
        for calls in (case.forward, case.both):
            others = [name for name in calls if name not in {"eager", "torch.compile"}]
            for name in others:
                torch.testing.assert_close(calls[name](), calls["eager"](), rtol=0.02, atol=0.02)
