"""Packs of ragged views for the tests of costs, and what the real model makes of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from aqqua.cost.tokens import Role, role_of
from aqqua.model.config import ModelConfig
from aqqua.model.sequences import Sequences
from aqqua.objective.losses import NOTHING_BESIDE, Beside, Losses
from aqqua.objective.ssl import GLOBALS, Batch, ObjectiveConfig, SelfSupervised


def made_batch(
    model: ModelConfig, images: int = 6, views: int = 4, seed: int = 0, sides: tuple[int, int] = (2, 6)
) -> Batch:
    """So many images of so many views each, of so many patches a side, every fifth global patch hidden."""
    draw = np.random.default_rng(seed)
    grids = torch.from_numpy(draw.integers(*sides, (images * views, 2), endpoint=True))
    um_per_px = torch.ones(len(grids))
    packings = [
        Sequences.from_grids(grids[:count], um_per_px[:count], model.patch_px, model.prefix)
        for count in (len(grids), GLOBALS * images)
    ]
    student, teacher = packings
    mask = torch.zeros(student.patches, dtype=torch.bool)
    mask[: teacher.patches : 5] = True
    masked = mask.nonzero()[:, 0]
    chance = torch.Generator().manual_seed(seed)  # which views are dropped decides what is saved
    scores = torch.rand(model.layers, 2, len(grids), generator=chance) if model.drop_path else None
    rows = torch.randn(student.patches, model.patch_values, generator=chance)
    return Batch(
        rows,
        student,
        teacher,
        images,
        torch.arange(images),
        mask,
        masked,
        torch.ones(len(masked)),
        scores,
        None,
    )


def role(sequences: Sequences) -> Role:
    return role_of(sequences.lengths.numpy())


@dataclass(frozen=True)
class Counted:
    """What torch's counter counted of a forward and of its backward pass."""

    forward: int
    backward: int


def count_flops(forward: Callable[[], torch.Tensor]) -> Counted:
    """Of a function whose result is summed and differentiated, where it wants a gradient."""
    with FlopCounterMode(display=False) as ahead:
        out = forward()
    back = FlopCounterMode(display=False)
    if out.requires_grad:
        with back:
            out.sum().backward()
    return Counted(ahead.get_total_flops(), back.get_total_flops())


@dataclass(frozen=True)
class Saved:
    """Bytes that autograd keeps, without the weights."""

    backbone: int
    everything: int


def count_saved(network: SelfSupervised, batch: Batch, beside: Beside = NOTHING_BESIDE) -> Saved:
    """Of the student's forward pass over a pack, and of that with heads and losses."""
    taught = network.teach(batch)
    targets = network.targets([taught], 0.07)

    def everything() -> Losses:
        return network.learn(batch, taught, targets, batch.n_images, beside=beside)

    return Saved(count_backbone_saved(network, batch), _saved(network, everything))


def count_backbone_saved(network: SelfSupervised, batch: Batch) -> int:
    """Of the student's backbone alone."""

    def backbone() -> torch.Tensor:
        features = network.student.backbone(
            batch.patches_NF, batch.student, mask_N=batch.mask_N, drop_scores_L2V=batch.drop_scores_L2V
        )
        return features.patches_ND

    return _saved(network, backbone)


def _saved(network: SelfSupervised, forward: Callable[[], object]) -> int:
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    seen: dict[int, torch.Tensor] = {}  # kept alive, so that no storage takes another's place

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            seen[place] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = forward()
    assert out is not None
    return sum(tensor.untyped_storage().nbytes() for tensor in seen.values())


def objective(**fields: object) -> ObjectiveConfig:
    """Small heads."""
    head = {"prototypes": 2048, "hidden": 128, "bottleneck": 64}
    return ObjectiveConfig.model_validate({"head": head, **fields})
