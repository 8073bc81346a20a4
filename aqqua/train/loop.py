"""The training loop: what happens in which order, on one page.

Test: tests/train/test_run.py.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NoReturn

from aqqua.progress import Bar
from aqqua.train.data import StepData
from aqqua.train.folder import only_process
from aqqua.train.guard import NonFiniteError, not_finite, stop_on_signals
from aqqua.train.headline import headline
from aqqua.train.metrics import BadBlockLog, LateImageLog, Meter, MetricsLog, drop_after
from aqqua.train.run import Run, open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import Outcome, Rates, image_ids, rates_at, take_step

SKIPPED = "skipped.jsonl"


def pretrain(config: PretrainConfig) -> Run:
    """Train to the end of the run, or until a signal asks to stop; leaves a checkpoint either way.

    Raises:
        NonFiniteError: three steps in a row were not finite; what was learned before is saved.
        OSError: the last checkpoint could not be written, or the dataset not be read.
        ValueError: dataset, config and checkpoints do not fit together, the run is in use, or too much of the
            dataset is damaged.
    """
    with only_process(config.run):
        return _train(open_run(config))


def _train(run: Run) -> Run:
    config = run.config
    drop_after(run.folder / SKIPPED, run.step)
    bad_blocks = BadBlockLog(run.folder, run.step)
    late_images = LateImageLog(run.folder, run.step, run.dataset)
    with (
        stop_on_signals() as stop,
        Bar("pretrain", run.images_total, "images") as bar,
        closing(MetricsLog(run.folder, run.step, config.train.tensorboard)) as log,
        closing(run.feeder.steps(run.lanes, run.step, say=bar.say, stop=lambda: bool(stop))) as steps,
    ):
        bar.say(headline(run))
        bar.update(run.images)
        meter = Meter()
        while not (run.done or stop or _reached(run)):
            with meter.waiting():
                data = _next(run, steps, bar)
            if data is None:  # a signal came while the disk kept us waiting
                break
            rates = rates_at(run)
            outcome = take_step(run, data, rates)
            run.advance(data)
            _note_bad_blocks(run, data, bad_blocks, bar)
            _note_late_images(run, data, late_images, bar)
            if not outcome.taken:
                _note_skipped(run, data)
                if run.guard.exhausted:
                    _give_up(run, data, outcome)
            meter.add(data.packs)
            bar.update(run.images, f"step {run.step} loss {outcome.losses['total']:.3f}")
            if _due(run.step, config.train.log_every) or run.done:
                damage = {"bad_blocks": len(bad_blocks), "late_images": late_images.counts()}
                log.write(run.step, _numbers(run, rates, outcome) | damage | meter.read())
            if _due(run.step, config.train.checkpoint_every):
                _save_if_possible(run, bar)
        run.save()
        if stop:
            bar.say(
                f"stopped by {stop.signal_name} after step {run.step}; the same command continues the run"
            )
    return run


def _next(run: Run, steps: Iterator[StepData], bar: Bar) -> StepData | None:
    """The data of a step; None at a signal. If it cannot be had, what was learned so far is saved first."""
    try:
        return next(steps, None)
    except (OSError, ValueError, RuntimeError):
        if run.step:
            _save_if_possible(run, bar)
        raise


def _give_up(run: Run, data: StepData, outcome: Outcome) -> NoReturn:
    """The skipped steps changed nothing, so this moment is as good as the last step that was taken."""
    run.save()
    bad = ", ".join(not_finite(outcome.losses["total"], outcome.grad_norms))
    raise NonFiniteError(
        f"step {run.step}: loss and gradients must be finite, got {bad} not finite in {run.guard.streak} "
        "steps in a row; all before them is saved and the same command goes on behind them: lower optim.lr, "
        f"or look at the images named in {SKIPPED} (now: {', '.join(image_ids(run, data)[:8])}, ...)"
    )


def _reached(run: Run) -> bool:
    last = run.config.train.max_steps
    return last is not None and run.step >= last


def _save_if_possible(run: Run, bar: Bar) -> None:
    """A disk that is full now must not cost the hours since: say so and train on."""
    try:
        run.save()
    except OSError as error:
        bar.say(
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


def _note_bad_blocks(run: Run, data: StepData, log: BadBlockLog, bar: Bar) -> None:
    for bad in log.note(run.step, data.bad_blocks):
        bar.say(f"block {bad.block} is damaged, block {bad.replacement} stands for it: {bad.error}")


def _note_late_images(run: Run, data: StepData, log: LateImageLog, bar: Bar) -> None:
    for late in log.note(run.step, data.late_images):
        bar.say(
            f"image {late.image_id} ({late.file} row group {late.row_group} row {late.row}) cannot be "
            f"decoded by DALI, {late.stands} pixels stand for it: {late.error}"
        )


def _note_skipped(run: Run, data: StepData) -> None:
    with (run.folder / SKIPPED).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": run.step, "images": image_ids(run, data)}) + "\n")
