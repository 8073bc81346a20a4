"""dataset.json: what a dataset is, what it holds, and the checksum of every file in it.

Plain JSON with sorted keys and no dates: the same images make the same manifest. Its key `seal` is the
checksum of all its other keys; datasets made before there were seals have none, and no unknown keys either.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from aqqua import __version__
from aqqua.config import first_error
from aqqua.store.parts import Part
from aqqua.store.schema import DUPLICATES, FORMAT, MANIFEST, QUARANTINE, SAMPLES, SCHEMAS

TABLES = (QUARANTINE, SAMPLES, DUPLICATES)
_Count = Annotated[int, Field(ge=0)]
_Positive = Annotated[int, Field(ge=1)]
# A file name and nothing else: a manifest must not lead a reader out of its folder.
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.parquet$")]


class _File(BaseModel):
    name: _Name
    bytes: _Count
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _PartFile(_File):
    rows: _Positive
    blocks: _Positive


class _Counts(BaseModel):
    read: _Count
    accepted: _Count
    quarantined: _Count
    quarantined_by_reason: dict[str, _Count]


class _Instrument(BaseModel):
    images: _Count
    um_per_px_known_share: Annotated[float, Field(ge=0, le=1)]
    pixel_bytes: _Count


class _Encoded(BaseModel):
    images: _Positive
    bytes: _Positive


class _Manifest(BaseModel):
    """What readers rely on; other keys may be there. Sums are verify's to check."""

    rows: _Positive
    blocks: _Positive
    block_rows: _Positive
    inputs: list[str]
    made_by: dict[str, str]
    counts: _Counts
    duplicates: dict[str, _Count]
    instruments: dict[str, _Instrument]
    original_bytes: _Count
    pixel_bytes: _Count
    encoded: dict[str, _Encoded] = {}  # original files by format; no key in datasets that keep none
    parts: list[_PartFile]
    tables: list[_File]


def write_manifest(folder: Path, version: int, facts: dict[str, Any], parts: list[Part], command: str) -> int:
    """Write dataset.json of a schema version; returns the bytes of the whole dataset, itself included."""
    manifest = {
        "format": FORMAT,
        "schema_version": version,
        "made_by": {"aqqua": __version__, "command": command},
        **facts,
        "parts": [{"rows": p.rows, "blocks": p.blocks, **_file(folder / p.name, p.sha256)} for p in parts],
        "tables": [_file(folder / name) for name in TABLES],
    }
    manifest["seal"] = seal_of(manifest)
    text = _text(manifest)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return len(text.encode()) + sum(file["bytes"] for file in files_of(manifest))


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a dataset.

    Raises:
        ValueError: the folder is no dataset, one of a newer aqqua, or its manifest is damaged.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise ValueError(
            f"dataset: a dataset's folder must hold {MANIFEST}, got {path}; make one with aqqua ingest"
        )
    try:
        text = file.read_text(encoding="utf-8")
        manifest = json.loads(text)
    except ValueError as error:
        raise ValueError(f"dataset: {file} must be JSON, got {error}; restore it or ingest again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f'dataset: {file} must say "format": "{FORMAT}"; this folder is something else')
    version = manifest.get("schema_version")
    if type(version) is not int or version not in SCHEMAS:
        raise ValueError(
            f"dataset: schema version must be at most {max(SCHEMAS)}, got {version} in {path}; update aqqua"
        )
    _check_seal(file, text, manifest)
    _check(file, manifest)
    return manifest


def seal_of(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of all keys but the seal itself."""
    sealed = {key: value for key, value in manifest.items() if key != "seal"}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()


def _text(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _check_seal(file: Path, text: str, manifest: dict[str, Any]) -> None:
    if "seal" in manifest:
        whole = manifest["seal"] == seal_of(manifest) and text == _text(manifest)
    else:
        whole = manifest.keys() <= {*_Manifest.model_fields, "format", "schema_version", "seed"}
    if not whole:
        what = "another" if "seal" in manifest else "none, and keys that are not known"
        raise ValueError(
            f"dataset: {file} must have the seal of what it says, got {what}; it is damaged or was changed "
            "by hand: restore it or ingest again"
        )


def _check(file: Path, manifest: dict[str, Any]) -> None:
    try:
        checked = _Manifest.model_validate(manifest, strict=True)
    except ValidationError as error:
        first = first_error(error)
        raise ValueError(
            f"dataset: {file} must hold a good {first.place!r} ({first.says}), got {first.got}; "
            "it is damaged: restore it or ingest again"
        ) from error
    short = checked.rows - checked.block_rows * (checked.blocks - 1)  # rows of the last block
    if not 1 <= short <= checked.block_rows or checked.blocks != sum(part.blocks for part in checked.parts):
        raise ValueError(
            f"dataset: {file} must hold 'blocks' that fit its rows and parts, got {checked.blocks} blocks of "
            f"{checked.block_rows} for {checked.rows} rows; it is damaged: restore it or ingest again"
        )


def files_of(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Entries (name, bytes, sha256) of all files the manifest vouches for."""
    yield from manifest["parts"]
    yield from manifest["tables"]


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(path: Path, sha256: str | None = None) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256 or file_sha256(path)}
