"""Back to an earlier checkpoint when training went wrong, and on behind the data that it went wrong with.

Weights, teacher, moments, the count of images (which all schedules follow) and the spike detector go back;
the step and the lanes' places in the data do not. So a step number still says how much data was used, logs
stay in order, the images in between are skipped, and the feeder never notices. A checkpoint is written at
once, so that a run killed after it goes on behind the data too. All ranks do this alike: rank 0 chooses and
reads the checkpoint. Test: tests/train/test_rollback.py; many ranks: tests/train/test_rollback_ranks.py.
"""

from collections.abc import Iterable, Sequence
from typing import NoReturn

from aqqua.train import checkpoint
from aqqua.train.checkpoint import Checkpoint, read_together
from aqqua.train.folder import CHECKPOINTS
from aqqua.train.guard import NonFiniteError, not_finite
from aqqua.train.journal import ROLLBACKS, SKIPPED, Journal
from aqqua.train.run import Run
from aqqua.train.spike import SpikeError, Spikes, numbers_of
from aqqua.train.step import Outcome

FAR = 100  # steps before the trouble began: it may have begun before it showed (PaLM went back about as far)


def mend(run: Run, outcome: Outcome, skipped: Sequence[str], journal: Journal) -> None:
    """After each step: nothing, unless the last ones were a spike or not finite.

    Args:
        run, outcome: after the step.
        skipped: ids of the step's images on all ranks, if it was not taken.
        journal: of the run.

    Raises:
        NonFiniteError: three steps in a row were not finite, and there is no way back, or no further one.
        SpikeError: a spike, and no further rollback.
    """
    began = _trouble(run, outcome)
    if not began:
        return
    limit = run.config.train.spike.rollbacks
    spent = len(run.rollbacks) >= limit
    found = None if spent else _way_back(run, began)
    if found is not None:
        _go_back(run, found, "spike" if outcome.taken else "not finite", began, journal)
    elif not outcome.taken:
        _stop_not_finite(run, outcome, skipped)
    elif spent and limit:
        _stop_spike(run, began)
    else:
        why = "train.spike.rollbacks is 0" if not limit else "there is no checkpoint before it"
        journal.say(
            f"step {run.step}: {_spike(began)}; {why}, so training goes on, and what is usual is learned anew"
        )
        run.spikes = Spikes()


def _trouble(run: Run, outcome: Outcome) -> int:
    """The step at which trouble began that is too much now; 0: there is none."""
    mine = 0
    if outcome.taken:
        numbers = numbers_of(outcome.losses["total"], outcome.grad_norms)
        if run.spikes.see(run.step, numbers, run.config.train.spike):
            mine = run.spikes.began
    elif run.guard.exhausted:
        mine = run.step - run.guard.streak + 1
    # Numbers are alike on all ranks but perhaps for rounding, where a call of all must not hang on it.
    return min((row[0] for row in run.ranks.table([mine]) if row[0]), default=0)


def _way_back(run: Run, began: int) -> Checkpoint | None:
    """The best checkpoint before a step, on all ranks; None if none of them verifies."""

    def read() -> Checkpoint | None:
        folder = run.folder / CHECKPOINTS
        for step in ways_back(checkpoint.steps(folder), began, run.rollbacks):
            try:
                return checkpoint.load(checkpoint.path_of(folder, step))
            except (OSError, ValueError):
                continue  # broken, or its disk is: another one serves as well
        return None

    return read_together(read, run.ranks, run.device)


def ways_back(steps: Iterable[int], began: int, rollbacks: Iterable[Sequence[int]]) -> list[int]:
    """Checkpoints to go back to, the best first: the newest that lie FAR before, then the newest at all.

    Args:
        steps: of the checkpoints there are.
        began: the trouble's first step.
        rollbacks: (at step, to step) so far; what was saved in between is of a training that was given up.
    """
    good = [s for s in steps if s < began and not any(to < s < at for at, to in rollbacks)]
    return sorted(good, key=lambda step: (step <= began - FAR, step), reverse=True)


def _go_back(run: Run, found: Checkpoint, reason: str, began: int, journal: Journal) -> None:
    lanes = run.places()
    run.go_back(found)
    journal.rolled_back(run.step, reason, found.step, found.state["lanes"], lanes)
    what = _spike(began) if reason == "spike" else f"loss or gradients are not finite since step {began}"
    journal.say(
        f"step {run.step}: {what}; weights, teacher and schedules are those of step {found.step} again, the "
        f"images since then are left out ({ROLLBACKS}); rollback {len(run.rollbacks)} of "
        f"{run.config.train.spike.rollbacks}"
    )
    run.save_if_possible(journal.say)


def _stop_not_finite(run: Run, outcome: Outcome, skipped: Sequence[str]) -> NoReturn:
    """The skipped steps changed nothing, so this moment is as good as the last step that was taken."""
    run.save()
    bad = ", ".join(not_finite(outcome.losses["total"], outcome.grad_norms))
    raise NonFiniteError(
        f"step {run.step}: loss and gradients must be finite, got {bad} not finite in {run.guard.streak} "
        f"steps in a row{_after(run)}; all before them is saved and the same command goes on behind them: "
        f"lower optim.lr, or look at the images named in {SKIPPED} (now: {', '.join(skipped[:8])}, ...)"
    )


def _stop_spike(run: Run, began: int) -> NoReturn:
    """Without a checkpoint of this moment, whose weights are not worth it."""
    newest = max(checkpoint.steps(run.folder / CHECKPOINTS), default=0)
    raise SpikeError(
        f"step {run.step}: loss and gradients must stay near what is usual, got a spike since step {began}"
        f"{_after(run)}; the same command goes on from step {newest}: lower optim.lr or optim.clip_grad, "
        f"look at the images of {ROLLBACKS}, or raise train.spike.rollbacks"
    )


def _after(run: Run) -> str:
    spent = len(run.rollbacks)
    return f" after rollback {spent} of {run.config.train.spike.rollbacks}" if spent else ""


def _spike(began: int) -> str:
    return f"loss or gradient norm is far above what is usual since step {began}"
