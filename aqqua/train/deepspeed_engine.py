"""DeepSpeed around the student: the module, the optimizer and the engine it is given, and how it is started.

Test: tests/train/test_zero.py.
"""

import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from aqqua.model.block import Attention, Mlp, SwiGlu
from aqqua.model.embed import TokenEmbedding
from aqqua.objective.losses import Beside, Losses
from aqqua.objective.ssl import Batch, SelfSupervised, Targets, TeacherLogits
from aqqua.train.ranks import Ranks

OLD_LOCK_S = 60.0  # others that start now, and have it built already, hold it for less
# Gathered and let go as a whole in stage 3. All are called as modules, whoever serves the rest of a block.
# Heads are not among them: they are called twice in a forward, which DeepSpeed's wholes do not bear, so that
# their layers are gathered one by one.
STUDENT_UNITS = (TokenEmbedding, Attention, Mlp, SwiGlu)


class ScaledAdamW(torch.optim.AdamW):
    """AdamW for shards, which DeepSpeed hands over group by group, in calls of its own.

    Attributes:
        taken: False: the step leaves everything as it is. Groups carry `gradient_factor`, for clipping.
    """

    taken = True

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of the groups as they are now."""
        if not self.taken:
            return None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(group["gradient_factor"])
        return super().step(closure)


class Learner(nn.Module):
    """The student's forward as DeepSpeed wants it: a module of the trained parameters alone, tensors out."""

    def __init__(self, model: SelfSupervised, gathered: bool) -> None:
        """`gathered`: weights are there only between DeepSpeed's hooks on inputs and outputs of modules."""
        super().__init__()
        self.student = model.student
        self.gathered = gathered
        self.names: tuple[str, ...] = ()  # of the losses of the last forward
        self.__dict__["model"] = model  # not a part of it: the teacher is none of DeepSpeed's business

    def forward(
        self,
        batch: Batch,
        taught: TeacherLogits,
        targets: Targets,
        n_images: int,
        koleo_weight: float,
        beside: Beside,
    ) -> Tensor:
        """`SelfSupervised.learn`; the losses as a row, in the order of `self.names`."""
        if self.gathered and torch.is_grad_enabled():
            # Where no input of a module has a gradient, the hook lets its weights go too early.
            batch = replace(batch, patches_NF=batch.patches_NF.detach().requires_grad_())
        losses: Losses = self.__dict__["model"].learn(batch, taught, targets, n_images, koleo_weight, beside)
        self.names = tuple(losses.by_name)
        return torch.stack([value.float() for value in losses.by_name.values()])


def start(learner: Learner, optimizer: torch.optim.Optimizer, told: dict[str, Any], ranks: Ranks) -> Any:
    """DeepSpeed's engine. Its lines are kept off standard output, which belongs to the answer.

    Raises:
        ImportError: DeepSpeed is not installed.
    """
    if all(parameter.device.type == "cpu" for parameter in learner.parameters()):
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else it takes a GPU that is there
    os.environ.setdefault("LOCAL_RANK", str(ranks.place.local_rank))  # srun does not set it
    # torch 2.13 renames a call that DeepSpeed makes many times a step.
    warnings.filterwarnings("ignore", "`torch.distributed.(all_gather|reduce_scatter)", FutureWarning)
    with redirect_stdout(sys.stderr if ranks.first else io.StringIO()):
        try:
            import deepspeed
            from deepspeed.utils import logger, set_z3_leaf_modules
        except ImportError as error:
            raise ImportError(
                f"train.engine=zero needs DeepSpeed, got: {error}; pip install 'aqqua[cluster]'"
            ) from error
        # Its warnings are of our optimizer and of outputs that are dataclasses: both are tested.
        logger.setLevel(logging.ERROR)
        if not dist.is_initialized():  # alone; DeepSpeed wants a group even so
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        for lock in old_locks(time.time()) if ranks.first else ():
            sys.stderr.write(
                f"DeepSpeed waits for {lock}, which another process holds while it builds an extension; if "
                "nothing happens, a killed one has left it: remove it\n"
            )
        if told["zero_optimization"]["stage"] == 3:
            set_z3_leaf_modules(learner, list(STUDENT_UNITS), raise_if_not_found=False)
        return deepspeed.initialize(
            model=learner, optimizer=optimizer, config=told, dist_init_required=False
        )[0]


def old_locks(now_s: float) -> list[Path]:
    """Locks of extensions that DeepSpeed builds at its first start and loads ever after, each kept for long.

    Source: torch/utils/cpp_extension.py and file_baton.py: who finds a lock waits, without an end or a word.
    """
    folder = os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions"
    return [lock for lock in Path(folder).glob("**/lock") if now_s - lock.stat().st_mtime > OLD_LOCK_S]
