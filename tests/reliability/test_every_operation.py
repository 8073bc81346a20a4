"""A crash, a power loss, an error or a full disk at every operation by which a checkpoint is written."""

import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from io_faults import KILLED, Disk, crash_after, crash_before, crash_halfway, input_output_error
from made_states import exit_code, forked, is_state_of, state_of
from power_loss import Replay, losses

from aqqua.train import checkpoint
from aqqua.train.checkpoint import load_newest, save

STATE = "state.json"


@dataclass(frozen=True)
class Scene:
    """A folder of checkpoints before a save."""

    earlier: tuple[int, ...]  # whole
    broken: tuple[int, ...]
    step: int  # saved now
    keep: int = 2

    @property
    def acknowledged(self) -> int:
        return max(self.earlier, default=0)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing is counted, not done: what a process leaves outlives it, and a power loss is a model here."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


SCENES = {
    "the first": Scene((), (), 1),
    "one kept": Scene((2,), (), 3, keep=1),
    "two kept": Scene((1, 2), (), 3),
    "over a broken one of the same step": Scene((1,), (3,), 3),
    "after a broken one": Scene((1,), (2,), 3),
}


def set_up(folder: Path, scene: Scene) -> Path:
    for step in scene.earlier + scene.broken:
        save(folder / "run" / "checkpoints", state_of(step), keep=9)
    for step in scene.broken:
        (folder / "run" / "checkpoints" / f"step-{step:012d}" / STATE).write_text("{}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_on(folder: Path, scene: Scene, disk: Disk) -> None:
    with disk.installed():
        save(folder / "run" / "checkpoints", state_of(scene.step), scene.keep)


def operations(folder: Path, scene: Scene) -> Disk:
    """What a save that nothing disturbs does to the disk."""
    disk = Disk()
    save_on(folder, scene, disk)
    return disk


def problem_of(folder: Path, at_least: int, scene: Scene) -> str | None:
    """What is wrong with the checkpoints left, if anything."""
    checkpoints = folder / "run" / "checkpoints"
    try:
        left = load_newest(checkpoints)
    except ValueError as error:
        return f"unloadable: {error}" if at_least else None
    if left is None:
        return "none left" if at_least else None
    if left.step not in (at_least, scene.step):
        return f"step {left.step} left of {at_least}"
    return None if is_state_of(left) else "another state than was saved"


def problem_after_the_next_save(folder: Path, scene: Scene) -> str | None:
    checkpoints = folder / "run" / "checkpoints"
    save(checkpoints, state_of(scene.step + 1), scene.keep)
    left = load_newest(checkpoints)
    if left is None or left.step != scene.step + 1 or not is_state_of(left):
        return "the next save does not load"
    litter = [path.name for path in checkpoints.iterdir() if path.name.startswith(".partial")]
    return f"left lying: {litter}" if litter else None


@pytest.mark.reliability("1b")
@pytest.mark.filterwarnings("ignore:resume. uses")
def test_a_crash_at_any_operation_is_recovered_from(tmp_path, full, measured):
    crashes, problems = 0, []
    for name, scene in SCENES.items():
        ready = set_up(tmp_path / name, scene)
        count = len(operations(shutil.copytree(ready, tmp_path / f"{name} done"), scene).log)
        for at in range(1, count + 1, 1 if full else 7):
            for fault in (crash_before, crash_halfway, crash_after):
                folder = shutil.copytree(ready, tmp_path / "now")
                code = exit_code(forked(partial(save_on, folder, scene, Disk(at, fault))))
                assert code == KILLED, (name, at, fault)
                crashes += 1
                with_problem = problem_of(folder, scene.acknowledged, scene) or problem_after_the_next_save(
                    folder, scene
                )
                problems += [(name, at, fault.__name__, with_problem)] if with_problem else []
                shutil.rmtree(folder)
    measured(f"{crashes - len(problems)} of {crashes} crashes recovered")
    assert not problems
    assert crashes > (400 if full else 60)


@pytest.mark.reliability("1b")
@pytest.mark.filterwarnings("ignore:resume. uses")
def test_a_second_crash_while_recovering_is_recovered_from(tmp_path, full, measured):
    scene, crashes, problems = SCENES["one kept"], 0, []
    ready = set_up(tmp_path / "ready", scene)
    count = len(operations(shutil.copytree(ready, tmp_path / "done"), scene).log)
    for first in range(1, count + 1, 1 if full else 9):
        once = shutil.copytree(ready, tmp_path / "once")
        assert exit_code(forked(partial(save_on, once, scene, Disk(first, crash_after)))) == KILLED
        for second in range(1 + first % 4, 2 * count, 4 if full else 9):
            folder = shutil.copytree(once, tmp_path / "twice")
            code = exit_code(forked(partial(save_on, folder, scene, Disk(second, crash_before))))
            problem = problem_of(folder, scene.acknowledged if code else scene.step, scene)
            problems += [(first, second, problem)] if problem else []
            crashes += code == KILLED
            shutil.rmtree(folder)
            if not code:
                break
        shutil.rmtree(once)
    measured(f"{crashes - len(problems)} of {crashes} second crashes")
    assert not problems
    assert crashes > (100 if full else 5)


def lost_without_power(folder: Path, scene: Scene, draws: int) -> tuple[int, int]:
    """(states the disk may be in, those from which an acknowledged checkpoint is missing)."""
    ready = set_up(folder / "ready", scene)
    replay = Replay(ready)
    log = operations(ready, scene).log
    states = lost = 0
    for done in range(len(log) + 1):
        acknowledged = scene.step if done == len(log) else scene.acknowledged
        for keeps in losses(done, draws):
            replay.write_out(folder / "left", keeps)
            states += 1
            lost += problem_of(folder / "left", acknowledged, scene) is not None
            shutil.rmtree(folder / "left")
        if done < len(log):
            replay.do(*log[done])
    return states, lost


@pytest.mark.reliability("1c")
@pytest.mark.filterwarnings("ignore:resume. uses")
def test_a_power_loss_at_any_operation_loses_nothing_acknowledged(tmp_path, full, measured, monkeypatch):
    scenes = list(SCENES.values()) if full else [SCENES["one kept"]]
    draws = 30 if full else 1
    found = [lost_without_power(tmp_path / f"a{i}", scene, draws) for i, scene in enumerate(scenes)]
    monkeypatch.setattr(checkpoint, "flush", lambda _path: None)
    peer = [lost_without_power(tmp_path / f"b{i}", scene, draws) for i, scene in enumerate(scenes)]
    states, lost = (sum(column) for column in zip(*found, strict=True))
    of_peer, lost_by_peer = (sum(column) for column in zip(*peer, strict=True))
    measured(f"{lost} of {states} states of the disk lost one; without fsync {lost_by_peer} of {of_peer}")
    assert lost == 0
    assert lost_by_peer > (100 if full else 1), "a disk that keeps everything shows nothing"


def saved(work: Callable[[], None]) -> bool:
    """False if it raised what a caller is told to expect of a disk."""
    try:
        work()
    except OSError:
        return False
    return True


@pytest.mark.reliability("3")
@pytest.mark.filterwarnings("ignore:resume. uses")
@pytest.mark.parametrize("stays", [False, True], ids=["once", "from then on"])
def test_an_error_at_any_operation_is_told_or_does_no_harm(tmp_path, full, measured, stays):
    faults, told, problems = 0, 0, []
    for name, scene in SCENES.items():
        ready = set_up(tmp_path / name, scene)
        count = len(operations(shutil.copytree(ready, tmp_path / f"{name} done"), scene).log)
        for at in range(1, count + 1, 1 if full else 9):
            folder = shutil.copytree(ready, tmp_path / "now")
            whole = saved(partial(save_on, folder, scene, Disk(at, input_output_error, stays)))
            faults, told = faults + 1, told + (not whole)
            problem = problem_of(folder, scene.step if whole else scene.acknowledged, scene)
            problem = problem or problem_after_the_next_save(folder, scene)
            problems += [(name, at, problem)] if problem else []
            shutil.rmtree(folder)
    kind = "lasting" if stays else "single"
    measured(f"{kind}: {len(problems)} false or lost of {faults}, {told} told as OSError")
    assert not problems
    assert told > faults // 4


@pytest.mark.reliability("2")
def test_a_file_that_may_not_grow_leaves_the_earlier_checkpoint(tmp_path, full, measured):
    """A limit on the size of files, from none to nearly enough, in place of a disk of that size."""
    scene, points, problems = SCENES["one kept"], 40 if full else 5, []
    ready = set_up(tmp_path / "ready", scene)
    largest = max(p.stat().st_size for p in ready.rglob("*") if p.is_file())
    for point in range(points):
        folder = shutil.copytree(ready, tmp_path / "now")
        child = forked(partial(save_within, folder, scene, largest * point // points))
        if exit_code(child) != 0:
            problems.append((point, "not told as OSError"))
        left = [p.name for p in (folder / "run" / "checkpoints").iterdir()]
        if left != ["step-000000000002"]:
            problems.append((point, str(left)))
        problem = problem_of(folder, 2, scene) or problem_after_the_next_save(folder, scene)
        problems += [(point, problem)] if problem else []
        shutil.rmtree(folder)
    measured(f"earlier checkpoint whole, OSError, nothing left lying: {points - len(problems)} of {points}")
    assert not problems


def save_within(folder: Path, scene: Scene, most_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))  # Python ignores SIGXFSZ
    assert not saved(partial(save_on, folder, scene, Disk())), "it must not fit"
