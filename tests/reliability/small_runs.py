"""A training run of hundredths of a second per step, trained in a process of its own, and what it left."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from made_states import exit_code, forked

from aqqua.train.checkpoint import load_newest
from aqqua.train.loop import pretrain
from aqqua.train.settings import PretrainConfig


def config_of(run: Path, dataset: Path, steps: int, **rooms: dict[str, Any]) -> PretrainConfig:
    """Of 2 lanes, deterministic, a checkpoint of every step. `rooms` change single settings."""
    values: dict[str, dict[str, Any]] = {
        "data": {"path": dataset, "holdout": 0.1, "lanes": 2, "window_blocks": 1, "pack_tokens": 2000},
        "views": {"locals": 2, "max_tokens": [64, 16]},
        "model": {"width": 32, "layers": 2, "heads": 2, "patch_px": 12, "layer_scale": 0.1},
        "objective": {"head": {"prototypes": 64, "hidden": 32, "bottleneck": 16}},
        "optim": {"lr": 5e-3, "lr_rule": "none"},
        "train": {
            "images": 10_000, "max_steps": steps, "log_every": 1, "checkpoint_every": 1, "device": "cpu",
            "threads": 1, "deterministic": True, "tensorboard": False,
        },
    }  # fmt: skip
    changed = {room: {**values.get(room, {}), **changes} for room, changes in rooms.items()}
    return PretrainConfig.model_validate({"run": run, "seed": 3, **values, **changed})


def train_here(config: PretrainConfig) -> None:
    torch.set_num_threads(1)
    pretrain(config)


def train_alone(config: PretrainConfig) -> None:
    """In a child, to the end."""
    assert exit_code(forked(partial(train_here, config))) == 0


def losses_of(run: Path) -> dict[int, str]:
    """All parts of the loss of every step, to the last digit, as a resumed run rewrites its log."""
    file = run / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {line["step"]: json.dumps(line["loss"]) for line in lines}


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    left = load_newest(run / "checkpoints")
    assert left is not None
    return left.tensors


def equal_bits(a: Path, b: Path) -> bool:
    left, right = weights_of(a), weights_of(b)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
