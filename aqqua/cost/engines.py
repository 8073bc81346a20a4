"""What moves a model: the plain engine, and ZeRO 0 to 3. Bytes of a parameter, and what of them is divided.

Source: Rajbhandari 2020 (ZeRO): mixed precision keeps 2 bytes of a weight, 2 of its gradient and 12 of the
optimizer (weight and two moments in float32); stage 1 divides the optimizer, 2 also gradients, 3 also
weights. The teacher, 4 bytes, is divided at stage 3. The plain engine keeps float32 weights, gradients and
moments, and casts weights to bfloat16 while it computes. Letters: P parameters, N ranks. Test:
tests/cost/test_memory.py.
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
    return Engine(f"ZeRO {stage}", 2, 2, 12, 0, frozenset((*divided, *teacher)), 2, overlaps=True)


PLAIN = Engine("plain", 4, 4, 8, 2, frozenset(), 4, overlaps=False)
ENGINES = (PLAIN, *map(_zero, range(4)))
# What a run takes, simplest first: ZeRO 0 divides nothing and is in the table for comparison.
CHOICE = tuple(engine for engine in ENGINES if engine.name != "ZeRO 0")


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

    The plain engine sums gradients after the last pack, in the open. ZeRO 0 and 1 send them while the last
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
    reduce_s, gather_s = reduce(wire * P, links), gather_seconds(2 * P, links)
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
