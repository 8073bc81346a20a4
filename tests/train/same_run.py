"""What tests of training compare two runs by: everything but what a clock changes."""

import json
from pathlib import Path
from typing import Any

import torch

from aqqua.train import checkpoint
from aqqua.train.checkpoint import Checkpoint
from aqqua.train.folder import CHECKPOINTS
from aqqua.train.metrics import METRICS

CLOCKED = {
    "images_per_s", "tokens_per_s", "step_s", "tflop_per_s", "mfu", "waiting_share",
    "slowest_rank", "slowest_factor", "gpu_hours", "energy_kwh", "gpu_hours_left",
}  # fmt: skip


def saved(folder: Path) -> Checkpoint:
    """The newest checkpoint."""
    found = checkpoint.load_newest(folder / CHECKPOINTS)
    assert found is not None
    return found


def numbers(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock changes."""
    lines = (folder / METRICS).read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in CLOCKED} for line in lines]


def assert_same_run(folder: Path, undisturbed: Path) -> None:
    """Losses, norms, rates, weights, teacher, moments and the places of all lanes: the same bits."""
    assert numbers(folder) == numbers(undisturbed)
    assert_same_checkpoint(folder, undisturbed)


def assert_same_checkpoint(folder: Path, undisturbed: Path) -> None:
    """All that a checkpoint keeps but the config, which names the folder."""
    got, want = saved(folder), saved(undisturbed)
    assert got.step == want.step
    assert got.tensors.keys() == want.tensors.keys()
    assert [name for name in want.tensors if not torch.equal(got.tensors[name], want.tensors[name])] == []
    kept = want.state.keys() - {"config"}
    assert {key: got.state[key] for key in kept} == {key: want.state[key] for key in kept}
