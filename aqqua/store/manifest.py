"""dataset.json: what a dataset is, what it holds, and the checksum of every file in it.

Plain JSON with sorted keys and no dates: the same images make the same manifest.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aqqua import __version__
from aqqua.store.parts import Part
from aqqua.store.schema import DUPLICATES, FORMAT, MANIFEST, QUARANTINE, SAMPLES, SCHEMA_VERSION

TABLES = (QUARANTINE, SAMPLES, DUPLICATES)


def write_manifest(folder: Path, facts: dict[str, Any], parts: list[Part], command: str) -> int:
    """Write dataset.json; returns the bytes of the whole dataset, itself included."""
    manifest = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "made_by": {"aqqua": __version__, "command": command},
        **facts,
        "parts": [{"rows": p.rows, "blocks": p.blocks, **_file(folder / p.name)} for p in parts],
        "tables": [_file(folder / name) for name in TABLES],
    }
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return len(text.encode()) + sum(file["bytes"] for file in files_of(manifest))


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a dataset.

    Raises:
        ValueError: the folder is no dataset, or one of a newer aqqua.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise ValueError(
            f"dataset: a dataset's folder must hold {MANIFEST}, got {path}; make one with aqqua ingest"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"dataset: {file} must be JSON, got {error}; restore it or ingest again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f'dataset: {file} must say "format": "{FORMAT}"; this folder is something else')
    version = manifest.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ValueError(
            f"dataset: schema version must be at most {SCHEMA_VERSION}, got {version} in {path}; update aqqua"
        )
    return manifest


def files_of(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Entries (name, bytes, sha256) of all files the manifest vouches for."""
    yield from manifest["parts"]
    yield from manifest["tables"]


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
