"""A run's folder: one process at a time, and what it says of itself.

Test: tests/train/test_run_folder.py, test_run.py.
"""

import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

import aqqua
from aqqua.config import to_yaml
from aqqua.train.ranks import Ranks
from aqqua.train.settings import PretrainConfig

CONFIG, ENVIRONMENT, CHECKPOINTS, LOCK = "config.yaml", "environment.json", "checkpoints", ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # some network disks


@contextmanager
def only_run(folder: Path, ranks: Ranks) -> Iterator[None]:
    """`only_process` for a run of many: rank 0 holds the lock for all.

    Raises:
        ValueError: another run trains in this folder; on every rank.
    """
    lock = only_process(folder)
    ranks.on_first(lock.__enter__)
    try:
        yield
    finally:
        if ranks.first:
            lock.__exit__(None, None, None)


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Keep a second process out of a run's folder; the lock dies with its process, however that ends.

    If nothing was written beside the lock, it goes, and a new folder with it.

    Raises:
        OSError: the folder cannot be written.
        ValueError: another process trains in this folder, or it is none of a run.
    """
    _check_folder(folder)
    new = not folder.exists()
    with _locked(folder):
        try:
            yield
        finally:
            if {path.name for path in folder.iterdir()} == {LOCK}:  # while it is locked: see _locked
                (folder / LOCK).unlink()
                with suppress(OSError):  # another process came
                    if new:
                        folder.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder that is made if it is not there."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(
                    f"pretrain: a run must be trained by one process, got {folder}, which another one uses; "
                    "wait for it, or choose another run=FOLDER"
                ) from error
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                warnings.warn(
                    f"pretrain: {folder} lies where files cannot be locked ({error.strerror}): see to it "
                    "that no other process trains there",
                    stacklevel=2,
                )
            if _is_file_of(file.fileno(), folder / LOCK):  # else its last holder took it away just now
                yield
                return


def _is_file_of(handle: int, path: Path) -> bool:
    """Whether an open file is still the one that has the name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _check_folder(folder: Path) -> None:
    if folder.exists() and not (
        folder.is_dir() and ((folder / CONFIG).exists() or {p.name for p in folder.iterdir()} <= {LOCK})
    ):
        raise ValueError(
            f"pretrain: run must be a new folder or an earlier run, got {folder}, which holds something "
            "else; choose another run=FOLDER"
        )


def describe(
    folder: Path, config: PretrainConfig, device: torch.device, shas: dict[str, str | None], ranks: int
) -> None:
    """Write the resolved config and the environment, for whoever opens the folder later.

    Args:
        folder: of the run.
        config: as resolved.
        device: that trains.
        shas: SHA-256 of the manifests of what is trained on; None for what is not used.
        ranks: how many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(to_yaml(config), encoding="utf-8")
    environment = {
        "aqqua": aqqua.__version__,
        "commit": _commit(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "cpu",
        "ranks": ranks,
        "threads": torch.get_num_threads(),
        **shas,
    }
    (folder / ENVIRONMENT).write_text(json.dumps(environment, indent=1), encoding="utf-8")


def _commit() -> str | None:
    """Commit of the source tree this package is imported from; None outside a checkout."""
    root = Path(aqqua.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", os.fspath(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
