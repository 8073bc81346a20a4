"""kill -9 at random moments while saving, beside torch.save to one file."""

import os
import random
import shutil
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_states import equal, exit_code, forked, state_of

from aqqua.train.checkpoint import Checkpoint, load_newest, save

SIZE = 100_000  # columns of a made state: 1.2 MB, so that a save is mostly writing
Save = Callable[[Path, Checkpoint], object]


def save_to_one_file(folder: Path, checkpoint: Checkpoint) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint.__dict__, folder / "last.pt")


def load_one_file(folder: Path) -> Checkpoint:
    return Checkpoint(**torch.load(folder / "last.pt", weights_only=True))


def save_time(folder: Path, save: Save, states: list[Checkpoint]) -> float:
    """Seconds of a save, so that the kills fall into every moment of one."""
    save(folder, states[0])
    start = time.perf_counter()
    for state in states[1:5]:
        save(folder, state)
    return (time.perf_counter() - start) / 4


def kill_while_saving(folder: Path, save: Save, states: list[Checkpoint], wait_s: float) -> int:
    """The last step whose save returned before the kill."""
    reading, writing = os.pipe()

    def save_on() -> None:
        for state in states:
            save(folder, state)
            os.write(writing, struct.pack("<i", state.step))

    child = forked(save_on)
    os.close(writing)
    told = os.read(reading, 4)
    time.sleep(wait_s)
    os.kill(child, signal.SIGKILL)
    exit_code(child)
    while more := os.read(reading, 1 << 16):
        told += more
    os.close(reading)
    return int(struct.unpack("<i", told[-4:])[0])


def torn_after_kills(
    folder: Path, save: Save, load: Callable[[Path], Checkpoint | None], rounds: int
) -> dict:
    """Kills that left nothing that loads, something else than was saved, or less than was acknowledged."""
    draw, found = random.Random(3), {"unloadable": 0, "wrong": 0, "lost": 0}
    states = [state_of(step, SIZE) for step in range(1, 30)]
    one_save_s = save_time(folder / "timed", save, states)
    for number in range(rounds):
        run = folder / str(number)
        acknowledged = kill_while_saving(run, save, states, draw.uniform(0, 3) * one_save_s)
        try:
            left = load(run)
            assert left is not None
        except Exception:  # whatever a torn file does to its reader
            found["unloadable"] += 1
        else:
            found["wrong"] += not equal(left, states[left.step - 1])
            found["lost"] += not acknowledged <= left.step <= acknowledged + 1
        shutil.rmtree(run)
    return found


@pytest.mark.reliability("1a")
def test_kill_9_while_saving_leaves_all_that_was_acknowledged(tmp_path, full, measured):
    rounds = 200 if full else 6
    ours = torn_after_kills(tmp_path / "ours", save, load_newest, rounds)
    peer = torn_after_kills(tmp_path / "peer", save_to_one_file, load_one_file, rounds)
    measured(
        f"of {rounds} kills: {ours['unloadable']} unloadable, {ours['wrong']} wrong, {ours['lost']} lost; "
        f"torch.save: {peer['unloadable']} unloadable, {peer['lost']} lost"
    )
    assert ours == {"unloadable": 0, "wrong": 0, "lost": 0}
    if full:
        assert peer["unloadable"] > 10, "the kills must fall into saves, or they show nothing"
