"""The cases that a whole training step is timed on: teacher, targets, student, losses, gradients, optimizer.

Packs of 65,536 student tokens planned from made-up image sizes with the spread of ISIIS, patch 8: native
views, masks and drop-path as training has them; patch rows are random. Every backend runs aqqua's own step on
the same packs and from the same weights; rates are 0 and momentum 1, so that they stay the same.

- eager: PyTorch's operators, torch's varlen attention or what serves here.
- torch.compile: the same, teacher and student compiled.
- triton: all of our kernels. triton recompute: and logits are never stored.

Operations are the useful ones: 2 per weight of a matrix and token forward, 4 backward, and attention's
4 · D · Σ n² forward, twice that backward; the teacher goes forward alone. Nothing is counted for what is
computed twice. Test: tests/kernels/test_step_bench.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from case import Case
from made import MadeBlocks
from torch import Tensor

from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import Batch, ObjectiveConfig, SelfSupervised
from aqqua.plan.lanes import Lane, LaneConfig, LaneState
from aqqua.plan.masks import MaskConfig
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.train.batch import Shape, make_batch
from aqqua.train.fused import FusedStep
from aqqua.train.optim import OptimConfig, clip_gradients, ema_update, make_optimizer, parameter_groups

SIZES = ("small", "base", "large")
OBJECTIVE, VIEWS = ObjectiveConfig(), ViewConfig()
TEMPERATURE, CLIP = 0.07, 3.0
# backend -> kernels of the backbone, of the losses, of the optimizer; attention; compiled
BACKENDS: dict[str, tuple[str, str, str, str, bool]] = {
    "eager": ("reference", "reference", "torch", "auto", False),
    "torch.compile": ("reference", "reference", "torch", "auto", True),
    "triton": ("triton", "triton", "triton", "triton", False),
    "triton recompute": ("triton", "recompute", "triton", "triton", False),
}


@dataclass(frozen=True)
class Side:
    """One backend: model, and what moves it."""

    model: SelfSupervised
    optimizer: torch.optim.AdamW
    fused: FusedStep | None
    device: torch.device


def cases(
    device: torch.device | str = "cuda",
    models: dict[str, ModelConfig] | None = None,
    tokens: int = 65_536,
    objective: ObjectiveConfig = OBJECTIVE,
    views: ViewConfig = VIEWS,
) -> Iterator[Case]:
    """A step of each model."""
    device = torch.device(device)
    models = models or {size: ModelConfig(size=size, patch_px=8) for size in SIZES}
    for name, model in models.items():
        torch._dynamo.reset()
        batch = made_batch(model, views, tokens, device)
        flops = useful_flops(model, objective, batch)
        calls: dict[str, Callable[[], object]] = {}
        for backend in BACKENDS:
            side = _side(model, objective, backend, device)
            calls[backend] = partial(_step, side, batch)
        yield Case(
            name=f"step {name}, {batch.student.tokens} student tokens of {batch.n_images} images",
            forward={},
            both=calls,
            forward_bytes=0,
            both_bytes=0,
            both_flops=flops,
            computes_in=torch.bfloat16,
            host_counts=True,
        )


def made_batch(model: ModelConfig, views: ViewConfig, tokens: int, device: torch.device) -> Batch:
    """The first pack of a run over made-up images."""
    lane = Lane(MadeBlocks(1_000_000), LaneConfig(lanes=1, window_blocks=8, pack_tokens=tokens), 0, seed=0)
    packer = Packer(
        lane, patch_px=model.patch_px, prefix_tokens=model.prefix, views=views, masks=MaskConfig()
    )
    pack, _ = packer.next_pack(LaneState())
    generator = torch.Generator().manual_seed(0)
    rows = int(pack.grid_V2.prod(axis=1).sum())
    patches_NF = torch.randn(rows, model.patch_values, generator=generator).to(torch.bfloat16)
    shape = Shape.of(model, views, torch.bfloat16)
    return make_batch(pack, patches_NF, shape, seed=0, step=0, device=device)


def useful_flops(model: ModelConfig, objective: ObjectiveConfig, batch: Batch) -> int:
    """Of student (forward and backward, drop-path's share left out) and teacher (forward)."""
    with torch.device("meta"):
        student = SelfSupervised(model, objective).student
    matrices = [
        p.numel()
        for name, p in student.backbone.named_parameters()
        if p.ndim == 2 and (name.startswith("blocks.") or name == "embed.patch_embed.weight")
    ]
    head = [p.numel() for p in student.dino_head.parameters() if p.ndim == 2]
    masked, crops = len(batch.masked_M), batch.student.views
    kept = 1.0 - model.drop_path

    def side(sequences: object, rows: int, kept: float) -> float:
        lengths = sequences.lengths.double()  # type: ignore[attr-defined]
        attention = 4 * model.width * model.layers * float(lengths.square().sum())
        return kept * (2 * sum(matrices) * float(lengths.sum()) + attention) + 2 * sum(head) * rows

    globals_ = batch.teacher.views
    return int(3 * side(batch.student, crops + masked, kept) + side(batch.teacher, globals_ + masked, 1.0))


def _side(model: ModelConfig, objective: ObjectiveConfig, backend: str, device: torch.device) -> Side:
    kernels, losses, step, attention, compiled = BACKENDS[backend]
    torch.manual_seed(0)
    network = SelfSupervised(
        ModelConfig.model_validate({**model.model_dump(), "kernels": kernels, "attention": attention}),
        ObjectiveConfig.model_validate({**objective.model_dump(), "kernels": losses}),
    ).to(device)
    config = OptimConfig(backend=step)
    optimizer = make_optimizer(parameter_groups(network.student, model.layers, config), config)
    fused = FusedStep.of(optimizer, network.student, network.teacher) if step == "triton" else None
    if compiled:
        network.student.backbone.compile(dynamic=True)
        network.teacher.backbone.compile(dynamic=True)
        for head in (network.student.dino_head, network.teacher.dino_head):
            head.compile(dynamic=True)
    return Side(network, optimizer, fused, device)


def _step(side: Side, batch: Batch) -> list[Tensor]:
    """As aqqua.train.step, of one pack. Returns losses and norms, to compare backends by."""
    model = side.model
    side.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(side.device.type, torch.bfloat16):
        taught = model.teach(batch)
        targets = model.targets([taught], TEMPERATURE)
        losses = model.learn(batch, taught, targets, batch.n_images)
    losses.total.backward()
    if side.fused is None:
        norms = clip_gradients(dict(model.student.named_children()), CLIP)
        side.optimizer.step()
        ema_update(model.teacher, model.student, 1.0)
    else:
        norms = side.fused.step(losses.total, 1.0, CLIP)
    return [torch.stack([losses.dino, losses.ibot, losses.koleo]), torch.tensor([*norms.values()])]
