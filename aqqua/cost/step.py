"""Seconds of a training step on one kind of GPU: a roofline of products, attention and passes over memory.

    pack  = products / (product rate · share)  +  attention  +  bytes / (copy rate · share)
    step  = packs · pack + optimizer + what communication exposes

Attention takes the longer of its bytes and of its tiles, as they are computed: a tile of 128 rows with a view
of 20 tokens in it costs as much as a full one. No pass is quicker than the host launches its operators.
Reading and rendering are not in it: they are done beside (aqqua.train.data), and must keep up.

Letters: T tokens, n tokens of a view. Test: tests/cost/test_step_cost.py.
"""

from dataclasses import dataclass

from aqqua.cost.collectives import Links, all_reduce_seconds, gather_seconds
from aqqua.cost.engines import Communication, Engine, communication
from aqqua.cost.facts import GIGA, Facts, Gpu
from aqqua.cost.flops import Flops, recomputed_flops
from aqqua.cost.parameters import heads_of
from aqqua.cost.tokens import Role
from aqqua.cost.work import Workload
from aqqua.objective.ssl import ObjectiveConfig

TERA = 1e12
ATTENTION_AGAIN = 2.5 / 2  # of a backward pass: flash attention makes the scores anew; 5 products, 4 useful


@dataclass(frozen=True)
class PackSeconds:
    """Of one pack."""

    teacher_s: float
    forward_s: float  # of the student, targets and losses included
    backward_s: float

    @property
    def total_s(self) -> float:
        return self.teacher_s + self.forward_s + self.backward_s


@dataclass(frozen=True)
class Rates:
    """What a GPU is taken to reach."""

    product_flop_s: float
    attention_flop_s: float  # inside tiles
    bytes_s: float
    launch_s: float

    @classmethod
    def of(cls, gpu: Gpu, facts: Facts, fused_attention: bool) -> "Rates":
        ceiling = gpu.product_tflop_s.value * TERA
        attention = facts.shares["attention_64" if fused_attention else "attention_128"].value
        return cls(
            ceiling * facts.shares["products"].value,
            ceiling * attention,
            gpu.copy_gb_s.value * GIGA * facts.shares["streaming"].value,
            facts.times["launch_us"].value * 1e-6,
        )


@dataclass(frozen=True)
class Pass:
    """One pass over a pack: what it computes and moves."""

    product_flops: float
    tile_flops: float  # of attention, in whole tiles
    attention_bytes: float
    other_bytes: float
    launches: float

    def seconds(self, rates: Rates) -> float:
        attention = max(self.tile_flops / rates.attention_flop_s, self.attention_bytes / rates.bytes_s)
        device = self.product_flops / rates.product_flop_s + attention + self.other_bytes / rates.bytes_s
        return max(device, self.launches * rates.launch_s)


def pack_seconds(work: Workload, gpu: Gpu, facts: Facts) -> PackSeconds:
    """Of one pack on one GPU."""
    rates = Rates.of(gpu, facts, work.fused_attention)
    passes = [of.seconds(rates) for of in _passes(work, facts)]
    return PackSeconds(*passes)


def _passes(work: Workload, facts: Facts) -> tuple[Pass, Pass, Pass]:
    """Teacher, student forward (targets and losses included), student backward."""
    flops, images, traffic = work.flops, work.images_per_pack, work.traffic()
    student, heads = flops.student, flops.student_heads
    losses = traffic["losses"].total + traffic["weights"].total
    recomputed = recomputed_flops(work.objective, work.tokens) if work.saving.losses == "recompute" else 0.0
    backward, again, launches_again = student.backward_alone(), ATTENTION_AGAIN, 0.0
    if work.saving.checkpointed:  # the forward pass once more: of its attention all is useful
        once, alone = student.forward["attention"], backward.forward["attention"]
        again = (alone * ATTENTION_AGAIN + once) / (alone + once)
        backward, launches_again = backward.plus(student), 1.0
    counts = {name: fact.value for name, fact in facts.counts.items()}
    both = counts["launches_fused" if work.saving.fused else "launches_block"] * work.model.layers
    ahead = both * counts["launches_block_forward"] / counts["launches_block"]

    def pass_of(name: str, of: Flops, role: Role, head_flops: float, again: float = 1.0) -> Pass:
        moved, attention = traffic[name], of.forward["attention"]
        return Pass(
            images * (of.forward_total - attention + head_flops),
            images * attention * again * _tile_factor(role, work.fused_attention),
            moved.ops["attention"],
            moved.total - moved.ops["attention"] + (losses if name == "student forward" else 0.0),
            both - ahead + launches_again * ahead if name == "student backward" else ahead,
        )

    everything = work.tokens.student
    return (
        pass_of("teacher", flops.teacher, work.seen, flops.teacher_heads.forward_total),
        pass_of("student forward", student, everything, heads.forward_total + recomputed),
        pass_of("student backward", backward, everything, heads.backward_total, again),
    )


def _tile_factor(role: Role, fused: bool) -> float:
    """Computed over useful: whole tiles of 128 rows, or of ours, which take 64 rows of any views."""
    return (role.squares + 64 * role.tokens) / role.squares if fused else role.tile_squares / role.squares


@dataclass(frozen=True)
class StepSeconds:
    """Of a step of all ranks."""

    compute_s: float
    optimizer_s: float
    communication_s: float
    exposed_s: float  # of communication, what no computing hides

    @property
    def total_s(self) -> float:
        return self.compute_s + self.optimizer_s + self.exposed_s


def step_seconds(
    work: Workload, gpu: Gpu, facts: Facts, links: Links, engine: Engine, packs: int
) -> StepSeconds:
    """Of `packs` packs on each rank, and of what the ranks tell each other."""
    pack = pack_seconds(work, gpu, facts)
    rates = Rates.of(gpu, facts, work.fused_attention)
    sharded = links.ranks if "optimizer" in engine.divided else 1
    optimizer_s = work.traffic()["optimizer"].total / sharded / rates.bytes_s
    if engine.offload:
        optimizer_s = work.parameters.total / sharded * facts.times["offload_ns"].value * 1e-9
    gradients = communication(
        engine, work.parameters.total, links, packs, pack.forward_s, pack.backward_s, work.saving.checkpointed
    )
    targets_s = sinkhorn_seconds(work.objective, links) + neighbours_seconds(work, links)
    exchange = Communication(gradients.total_s + targets_s, gradients.exposed_s + targets_s)
    return StepSeconds(packs * pack.total_s, optimizer_s, exchange.total_s, exchange.exposed_s)


def sinkhorn_seconds(objective: ObjectiveConfig, links: Links) -> float:
    """Of what targets wait for, over all ranks, in each iteration: a maximum in float32, a sum in int64."""
    if links.ranks == 1:
        return 0.0
    prototypes = [head.prototypes for head in heads_of(objective)]
    once = sum(all_reduce_seconds(size * count, links) for count in prototypes for size in (4, 8))
    return objective.sinkhorn_iterations * once


def neighbours_seconds(work: Workload, links: Links) -> float:
    """Of the CLS of all global views, which every rank gathers where KoLeo looks beyond a pack."""
    if links.ranks == 1 or not work.objective.spreads:
        return 0.0
    rows = work.images_per_step * work.tokens.globals_.views
    return gather_seconds(4 * rows * work.model.width, links)
