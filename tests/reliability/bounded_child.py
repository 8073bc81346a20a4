"""Work in a child process with bounded memory, which reports what it did and how much it took."""

import ctypes
import gc
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from made_states import exit_code, forked

ROOM = 4 << 30  # bytes of address space beyond those in use: a lie about a size must not get more


def memory_mb(line: str = "VmRSS") -> float:
    """Resident memory of this process, or with VmHWM the most it ever was."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(one.split()[1]) for one in status.splitlines() if one.startswith(line)) / 1024


def held_mb() -> float:
    """Memory that this process holds for itself: without files it mapped, and what it freed given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return memory_mb("RssAnon")


def in_child(work: Callable[[dict[str, Any]], None], folder: Path) -> dict[str, Any]:
    """What the work put into its notes, with the memory and the exit code of the child."""
    note = folder / "notes.json"
    note.unlink(missing_ok=True)

    def bounded() -> None:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        notes: dict[str, Any] = {}
        before = memory_mb()
        work(notes)
        notes["peak_mb"] = memory_mb("VmHWM") - before
        note.write_text(json.dumps(notes), encoding="utf-8")

    code = exit_code(forked(bounded))
    found = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    return {**found, "exit": code}


class Stopwatch:
    """The most processor time that one piece of work took, seconds."""

    def __init__(self) -> None:
        self.slowest_s = 0.0

    def time(self, work: Callable[[], Any]) -> Any:
        start = time.thread_time()
        try:
            return work()
        finally:
            self.slowest_s = max(self.slowest_s, time.thread_time() - start)
