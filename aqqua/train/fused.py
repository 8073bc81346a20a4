"""The optimizer's step in one pass over all parameters: clip, AdamW and teacher by our kernels.

What `take_step` does elsewhere by clip_gradients, torch.optim.AdamW and ema_update; the same arithmetic but
for rounding. Moments and counts are the AdamW's own state, under its own names, so that checkpoints are the
same whichever of the two writes them. Test: tests/train/test_fused.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aqqua.kernels.choice import choose
from aqqua.kernels.optim import Rates, StepState, optimizer_step, rates_table
from aqqua.train.optim import OptimConfig


def serving_step(config: OptimConfig, device: torch.device) -> str:
    """'triton' or 'torch': what moves float32 parameters of this device.

    Raises:
        RuntimeError: the config forces one that cannot serve here.
    """
    if config.backend == "torch":
        return "torch"
    serves = choose("optim", device, torch.float32, config.backend)
    return "triton" if serves == "triton" else "torch"


@dataclass(frozen=True, eq=False)
class FusedStep:
    """All that a step moves, found once; make it by `of`."""

    optimizer: torch.optim.AdamW
    parameters: tuple[nn.Parameter, ...]  # of the student, in order of their names in it
    modules: tuple[str, ...]  # the sub-modules, each clipped by itself
    state: StepState

    @classmethod
    def of(cls, optimizer: torch.optim.AdamW, student: nn.Module, teacher: nn.Module) -> "FusedStep":
        """Take over the optimizer's state, which from now on lies in the tensors of this step.

        Raises:
            ValueError: student and teacher have other parameters, or some are not float32 and contiguous.
        """
        ours, theirs = dict(student.named_parameters()), dict(teacher.named_parameters())
        if ours.keys() != theirs.keys():
            raise ValueError(
                f"FusedStep: teacher and student must have the same parameters, got "
                f"{sorted(ours.keys() ^ theirs.keys())[:3]} in only one of them; build both from one "
                "configuration"
            )
        modules = [name for name, _ in student.named_children()]
        group = {p: number for number, g in enumerate(optimizer.param_groups) for p in g["params"]}
        state = StepState.of(
            list(ours.values()),
            [group.get(parameter, 0) for parameter in ours.values()],  # one that is frozen has no gradient
            [modules.index(name.partition(".")[0]) for name in ours],
            [theirs[name] for name in ours],
        )
        made = cls(optimizer, tuple(ours.values()), tuple(modules), state)
        made.take_over()
        return made

    def take_over(self) -> None:
        """The optimizer's state was set anew: it moves to where the kernels find it, which stays the same."""
        for number, parameter in enumerate(self.parameters):
            known = parameter in self.optimizer.state
            for key, tensor in self._moments(number).items():
                if known:
                    tensor.copy_(self.optimizer.state[parameter][key])
                else:
                    tensor.zero_()
            if known:
                self._show(number)

    def step(self, loss: Tensor, momentum: float, max_norm: float) -> dict[str, float]:
        """Move everything, unless the loss or a gradient is not finite; then nothing is changed.

        Learning rates and decay are those of the optimizer's groups (apply_schedules).

        Returns:
            Norm of each sub-module's gradients before clipping; one wait for the device, after the step.
        """
        rates = [
            Rates(group["lr"], group["weight_decay"], group["betas"][0], group["betas"][1], group["eps"])
            for group in self.optimizer.param_groups
        ]
        found_inf = (~loss.detach().isfinite()).float().reshape(1)
        gradients = [parameter.grad for parameter in self.parameters]
        norms_M = optimizer_step(
            self.state, gradients, rates_table(rates, momentum, self.state.device), max_norm, found_inf,
            backend="triton",
        )  # fmt: skip
        *norms, skipped = torch.cat((norms_M, found_inf)).tolist()
        if not skipped:
            for number, gradient in enumerate(gradients):
                if gradient is not None:
                    self._show(number)
        return dict(zip(self.modules, norms, strict=True))

    def _moments(self, number: int) -> Mapping[str, Tensor]:
        state = self.state
        return {
            "step": state.counts_S[number],
            "exp_avg": state.averages[number],
            "exp_avg_sq": state.squares[number],
        }

    def _show(self, number: int) -> None:
        """Let the optimizer's state name what lies here; it has none of a parameter before its first step."""
        self.optimizer.state[self.parameters[number]].update(self._moments(number))
