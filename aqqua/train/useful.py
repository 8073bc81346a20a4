"""How much a run computes that its images need, per second, and which share that is of what its GPUs could.

Useful are the products of real tokens (views with their prefixes; no padding, nothing computed twice to save
memory): student forward and backward, teacher forward, heads of both, by the formulas of aqqua/cost/flops.py,
from the very views of a step. Their MFU is the share of the published bfloat16 peak of all GPUs of the run,
whatever precision serves; a CPU, a part of a GPU (MIG) and a GPU that is not in aqqua/cost/facts.yaml have no
peak, and no MFU. Test: tests/train/test_useful.py, against a count by hand and torch's counter.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from aqqua.cost.activations import LossForm, Saving
from aqqua.cost.facts import load_facts
from aqqua.cost.flops import DistilledFrom
from aqqua.cost.tokens import tokens_of
from aqqua.cost.work import Workload
from aqqua.model.config import ModelConfig
from aqqua.objective.ssl import ObjectiveConfig
from aqqua.plan.pack import Pack
from aqqua.train.ranks import Ranks
from aqqua.train.serving import serving
from aqqua.train.settings import PretrainConfig

TERA = 1e12


PLAIN = Saving(fused=False, compute_bytes=4)


@dataclass(frozen=True)
class Useful:
    """Counts the operations of a run's steps, and the bytes that its passes over memory move."""

    model: ModelConfig
    objective: ObjectiveConfig
    peak_tflop_s: float | None = None  # of all GPUs of the run together; None: not known of one of them
    saving: Saving = PLAIN  # bytes alone depend on who computes
    fused_optimizer: bool = False
    followed: DistilledFrom | None = None  # in distillation, the teacher

    @classmethod
    def of(
        cls,
        config: PretrainConfig,
        device: torch.device,
        dtype: torch.dtype,
        peak: float | None = None,
        followed: DistilledFrom | None = None,
    ) -> "Useful":
        """Of a run as it is served on a device; `dtype` of its products."""
        who = serving(config, device, dtype)
        losses: LossForm = "triton" if who["objective.kernels"] == "triton" else "reference"
        saving = Saving(
            who["model.kernels"] == "triton",
            dtype.itemsize,
            config.model.activation_checkpointing,
            "recompute" if config.objective.kernels == "recompute" else losses,
            grouped=who["model.attention"] == "grouped",
        )
        fused = who["optim.backend"] == "triton"
        return cls(config.model, config.objective, peak, saving, fused, followed)

    def flops(self, packs: Iterable[Pack], anchored: bool = True) -> float:
        """Of a step's packs. With drop-path, of the mean of what may be dropped.

        Args:
            anchored: Gram is on in this step, if the config has it.
        """
        return sum(self.work([pack], anchored).flops.total * pack.n_images for pack in packs)

    def moved_bytes(self, packs: Iterable[Pack], anchored: bool = True) -> float:
        """Of a step's packs and its optimizer: aqqua/cost/traffic.py, which leaves products out."""
        passes = [self.work([pack], anchored).traffic() for pack in packs]
        of_packs = [of.total for ops in passes for name, of in ops.items() if name != "optimizer"]
        return sum(of_packs) + sum(ops["optimizer"].total for ops in passes[:1])

    def work(self, packs: list[Pack], anchored: bool = True) -> Workload:
        """One pack, the mean of these."""
        tokens = tokens_of(packs, "a step")
        room = sum(pack.tokens for pack in packs) / len(packs) / tokens.fill
        model = self.model.model_copy(update={"patch_px": packs[0].patch_px})  # of views.patch_choices
        return Workload(
            model, self.objective, tokens, round(room), 1, self.saving,
            fused_optimizer=self.fused_optimizer, followed=self.followed, gram_share=float(anchored),
        )  # fmt: skip

    def numbers(self, flops: float, seconds: float) -> dict[str, float]:
        """For a line of metrics: what all ranks computed in this time."""
        reached = flops / seconds / TERA
        share = {} if self.peak_tflop_s is None else {"mfu": reached / self.peak_tflop_s}
        return {"tflop_per_s": reached, **share}


def note(numbers: dict[str, float]) -> str:
    """Of these numbers the one to look at while a run goes on."""
    if "mfu" in numbers:
        return f"mfu {numbers['mfu']:.1%}"
    return f"{numbers['tflop_per_s']:.3g} TFLOP/s"


def peak_tflop_s(device: torch.device, ranks: Ranks) -> float | None:
    """Published peak of the GPUs of all ranks, each once; None if one of them has none. Asks all ranks."""
    mine: list[str | float | None] = ["cpu", None]
    if device.type == "cuda":
        facts = load_facts().named(torch.cuda.get_device_name(device))
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        mine = [uuid, None if facts is None else facts.peak_tflop_s.value]
    peaks = dict(ranks.gather(mine)).values()
    return None if None in peaks else sum(peaks)
