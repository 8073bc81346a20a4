"""The cases that rendering is timed on can be made, and those that render our views make the same rows."""

import importlib
import sys
from pathlib import Path

import torch

from aqqua.kernels.render import op, scene
from aqqua.plan.view_config import ViewConfig

BENCH = Path(__file__).parents[2] / "bench" / "kernels"


def test_cases_can_be_made_and_agree(device, monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.delitem(sys.modules, "render", raising=False)
    monkeypatch.setattr(scene, "BLOCK_E", 2048)  # few programs: the interpreter takes its time
    monkeypatch.setattr(op, "BLOCK_E", 2048)
    module = importlib.import_module("render")
    views = ViewConfig(locals=1, max_tokens=(4, 2), min_tokens=(2, 1), blur_sigma_px=(0.1, 0.3))
    found = list(module.cases(device, images=1, patches=(8,), dtype=torch.float32, views=views))
    of_many, of_few, by_grid_sample, *_by_torchvision = found
    assert all(case.forward_bytes > 0 and not case.both for case in found)
    for case in (of_many, of_few):
        want, *others = [call() for call in case.forward.values()]
        for rows in others:
            torch.testing.assert_close(rows, want, atol=1e-4, rtol=0)
    assert list(of_many.forward) == ["reference", "triton", "triton and copies"]
    assert ("torchvision v2" in of_few.not_run) == (len(found) == 3)
    assert sum(map(len, by_grid_sample.forward["eager"]())) == 3


def test_grid_sample_samples_where_our_maps_say(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.delitem(sys.modules, "render", raising=False)
    module = importlib.import_module("render")
    views = ViewConfig(
        locals=0,
        max_tokens=(64, 64),
        scale_jitter=(1.0, 1.0),
        global_area=(0.2, 0.2),
        blur_sigma_px=(0.0, 0.0),
        noise=(0.0, 0.0),
    )
    pack, pixels = module.made_pack(1, 8, views)
    scene_on_cpu = module.scene_of(pack, pixels, 8, 1, None, torch.device("cpu"))
    unsharp = [v for v in range(pack.n_views) if pack.sigma_V[v] == 0]
    (batch,) = module.grid_sampled(pack, scene_on_cpu, 8)
    rows = module.render_native(pack, pixels, 8, 1).split(pack.patches_V.tolist())
    assert unsharp
    for v in unsharp:
        height, width = (pack.grid_V2[v] * 8).tolist()
        levels = (rows[v] - float(pack.bias_VC[v, 0])) / float(pack.scale_V[v])
        mine = module.patchify(batch[v, :, :height, :width], 8)
        close = (levels - mine).abs() < 1e-3
        assert close.float().mean() > 0.5  # the rest lies beyond the image, where the padding differs
