"""What stands in the way of a run, said before it waits in a queue. Test: tests/cost/test_blockers.py."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from aqqua.cost.engines import ENGINES, Engine
from aqqua.cost.estimate import Prediction, memory_of
from aqqua.cost.facts import GIGA
from aqqua.cost.memory import checkpoint_bytes
from aqqua.cost.parameters import network_parameters
from aqqua.cost.sizes import smallest_pack
from aqqua.cost.work import Workload
from aqqua.train.settings import PretrainConfig


def of_config(config: PretrainConfig) -> Iterator[str]:
    """That any machine would meet."""
    least, got = smallest_pack(config.model, config.views), config.data.pack_tokens
    if got < least:
        yield (
            f"data.pack_tokens must hold the views of the largest image, {least} tokens, got {got}; raise it "
            "or lower views.max_tokens"
        )
    train = config.train
    if train.precision == "float32" or train.device == "cpu":
        yield (
            "mixed precision on a GPU is what is predicted, got "
            f"train.precision={train.precision}, train.device={train.device}; set both to auto"
        )


def of_disk(config: PretrainConfig) -> Iterator[str]:
    """Checkpoints that are kept, and one that is being written, must fit beside what is there."""
    count = config.train.keep_checkpoints + 1
    needed = count * checkpoint_bytes(network_parameters(config.model, config.objective), config.objective)
    place = next(p for p in (config.run.absolute(), *config.run.absolute().parents) if p.is_dir())
    free = _free_bytes(place)
    if free < needed:
        yield (
            f"the disk of {place} must hold {count} checkpoints, {needed / GIGA:.1f} GB, got "
            f"{free / GIGA:.1f} GB free; make room, choose another run=FOLDER or lower train.keep_checkpoints"
        )


def _free_bytes(place: Path) -> int:
    return shutil.disk_usage(place).free


def of_memory(
    predictions: Sequence[Prediction], work: Workload, engines: Sequence[Engine] = ENGINES
) -> Iterator[str]:
    """A run that fits no GPU asked for, by its engine; another of `engines` may be the way out."""
    if predictions and not any(prediction.fits for prediction in predictions):
        near = min(predictions, key=lambda p: p.memory.total / p.memory_limit)
        others = (e for e in engines if memory_of(work, e, near.gpus).total <= near.memory_limit)
        other = next((_settings(engine) for engine in others), "")
        yield (
            f"a GPU must hold the run, {near.memory.total / GIGA:.0f} GB at least ({near.engine} on "
            f"{near.gpus} {near.gpu}), got {near.memory_limit / GIGA:.0f} GB; {other}lower data.pack_tokens, "
            "or set model.activation_checkpointing=true and objective.kernels=recompute"
        )


def _settings(engine: Engine) -> str:
    if engine.stage == 0:
        return "set train.engine=plain, "
    return f"set train.engine=zero train.zero.stage={engine.stage}, "
