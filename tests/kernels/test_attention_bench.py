"""The cases of bench/kernels/attention.py: built and called at tiny sizes, and their accounts."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).parents[2] / "bench" / "kernels" / "attention.py"
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("bench_kernels_attention", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_backend_of_a_case_gives_the_same(bench, device, monkeypatch):
    """Those that serve here; the compiled ones are left to the GPU, where compiling is worth its minute."""
    lengths = {"tiny": torch.tensor([3, 70, 9])}
    monkeypatch.setattr(bench, "mixes", lambda _tokens: lengths)
    for case in bench.cases(device, heads=1, width=32, dtype=torch.float32, chosen=("tiny",)):
        assert {"triton", "grouped", "padded"} <= case.both.keys()
        want, want_grad = case.forward["reference"](), case.both["reference"]()
        for name in ("triton", "grouped", "padded"):
            torch.testing.assert_close(case.forward[name](), want)
            torch.testing.assert_close(case.both[name](), want_grad)
        assert not case.not_run.keys() & case.forward.keys()
        assert case.forward_bytes == 4 * 82 * 32 * 4
        assert case.both_flops == 12 * 32 * (9 + 4900 + 81)


def test_mixes_are_what_they_are_called(bench):
    mixes = bench.mixes(65_536)
    assert set(mixes) == {"G", "L", "F", "X", "isiis8", "isiis14"}
    for lengths in mixes.values():
        assert 64_000 < int(lengths.sum()) <= 65_536
        assert int(lengths.min()) >= 2
    # performance.md's table of the assumed law: medians 28 and 10.
    assert float(mixes["G"].double().median()) == pytest.approx(28, abs=3)
    assert float(mixes["L"].double().median()) == pytest.approx(10, abs=1)
    assert np.unique(mixes["F"]).tolist() == [257]


def test_the_histogram_is_of_whole_images(bench):
    """2 global and 8 local views of each of 19,656 images, none above the caps."""
    kinds = bench.json.loads(bench.LENGTHS.read_text())["views"]
    for patch in kinds.values():
        assert sum(patch["global"].values()) == 2 * 19_656
        assert sum(patch["local"].values()) == 8 * 19_656
        assert max(map(int, patch["global"])) <= 256
        assert max(map(int, patch["local"])) <= 64
