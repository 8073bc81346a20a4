"""The optimizer: learning rate per layer, weight decay, gradient clipping, and the following teacher.

Every parameter belongs to one group by its name. A group's multipliers scale the learning rate and the
weight decay of the step, so that one schedule serves all of them. Test: tests/train/test_optim.py.

Letter key: L transformer blocks.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from aqqua.train.schedule import Schedule

# Rule to factor on the base rate, given images per step. Source: dinov2/utils/config.py
# `apply_scaling_rules_to_cfg`; dinov3/configs/config.py:52, which has the extra factor 4.
LR_RULES = {
    "sqrt1024": lambda images_per_step: math.sqrt(images_per_step / 1024),
    "v3x4": lambda images_per_step: 4.0 * math.sqrt(images_per_step / 1024),
    "none": lambda images_per_step: 1.0,  # noqa: ARG005  the rule that ignores it
}


class OptimConfig(BaseModel):
    """AdamW and its schedules. Shares are of the run's steps, so they hold for any length of run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lr: float = Field(
        default=4e-3,
        gt=0,
        le=1,
        description="base learning rate before lr_rule (DINOv2: 4e-3 for short runs, 2e-4 for ViT-L and g "
        "over 625,000 steps); lower it for batches under 1024 images",
    )
    lr_rule: Literal["sqrt1024", "v3x4", "none"] = Field(
        default="sqrt1024",
        description="factor on lr from images per step b: √(b/1024) (DINOv2), 4·√(b/1024) (DINOv3), or 1",
    )
    min_lr: float = Field(default=1e-6, ge=0, le=1, description="learning rate at the end (DINOv2: 1e-6)")
    lr_decay: Literal["v2", "v3", "constant"] = Field(
        default="v2",
        description="after the warm-up: cosine to min_lr, reached after the last step (v2) or at it (v3), or "
        "constant (DINOv3 7B)",
    )
    warmup_share: float = Field(
        default=0.1, ge=0, le=1, description="share of the run the rate rises over (DINOv2: 10 of 100 epochs)"
    )
    freeze_last_layer_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of the run with rate 0 for the heads' last layer (DINOv2: 1 of 100 epochs)",
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's memory of the gradient")
    beta2: float = Field(
        default=0.999, ge=0, lt=1, description="AdamW's memory of its square (DINOv2: 0.999; DINOv3 7B: 0.99)"
    )
    eps: float = Field(default=1e-8, gt=0, le=1e-3, description="AdamW's smallest divisor")
    weight_decay_start: float = Field(default=0.04, ge=0, le=1, description="at step 0 (DINOv2: 0.04)")
    weight_decay_end: float = Field(
        default=0.4, ge=0, le=1, description="at the end, by cosine (DINOv2: 0.4, ViT-L and g: 0.2)"
    )
    layer_decay: float = Field(
        default=0.9, gt=0, le=1, description="factor on the rate per layer down (DINOv2: 0.9; ViT-L and g: 1)"
    )
    patch_embed_lr: float = Field(
        default=0.2, ge=0, le=1, description="further factor for the patch embedding (DINOv2, DINOv3: 0.2)"
    )
    clip_grad: float = Field(
        default=3.0,
        gt=0,
        description="largest gradient norm of each sub-module (DINOv2: 3; DINOv3 7B: 30; .inf: none)",
    )
    backend: Literal["auto", "triton", "torch"] = Field(
        default="auto",
        description="what clips, steps and moves the teacher: our one pass (triton) or PyTorch's several "
        "(torch); auto: triton on CUDA where it was measured to be faster. Checkpoints are the same",
    )

    def learning_rate(self, steps: float, images_per_step: float) -> Schedule:
        """Learning rate over a run, before the multipliers of the groups."""
        base = self.lr * LR_RULES[self.lr_rule](images_per_step)
        warmup = self.warmup_share * steps
        if self.lr_decay == "constant":
            return Schedule(base, base, steps, warmup=warmup)
        return Schedule(base, self.min_lr, steps, warmup=warmup, end=self.lr_decay)

    def last_layer_learning_rate(self, steps: float, images_per_step: float) -> Schedule:
        """The same for the heads' last layer: 0 at first, so that the targets settle.

        The gradient still arrives and AdamW's moments still move, as in DINOv2.
        """
        rate = self.learning_rate(steps, images_per_step)
        return replace(rate, frozen=self.freeze_last_layer_share * steps)

    def weight_decay(self, steps: float) -> Schedule:
        """Weight decay over a run, before the multipliers of the groups."""
        return Schedule(self.weight_decay_start, self.weight_decay_end, steps)


_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")
_HEAD = re.compile(r"(?:^|\.)(?:\w+_head|head)\.")
_EMBEDDING = re.compile(
    r"(?:^|\.)(?:patch_embed\w*|cls_token|register\w*|mask_token|pos\w*|scale\w*)(?:\.|$)"
)
_FINAL_NORM = re.compile(r"(?:^|\.)\w*norm\.\w+$")
_NO_DECAY = re.compile(r"(?:^|\.)\w*norm\w*(?:\.|$)|gamma|bias$")


