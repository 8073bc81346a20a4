"""The same work on each of many parts: here, in processes of this machine, or on a Ray cluster.

Work on a large dataset goes part by part, and what is done with a part does not depend on who does it. So one
function, `spread`, is all there is between a laptop and a cluster; where Ray runs, its folders must be on a
disk that all machines see. Test: tests/test_spread.py.
"""

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")
Make = Callable[[], Callable[[int], T]]
AHEAD = 2  # tasks of each worker that wait in its queue


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


def spread(make: Make[T], parts: Iterable[int], engine: Engine) -> Iterator[T]:
    """What became of each part, as it is ready: in order with one local worker, else in any.

    Args:
        make: called once in each worker, gives the function that works on one part and returns a JSON value;
            a function of a module, or a frozen dataclass with `__call__`, so that it can travel.
        parts: numbers.
        engine: who works.

    Raises:
        RuntimeError: Ray is asked for and not installed, or a worker died.
        Exception: what the work raised first; the rest is called off.
    """
    if engine.name == "ray":
        return _on_ray(make, list(parts), engine)
    if engine.workers == 1:
        return map(make(), parts)
    return _in_processes(make, iter(parts), engine.workers)


_work: Callable[[int], Any] | None = None  # of this worker process


def _begin(make: Make[Any]) -> None:
    global _work
    _work = make()


def _do(part: int) -> Any:
    assert _work is not None, "a worker must have begun"
    return _work(part)


def _in_processes(make: Make[T], parts: Iterator[int], workers: int) -> Iterator[T]:
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


class _Worker(Generic[T]):
    """What Ray Data keeps alive in each of its workers."""

    def __init__(self, make: Make[T]) -> None:
        self._work = make()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"found": json.dumps(self._work(int(row["part"])))}  # no other type leaves Ray as it came


def _on_ray(make: Make[T], parts: list[int], engine: Engine) -> Iterator[T]:
    try:
        import ray.data
    except ImportError as error:
        raise RuntimeError(
            f"engine ray needs Ray, got none ({error}); pip install 'aqqua[ray]', or use engine local"
        ) from error
    rows = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=max(len(parts), 1))
    worker: Any = _Worker  # Ray's types know functions alone
    found = rows.map(
        worker, fn_constructor_args=(make,), concurrency=engine.workers, num_gpus=engine.gpus or None
    )
    for row in found.iter_rows():
        yield json.loads(row["found"])
