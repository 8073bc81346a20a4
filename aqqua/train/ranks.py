"""The processes of a run: who they are, and what they tell each other.

A run is one process per device, started by torchrun or srun; or a single process, which needs none of this
and pays nothing for it: every method then answers at once. What goes between ranks is tensors and JSON,
never a pickle. A call that names rank 0 as the one who acts keeps the check of who one is in here.

Test: tests/train/test_ranks.py; many processes: tests/train/test_many_ranks.py.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from aqqua.train.heartbeat import Heartbeat
from aqqua.train.spans import span

T = TypeVar("T")
_FIRST_PORT, _PORTS = 20_000, 12_000  # below what Linux hands out by itself (32768 on)
_FAILURES: dict[str, type[Exception]] = {"OSError": OSError, "ValueError": ValueError}


class RankError(RuntimeError):
    """Another process of the run failed or fell silent; the message names it."""


@dataclass(frozen=True)
class Place:
    """Where a process stands in its run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on its machine: which device is its own
    host: str = "127.0.0.1"  # of rank 0
    port: int = 0


def place_of(environ: Mapping[str, str]) -> Place:
    """From what torchrun (RANK, WORLD_SIZE, ...) or srun (SLURM_PROCID, ...) told this process; else alone.

    srun's numbers count only inside a job step: the batch script itself has SLURM_PROCID=0 too, and is alone.

    Raises:
        ValueError: the variables are no ranks.
    """
    if "RANK" in environ and "WORLD_SIZE" in environ:
        names, port = ("RANK", "WORLD_SIZE", "LOCAL_RANK"), 0
    elif "SLURM_PROCID" in environ and "SLURM_STEP_NUM_TASKS" in environ:
        names, port = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"), _port_of_job(environ)
    else:
        return Place()
    rank, size, local_rank = (_number(environ, name) for name in names)
    if not 0 <= rank < size:
        raise ValueError(
            f"ranks: {names[0]} must be under {names[1]}, got {rank} of {size}; start with torchrun or srun"
        )
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "127.0.0.1")
    host = environ.get("MASTER_ADDR") or first_host(nodes)
    return Place(rank, size, local_rank, host, _number(environ, "MASTER_PORT", port))


def first_host(nodelist: str) -> str:
    """First host of a SLURM node list: `hkn[0801-0803,0810],x7` is `hkn0801`; what `scontrol` would say."""
    head = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodelist)
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", head[0] if head else nodelist)


def _port_of_job(environ: Mapping[str, str]) -> int:
    """The same on all nodes, and another for each job and step that may share a node."""
    job, step = _number(environ, "SLURM_JOB_ID", 0), _number(environ, "SLURM_STEP_ID", 0)
    return _FIRST_PORT + (job * 7 + step) % _PORTS


def _number(environ: Mapping[str, str], name: str, default: int = 0) -> int:
    text = environ.get(name, str(default))
    if not text.isdecimal():
        raise ValueError(f"ranks: {name} must be a number, got {text!r}; start with torchrun or srun")
    return int(text)


