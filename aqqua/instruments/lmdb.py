"""LMDB image sets: the AqQua release form, and the form of the project's predecessor.

Release form (layout "aqqua-release", version 1), one folder:
  release.json      {"layout": "aqqua-release", "version": 1, "images": N}
  data.mdb          LMDB; key = object id in UTF-8, value = one blosc2 frame
                    (aqqua.instruments.lmdb_frame)
  metadata.parquet  one row per image, columns of `SCHEMA`; unknown is null
The AqQua project announced blosc2 inside LMDB with Parquet beside it but has published no keys,
frames or columns; this layout is ours. Any other is refused by name, never guessed.

Predecessor form: folders `<x>_imgs` or `<x>_images` with key -> JPEG or PNG bytes, and `<x>_labels`
with key -> label as text. The text is read as text (the predecessor's own reader took it for an
integer: b"12" became 12849) and images and labels are paired by key, never by their order.

LMDB trusts its file, so the header page is checked against the file size before it is opened.
A database made to do harm can still crash a process: read those of people you know.

Source: Kainmueller-Lab/aqqua faq.md. Needs the extra `release`. Test: tests/instruments/test_lmdb.py.
"""

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from aqqua.instruments.lmdb_file import DATA_NAME, LmdbImage, disk_path, open_database
from aqqua.instruments.lmdb_release import (
    LAYOUT,
    METADATA_NAME,
    RELEASE_NAME,
    VERSION,
    metadata_rows,
    record_of,
)
from aqqua.instruments.record import Found, ReadOptions, Record, Rejected, RejectedInputError, Sample
from aqqua.instruments.registry import facts
from aqqua.instruments.tree import Tree

NAME = "lmdb"
COMPANIONS = (RELEASE_NAME, METADATA_NAME, "lock.mdb")
PREDECESSOR_FOLDER = re.compile(r"(?P<set>.*?)_?(?P<kind>imgs|images|labels|meta|metadata)", re.IGNORECASE)
MAX_JSON_BYTES = 1 << 20
MAX_LABEL_BYTES = 1000


def claim(tree: Tree) -> frozenset[str]:
    """Every data.mdb and the files of a release beside it."""
    claimed: set[str] = set()
    for folder in _folders(tree.names(DATA_NAME)):
        beside = (_in(folder, name) for name in (DATA_NAME, *COMPANIONS))
        claimed.update(name for name in beside if name in tree.members)
    return frozenset(claimed)


def read(tree: Tree, claimed: frozenset[str], options: ReadOptions) -> Iterator[Found]:
    """Each database of the claimed members, by its form."""
    folders = _folders(iter(sorted(claimed)))
    sets = {(kind, folder_set): folder for folder in folders for kind, folder_set in [_kind(tree, folder)]}
    for folder in folders:
        member = _in(folder, DATA_NAME)
        try:
            if _in(folder, RELEASE_NAME) in claimed:
                yield from _read_release(tree, folder, options)
            else:
                yield from _read_other(tree, folder, sets, options)
        except RejectedInputError as error:
            yield Rejected(source=member, reason=error.reason, detail=error.detail)
        except Exception as error:  # lmdb.Error from a damaged page: the rest of this database is lost
            detail = f"reading stopped here: {type(error).__name__}: {error}"
            yield Rejected(source=member, reason="bad_archive", detail=detail)


def _folders(names: Iterator[str]) -> list[PurePosixPath]:
    return [PurePosixPath(name).parent for name in names if PurePosixPath(name).name == DATA_NAME]


def _in(folder: PurePosixPath, name: str) -> str:
    return str(folder / name)


def _kind(tree: Tree, folder: PurePosixPath) -> tuple[str, PurePosixPath]:
    """images, labels, metadata or unknown, and the set that the folders of one data set share."""
    name = folder.name or tree.label
    match = PREDECESSOR_FOLDER.fullmatch(name)
    if match is None:
        return "unknown", folder
    word = match["kind"].lower()
    kind = "images" if word == "imgs" else "metadata" if word == "meta" else word
    return kind, folder.parent / (match["set"] or "_")


def _read_other(
    tree: Tree,
    folder: PurePosixPath,
    sets: dict[tuple[str, PurePosixPath], PurePosixPath],
    options: ReadOptions,
) -> Iterator[Found]:
    """A database without release.json: the predecessor's, by the name of its folder, or unknown."""
    kind, folder_set = _kind(tree, folder)
    if kind == "images":
        yield from _read_predecessor(tree, folder, sets.get(("labels", folder_set)), options)
    elif kind == "labels" and ("images", folder_set) not in sets:
        detail = "labels <x>_labels need the images of their set in a folder <x>_images beside them"
        yield Rejected(source=_in(folder, DATA_NAME), reason="missing_file", detail=detail)
    elif kind == "unknown":
        disk_path(tree, _in(folder, DATA_NAME))  # inside a zip it is refused for that
        detail = f"an LMDB must have {RELEASE_NAME} beside it or lie in <x>_images or <x>_labels"
        yield Rejected(source=_in(folder, DATA_NAME), reason="unsupported_format", detail=detail)


