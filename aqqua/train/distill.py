"""Distillation: a small student learns what a trained, larger network says of the same views.

The loop is that of pretraining with DINOv2's few exceptions (Oquab 2023, section 5; dinov2 issues #96, #114
and #176): the targets are those of a frozen network, heads included; nothing is hidden from the student, so
that iBOT asks about every patch of both global views; no stochastic depth; and the moving average of the
student, which has no part in the training, is the final model, as in any run.

The two may differ in width, depth, heads and registers. They must see the same patch rows and name the same
prototypes. Test: tests/train/test_distill.py, tests/objective/test_ssl.py.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from aqqua.cost.flops import DistilledFrom
from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import Followed, Network, ObjectiveConfig
from aqqua.plan.view_config import ViewConfig
from aqqua.store.new_file import new_file
from aqqua.train import checkpoint
from aqqua.train.checkpoint import Checkpoint
from aqqua.train.folder import CHECKPOINTS
from aqqua.train.ranks import Ranks
from aqqua.train.settings import PretrainConfig

ROOMS = ("model", "objective", "views")  # of a run's config: what a network needs to be used
HEADER_KEY = "aqqua_teacher"  # of a file of `save_teacher`: the configs of these rooms, and the step
_TEACHER = "teacher."


def find_teacher(path: Path) -> Checkpoint:
    """The teacher of a run: backbone and heads, without `teacher.` before their names.

    Args:
        path: a run, a checkpoint of one, or a file of `save_teacher`.

    Returns:
        `state` has the configs of ROOMS, the `path` it came from, and the `sha256` of the weights.

    Raises:
        ValueError: none of these, or damaged.
    """
    found = _from_file(path) if path.is_file() else _from_run(path)
    return Checkpoint(
        found.step, found.tensors, {**found.state, "path": str(path), "sha256": _sha256(found.tensors)}
    )


def save_teacher(out: Path, found: Checkpoint) -> None:
    """Write what `find_teacher` found as one safetensors file, complete or not at all."""
    header = {**{room: found.state[room] for room in ROOMS}, "step": found.step}
    tensors = {name: tensor.contiguous() for name, tensor in found.tensors.items()}
    with new_file(out, "export", ".safetensors") as partial:
        save_file(tensors, partial, {HEADER_KEY: json.dumps(header)})


def _followed_by(config: PretrainConfig, found: Checkpoint, device: torch.device) -> Followed:
    model = ModelConfig.model_validate(found.state["model"])
    objective = ObjectiveConfig.model_validate(found.state["objective"])
    views, path = ViewConfig.model_validate(found.state["views"]), found.state["path"]
    _check_patches(config, model, views, path)
    ours = _common(config.model, config.objective, config.views)
    _check_alike(ours, _common(model, objective, views), path)
    # Who computes is this run's choice, as for the student.
    served_by = {"attention": config.model.attention, "kernels": config.model.kernels}
    network = Network(
        model.model_copy(update={**served_by, "activation_checkpointing": False}),
        objective.model_copy(update={"kernels": config.objective.kernels}),
    )
    network.load_state_dict(found.tensors)
    return Followed(network.float().requires_grad_(False).eval().to(device), found.state["sha256"])


def follow(config: PretrainConfig, ranks: Ranks, device: torch.device) -> Followed | None:
    """The network that a run distills, the same on all ranks; None where it distills none. Rank 0 reads it.

    Raises:
        ValueError: there is none where the config says, or the student cannot follow it.
    """
    if config.distill is None:
        return None
    path = config.distill.teacher
    found = checkpoint.read_together(lambda: find_teacher(path), ranks, device)
    assert found is not None, "find_teacher finds one or raises"
    return _followed_by(config, found, device)


def distilled_from(followed: Followed | None) -> DistilledFrom | None:
    """What the cost of a step depends on of a teacher."""
    if followed is None:
        return None
    return DistilledFrom(followed.network.backbone.config, followed.network.objective)


def _from_run(path: Path) -> Checkpoint:
    if path.absolute().parent.name == CHECKPOINTS:
        saved: Checkpoint | None = checkpoint.load(path)
    else:
        saved = checkpoint.load_newest(path / CHECKPOINTS)
    if saved is None:
        raise ValueError(
            "pretrain: distill.teacher must be a run with a checkpoint, or a file of `aqqua export --format "
            f"teacher`, got {path}; give the run that trained the teacher"
        )
    tensors = {k.removeprefix(_TEACHER): t for k, t in saved.tensors.items() if k.startswith(_TEACHER)}
    return Checkpoint(saved.step, tensors, {room: saved.state["config"][room] for room in ROOMS})


def _from_file(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER_KEY)
            tensors = {} if header is None else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"pretrain: distill.teacher must be a whole safetensors file, got {path}: {error}; fetch it again"
        ) from error
    if header is None:
        raise ValueError(
            f"pretrain: distill.teacher must have the heads it was trained with, got {path}, which has only "
            "a backbone; give the run folder, or a file of `aqqua export RUN --format teacher`"
        )
    state = json.loads(header)
    return Checkpoint(state.pop("step"), tensors, state)


def _sha256(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_patches(config: PretrainConfig, model: ModelConfig, views: ViewConfig, path: str) -> None:
    known = views.patch_choices or (model.patch_px,)
    new = [side for side in config.views.patch_choices or [config.model.patch_px] if side not in known]
    if new:
        side = f"model.patch_px={known[0]}" + (
            " and leave out views.patch_choices" if config.views.patch_choices else ""
        )
        fix = f"views.patch_choices={list(known)}" if views.patch_choices else side
        raise ValueError(
            f"pretrain: patches must have sides that distill.teacher ({path}) has learned, "
            f"{', '.join(map(str, known))} px, got {new[0]}; set {fix}"
        )


def _common(model: ModelConfig, objective: ObjectiveConfig, views: ViewConfig) -> dict[str, Any]:
    """What student and teacher must have alike, by its dotted key."""
    found: dict[str, Any] = {
        "model.channels": model.channels,
        "objective.head.prototypes": objective.head.prototypes,
    }
    if objective.ibot_head is not None:
        found["objective.ibot_head.prototypes"] = objective.ibot_head.prototypes
    found |= {"views.subtract_background": views.subtract_background, "views.std": views.std}
    if not views.subtract_background:
        found["views.mean"] = views.mean
    return found


def _check_alike(mine: dict[str, Any], theirs: dict[str, Any], path: str) -> None:
    for key in dict.fromkeys([*theirs, *mine]):
        wanted, got = theirs.get(key), mine.get(key)
        if wanted != got:
            said, fix = (wanted, f"{key}={wanted}") if key in theirs else ("none", "objective.ibot_head=null")
            raise ValueError(
                f"pretrain: {key} must be that of distill.teacher ({path}), {said}, got "
                f"{'none' if got is None else got}; set {fix}"
            )
