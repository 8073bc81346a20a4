"""What moves a model: the plain engine, and ZeRO 1 to 3. Bytes of a parameter, what of them is divided, what
travels, and what of that computing hides.

Weights and gradients are float32 in all of them, cast to bfloat16 while products are computed; the plain
engine also keeps sums of gradients over packs and ranks, as train.gradient_sum and train.deterministic say.
ZeRO keeps 12 bytes for the optimizer (a float32 shard of the weight and two moments), on the host with
train.zero.offload; stage 1 divides these, 2 also gradients, 3 also weights and the teacher.

Source of the stages: Rajbhandari 2020 (ZeRO); of the bytes: docs/cluster.md; of what travels when: DeepSpeed
0.19.8, runtime/zero: stages 1 and 2 all-reduce whole buckets (use_multi_rank_bucket_allreduce is its default)
and only stage 3 scatters; reductions run beside the backward pass with overlap_comm alone; prefetched gathers
of stage 3 run on NCCL's own stream either way. aqqua.train.sharded_teacher gathers and waits.

Letters: P parameters, N ranks. Test: tests/cost/test_memory.py, test_engines.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from aqqua.cost.collectives import (
    Links,
    all_reduce_seconds,
    broadcast_seconds,
    gather_seconds,
    scatter_seconds,
)
from aqqua.train.settings import PretrainConfig, TrainConfig
from aqqua.train.zero_config import ZeroConfig

STAGES = (1, 2, 3)
_DEFAULT = ZeroConfig()


@dataclass(frozen=True)
class Engine:
    """Bytes of a parameter, and which parts are divided by the ranks."""

    name: str
    weights: float
    gradients: float
    sums: float  # of gradients, beside them; none where one pack on one rank is its own sum
    optimizer: float
    copies: float  # weights as products take them
    divided: frozenset[str]  # of weights, gradients, optimizer, teacher
    gradient_wire: float  # bytes of a gradient on the way to other ranks
    stage: int = 0  # of ZeRO; 0: the plain engine
    in_order: bool = False  # gradients are told pack by pack, to be added in the order of the lanes
    overlaps: bool = False  # whether gradients travel during the backward pass
    offload: bool = False  # the optimizer's part is in the memory of the host, which moves it
    reduced_values: int = 0  # of DeepSpeed's buffer, which is as large however small the model is
    prefetched_values: int = 0  # gathered ahead in stage 3
    teacher: float = 4.0

    def share(self, part: str, ranks: int) -> float:
        """Bytes of a parameter that a rank holds of a part."""
        return getattr(self, part) / (ranks if part in self.divided else 1)

    def sums_of(self, ranks: int, packs: int) -> float:
        """Bytes of a parameter of the sums (aqqua.train.gradients): one rank alone may need none."""
        return 0.0 if ranks == 1 and (packs == 1 or self.in_order) else self.sums

    def bucket_bytes(self, parameters: int) -> float:
        """Of gradients that wait in DeepSpeed's buffers (two where one travels meanwhile), of what is sent of
        them at once, and of weights gathered ahead; float32."""
        waiting = self.reduced_values * (2 if self.overlaps else 1)
        return 4.0 * (
            waiting + min(parameters, self.reduced_values) + min(parameters, self.prefetched_values)
        )


def plain(train: TrainConfig | None = None) -> Engine:
    """The plain engine, as a config or by default."""
    in_order = train is not None and train.deterministic
    small = in_order or (train is not None and train.gradient_sum == "float32")
    # Autograd adds float32 up in place; the other two have sums of their own.
    sums = 4 if in_order else 0 if small else 8
    return Engine("plain", 4, 4, sums, 8, 2, frozenset(), 4 if small else 8, in_order=in_order)


def zero(stage: int, config: ZeroConfig = _DEFAULT) -> Engine:
    """A stage of ZeRO with the other settings of a config."""
    divided = ("optimizer", "gradients", "weights")[:stage]
    teacher = ("teacher",) if stage == 3 else ()
    return Engine(
        f"ZeRO {stage}", 4, 4, 0, 12, 2, frozenset((*divided, *teacher)), 4, stage,
        overlaps=config.overlap, offload=config.offload, reduced_values=config.reduce_bucket_size,
        prefetched_values=config.prefetch_bucket_size if stage == 3 else 0,
    )  # fmt: skip


PLAIN = plain()
ENGINES = (PLAIN, *map(zero, STAGES))  # simplest first, as by default; stage 0 of ZeRO is the plain engine


def engines_of(config: PretrainConfig) -> tuple[Engine, ...]:
    """The one a run is configured with, then the others that its config allows, simplest first."""
    mine = zero(config.train.zero.stage, config.train.zero)
    mine = mine if config.train.engine == "zero" else plain(config.train)
    return (mine, *(engine for engine in _allowed(config) if engine.name != mine.name))


def _allowed(config: PretrainConfig) -> Iterator[Engine]:
    yield plain(config.train)
    for stage in STAGES:
        told = {"engine": "zero", "zero": {**config.train.zero.model_dump(), "stage": stage}}
        try:
            PretrainConfig.model_validate(
                {**config.model_dump(), "train": {**config.train.model_dump(), **told}}
            )
        except ValidationError:
            continue
        yield zero(stage, config.train.zero)


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
    again: bool = False,
) -> Communication:
    """Of gradients and weights in a step of `packs` packs a rank.

    The plain engine sums gradients after the last pack, in the open; in the order of the lanes, each rank
    tells those of each pack to all. ZeRO 1 sends them in the last pack's backward pass, 2 and 3 in every
    pack's, or after it; 1 and 2 then gather the moved weights, in the open. ZeRO 3 gathers weights for every
    pass over a pack: student forward and backward, and the float32 teacher, in the open.

    Args:
        forward_s, backward_s: computing of one pack, which may hide what travels meanwhile.
        again: blocks run a second time in the backward pass (checkpointing).
    """
    if links.ranks == 1:
        return Communication(0.0, 0.0)
    P, wire = parameters, engine.gradient_wire
    if engine.stage == 0:
        all_packs = packs * links.ranks
        told = broadcast_seconds(wire * P, links) * all_packs
        seconds = told if engine.in_order else all_reduce_seconds(wire * P, links)
        return Communication(seconds, seconds)
    gather_s = gather_seconds(4 * P, links)
    if engine.stage == 3:
        return _whole_on_demand(engine, gather_s, scatter_seconds(wire * P, links), packs,
                                forward_s, backward_s, 2 if again else 1)  # fmt: skip
    reduce_s = all_reduce_seconds(wire * P, links)
    times = packs if engine.stage == 2 else 1
    exposed_s = _beyond(reduce_s, backward_s) if engine.overlaps else reduce_s
    return Communication(times * reduce_s + gather_s, times * exposed_s + gather_s)


def _whole_on_demand(
    engine: Engine,
    gather_s: float,
    reduce_s: float,
    packs: int,
    forward_s: float,
    backward_s: float,
    backward_gathers: int,
) -> Communication:
    """Of stage 3; the teacher's gather is as large as one of the student's."""
    total_s = (1 + backward_gathers) * gather_s + reduce_s + gather_s
    ahead_s = gather_s if engine.prefetched_values else 0.0
    beside_s = reduce_s if engine.overlaps else 0.0
    hidden_s = min(ahead_s, forward_s) + min(backward_gathers * ahead_s + beside_s, backward_s)
    return Communication(packs * total_s, packs * (total_s - hidden_s))


def _beyond(seconds: float, hidden_by_s: float) -> float:
    return max(0.0, seconds - hidden_by_s)
