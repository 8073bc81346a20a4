"""Training with weights, gradients and moments cut up over the ranks: DeepSpeed's ZeRO, stages 1 to 3.

DeepSpeed reduces gradients, keeps the shards, and gathers weights. Everything that makes the training what it
is stays ours, so that it equals the plain engine's: loss shares, clipping of each sub-module, the verdict on
a step that is not finite, schedules, the float32 teacher, and checkpoints, which have the same names and
whole tensors, so that runs of any engine and number of ranks continue each other. DeepSpeed's own
checkpoints, which are pickles, are neither written nor read.

How each is done on shards: a parameter group belongs to one sub-module, so its norm is a sum over groups and
ranks, and the factor it asks for is applied by the optimizer (`ScaledAdamW`) to whatever flat gradient
DeepSpeed hands it. In a step that must not be taken that optimizer does nothing, and all that DeepSpeed does
around it leaves the weights as they are. The teacher follows the float32 shards (stage 3) or the weights,
which are float32 and whole in stages 1 and 2. Stage 0 is the plain engine. Test: tests/train/test_zero.py.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aqqua.model.heads import PrototypeHead
from aqqua.objective.losses import Beside, Losses
from aqqua.objective.ssl import Batch, SelfSupervised, Targets, TeacherLogits
from aqqua.train.deepspeed_engine import STUDENT_UNITS, Learner, ScaledAdamW, start
from aqqua.train.optim import OptimConfig, apply_schedules, ema_update, parameter_groups
from aqqua.train.ranks import Ranks
from aqqua.train.schedule import Rates
from aqqua.train.sharded_teacher import ShardedTeacher
from aqqua.train.shards import Shard, flats_of, gradients_of, put_together, shards_of
from aqqua.train.spans import span
from aqqua.train.zero_config import ZeroConfig, deepspeed_config

# Gathered for a forward and let go after it, in stage 3.
TEACHER_UNITS = (*STUDENT_UNITS, PrototypeHead)


class ZeroEngine:
    """See `aqqua.train.engine.Engine`."""

    def __init__(
        self,
        model: SelfSupervised,
        config: ZeroConfig,
        optim: OptimConfig,
        *,
        lanes: int,
        half: bool,
        ranks: Ranks,
    ) -> None:
        """
        Args:
            model: on its device, whole and alike on all ranks.
            config, optim: of the run.
            lanes: packs of a step, over all ranks.
            half: products in bfloat16.
            ranks: of the run.
        """
        self.model, self.config, self.ranks = model, config, ranks
        self.shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        self._max_norm = optim.clip_grad
        self._groups = _groups_of(model.student, optim)
        self._names = [name for name, _ in model.student.named_parameters()]
        optimizer = ScaledAdamW(
            self._groups, lr=0.0, betas=(optim.beta1, optim.beta2), eps=optim.eps, weight_decay=0.0
        )
        told = deepspeed_config(config, lanes // ranks.size, ranks.size, half)
        self._learner = Learner(model, config.stage == 3)
        self._deepspeed = start(self._learner, optimizer, told, ranks)
        self._sharded: Any = self._deepspeed.optimizer
        self.optimizer: ScaledAdamW = self._sharded.optimizer
        parameters = dict(model.student.named_parameters())
        by_parameter = shards_of(self._sharded, parameters.values(), ranks)
        self._shards = {name: by_parameter[parameter] for name, parameter in parameters.items()}
        self._teacher = ShardedTeacher(model.teacher, TEACHER_UNITS, ranks) if config.stage == 3 else None

    def clear(self) -> None:
        """See `Engine`: DeepSpeed forgets them after its step."""

    def teach(self, batch: Batch) -> TeacherLogits:
        """See `Engine`."""
        return self.model.teach(batch)

    def backward(self, packs: Sequence[Callable[[], Losses]]) -> Losses:
        """See `Engine`."""
        total: Tensor | float = 0.0
        for number, pack in enumerate(packs):
            self._deepspeed.set_gradient_accumulation_boundary(number == len(packs) - 1)
            losses = pack()
            # DeepSpeed takes the mean over ranks; the shares are to be summed.
            with span("backward"):
                self._deepspeed.backward(losses.total * self.ranks.size, scale_wrt_gas=False)
            total = total + losses.row()
        return Losses.of_row(self.ranks.all_reduce(torch.as_tensor(total)), list(losses.by_name))

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
        row_E = self._deepspeed(batch, taught, targets, n_images, koleo_weight, beside)
        return Losses.of_row(row_E, self._learner.names)

    def move(
        self, losses: Losses, rates: Rates, admits: Callable[[float, dict[str, float]], bool]
    ) -> tuple[dict[str, float], bool]:
        """See `Engine`."""
        apply_schedules(self.optimizer, rates.lr, rates.weight_decay, rates.last_layer_lr)
        norms = self._norms()
        taken = admits(float(losses.total), norms)
        for group, settings in zip(self.optimizer.param_groups, self._groups, strict=True):
            norm = norms[settings["module"]]
            group["gradient_factor"] = (
                min(self._max_norm / (norm + 1e-6), 1.0) if math.isfinite(norm) else 1.0
            )
        self.optimizer.taken = taken
        with span("optimizer"):
            self._deepspeed.step()
        if taken:
            with span("ema"):
                self._follow(rates.momentum)
        return norms, taken

    def _norms(self) -> dict[str, float]:
        if self.config.offload and torch.cuda.is_available():
            torch.cuda.synchronize()  # gradients are on their way to the host
        squares: dict[str, Tensor | float] = defaultdict(float)
        for number, pieces in gradients_of(self._sharded, self.config.offload):
            found = sum(torch.linalg.vector_norm(piece, dtype=torch.float32).square() for piece in pieces)
            squares[self._groups[number]["module"]] += found
        names = list(dict.fromkeys(group["module"] for group in self._groups))
        device = next(iter(self._shards.values())).flat_F.device
        row = torch.stack([torch.as_tensor(squares[name], device=device) for name in names])
        found = self.ranks.all_reduce(row).sqrt().tolist()
        return dict(zip(names, found, strict=True))

    @torch.no_grad()
    def _follow(self, momentum: float) -> None:
        if self._teacher is None:
            ema_update(self.model.teacher, self.model.student, momentum)
            return
        student = dict(self.model.student.named_parameters())
        for name, mine in self.model.teacher.named_parameters():
            if name in self._teacher.pieces:
                shard = self._shards[name]
                piece = self._teacher.pieces[name][: shard.values]
                piece.lerp_(shard.master.to(piece.device), 1.0 - momentum)
            else:  # whole everywhere
                mine.lerp_(student[name].detach(), 1.0 - momentum)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """See `Engine`."""
        shapes = {name: self.shapes[f"student.{name}"] for name in self._names}
        keep = self._keep
        weights = {name: (shard, shard.flat_F) for name, shard in self._shards.items()}
        yield from ((f"student.{name}", keep(x)) for name, x in put_together(weights, shapes, self.ranks))
        for name, parameter in self.model.teacher.named_parameters():
            sharded = self._teacher is not None and name in self._teacher.pieces
            whole = next(self._teacher.whole([name])) if sharded and self._teacher else parameter
            yield f"teacher.{name}", keep(whole)
        for name, x in _gram_of(self.model).items():
            yield name, keep(x)
        if not self._stepped:
            return
        for key in ("exp_avg", "exp_avg_sq"):
            moments = {name: (shard, self._moment(shard, key)) for name, shard in self._shards.items()}
            for name, x in put_together(moments, shapes, self.ranks):
                yield f"optimizer.{key}.student.{name}", keep(x)
        counts = [float(state["step"]) for state in self.optimizer.state.values() if "step" in state]
        for name in self._names:
            yield f"optimizer.step.student.{name}", torch.tensor(max(counts))

    def _keep(self, x: Tensor) -> Tensor:
        """A whole tensor for the checkpoint: on the host of rank 0, nowhere else."""
        return x.detach().cpu() if self.ranks.first else x.new_empty(0)

    def _moment(self, shard: Shard, key: str) -> Tensor | None:
        state = self.optimizer.state
        return state[shard.flat_F].get(key) if shard.flat_F in state else None

    @property
    def _stepped(self) -> bool:
        return any("step" in state for state in self.optimizer.state.values())

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """See `Engine`."""
        for name, parameter in self.model.student.named_parameters():
            self._set_weights(name, parameter, tensors[f"student.{name}"])
        for name, parameter in self.model.teacher.named_parameters():
            whole = tensors[f"teacher.{name}"].to(parameter.device)
            if self._teacher is not None and name in self._teacher.pieces:
                self._teacher.set(name, whole)
            else:
                parameter.copy_(whole)
        for name, x in _gram_of(self.model).items():
            x.copy_(tensors[name])
        counts = [float(value) for name, value in tensors.items() if name.startswith("optimizer.step.")]
        self.optimizer.state.clear()
        if counts:
            self._set_moments(tensors, max(counts))

    def _set_weights(self, name: str, parameter: Any, whole: Tensor) -> None:
        shard, row_P = self._shards[name], whole.flatten()
        shard.master.copy_(row_P[shard.first : shard.first + shard.values])
        if parameter.numel() == whole.numel():
            parameter.copy_(whole)
        if self.config.stage == 3:
            parameter.ds_tensor[: shard.values].copy_(shard.master)

    def _set_moments(self, tensors: dict[str, Tensor], step: float) -> None:
        """AdamW's state of each flat tensor; what a checkpoint does not know was never moved: zeros."""
        for _, flat_F in flats_of(self._sharded):
            self.optimizer.state[flat_F] = {
                "step": torch.tensor(step),
                "exp_avg": torch.zeros_like(flat_F),
                "exp_avg_sq": torch.zeros_like(flat_F),
            }
        for name, shard in self._shards.items():
            for key in ("exp_avg", "exp_avg_sq"):
                whole = tensors.get(f"optimizer.{key}.student.{name}")
                if whole is not None and shard.values:
                    moment_F = self.optimizer.state[shard.flat_F][key]
                    shard.of(moment_F).copy_(whole.flatten()[shard.first : shard.first + shard.values])

    def replicas(self) -> Iterator[tuple[str, Tensor]]:
        """See `Engine`: what a stage does not cut up."""
        if self.config.stage < 3:
            yield from self.model.state_dict().items()


def _gram_of(model: SelfSupervised) -> dict[str, Tensor]:
    """The Gram teacher, whole on every rank, by its names in a checkpoint; empty where there is none."""
    return {} if model.gram is None else {f"gram.{name}": x for name, x in model.gram.state_dict().items()}


def _groups_of(student: nn.Module, optim: OptimConfig) -> list[dict[str, Any]]:
    """`parameter_groups`, each cut by sub-module, which is clipped by itself."""
    layers = len(student.backbone.blocks)  # type: ignore[arg-type, union-attr]
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for number, group in enumerate(parameter_groups(student, layers, optim)):
        fixed = {key: value for key, value in group.items() if key not in ("params", "names")}
        for name, parameter in zip(group["names"], group["params"], strict=True):
            module = name.partition(".")[0]
            empty = {**fixed, "params": [], "module": module, "gradient_factor": 1.0}
            found.setdefault((number, module), empty)["params"].append(parameter)
    return list(found.values())
