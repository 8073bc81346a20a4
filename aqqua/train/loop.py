"""The training loop: what happens in which order, on one page."""

import json
from typing import Any

from aqqua.progress import Bar
from aqqua.train.data import StepData
from aqqua.train.guard import stop_on_signals
from aqqua.train.metrics import Meter, MetricsLog
from aqqua.train.run import Run, open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import Outcome, Rates, image_ids, rates_at, take_step

SKIPPED = "skipped.jsonl"


def pretrain(config: PretrainConfig) -> Run:
    """Train to the end of the run, or until a signal asks to stop; leaves a checkpoint either way.

    Raises:
        NonFiniteError: three steps in a row were not finite; the last checkpoint is good.
        ValueError: dataset, config and checkpoints do not fit together.
    """
    run = open_run(config)
    log, meter = MetricsLog(run.folder, run.step, config.train.tensorboard), Meter()
    with stop_on_signals() as stop, Bar("pretrain", run.images_total, "images") as bar:
        bar.say(run.headline())
        bar.update(run.images)
        steps = run.feeder.steps(run.lanes, run.step)
        while not (run.done or stop or run.step == config.train.max_steps):
            with meter.waiting():
                data = next(steps)
            rates = rates_at(run)
            outcome = take_step(run, data, rates)
            run.advance(data)
            if not outcome.taken:
                _note_skipped(run, data)
            meter.add(data.packs)
            bar.update(run.images, f"step {run.step} loss {outcome.losses['total']:.3f}")
            if _due(run.step, config.train.log_every) or run.done:
                log.write(run.step, _numbers(run, rates, outcome) | meter.read())
            if _due(run.step, config.train.checkpoint_every):
                run.save()
        steps.close()
        run.save()
        if stop:
            bar.say(
                f"stopped by {stop.signal_name} after step {run.step}; the same command continues the run"
            )
    log.close()
    return run


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


def _note_skipped(run: Run, data: StepData) -> None:
    with (run.folder / SKIPPED).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": run.step, "images": image_ids(run, data)}) + "\n")
