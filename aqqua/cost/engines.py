"""What moves a model: the plain engine, and ZeRO 1 to 3. Bytes of a parameter, and what of them is divided.

Weights and gradients are float32 in all of them, cast to bfloat16 while products are computed; the plain
engine sums gradients over ranks in float64 (train.gradient_sum). ZeRO keeps 12 bytes for the optimizer (a
float32 shard of the weight and two moments); stage 1 divides these, 2 also gradients, 3 also weights and the
teacher. Source of the stages: Rajbhandari 2020 (ZeRO); of the bytes: docs/cluster.md. Letters: P parameters,
N ranks. Test: tests/cost/test_memory.py.
"""

from dataclasses import dataclass

from aqqua.cost.collectives import Links, all_reduce_seconds, gather_seconds, scatter_seconds


@dataclass(frozen=True)
class Engine:
    """Bytes of a parameter, and which parts are divided by the ranks."""

    name: str
    weights: float
    gradients: float
    optimizer: float
    copies: float  # weights as products take them
    divided: frozenset[str]  # of weights, gradients, optimizer, teacher
    gradient_wire: float  # bytes of a gradient on the way to other ranks
    overlaps: bool  # whether gradients travel during the backward pass
    teacher: float = 4.0

    def share(self, part: str, ranks: int) -> float:
        """Bytes of a parameter that a rank holds of a part."""
        return getattr(self, part) / (ranks if part in self.divided else 1)


def _zero(stage: int) -> Engine:
    divided = ("optimizer", "gradients", "weights")[:stage]
    teacher = ("teacher",) if stage == 3 else ()
    return Engine(f"ZeRO {stage}", 4, 4, 12, 2, frozenset((*divided, *teacher)), 4, overlaps=True)


# Gradients and their sums over ranks, which are in float64 (train.gradient_sum).
PLAIN = Engine("plain", 4, 12, 8, 2, frozenset(), 8, overlaps=False)
ENGINES = (PLAIN, *map(_zero, range(1, 4)))  # simplest first; stage 0 of ZeRO is the plain engine


@dataclass(frozen=True)
class Communication:
    """Seconds of a step, and those of them that nothing hides."""

    total_s: float
    exposed_s: float


def communication(
    engine: Engine,
    parameters: int,
    links: Links,
    packs: int,
    forward_s: float,
    backward_s: float,
    teacher_s: float,
) -> Communication:
    """Of gradients and weights in a step of `packs` packs a rank.

    The plain engine sums gradients after the last pack, in the open. ZeRO 1 sends them while the last
    pack goes backward, 2 and 3 while every pack does; 1 and 2 then gather the moved weights, in the open.
    ZeRO 3 gathers weights for every pass over a pack: student forward and backward, and the float32 teacher.

    Args:
        forward_s, backward_s, teacher_s: computing of one pack, which may hide what travels meanwhile.
    """
    if links.ranks == 1:
        return Communication(0.0, 0.0)
    P, wire = parameters, engine.gradient_wire
    if not engine.overlaps:
        seconds = all_reduce_seconds(wire * P, links)
        return Communication(seconds, seconds)
    reduce = scatter_seconds if "optimizer" in engine.divided else all_reduce_seconds
    reduce_s, gather_s = reduce(wire * P, links), gather_seconds(4 * P, links)
    if "weights" in engine.divided:
        teacher_gather_s = gather_seconds(4 * P, links)
        total = packs * (2 * gather_s + reduce_s + teacher_gather_s)
        exposed = _beyond(gather_s, forward_s) + _beyond(gather_s + reduce_s, backward_s)
        return Communication(total, packs * (exposed + _beyond(teacher_gather_s, teacher_s)))
    times = packs if "gradients" in engine.divided else 1
    after = gather_s if "optimizer" in engine.divided else 0.0
    return Communication(times * reduce_s + after, times * _beyond(reduce_s, backward_s) + after)


def _beyond(seconds: float, hidden_by_s: float) -> float:
    return max(0.0, seconds - hidden_by_s)
