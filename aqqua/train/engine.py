"""What moves a model: from the losses of a step's packs to weights, moments and a teacher that followed.

`PlainEngine` keeps all of it on every rank, in float32, and is the default; aqqua/train/zero.py shards it by
DeepSpeed. Both leave the same names in a checkpoint, so that a run may change from one to the other.
Test: tests/train/test_step.py, test_many_ranks.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from aqqua.objective.losses import Beside, Losses
from aqqua.objective.ssl import Batch, SelfSupervised, Targets, TeacherLogits
from aqqua.train.fused import FusedStep
from aqqua.train.gradients import GradientSum
from aqqua.train.optim import apply_schedules, clip_gradients, ema_update
from aqqua.train.ranks import Ranks
from aqqua.train.schedule import Rates
from aqqua.train.spans import span

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW, per parameter; their names in a checkpoint
Admits = Callable[[float, dict[str, float]], bool]  # total loss, gradient norms -> may the step be taken


class Engine(Protocol):
    """All calls are made by every rank."""

    @property
    def model(self) -> SelfSupervised:
        """Student and teacher. Where weights are sharded they hold values only inside the calls below."""
        ...

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Of the model's weights, whole, by their names in a checkpoint."""
        ...

    def clear(self) -> None:
        """Forget the gradients of the step before."""
        ...

    def teach(self, batch: Batch) -> TeacherLogits:
        """`SelfSupervised.teach`."""
        ...

    def learn(
        self,
        batch: Batch,
        taught: TeacherLogits,
        targets: Targets,
        n_images: int,
        koleo_weight: float,
        beside: Beside,
    ) -> Losses:
        """`SelfSupervised.learn`, of a pack; `n_images` are the step's, over all ranks."""
        ...

    def backward(self, packs: Sequence[Callable[[], Losses]]) -> Losses:
        """Forward (`learn`) and backward of each pack of the step in turn; the losses over all ranks."""
        ...

    def move(self, losses: Losses, rates: Rates, admits: Admits) -> tuple[dict[str, float], bool]:
        """Clip, ask, and if so step, the teacher following; else nothing is changed.

        Returns:
            Norm of each sub-module's gradients before clipping, and whether the step was taken.
        """
        ...

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Everything a checkpoint keeps, whole; on rank 0 (elsewhere of no use), in a fixed order."""
        ...

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` gave, on any number of ranks; also in mid-run, between two steps."""
        ...

    def replicas(self) -> Iterator[tuple[str, Tensor]]:
        """Tensors that must have the same bits on every rank."""
        ...


@dataclass
class PlainEngine:
    """Weights, moments and teacher in float32 on every rank; gradients are summed over them."""

    model: SelfSupervised
    optimizer: torch.optim.AdamW
    max_norm: float
    ranks: Ranks = field(default_factory=Ranks)
    way: Literal["float32", "float64", "lane order"] = "float64"  # how gradients add up: gradients.py
    fused: FusedStep | None = None  # where our kernels take the optimizer's step

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """See `Engine`."""
        return {name: tensor.shape for name, tensor in self.model.state_dict().items()}

    def clear(self) -> None:
        """See `Engine`."""
        self.optimizer.zero_grad(set_to_none=True)

    def teach(self, batch: Batch) -> TeacherLogits:
        """See `Engine`."""
        return self.model.teach(batch)

    def learn(
        self,
        batch: Batch,
        taught: TeacherLogits,
        targets: Targets,
        n_images: int,
        koleo_weight: float,
        beside: Beside,
    ) -> Losses:
        """See `Engine`."""
        return self.model.learn(batch, taught, targets, n_images, koleo_weight, beside)

    def backward(self, packs: Sequence[Callable[[], Losses]]) -> Losses:
        """See `Engine`."""
        parameters = [p for p in self.model.student.parameters() if p.requires_grad]
        summed = GradientSum(parameters, self.ranks, self.way, packs=len(packs))
        for pack in packs:
            losses = pack()
            with span("backward"):
                losses.total.backward()
            summed.add(losses.row())
        return Losses.of_row(summed.finish(), list(losses.by_name))

    def move(self, losses: Losses, rates: Rates, admits: Admits) -> tuple[dict[str, float], bool]:
        """See `Engine`."""
        apply_schedules(self.optimizer, rates.lr, rates.weight_decay, rates.last_layer_lr)
        if self.fused is not None:  # this moves everything at once, or nothing if anything is not finite
            with span("optimizer"):
                norms = self.fused.step(losses.total, rates.momentum, self.max_norm)
            return norms, admits(float(losses.total), norms)
        with span("optimizer"):
            norms = clip_gradients(dict(self.model.student.named_children()), self.max_norm)
        taken = admits(float(losses.total), norms)
        if taken:
            with span("optimizer"):
                self.optimizer.step()
            with span("ema"):
                ema_update(self.model.teacher, self.model.student, rates.momentum)
        return norms, taken

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """See `Engine`."""
        yield from self.model.state_dict().items()
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                yield f"optimizer.{key}.{name}", value

    def load(self, tensors: dict[str, Tensor]) -> None:
        """See `Engine`."""
        self.model.load_state_dict({n: t for n, t in tensors.items() if not n.startswith("optimizer.")})
        self.optimizer.state.clear()  # a parameter that had not moved by then has none
        for name, parameter in self.model.named_parameters():
            for key in MOMENTS:
                value = tensors.get(f"optimizer.{key}.{name}")
                if value is not None:
                    counts = key == "step" and not self.optimizer.defaults["fused"]
                    # A copy: as loaded, tensors are views into a file that is deleted later.
                    device = torch.device("cpu") if counts else parameter.device
                    self.optimizer.state[parameter][key] = value.to(device, copy=True)
        if self.fused is not None:
            self.fused.take_over()

    def replicas(self) -> Iterator[tuple[str, Tensor]]:
        """See `Engine`: all there is."""
        return self.tensors()