def layer_of(name: str, n_layers: int) -> int:
    """Depth of a parameter: 0 for what makes tokens, i + 1 for block i, n_layers + 1 behind the blocks.

    Raises:
        ValueError: the name is of no known part of the model, or the block does not exist.

    Source: dinov2/utils/param_groups.py `get_vit_lr_decay_rate`.
    """
    if _HEAD.search(name):
        return n_layers + 1
    if block := _BLOCK.search(name):
        if int(block[1]) >= n_layers:
            raise ValueError(f"layer_of: block numbers must be under {n_layers}, got {name}; check n_layers")
        return int(block[1]) + 1
    if _EMBEDDING.search(name):
        return 0
    if _FINAL_NORM.search(name):
        return n_layers + 1
    raise ValueError(
        f"layer_of: a parameter must belong to the embeddings, a block, the last norm or a head, got {name}; "
        "name it so, or add its place to aqqua/train/optim.py"
    )


def multipliers(name: str, n_layers: int, config: OptimConfig) -> tuple[float, float]:
    """Factors of a parameter on learning rate and weight decay.

    No decay on bias, norm and LayerScale gamma. CLS, position, mask token and registers do decay.

    Source: dinov2/utils/param_groups.py `get_params_groups_with_decay`.
    """
    lr = config.layer_decay ** (n_layers + 1 - layer_of(name, n_layers))
    if "patch_embed" in name:
        lr *= config.patch_embed_lr
    return lr, 0.0 if _NO_DECAY.search(name) else 1.0


def parameter_groups(module: nn.Module, n_layers: int, config: OptimConfig) -> list[dict[str, Any]]:
    """Trainable parameters, joined into one group per pair of multipliers, in order of appearance.

    Args:
        module: the student. Names decide (see `layer_of`); prefixes such as `backbone.` do not matter.
        n_layers: its transformer blocks.

    Returns:
        Groups for torch.optim: `params`, `lr_multiplier`, `weight_decay_multiplier`, `is_last_layer`
        (which follows its own learning rate) and `names`.
    """
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        lr, weight_decay = multipliers(name, n_layers, config)
        key = (lr, weight_decay, "last_layer" in name)
        empty = {"lr_multiplier": lr, "weight_decay_multiplier": weight_decay, "is_last_layer": key[2]}
        group = groups.setdefault(key, {"params": [], "names": [], **empty})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def make_optimizer(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`: fused on CUDA, foreach elsewhere. `apply_schedules` sets its rates."""
    on_cuda = all(parameter.is_cuda for group in groups for parameter in group["params"])
    return torch.optim.AdamW(
        groups,
        lr=0.0,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=0.0,
        fused=on_cuda,
        foreach=not on_cuda,
    )


def apply_schedules(
    optimizer: torch.optim.Optimizer, lr: float, weight_decay: float, last_layer_lr: float
) -> None:
    """Set the step's learning rate and weight decay, times the multipliers of each group."""
    for group in optimizer.param_groups:
        base = last_layer_lr if group["is_last_layer"] else lr
        group["lr"] = base * group["lr_multiplier"]
        group["weight_decay"] = weight_decay * group["weight_decay_multiplier"]


@torch.no_grad()
def clip_gradients(modules: Mapping[str, nn.Module], max_norm: float) -> dict[str, float]:
    """Scale down each sub-module's gradients to a norm of at most max_norm; inf only measures.

    Norms are summed in float32 whatever the gradients' type. A NaN or inf norm is returned as such, and
    that module's gradients are then of no use: check before the optimizer's step.

    Returns:
        Norm of each sub-module before clipping; one wait for the device for all of them.

    Source: dinov2/train/train.py clips backbone and heads each by itself.
    """
    norms: dict[str, Tensor] = {}
    for name, module in modules.items():
        grads = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        if not grads:
            continue
        norms[name] = _gradient_norm(grads)
        if math.isfinite(max_norm):
            # As torch.nn.utils.clip_grad_norm_, without asking the device whether it is needed.
            torch._foreach_mul_(grads, (max_norm / (norms[name] + 1e-6)).clamp(max=1.0))
    measured = dict(zip(norms, torch.stack(list(norms.values())).tolist(), strict=True)) if norms else {}
    return {name: measured.get(name, 0.0) for name in modules}


def _gradient_norm(grads: list[Tensor]) -> Float[Tensor, ""]:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads, 2, dtype=torch.float32)))


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher = momentum · teacher + (1 − momentum) · student, in float32, for every parameter.

    The student may be bfloat16. The teacher may not: with momentum 0.999 its steps would round to
    nothing. Buffers are left alone (our models keep no statistics in them).

    Raises:
        ValueError: names differ, the teacher is not float32, or momentum is outside [0, 1].
    """
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"ema_update: momentum must be within [0, 1], got {momentum}")
    ours, theirs = dict(teacher.named_parameters()), dict(student.named_parameters())
    if ours.keys() != theirs.keys():
        differ = sorted(ours.keys() ^ theirs.keys())[:3]
        raise ValueError(
            f"ema_update: teacher and student must have the same parameters, got {differ} in only one of "
            "them; build both from one configuration"
        )
    if wrong := [name for name, parameter in ours.items() if parameter.dtype != torch.float32]:
        raise ValueError(f"ema_update: the teacher must be float32, got {ours[wrong[0]].dtype} in {wrong[0]}")
    targets = [theirs[name].detach().float() for name in ours]
    # lerp, not mul and add: momentum 1 then leaves the teacher's bits alone, 0 copies the student's.
    torch._foreach_lerp_(list(ours.values()), targets, 1.0 - momentum)
