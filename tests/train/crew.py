"""Runs of several processes for tests: forked from a server that has torch imported, so that they start fast.

Each rank gets what torchrun would tell it. All are ended, by their own ids, when the time is over.
"""

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aqqua.train.settings import PretrainConfig

Meddle = Callable[[int], None]  # of a rank, in its process, before it trains; a function of a module


@dataclass(frozen=True)
class Ended:
    """How each rank ended."""

    codes: list[int | None]  # exit status; negative: the signal; None: it had to be killed
    said: list[str]  # on standard error
    answered: list[str]  # on standard output
    seconds: float


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


def train_on(
    ranks: int,
    config: PretrainConfig,
    *,
    meddle: Meddle | None = None,
    limit_s: float = 180.0,
    lost: int | None = None,
) -> Ended:
    """`aqqua pretrain` on so many ranks of this machine; until all ended, but for one that will not."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    context = multiprocessing.get_context("forkserver")
    # The last is what torch.use_deterministic_algorithms imports, in a second of each process.
    context.set_forkserver_preload(["aqqua.train.loop", "aqqua.cli", "deepspeed", "torch._inductor"])
    port, logs = free_port(), [config.run.parent / f"{config.run.name}.{rank}.err" for rank in range(ranks)]
    processes = [
        context.Process(target=_train, args=(rank, ranks, port, config, logs[rank], meddle), daemon=True)
        for rank in range(ranks)
    ]
    start = time.monotonic()
    for process in processes:
        process.start()
    for process in (process for rank, process in enumerate(processes) if rank != lost):
        process.join(max(0.0, start + limit_s - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    said = [log.read_text(encoding="utf-8") for log in logs]
    answered = [log.with_suffix(".out").read_text(encoding="utf-8") for log in logs]
    return Ended(codes, said, answered, time.monotonic() - start)


def train_well(ranks: int, config: PretrainConfig, **options: Meddle) -> None:
    """The same, expected to end well."""
    ended = train_on(ranks, config, **options)
    assert ended.codes == [0] * ranks, "\n".join(ended.said)


def _train(
    rank: int, ranks: int, port: int, config: PretrainConfig, log: Path, meddle: Meddle | None
) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    for stream, path in ((1, log.with_suffix(".out")), (2, log)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    from aqqua.cli import main
    from aqqua.config import to_yaml

    if meddle is not None:
        meddle(rank)
    file = log.with_suffix(".yaml")
    file.write_text(to_yaml(config), encoding="utf-8")
    sys.exit(main(["pretrain", str(file)]))
