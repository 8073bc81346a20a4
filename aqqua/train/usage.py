"""What a run has cost: GPU-hours and energy over all its sessions, also of work that a kill has lost.

The ledger, usage.jsonl, has a line each time metrics have one: what the session has used so far. The last
line of each session counts, so a kill hides what was used since the last line, no more; nothing is dropped
at a resume. A run without GPUs has no ledger and says nothing. Test: tests/train/test_usage.py.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import torch

from aqqua.train.ranks import Ranks

USAGE = "usage.jsonl"
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Gpu:
    """The GPU of a rank."""

    name: str  # the same for ranks that share it
    joules: Callable[[], float | None]  # since its driver was loaded, by whoever used it; None: unknown


def gpu_of(device: torch.device) -> Gpu | None:
    """The GPU behind a device; None for the CPU. Without pynvml, or if it does not count, no joules."""
    if device.type != "cuda":
        return None
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    return Gpu(uuid, energy_meter(uuid))


def energy_meter(uuid: str) -> Callable[[], float | None]:
    """Joules of a GPU since its driver was loaded, by NVML.

    Source: NVML API reference, nvmlDeviceGetTotalEnergyConsumption: millijoules since the driver was last
    reloaded, on Volta and newer; not for a part of a GPU (MIG).
    """
    try:
        import pynvml  # of nvidia-ml-py
    except ImportError:
        return lambda: None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        return lambda: None

    def joules() -> float | None:
        try:
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        except pynvml.NVMLError:
            return None

    return joules


@dataclass(frozen=True)
class Session:
    """What one process group of a run has used."""

    session: int  # from 1
    gpus: int
    gpu_s: float  # seconds times GPUs
    joules: float | None  # of all of them; None: at least one does not tell


def read_sessions(path: Path) -> dict[int, Session]:
    """What each session has used, by its last whole line; lines that are torn are passed over."""
    past: dict[int, Session] = {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            found = Session(**json.loads(line))
        except (ValueError, TypeError):
            continue
        past[found.session] = found
    return past


class Ledger:
    """usage.jsonl: a line is a `Session` so far, the last one of each counts."""

    def __init__(self, path: Path) -> None:
        """Read what there is; lines that are torn are passed over, and one line per session stays."""
        self._path = path
        self.past = read_sessions(path)
        with suppress(OSError):  # a full disk is told of when a line is due
            temporary = path.with_suffix(".tmp")
            temporary.write_text("".join(_line(one) for one in self.past.values()), encoding="utf-8")
            temporary.replace(path)
        self.session = max(self.past, default=0) + 1

    def write(self, now: Session) -> None:
        """A whole line, handed to the system at once."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(now))


class Usage:
    """GPU-hours and energy of this session and, by the ledger on rank 0, of the run. Made by all ranks."""

    def __init__(
        self,
        folder: Path,
        ranks: Ranks,
        gpu: Gpu | None,
        grant_gpu_hours: float | None,
        say: Callable[[str], None],
        *,
        since_s: float,
    ) -> None:
        """
        Args:
            folder: of the run.
            ranks: of the run.
            gpu: of this rank.
            grant_gpu_hours: that the run may use; None: unknown.
            say: gets the line when they are used up, and when the ledger cannot be written.
            since_s: of `time.monotonic`, when the session began.
        """
        self._ranks, self._gpu, self._grant, self._say, self._since_s = (
            ranks,
            gpu,
            grant_gpu_hours,
            say,
            since_s,
        )
        self._joules_before = gpu.joules() if gpu else None
        gpus = [(name, tells) for name, tells in ranks.gather(
            [gpu.name if gpu else None, self._joules_before is not None]
        ) if name]  # fmt: skip
        self._gpus = len({name for name, _ in gpus})
        self._ledger = Ledger(folder / USAGE) if ranks.first and self._gpus else None
        # Of all GPUs in this session, when last read.
        self._joules: float | None = 0.0 if all(tells for _, tells in gpus) else None
        self._said: set[str] = set()

    def __enter__(self) -> "Usage":
        self._note()  # a session that is killed before its first line of metrics is one too
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._note()  # of the energy what is known: after an error no other rank may answer

    def numbers(self) -> dict[str, float]:
        """For a line of metrics, on rank 0; asks all ranks, and writes the ledger. Without GPUs nothing."""
        if not self._gpus:
            return {}
        spent = dict(self._ranks.gather([self._gpu.name if self._gpu else None, self._spent()]))
        known = [joules for name, joules in spent.items() if name]
        self._joules = None if None in known else sum(known)
        return self._note()

    def last_line(self) -> str | None:
        """For the end of a run; None without GPUs. Asks all ranks."""
        found = self.numbers()
        if self._ledger is None:
            return None
        energy = f", {found['energy_kwh']:.3g} kWh by its GPUs" if "energy_kwh" in found else ""
        left = f"; {found['gpu_hours_left']:.1f} of {self._grant:g} left" if self._grant else ""
        sessions = len({*self._ledger.past, self._ledger.session})
        return f"the run has used {found['gpu_hours']:.2f} GPU-hours in {sessions} sessions{energy}{left}"

    def _spent(self) -> float | None:
        now = self._gpu.joules() if self._gpu else None
        return None if now is None or self._joules_before is None else now - self._joules_before

    def _note(self) -> dict[str, float]:
        if self._ledger is None:
            return {}
        gpu_s = (time.monotonic() - self._since_s) * self._gpus
        now = Session(self._ledger.session, self._gpus, round(gpu_s, 3), self._joules)
        try:
            self._ledger.write(now)
        except OSError as error:  # bookkeeping is no reason to end a run
            self._say_once("disk", f"{USAGE} cannot be written ({error}); training goes on")
        every = [*self._ledger.past.values(), now]
        hours = sum(one.gpu_s for one in every) / 3600
        found = {"gpu_hours": hours}
        joules = [one.joules for one in every if one.joules is not None]
        if len(joules) == len(every):
            found["energy_kwh"] = sum(joules) / JOULES_PER_KWH
        if self._grant is not None:
            found["gpu_hours_left"] = max(self._grant - hours, 0.0)
            if hours >= self._grant:
                self._say_once(
                    "grant",
                    f"the {self._grant:g} GPU-hours of train.grant_gpu_hours are used up; training goes on",
                )
        return found

    def _say_once(self, what: str, line: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self._say(line)


def _line(one: Session) -> str:
    return json.dumps(asdict(one)) + "\n"
