"""The training loop: what happens in which order, on one page.

Every rank runs it. What one of them meets alone (a signal, a disk that fails) is told to the others before
each step, so that all end, save and go on at the same one. Test: tests/train/test_run.py, test_many_ranks.py.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import Any, NoReturn

from aqqua.train.data import StepData
from aqqua.train.folder import only_run
from aqqua.train.guard import NonFiniteError, StopFlag, not_finite, stop_on_signals
from aqqua.train.headline import headline
from aqqua.train.journal import SKIPPED, Journal
from aqqua.train.ranks import RankError, join
from aqqua.train.run import Run, open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import Outcome, Rates, image_ids, rates_at, take_step


def pretrain(config: PretrainConfig) -> Run:
    """Train to the end of the run, or until a signal asks to stop; leaves a checkpoint either way.

    Raises:
        NonFiniteError: three steps in a row were not finite; what was learned before is saved.
        OSError: the last checkpoint could not be written, or the dataset not be read.
        RankError: another process of the run failed or fell silent.
        ValueError: dataset, config and checkpoints do not fit together, the run is in use, or too much of the
            dataset is damaged.
    """
    with (
        join(config.train.timeout_s, config.data.read_timeout_s, config.train.device) as ranks,
        only_run(config.run, ranks),
    ):
        return _train(open_run(config, ranks))


def _train(run: Run) -> Run:
    train = run.config.train
    with (
        stop_on_signals() as stop,
        Journal(run.folder, run.step, run.images_total, train.tensorboard, run.ranks, run.dataset) as journal,
        closing(run.feeder.steps(run.lanes, run.step, say=journal.say, stop=lambda: bool(stop))) as steps,
    ):
        journal.say(headline(run))
        journal.progress(run.images)
        while not (run.done or _reached(run)):
            with journal.meter.waiting():
                data = _next(run, steps, stop, journal)
            if data is None:  # a signal came, to this rank or another
                break
            rates = rates_at(run)
            outcome = take_step(run, data, rates)
            run.advance(data)
            journal.bad_blocks(run.step, data.bad_blocks)
            journal.late_images(run.step, data.late_images)
            if not outcome.taken:
                names = journal.skipped(run.step, image_ids(run, data))
                if run.guard.exhausted:
                    _give_up(run, names, outcome)
            journal.count(data.packs)
            journal.progress(run.images, f"step {run.step} loss {outcome.losses['total']:.3f}")
            if _due(run.step, train.log_every) or run.done:
                journal.numbers(run.step, _numbers(run, rates, outcome))
            if _due(run.step, train.hash_every):
                run.check_replicas()
            if _due(run.step, train.checkpoint_every):
                _save_if_possible(run, journal)
        run.save()
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
        data = None if stop else next(steps, None)
    except (OSError, ValueError, RuntimeError) as error:
        failure = error
    heard = run.ranks.table([data is None, failure is not None])
    if any(failed for _, failed in heard):
        if run.step:
            _save_if_possible(run, journal)
        raise failure or RankError(
            f"every rank must have its data, got none on rank {[failed for _, failed in heard].index(1)}; "
            "its own message says why"
        )
    if any(ends for ends, _ in heard):
        stop.signal_name = stop.signal_name or "a signal to another rank"
        return None
    return data


def _give_up(run: Run, names: list[str], outcome: Outcome) -> NoReturn:
    """The skipped steps changed nothing, so this moment is as good as the last step that was taken."""
    run.save()
    bad = ", ".join(not_finite(outcome.losses["total"], outcome.grad_norms))
    raise NonFiniteError(
        f"step {run.step}: loss and gradients must be finite, got {bad} not finite in {run.guard.streak} "
        "steps in a row; all before them is saved and the same command goes on behind them: lower optim.lr, "
        f"or look at the images named in {SKIPPED} (now: {', '.join(names[:8])}, ...)"
    )


def _reached(run: Run) -> bool:
    last = run.config.train.max_steps
    return last is not None and run.step >= last


def _save_if_possible(run: Run, journal: Journal) -> None:
    """A disk that is full now must not cost the hours since: say so and train on."""
    try:
        run.save()
    except OSError as error:
        journal.say(
            f"no checkpoint of step {run.step} ({error}); training goes on, the ones before are untouched"
        )


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
    }
