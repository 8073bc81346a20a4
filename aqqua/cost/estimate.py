"""What a run will cost, on each kind of GPU and for each number of nodes; and what it costs at fixed 224/98.

Test: tests/cost/test_estimate.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aqqua.cost.activations import LossForm, Saving
from aqqua.cost.collectives import links_of
from aqqua.cost.engines import ENGINES, Engine
from aqqua.cost.facts import GIGA, Facts
from aqqua.cost.flops import DistilledFrom
from aqqua.cost.memory import Memory, memory
from aqqua.cost.parameters import network_parameters
from aqqua.cost.step import TERA, StepSeconds, step_seconds
from aqqua.cost.tokens import FIXED_PATCH_PX, Tokens, fixed_224_98
from aqqua.cost.work import Workload
from aqqua.kernels.attention.choice import TRITON_FIRST as ATTENTION_FIRST
from aqqua.kernels.choice import TRITON_FIRST
from aqqua.train.settings import PretrainConfig

BILLION = 1e9


def workload(config: PretrainConfig, tokens: Tokens, followed: DistilledFrom | None = None) -> Workload:
    """A step of a run on a GPU: mixed precision, and the implementations that `auto` takes today.

    Args:
        followed: in distillation, the teacher.
    """
    model, objective = config.model, config.objective
    losses: LossForm = "reference"
    if objective.kernels == "recompute":
        losses = "recompute"
    elif _ours(objective.kernels, "prototype_loss"):
        losses = "triton"
    return Workload(
        model,
        objective,
        tokens,
        config.data.pack_tokens,
        config.data.lanes,
        Saving(_ours(model.kernels, "residual_norm"), 2, model.activation_checkpointing, losses),
        fused_attention=model.attention == "triton" or (model.attention == "auto" and bool(ATTENTION_FIRST)),
        fused_optimizer=_ours(config.optim.backend, "optim"),
        followed=followed,
        gram_share=1.0 if objective.gram is None else 1.0 - objective.gram.start_share,
    )


def _ours(wanted: str, op: str) -> bool:
    return wanted == "triton" or (wanted == "auto" and op in TRITON_FIRST)


def as_dinov2(config: PretrainConfig, work: Workload) -> Workload:
    """The same model at fixed 224/98 and patch 14, images stretched to squares; the same packs."""
    model = work.model.model_copy(update={"patch_px": FIXED_PATCH_PX})
    return replace(work, model=model, tokens=fixed_224_98(model, config.masks))


@dataclass(frozen=True)
class Prediction:
    """Of one kind of GPU and number of nodes."""

    gpu: str
    nodes: int
    gpus: int
    packs: int  # of a GPU in a step
    engine: str  # of those to choose from, the first that fits
    memory: Memory
    memory_limit: float  # bytes that tensors can fill
    step: StepSeconds
    images_s: float
    mfu: float  # useful operations over the published peak
    gpu_hours: float | None  # of the run; None: its length is not known
    hours: float | None
    gpu_hours_per_billion: float
    kwh: float | None
    grant_share: float | None

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.memory_limit


def memory_of(work: Workload, engine: Engine, ranks: int) -> Memory:
    """Of a GPU."""
    packs = max(work.lanes // ranks, 1)
    found = memory(engine, work.parameters, work.model, work.objective, work.pack, work.saving, ranks, packs)
    if work.followed is None:
        return found
    theirs = network_parameters(work.followed.model, work.followed.objective)
    return replace(found, teacher=found.teacher + 4 * theirs.total)


def first_that_fits(work: Workload, ranks: int, limit: float, engines: Iterable[Engine] = ENGINES) -> Engine:
    """The simplest engine whose memory is within the limit; if none is, the one that needs least."""
    engines = list(engines)
    need = {engine: memory_of(work, engine, ranks).total for engine in engines}
    return next((engine for engine in engines if need[engine] <= limit), min(engines, key=lambda e: need[e]))


def predict(
    work: Workload,
    facts: Facts,
    gpu_name: str,
    nodes: int,
    gpus_per_node: int,
    *,
    images_total: float | None = None,
    grant_hours: float | None = None,
    engines: Iterable[Engine] = ENGINES,
) -> Prediction:
    """Of so many whole nodes.

    Args:
        images_total: length of the run.
        grant_hours: GPU-hours that may be used.
        engines: to choose from, simplest first.
    """
    gpu, ranks = facts.gpu(gpu_name), nodes * gpus_per_node
    limit = gpu.memory_gb.value * GIGA * facts.shares["memory"].value
    engine = first_that_fits(work, ranks, limit, engines)
    packs = max(work.lanes // ranks, 1)
    links = links_of(gpu, facts, nodes, gpus_per_node)
    step = step_seconds(work, gpu, facts, links, engine, packs)
    images_s = packs * ranks * work.images_per_pack / step.total_s
    hours = None if images_total is None else images_total / images_s / 3600
    gpu_hours = None if hours is None else hours * ranks
    return Prediction(
        gpu_name, nodes, ranks, packs, engine.name, memory_of(work, engine, ranks), limit, step, images_s,
        mfu=work.flops.total * images_s / ranks / (gpu.peak_tflop_s.value * TERA),
        gpu_hours=gpu_hours,
        hours=hours,
        gpu_hours_per_billion=BILLION / images_s * ranks / 3600,
        kwh=None if gpu_hours is None else gpu_hours * gpu.wall_kw.value,
        grant_share=None if gpu_hours is None or grant_hours is None else gpu_hours / grant_hours,
    )  # fmt: skip


def gpu_hours_at(flops_per_image: float, images: float, peak_tflop_s: float, mfu: float) -> float:
    """GPU-hours at a stated MFU: the oldest estimate there is."""
    return images * flops_per_image / (peak_tflop_s * TERA * mfu * 3600)
