"""Checkpoints that are either whole or absent, and are proved whole before they are used.

A checkpoint is a folder `step-<12 digits>` of safetensors and JSON, no pickle. It is written to a
temporary folder, every file flushed to disk, a manifest with sizes and SHA-256 (its own included)
written last, then renamed. Resume takes the newest one that verifies; if checkpoints exist and none
does, it stops: a run never starts silently from scratch. Test: tests/train/test_checkpoint.py.
"""

import hashlib
import json
import re
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aqqua.store.new_folder import flush
from aqqua.train.ranks import Ranks

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d{12})")
_TENSORS, _STATE = "tensors.safetensors", "state.json"
RETRY_S = (0.2, 1.0, 4.0)  # pauses between attempts while the system reports errors
_BROKEN = (OSError, ValueError, KeyError, TypeError)  # what reading a damaged checkpoint raises


class NewerFormatError(ValueError):
    """The checkpoint is of a later aqqua: it is not broken, so no older one may take its place."""


@dataclass(frozen=True)
class Checkpoint:
    """All of a run at the end of a step."""

    step: int  # optimizer steps done
    tensors: dict[str, Tensor]
    state: dict[str, Any]  # JSON: everything that is not a tensor


def save(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write a checkpoint, then delete all but the newest `keep` that verify.

    A whole checkpoint of the same step is left as it is: to replace one, it would have to be away
    for a moment, and a run has one state at a step.

    Raises:
        OSError: the disk refused; earlier checkpoints are untouched and nothing half-written stays.
    """
    _make_durable(folder)
    final = path_of(folder, checkpoint.step)
    if verify(final) is not None:
        _write_checkpoint(folder, final, checkpoint)
    _purge(folder, keep)
    return final


def _write_checkpoint(folder: Path, final: Path, checkpoint: Checkpoint) -> None:
    temporary = folder / f".partial-{uuid.uuid4().hex}"
    try:
        temporary.mkdir()
        _write_tensors(temporary / _TENSORS, checkpoint.tensors)
        _write(temporary / _STATE, json.dumps(checkpoint.state, indent=1))
        files = {name: _fingerprint(temporary / name) for name in (_TENSORS, _STATE)}
        manifest = {"format_version": FORMAT_VERSION, "step": checkpoint.step, "files": files}
        _write(temporary / MANIFEST, json.dumps({**manifest, "seal": _seal(manifest)}, indent=1))
        flush(temporary)
        if final.exists():  # broken: the new one takes its place
            final.rename(folder / f".partial-{uuid.uuid4().hex}")
        temporary.rename(final)
        flush(folder)
    finally:
        _sweep(folder)


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies; None only if there never was one. Warns of each it passes over.

    Raises:
        ValueError: checkpoints exist and none verifies, or the newest is of a newer format.
    """
    problems = []
    for path in _newest_first(folder):
        try:
            _check_patiently(path)
        except NewerFormatError:
            raise
        except _BROKEN as error:
            problems.append(f"{path.name}: {_reason(error)}")
            continue
        if problems:
            newer = "; ".join(problems)
            warnings.warn(f"resume: uses {path}, because newer ones are broken ({newer})", stacklevel=2)
        return _read(path)
    if problems:
        raise ValueError(
            f"resume: a checkpoint must verify, got none that does ({'; '.join(problems)}); restore one from "
            f"a backup, or move {folder} away to start from scratch"
        )
    return None


def steps(folder: Path) -> list[int]:
    """Of the checkpoints there are, whole or not; the newest first."""
    return [int(path.name.removeprefix("step-")) for path in _newest_first(folder)]


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is or would be."""
    return folder / f"step-{step:012d}"


def load(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        ValueError: it does not verify.
    """
    problem = verify(path)
    if problem is not None:
        raise ValueError(f"load: the checkpoint must be whole, got {path}: {problem}; use another one")
    return _read(path)


def read_together(
    read: Callable[[], Checkpoint | None], ranks: Ranks, device: torch.device
) -> Checkpoint | None:
    """A checkpoint that rank 0 reads and verifies, the others get it from there."""
    found = ranks.on_first(read)
    state = ranks.share(found and [found.step, found.state])
    if state is None:
        return None
    tensors = ranks.share_tensors(found.tensors if found else {}, device)
    return Checkpoint(state[0], tensors, state[1])


def verify(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        _check(path)
    except _BROKEN as error:
        return _reason(error)
    return None


def _check_patiently(path: Path) -> None:
    """`_check`, again after pauses while the system cannot read what is there: a disk may recover."""
    for seconds in RETRY_S:
        try:
            return _check(path)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError:
            time.sleep(seconds)
    return _check(path)


def _check(path: Path) -> None:
    """Raises one of _BROKEN if the checkpoint is not whole, or not of this format."""
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    if manifest.pop("seal", None) != _seal(manifest):
        raise ValueError(f"{MANIFEST} differs from its checksum")
    version = manifest["format_version"]
    if version > FORMAT_VERSION:
        raise NewerFormatError(
            f"resume: the format of a checkpoint must be at most {FORMAT_VERSION}, got {version} in {path}; "
            "update aqqua"
        )
    if f"step-{manifest['step']:012d}" != path.name:
        raise ValueError(f"its manifest is of step {manifest['step']}")
    for name in (_TENSORS, _STATE):
        if manifest["files"][name] != _fingerprint(path / name):
            raise ValueError(f"{name} differs from its checksum")


def _reason(error: Exception) -> str:
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


def _read(path: Path) -> Checkpoint:
    state = json.loads((path / _STATE).read_text(encoding="utf-8"))
    return Checkpoint(int(path.name.removeprefix("step-")), load_file(path / _TENSORS), state)


def _newest_first(folder: Path) -> Iterator[Path]:
    """By step number, never by file time."""
    if not folder.is_dir():
        return iter(())
    found = [path for path in folder.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)]
    return iter(sorted(found, key=lambda path: path.name, reverse=True))


def _purge(folder: Path, keep: int) -> None:
    whole = 0
    for path in _newest_first(folder):
        if whole >= keep:
            shutil.rmtree(path, ignore_errors=True)
        elif verify(path) is None:
            whole += 1


def _sweep(folder: Path) -> None:
    for path in folder.glob(".partial-*"):
        shutil.rmtree(path, ignore_errors=True)


def _seal(manifest: dict[str, Any]) -> str:
    """Checksum of the manifest itself; later formats must keep it, to be told from a broken one."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _make_durable(folder: Path) -> None:
    """Create a folder whose name survives a power loss."""
    if folder.is_dir():
        return
    _make_durable(folder.parent)
    folder.mkdir(exist_ok=True)
    flush(folder.parent)


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # its own type, also for a full disk
        raise OSError(f"{path}: {error}") from error
    flush(path)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    flush(path)