class Ranks:
    """All processes of a run, seen from this one. Every call is made by all of them, in the same order."""

    def __init__(self, place: Place | None = None, heartbeat: Heartbeat | None = None) -> None:
        self.place = place or Place()
        self.rank, self.size = self.place.rank, self.place.size
        self._heartbeat = heartbeat
        self.waited_s = 0.0  # in calls so far; those of a GPU's tensors wait on the GPU, not here

    @property
    def first(self) -> bool:
        """True on rank 0, which alone writes and speaks."""
        return self.rank == 0

    def all_reduce(self, x: Tensor, op: Literal["sum", "max"] = "sum") -> Tensor:
        """Element-wise over all ranks, in place; every rank gets the same bits."""
        if self.size > 1:
            kind = dist.ReduceOp.SUM if op == "sum" else dist.ReduceOp.MAX
            self._together(lambda: dist.all_reduce(x, kind))
        return x

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        """The tensor of one rank, into the one of the others, in place."""
        if self.size > 1:
            self._together(lambda: dist.broadcast(x, source))
        return x

    def stack(self, row_P: Tensor) -> Tensor:
        """Rows of all ranks, of the same length: [R, P]."""
        if self.size == 1:
            return row_P[None]
        found = row_P.new_empty(self.size * len(row_P))
        self._together(lambda: dist.all_gather_into_tensor(found, row_P))
        return found.view(self.size, -1)

    def table(self, numbers: Sequence[int]) -> list[list[int]]:
        """Some whole numbers of 64 bits of each rank, as many on each: one row per rank."""
        if self.size == 1:
            return [list(numbers)]
        mine = torch.tensor(numbers, dtype=torch.int64)
        rows = [torch.empty_like(mine) for _ in range(self.size)]
        self._together(lambda: dist.all_gather(rows, mine))
        return [row.tolist() for row in rows]

    def sum(self, number: int) -> int:
        """Over all ranks."""
        return sum(row[0] for row in self.table([number]))

    def gather(self, value: Any) -> list[Any]:
        """A JSON value of each rank, in their order, on every rank."""
        if self.size == 1:
            return [value]
        mine = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [row[0] for row in self.table([len(mine)])]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(mine)] = mine
        rows = [torch.empty_like(padded) for _ in lengths]
        self._together(lambda: dist.all_gather(rows, padded))
        return [_decode(row[:length]) for row, length in zip(rows, lengths, strict=True)]

    def share(self, value: Any) -> Any:
        """Rank 0's JSON value, on every rank; what the others bring is not looked at."""
        return self.gather(value if self.first else None)[0]

    def on_first(self, do: Callable[[], T]) -> T | None:
        """What rank 0 does for all: its result there, None elsewhere.

        Raises:
            OSError, ValueError: it failed; on every rank, so that all go on alike.
        """
        result, failure = None, None
        if self.first:
            try:
                result = do()
            except (OSError, ValueError) as error:
                failure = error
        told = self.share(None if failure is None else [_kind(failure), str(failure)])
        if failure is not None:
            raise failure
        if told is not None:
            raise _FAILURES[told[0]](told[1])
        return result

    def share_tensors(self, tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """Rank 0's named tensors, on every rank and on the CPU; they travel by `device`, one by one."""
        if self.size == 1:
            return tensors
        known = {str(dtype): dtype for dtype in _DTYPES}
        shapes = self.share([[n, list(t.shape), str(t.dtype)] for n, t in tensors.items()])
        found = {}
        for name, shape, dtype in shapes:
            x = (
                tensors[name].to(device)
                if self.first
                else torch.empty(shape, dtype=known[dtype], device=device)
            )
            found[name] = self.broadcast(x.contiguous()).cpu()
        return found

    def _together(self, call: Callable[[], object]) -> None:
        """A call that all ranks make; if it fails, say which of them is to blame."""
        if self._heartbeat is not None:
            self._heartbeat.calls += 1
        start_s = time.monotonic()
        try:
            with span("communicate"):
                call()
        except RuntimeError as error:
            who = self._heartbeat.blame() if self._heartbeat is not None else "another rank"
            raise RankError(
                f"rank {self.rank} of {self.size}: {who}; the last checkpoint is whole ({error})"
            ) from error
        self.waited_s += time.monotonic() - start_s


_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int32, torch.uint8)


def _kind(error: Exception) -> str:
    return next(name for name, kind in _FAILURES.items() if isinstance(error, kind))


def _decode(row_B: Tensor) -> Any:
    return json.loads(bytes(row_B.tolist()))


@contextmanager
def join(timeout_s: float, patience_s: float, device: str = "auto") -> Iterator[Ranks]:
    """Meet the other processes of the run, and part from them at the end.

    Args:
        timeout_s: longest silence of a process; then the others end and name it.
        patience_s: longest that a living process may be late for a call, on top of it.
        device: "cpu", "cuda" or "auto", as the config says. Tensors of GPUs are exchanged by NCCL, those of
            the CPU by gloo; a rank's GPU is that of its number on its machine.

    Raises:
        RankError: not all came.
    """
    place = place_of(os.environ)
    if place.size == 1:
        yield Ranks(place)
        return
    heartbeat = _meet(place, timeout_s, patience_s, device != "cpu" and torch.cuda.is_available())
    ranks = Ranks(place, heartbeat)
    try:
        yield ranks
        ranks.table([0])  # all are done: while beats still tell who is not
    except BaseException as error:
        heartbeat.stop(f"{type(error).__name__}: {error}")
        raise
    heartbeat.stop()
    with suppress(RuntimeError):  # who cannot say goodbye is done all the same
        dist.barrier()  # the store stays until all have
    dist.destroy_process_group()


def _meet(place: Place, timeout_s: float, patience_s: float, cuda: bool) -> Heartbeat:
    os.environ |= {"MASTER_ADDR": place.host, "MASTER_PORT": str(place.port)}
    wait = timedelta(seconds=timeout_s)
    try:
        store, rank, size = next(rendezvous("env://", place.rank, place.size, timeout=wait))
        if cuda:
            torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=dist.PrefixStore("ranks", store),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout_s + patience_s),
        )
        heartbeat = Heartbeat(store.clone(), place.rank, place.size, timeout_s)
        dist.barrier()  # all have a beat in the store
    except (RuntimeError, TimeoutError) as error:
        raise RankError(
            f"rank {place.rank} of {place.size}: all ranks must meet at {place.host}:{place.port} within "
            f"{timeout_s:g} s, got {error}; see whether all started, or set MASTER_ADDR and MASTER_PORT"
        ) from error
    heartbeat.start()
    return heartbeat
