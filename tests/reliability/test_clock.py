"""Clocks that jump, file times in any order, a dead process's lock: the right checkpoint all the same."""

import os
import random
import time

import pytest
from made_states import exit_code, forked, is_state_of, state_of

from aqqua.train.checkpoint import load_newest, save
from aqqua.train.folder import LOCK, only_process

DAY_S = 86_400.0


@pytest.mark.reliability("12")
def test_the_newest_is_by_step_whatever_the_clock_and_file_times_say(tmp_path, full, measured, monkeypatch):
    draw, rounds, right = random.Random(12), 50 if full else 8, 0
    now = time.time
    for number in range(rounds):
        folder, steps = tmp_path / str(number), sorted(draw.sample(range(1, 10**6), 3))
        for step in steps:
            monkeypatch.setattr(time, "time", lambda: now() + draw.uniform(-DAY_S, DAY_S))
            path = save(folder, state_of(step), keep=2)
            for file in (*folder.iterdir(), *path.iterdir()):
                os.utime(file, (draw.uniform(0, 4e9), draw.uniform(0, 4e9)))
        left = load_newest(folder)
        kept = sorted(int(entry.name.removeprefix("step-")) for entry in folder.iterdir())
        right += left is not None and left.step == steps[-1] and is_state_of(left) and kept == steps[1:]
    measured(f"{right} of {rounds} right with file times and clock at random")
    assert right == rounds


@pytest.mark.reliability("12")
def test_the_lock_of_a_dead_process_holds_nobody(tmp_path, measured):
    run = tmp_path / "run"

    def die_with_the_lock() -> None:
        with only_process(run):
            os._exit(9)

    assert exit_code(forked(die_with_the_lock)) == 9
    assert (run / LOCK).exists()
    with only_process(run):
        measured("a dead process's lock passed over")
