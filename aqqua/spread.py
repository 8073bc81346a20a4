"""The same work on each of many parts: here, in processes of this machine, or on a Ray cluster.

Work on a large dataset goes part by part, and what is done with a part does not depend on who does it. So one
function, `spread`, is all there is between a laptop and a cluster; where Ray runs, its folders must be on a
disk that all machines see, under the same names.

On Ray each worker is an actor, which gets a part as soon as it is free: parts may be listed while others are
worked on, and the row of them may have no end. Ray Data, made for tables that pass through memory, would
want all parts first and give back nothing but what Arrow holds. Test: tests/test_spread.py.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

P = TypeVar("P")
T = TypeVar("T")
Make = Callable[[], Callable[[P], T]]
AHEAD = 2  # tasks of each worker that wait in its queue
END_S = 10.0  # that workers on Ray get to end what they began; then they are killed


class Engine(BaseModel):
    """Who works."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["local", "ray"] = Field(
        default="local", description="processes of this machine, or a Ray cluster (pip install 'aqqua[ray]')"
    )
    workers: int = Field(
        default=1, ge=1, le=65536, description="that work at a time; 1 and local: this very process"
    )
    gpus: float = Field(default=0, ge=0, le=8, description="GPUs of each worker, which Ray gives it")

    @property
    def threads(self) -> int:
        """Of this process, for what is not dealt out to workers: as many as work, but no more than cores."""
        return min(self.workers, cores())


@dataclass(frozen=True)
class Beside:
    """A part of work that needs something large which those before it needed too: on Ray it travels once."""

    shared: Any
    part: Any


def spread(make: Make[P, T], parts: Iterable[P], engine: Engine) -> Iterator[T]:
    """What became of each part, as it is ready: in order with one local worker, else in any.

    Args:
        make: called once in each worker, gives the function that works on one part; a function of a module,
            or a frozen dataclass with `__call__`, so that it can travel.
        parts: numbers, or whatever else can travel.
        engine: who works.

    Raises:
        RuntimeError: Ray is asked for and not installed, or a worker died.
        Exception: what the work raised first; the rest is called off.
    """
    if engine.name == "ray":
        return _on_ray(make, iter(parts), engine)
    if engine.workers == 1:
        return map(make(), parts)
    return _in_processes(make, iter(parts), engine.workers)


def cores() -> int:
    """Cores this process may use, where the system can tell (Linux); else those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_work: Callable[[Any], Any] | None = None  # of this worker process


def _begin(make: Make[Any, Any]) -> None:
    global _work
    _work = make()


def _do(part: Any) -> Any:
    assert _work is not None, "a worker must have begun"
    return _work(part)


def _in_processes(make: Make[P, T], parts: Iterator[P], workers: int) -> Iterator[T]:
    """A few tasks ahead of the workers, so that an endless row of parts may be given."""
    context = multiprocessing.get_context("spawn")  # fork copies locks that threads hold
    with ProcessPoolExecutor(workers, context, _begin, (make,)) as pool:
        waiting: set[Future[T]] = set()
        try:
            for part in parts:
                waiting.add(pool.submit(_do, part))
                if len(waiting) >= AHEAD * workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (one.result() for one in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
        finally:
            pool.shutdown(cancel_futures=True)


class _Worker:
    """What Ray keeps alive in each of its workers."""

    def __init__(self, make: Make[Any, Any], folder: str) -> None:
        self._make, self._folder = make, folder
        self._shared: Any = None
        self._known: Any = None  # the reference that it came by

    def begin(self) -> None:
        """Make ready for parts; beside `__init__`, where Ray would hide what went wrong."""
        os.chdir(self._folder)  # names of files are relative to where the command was given
        self._work = self._make()

    def do(self, part: Any) -> Any:
        """Work on one part."""
        if isinstance(part, Beside):
            (reference,) = part.shared
            if reference != self._known:
                import ray

                self._shared, self._known = ray.get(reference), reference
            part = replace(part, shared=self._shared)
        return self._work(part)


def _on_ray(make: Make[P, T], parts: Iterator[P], engine: Engine) -> Iterator[T]:
    try:
        import ray
    except ImportError as error:
        raise RuntimeError(
            f"engine ray needs Ray, got none ({error}); pip install 'aqqua[ray]', or use engine local"
        ) from error
    actors = _Actors(ray, make, engine)
    try:
        yield from actors.work(parts)
    finally:
        actors.end()


class _Actors:
    """Gives each worker on Ray a part when it is free; those that Ray has no room for (yet) get none."""

    def __init__(self, ray: Any, make: Make[Any, Any], engine: Engine) -> None:
        self._ray = ray
        kind = ray.remote(_Worker).options(num_cpus=1, num_gpus=engine.gpus or None)
        workers = [kind.remote(make, str(Path.cwd())) for _ in range(engine.workers)]
        self._beginning = {worker.begin.remote(): worker for worker in workers}
        self._working: dict[Any, Any] = {}  # answer to come -> who will give it
        self._free: list[Any] = []
        self._shared: Any = None  # of the last part that had some
        self._reference: Any = None

    def work(self, parts: Iterator[Any]) -> Iterator[Any]:
        for part in parts:
            while not self._free:
                yield from self._gather()
            worker = self._free.pop()
            self._working[worker.do.remote(self._sent(part))] = worker
        while self._working:
            yield from self._gather()

    def end(self) -> None:
        """Workers may end what they began, and the processes that they keep."""
        begun = [*self._free, *self._working.values()]
        ends = [worker.__ray_terminate__.remote() for worker in begun]
        if ends:
            self._ray.wait(ends, num_returns=len(ends), timeout=END_S)
        for worker in (*begun, *self._beginning.values()):
            self._ray.kill(worker)

    def _sent(self, part: Any) -> Any:
        """What is shared by parts in a row is put down once, for all workers to fetch once."""
        if not isinstance(part, Beside):
            return part
        if part.shared is not self._shared:
            self._shared, self._reference = part.shared, self._ray.put(part.shared)
        return replace(part, shared=(self._reference,))

    def _gather(self) -> Iterator[Any]:
        """Wait for one answer."""
        (answer,), _ = self._ray.wait([*self._beginning, *self._working], num_returns=1)
        began = answer in self._beginning
        worker = self._beginning.pop(answer) if began else self._working.pop(answer)
        try:
            found = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            raise RuntimeError(
                f"engine ray: workers must stay alive, got {type(error).__name__} ({_first_line(error)}); "
                "a machine may be out of memory: try fewer workers, and look at Ray's log"
            ) from error
        self._free.append(worker)
        if not began:
            yield found


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "nothing said").splitlines()[0]
