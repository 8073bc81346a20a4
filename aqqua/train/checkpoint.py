"""Checkpoints that are either whole or absent, and are proved whole before they are used.

A checkpoint is a folder `step-<12 digits>` of safetensors and JSON, no pickle. It is written to a
temporary folder, every file flushed to disk, a manifest with sizes and SHA-256 written last, then
renamed. Resume takes the newest one that verifies; if checkpoints exist and none does, it stops:
a run never starts silently from scratch.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d{12})")
_TENSORS, _STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """All of a run at the end of a step."""

    step: int  # optimizer steps done
    tensors: dict[str, Tensor]
    state: dict[str, Any]  # JSON: everything that is not a tensor


def save(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write a checkpoint, then delete all but the newest `keep` that verify.

    Raises:
        OSError: the disk refused; earlier checkpoints are untouched and nothing half-written stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{checkpoint.step:012d}"
    temporary = folder / f".partial-{uuid.uuid4().hex}"
    try:
        temporary.mkdir()
        save_file({k: v.detach().contiguous() for k, v in checkpoint.tensors.items()}, temporary / _TENSORS)
        _write(temporary / _STATE, json.dumps(checkpoint.state, indent=1))
        files = {name: _fingerprint(temporary / name) for name in (_TENSORS, _STATE)}
        _flush(temporary / _TENSORS)
        manifest = {"format_version": FORMAT_VERSION, "step": checkpoint.step, "files": files}
        _write(temporary / MANIFEST, json.dumps(manifest, indent=1))
        _flush(temporary)
        if final.exists():  # written before by this run, or broken: the new one replaces it
            final.rename(folder / f".partial-{uuid.uuid4().hex}")
        temporary.rename(final)
        _flush(folder)
    finally:
        _sweep(folder)
    _purge(folder, keep)
    return final


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies; None only if there never was one.

    Raises:
        ValueError: checkpoints exist and none verifies, or one is of a newer format.
    """
    problems = []
    for path in _newest_first(folder):
        problem = verify(path)
        if problem is None:
            return load(path)
        problems.append(f"{path.name}: {problem}")
    if problems:
        raise ValueError(
            "resume: a checkpoint must verify, got none that does ("
            + "; ".join(problems)
            + "); restore one from "
            f"a backup, or move {folder} away to start from scratch"
        )
    return None


def load(path: Path) -> Checkpoint:
    """Read one checkpoint that `verify` found whole.

    Raises:
        ValueError: it does not verify.
    """
    problem = verify(path)
    if problem is not None:
        raise ValueError(f"load: the checkpoint must be whole, got {path}: {problem}; use another one")
    state = json.loads((path / _STATE).read_text(encoding="utf-8"))
    return Checkpoint(int(path.name.removeprefix("step-")), load_file(path / _TENSORS), state)


def verify(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format_version"] > FORMAT_VERSION:
            return f"format {manifest['format_version']} is newer than {FORMAT_VERSION}; update aqqua"
        for name in (_TENSORS, _STATE):
            if manifest["files"][name] != _fingerprint(path / name):
                return f"{name} differs from its checksum"
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        return f"{type(error).__name__}: {error}"
    return None


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


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _flush(path)


def _flush(path: Path) -> None:
    """Force a file's bytes, or a folder's names, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
