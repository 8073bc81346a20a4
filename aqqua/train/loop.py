"""The training loop: what happens in which order, on one page.

Every rank runs it. What one of them meets alone (a signal, a disk that fails) is told to the others before
each step, so that all end, save and go on at the same one. Test: tests/train/test_run.py, test_many_ranks.py.
"""

import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from typing import Any

from aqqua.train.data import StepData
from aqqua.train.distill import distilled_from
from aqqua.train.folder import only_run
from aqqua.train.headline import headline
from aqqua.train.heap import keep_freed_memory
from aqqua.train.journal import Journal
from aqqua.train.profile import profiling
from aqqua.train.ranks import RankError, join
from aqqua.train.rollback import mend
from aqqua.train.run import Run, open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.signals import StopFlag, stop_on_signals
from aqqua.train.spans import span
from aqqua.train.step import Outcome, Rates, image_ids, rates_at, take_step
from aqqua.train.straggler import WINDOW
from aqqua.train.usage import Usage, gpu_of
from aqqua.train.useful import Useful, peak_tflop_s


def pretrain(config: PretrainConfig, stop: StopFlag | None = None) -> Run:
    """Train to the end of the run, or until a signal asks to stop; leaves a checkpoint either way.

    Args:
        config: of the run.
        stop: of a caller who listens to signals already.

    Raises:
        NonFiniteError: three steps in a row were not finite, and the run cannot go back behind them any more;
            what was learned before is saved.
        SpikeError: the loss or the gradients rose, and the run cannot go back any more.
        OSError: the last checkpoint could not be written, or the dataset not be read.
        RankError: another process of the run failed or fell silent.
        ValueError: dataset, config and checkpoints do not fit together, the run is in use, or too much of the
            dataset is damaged.
    """
    since_s = time.monotonic()
    with (
        nullcontext(stop) if stop is not None else stop_on_signals() as stop,
        join(config.train.timeout_s, config.data.read_timeout_s, config.train.device) as ranks,
        only_run(config.run, ranks),
    ):
        return _train(open_run(config, ranks), stop, since_s)


def _train(run: Run, stop: StopFlag, since_s: float) -> Run:
    config, train = run.config, run.config.train
    if run.device.type == "cpu":
        keep_freed_memory()
    peak = peak_tflop_s(run.device, run.ranks)
    useful = Useful.of(config, run.device, run.compute_dtype, peak, distilled_from(run.model.followed))
    with (
        Journal(
            run.folder, run.step, run.images_total, train.tensorboard, run.ranks, run.dataset, useful
        ) as journal,
        Usage(
            run.folder, run.ranks, gpu_of(run.device), train.grant_gpu_hours, journal.say, since_s=since_s
        ) as usage,
        closing(run.feeder.steps(run.lanes, run.step, say=journal.say, stop=lambda: bool(stop))) as steps,
        profiling(config.profile, run.folder, run.ranks.rank, run.step, journal.say, useful) as after_step,
    ):
        journal.say(headline(run))
        if useful.peak_tflop_s is None and run.device.type == "cuda":
            journal.say("no peak of this GPU is known: metrics tell tflop_per_s, no mfu")
        journal.progress(run.images)
        while not (run.done or _reached(run)):
            run.stragglers.begin()
            with journal.meter.waiting():
                data = _next(run, steps, stop, journal)
            if data is None:  # a signal came, to this rank or another
                break
            rates = rates_at(run)
            outcome = take_step(run, data, rates)
            run.advance(data, outcome.n_images)
            anchored = rates.gram_weight > 0
            skipped = _note(run, data, outcome, journal, anchored)
            if _due(run.step, WINDOW):
                run.stragglers.compare(journal.say)
            if _due(run.step, train.log_every) or run.done:
                journal.numbers(run.step, _numbers(run, rates, outcome) | usage.numbers())
            mend(run, outcome, skipped, journal)
            if _due(run.step, train.hash_every):
                run.check_replicas()
            if _due(run.step, train.checkpoint_every):
                run.save_if_possible(journal.say)
            after_step(data.packs, anchored)
        run.save()
        if cost := usage.last_line():
            journal.say(cost)
        if stop:
            journal.say(
                f"stopped by {stop.signal_name} after step {run.step}; the same command continues the run"
            )
            run.stopped_by = stop.signal_name
    return run


def _next(run: Run, steps: Iterator[StepData], stop: StopFlag, journal: Journal) -> StepData | None:
    """The data of a step; None, on all ranks, if one of them got a signal.

    If one cannot have its data, what was learned so far is saved first; then it raises why, and the others
    that it did.
    """
    data, failure = None, None
    try:
        with span("wait"):
            data = None if stop else next(steps, None)
    except (OSError, ValueError, RuntimeError) as error:
        failure = error
    heard = run.ranks.table([data is None, failure is not None])
    if any(failed for _, failed in heard):
        if run.step:
            run.save_if_possible(journal.say)
        raise failure or RankError(
            f"every rank must have its data, got none on rank {[failed for _, failed in heard].index(1)}; "
            "its own message says why"
        )
    if any(ends for ends, _ in heard):
        stop.signal_name = stop.signal_name or "a signal to another rank"
        return None
    return data


def _reached(run: Run) -> bool:
    last = run.config.train.max_steps
    return last is not None and run.step >= last


def _note(run: Run, data: StepData, outcome: Outcome, journal: Journal, anchored: bool) -> list[str]:
    """Write down what a step met; returns the ids of its images on all ranks if it was not taken."""
    journal.damage(run.step, data.bad_blocks, data.late_images)
    skipped = [] if outcome.taken else journal.skipped(run.step, image_ids(run, data))
    journal.count(data.packs, anchored)
    journal.progress(run.images, f"step {run.step} loss {outcome.losses['total']:.3f}")
    return skipped


def _due(step: int, every: int) -> bool:
    return step % every == 0


def _numbers(run: Run, rates: Rates, outcome: Outcome) -> dict[str, Any]:
    return {
        "images": run.images,
        "loss": outcome.losses,
        "grad_norm": outcome.grad_norms,
        "teacher_entropy": outcome.teacher_entropy,
        **vars(rates),
        "skipped_steps": run.guard.skipped,
        **run.stragglers.numbers,
    }
