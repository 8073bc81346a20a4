"""A hundred thousand packs in one process: memory, open files and threads stay as they were."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alike_images import Drawn, packer_of
from bounded_child import held_mb, in_child

from aqqua.plan.lanes import LaneState

LOOKS = 40  # at memory, files and threads, spread over the packs


def held() -> tuple[float, int, int]:
    """MB of its own, open files and threads of this process."""
    of_process = Path("/proc/self")
    return held_mb(), len(list((of_process / "fd").iterdir())), len(list((of_process / "task").iterdir()))


def plan_on(packs: int, notes: dict[str, Any]) -> None:
    packer, state, looks = packer_of(Drawn(3_000_000_000), 5), LaneState(), []
    for number in range(packs):
        _, state = packer.next_pack(state)
        if number % (packs // LOOKS) == 0:
            looks.append(held())
    memory, files, threads = zip(*looks[LOOKS // 4 :], strict=True)  # the first quarter warms up
    slope = np.polyfit(np.arange(len(memory)) / LOOKS, memory, 1)[0]  # MB over all the packs
    notes |= {
        "mb": float(slope),
        "files": max(files) - min(files),
        "threads": max(threads) - min(threads),
        "windows": state.window,
    }


@pytest.mark.reliability("16")
def test_planning_on_and_on_takes_nothing_more(tmp_path, full, measured):
    packs = 100_000 if full else 2_000
    notes = in_child(partial(plan_on, packs), tmp_path)
    measured(
        f"{packs} packs ({notes.get('windows')} windows): {notes.get('mb', -1):+.2f} MB, "
        f"{notes.get('files')} more files, {notes.get('threads')} more threads"
    )
    assert notes["exit"] == 0
    assert notes["mb"] < 1
    assert (notes["files"], notes["threads"]) == (0, 0)
    assert notes["windows"] > packs // 100