def _read_release(tree: Tree, folder: PurePosixPath, options: ReadOptions) -> Iterator[Found]:
    _check_layout(tree, _in(folder, RELEASE_NAME))
    member, table = _in(folder, DATA_NAME), _in(folder, METADATA_NAME)
    database = open_database(tree, member)
    samples: dict[str, Sample] = {}
    listed: set[bytes] = set()
    with database.begin(buffers=True) as view:
        try:
            for number, row in enumerate(metadata_rows(tree, table), start=1):
                found = _release_row(row, f"{table}#{number}", member, listed, view, options)
                if isinstance(found, Record):
                    _count(samples, found)
                yield found
        except RejectedInputError as error:  # the images it did not come to are unlisted below
            yield Rejected(source=table, reason=error.reason, detail=error.detail)
        if view.stat()["entries"] > len(listed):
            yield from _unlisted(view, listed, member)
    yield from samples.values()


def _release_row(
    row: dict[str, Any], source: str, member: str, listed: set[bytes], view: Any, options: ReadOptions
) -> Record | Rejected:
    """One row of the metadata; its key joins `listed` when the database holds it."""
    try:
        key = str(row["object_id"]).encode()
        if key in listed:
            return Rejected(source=source, reason="duplicate_id", detail=f"{_shown(key)!r} is listed twice")
        if not key or view.get(key) is None:
            return Rejected(source=source, reason="missing_image", detail=f"no frame for {_shown(key)!r}")
        listed.add(key)
        return record_of(row, LmdbImage(member, key, is_frame=True), options)
    except ValueError as error:  # UnicodeEncodeError too
        return Rejected(source=source, reason="bad_metadata", detail=str(error))
    except Exception as error:  # lmdb.BadValsizeError: an id no key can be
        return Rejected(source=source, reason="missing_image", detail=f"{type(error).__name__}: {error}")


def _count(samples: dict[str, Sample], record: Record) -> None:
    known = samples.get(record.sample)
    samples[record.sample] = Sample(
        sample=record.sample,
        instrument=record.instrument,
        images=known.images + 1 if known else 1,
        volume_l=record.volume_l,
        time=known.time if known else record.time,
        lat=known.lat if known else record.lat,
        lon=known.lon if known else record.lon,
        source=known.source if known else record.source,
    )


def _unlisted(view: Any, listed: set[bytes], member: str) -> Iterator[Rejected]:
    for key in view.cursor().iternext(values=False):
        if bytes(key) not in listed:
            detail = f"key {_shown(bytes(key))!r} stands in no row of {METADATA_NAME}"
            yield Rejected(source=f"{member}#{_shown(bytes(key))}", reason="unlisted_image", detail=detail)


def _check_layout(tree: Tree, name: str) -> None:
    try:
        said = json.loads(tree.read(name, length=MAX_JSON_BYTES))
        layout, version = said["layout"], said["version"]
    except Exception as error:  # disk, UTF-8, JSON, a list where an object must be
        detail = f"{name} must be JSON with layout and version, got {type(error).__name__}: {error}"
        raise RejectedInputError("unsupported_format", detail) from error
    if (layout, version) != (LAYOUT, VERSION):
        raise RejectedInputError(
            "unsupported_format",
            f"layout must be {LAYOUT!r} version {VERSION}, got {str(layout)[:80]!r} version {version!r:.20}; "
            "update aqqua, or ask the publisher for this layout",
        )


def _read_predecessor(
    tree: Tree, folder: PurePosixPath, labels: PurePosixPath | None, options: ReadOptions
) -> Iterator[Found]:
    member = _in(folder, DATA_NAME)
    database = open_database(tree, member)
    named: dict[bytes, bytes] = {}
    if labels is not None:
        try:
            named = _labels(tree, _in(labels, DATA_NAME))
        except RejectedInputError as error:  # the images are good without labels
            yield Rejected(source=_in(labels, DATA_NAME), reason=error.reason, detail=error.detail)
    with database.begin(buffers=True) as view:
        if not view.stat()["entries"]:
            detail = "the database holds 0 entries: its writer closed it before a commit; write it again"
            yield Rejected(source=member, reason="empty_file", detail=detail)
        for key in view.cursor().iternext(values=False):
            yield _predecessor_record(member, bytes(key), named.pop(bytes(key), None), options)
    for key in named:
        detail = f"label {named[key][:40]!r} has no image under its key"
        yield Rejected(source=f"{labels}/{DATA_NAME}#{_shown(key)}", reason="missing_image", detail=detail)


def _labels(tree: Tree, member: str) -> dict[bytes, bytes]:
    with open_database(tree, member).begin() as view:
        return {key: value[: MAX_LABEL_BYTES + 1] for key, value in view.cursor()}


def _predecessor_record(
    member: str, key: bytes, label: bytes | None, options: ReadOptions
) -> Record | Rejected:
    source = f"{member}#{_shown(key)}"
    instrument = options.instrument or "unknown"
    try:
        object_id = key.decode()
        text = label.decode().strip() if label is not None else ""
        if len(text) > MAX_LABEL_BYTES or not text.isprintable():
            raise ValueError("not a line of text")
    except ValueError as error:  # UnicodeDecodeError is one
        detail = f"key and label must be UTF-8 text, got {key[:40]!r}, {(label or b'')[:40]!r}: {error}"
        return Rejected(source=source, reason="bad_metadata", detail=detail)
    return Record(
        object_id=object_id,
        pixels=LmdbImage(member, key, is_frame=False),
        instrument=instrument,
        um_per_px=facts(instrument).um_per_px if options.um_per_px is None else options.um_per_px,
        sample="",
        group="",
        label=text or None,
        label_status="folder" if text else "unlabelled",  # the predecessor took classes from folders
        licence=options.licence,
        source=source,
    )


def _shown(key: bytes) -> str:
    return key.decode(errors="backslashreplace")
