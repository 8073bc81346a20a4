"""IFCB raw bins, old and new style: one record per image row of the .adc table.

A bin is three files of one stem, its "lid": .hdr (text), .adc (CSV, one row per trigger, no
header row), .roi (the raw uint8 images one after another). The pixels of a row are the bytes
[start, start + width·height) of the .roi, row-major. The start is used as written: old bins
count from 1, because their .roi begins with one pad byte.

Choices of this reader:
  Target number = 1-based row of the .adc, never the trigger: an old trigger may hold two images.
  Rows of 0×0 are triggers without an image: counted in Sample.triggers, never rejected.
  Old stitched pairs (two overlapping images of one trigger) stay two images, as acquired.
  Bins in a folder called skip, bad or beads, and bead runs by their header, are calibration or
  were set aside by people: each image is quarantined as not_an_organism.
  Of several copies of one bin the most complete is read; images of the others are duplicates.

Source: joefutrelle/pyifcb (identifiers.py, adc.py, files.py); hsosik/ifcb-analysis; real bins of
both styles. Test: tests/instruments/test_ifcb.py.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath

from aqqua.instruments.companion import MAX_TEXT_BYTES, read_companion
from aqqua.instruments.ifcb_header import (
    NEW_COLUMNS,
    OLD_COLUMNS,
    Columns,
    Header,
    Volume,
    clocks_of,
    lid_time,
    named_columns,
    parse_header,
    sampled_volume,
)
from aqqua.instruments.image import MAX_PIXELS, RawRaster
from aqqua.instruments.record import Found, ReadOptions, Reason, Record, Rejected, Sample
from aqqua.instruments.registry import facts
from aqqua.instruments.tree import Tree

NAME, INSTRUMENT = "ifcb", "IFCB"
SUFFIXES = (".hdr", ".adc", ".roi")
LID = re.compile(r"D\d{8}T\d{6}_IFCB\d{1,4}|IFCB\d{1,4}_\d{4}_\d{3}_\d{6}", re.ASCII)
BLOBS = re.compile(rf"({LID.pattern})_blobs?(_v\d+)?(\.zip)?", re.ASCII)  # masks of segmented images
SET_ASIDE_FOLDERS = frozenset({"skip", "bad", "beads"})  # pyifcb skips the first; dashboards all three
FAILURES_NAME = "ifcb_dashboard_failures.json"  # written by aqqua.instruments.ifcb_dashboard
MAX_HEADER_BYTES = 1 << 20
EMPTY_ROI_BYTES = 2  # an old .roi without images holds its two pad bytes


@dataclass(frozen=True, slots=True)
class Bin:
    """The files of one bin: suffix -> member name."""

    lid: str
    stem: str  # folder and lid
    files: dict[str, str] = field(default_factory=dict)

    @property
    def is_old(self) -> bool:
        return self.lid.startswith("I")


def claim(tree: Tree) -> frozenset[str]:
    """The .hdr, .adc and .roi members of bins, masks made of bins, and the list of failed downloads."""
    claimed = {name for found in _bins(tree.names(*SUFFIXES)) for name in found.files.values()}
    claimed.update(name for name in tree.names(FAILURES_NAME) if PurePosixPath(name).name == FAILURES_NAME)
    claimed.update(name for name in tree.names(".png") if _is_mask(name))
    return frozenset(claimed)


def read(tree: Tree, claimed: frozenset[str], options: ReadOptions) -> Iterator[Found]:
    """All bins among the claimed members: the most complete copy of each first."""
    bins = sorted(_bins(sorted(claimed)), key=lambda b: (".roi" not in b.files, len(b.files) < 3, b.stem))
    done: set[str] = set()
    for found in bins:
        for item in _read_bin(tree, found, options, is_copy=found.lid in done):
            yield item
            if not isinstance(item, Rejected):  # a copy that gave nothing makes none of the others a copy
                done.add(found.lid)
    for name in sorted(claimed):
        if _is_mask(name):
            detail = "a mask of an image (blobs of ifcb-analysis), values 0 and 1"
            yield Rejected(source=name, reason="not_an_organism", detail=detail)
        elif PurePosixPath(name).name == FAILURES_NAME:
            yield from _failed_downloads(tree, name, {found.lid for found in bins})


def _is_mask(name: str) -> bool:
    return "_blob" in name and any(BLOBS.fullmatch(part) for part in PurePosixPath(name).parts[:-1])


def _bins(names: Iterator[str] | Sequence[str]) -> list[Bin]:
    bins: dict[str, Bin] = {}
    for name in names:
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        if suffix in SUFFIXES and LID.fullmatch(path.stem):
            stem = str(path.with_suffix(""))
            bins.setdefault(stem, Bin(path.stem, stem)).files.setdefault(suffix, name)
    return list(bins.values())


def _read_bin(tree: Tree, found: Bin, options: ReadOptions, is_copy: bool) -> Iterator[Found]:
    header, problems = _read_header(tree, found)
    yield from problems
    table, problem = _read_table(tree, found)
    if problem is not None:
        yield problem
        return
    columns = named_columns(header, OLD_COLUMNS if found.is_old else NEW_COLUMNS)
    rows = [line.split(",") for line in table]
    refusal = _refusal(found, header, is_copy)
    template = _template(found, header, columns, rows, options)
    images = garbage = 0
    for target, fields in enumerate(rows, start=1):
        row = _read_row(tree, found, fields, columns, target, refusal, template)
        if row is not None:
            is_garbage = isinstance(row, Rejected) and row.reason == "bad_table"
            garbage, images = garbage + is_garbage, images + (not is_garbage)
            yield row
    is_water = refusal is None or refusal[0] != "not_an_organism"
    if is_water and not is_copy and (not rows or garbage < len(rows)):
        yield _sample(template, found, images=images, triggers=len(rows), source=found.stem)


@dataclass(frozen=True, slots=True)
class _Template:
    """What all images of a bin share."""

    instrument: str
    um_per_px: float | None
    licence: str | None
    time: datetime | None
    lat: float | None
    lon: float | None
    volume: Volume | None


def _template(
    found: Bin, header: Header, columns: Columns, rows: list[list[str]], options: ReadOptions
) -> _Template:
    instrument = options.instrument or INSTRUMENT
    return _Template(
        instrument=instrument,
        um_per_px=facts(instrument).um_per_px if options.um_per_px is None else options.um_per_px,
        licence=options.licence,
        time=header.time or lid_time(found.lid),
        lat=header.lat,
        lon=header.lon,
        volume=sampled_volume(header, clocks_of(rows, columns)),
    )


def _sample(template: _Template, found: Bin, *, images: int, triggers: int, source: str) -> Sample:
    return Sample(
        sample=found.lid,
        instrument=template.instrument,
        images=images,
        triggers=triggers,
        volume_l=template.volume.litres if template.volume else None,
        time=template.time,
        lat=template.lat,
        lon=template.lon,
        source=source,
        facts=template.volume.facts if template.volume else {},
    )


def _read_header(tree: Tree, found: Bin) -> tuple[Header, list[Rejected]]:
    """The header, empty where it is missing or broken: the images are good without it."""
    name = found.files.get(".hdr")
    if name is None:
        detail = "no .hdr beside it"
        return Header(), [Rejected(source=f"{found.stem}.hdr", reason="missing_file", detail=detail)]
    try:
        text = tree.read(name, length=MAX_HEADER_BYTES).decode("latin-1").strip("\0 \r\n\t")
    except Exception as error:  # disk and zipfile: OSError, BadZipFile, zlib.error, EOFError, ...
        return Header(), [Rejected(source=name, reason="io_error", detail=f"{type(error).__name__}: {error}")]
    if not text:
        return Header(), [Rejected(source=name, reason="empty_file", detail="the .hdr holds nothing")]
    return parse_header(text), []


def _read_table(tree: Tree, found: Bin) -> tuple[list[str], Rejected | None]:
    """Lines of the .adc that are not blank, or why the bin cannot be read at all."""
    name = found.files.get(".adc")
    roi = found.files.get(".roi")
    roi_bytes = tree.size(roi) if roi else 0
    if name is None:
        detail = f"no .adc says where the images are in the {roi_bytes} bytes of .roi"
        return [], Rejected(source=f"{found.stem}.adc", reason="missing_file", detail=detail)
    if tree.size(name) > MAX_TEXT_BYTES:
        detail = f".adc must hold at most {MAX_TEXT_BYTES} bytes, got {tree.size(name)}"
        return [], Rejected(source=name, reason="bad_table", detail=detail)
    try:
        text = tree.read(name).decode("latin-1")
    except Exception as error:  # disk and zipfile: OSError, BadZipFile, zlib.error, EOFError, ...
        return [], Rejected(source=name, reason="io_error", detail=f"{type(error).__name__}: {error}")
    lines = [line for line in text.replace("\r", "\n").split("\n") if line.strip()]
    header = found.files.get(".hdr")
    if not lines and (roi_bytes > EMPTY_ROI_BYTES or not (header and tree.size(header))):
        # A bin in which nothing triggered has an empty .adc, but always a header and an empty .roi.
        detail = f"the .adc holds no rows, the .roi {roi_bytes} bytes"
        return [], Rejected(source=name, reason="empty_file", detail=detail)
    if not lines and roi is None:
        return [], Rejected(source=f"{found.stem}.roi", reason="missing_file", detail="no .roi beside it")
    return lines, None


def _refusal(found: Bin, header: Header, is_copy: bool) -> tuple[Reason, str] | None:
    """Why no image of this bin can be accepted."""
    if ".roi" not in found.files:
        return "missing_file", f"the .adc lists this image, but there is no {found.lid}.roi"
    aside = SET_ASIDE_FOLDERS.intersection(part.lower() for part in PurePosixPath(found.stem).parts[:-1])
    if aside:
        return "not_an_organism", f"the bin was set aside in a folder called '{min(aside)}'"
    if header.is_beads:
        return "not_an_organism", "the header says that this is a run of calibration beads"
    if is_copy:
        return "duplicate_id", f"bin {found.lid} was already read from another folder"
    return None


def _read_row(
    tree: Tree,
    found: Bin,
    fields: list[str],
    columns: Columns,
    target: int,
    refusal: tuple[Reason, str] | None,
    template: _Template,
) -> Record | Rejected | None:
    """The image of one row; None for a trigger without an image."""
    source = f"{found.files['.adc']}#{target}"
    try:
        width, height, start = (_whole(fields[i]) for i in (columns.width, columns.height, columns.start))
    except (ValueError, IndexError, OverflowError):
        start_of_row = ",".join(fields)[:80]
        detail = f"width, height, start must be whole numbers, got {len(fields)} fields: {start_of_row!r}"
        return Rejected(source=source, reason="bad_table", detail=detail)
    if width >= 0 and height >= 0 and width * height == 0:
        return None
    problem = refusal or _range_problem(width, height, start, tree.size(found.files[".roi"]))
    if problem is not None:
        return Rejected(source=source, reason=problem[0], detail=problem[1])
    return Record(
        object_id=f"{found.lid}_{target:05d}",
        pixels=RawRaster(found.files[".roi"], start, height, width),
        instrument=template.instrument,
        um_per_px=template.um_per_px,
        sample=found.lid,
        group=found.lid,
        time=template.time,
        lat=template.lat,
        lon=template.lon,
        volume_l=template.volume.litres if template.volume else None,
        licence=template.licence,
        source=source,
    )


def _whole(text: str) -> int:
    value = float(text)
    if not value.is_integer():  # OverflowError for inf
        raise ValueError(text)
    return int(value)


def _range_problem(width: int, height: int, start: int, roi_bytes: int) -> tuple[Reason, str] | None:
    if width < 0 or height < 0:
        return "bad_metadata", f"width and height must be 0 or more, got {width}×{height}"
    if width * height > MAX_PIXELS:
        return "image_too_large", f"{width}×{height} pixels, at most {MAX_PIXELS}"
    if start < 0 or start >= roi_bytes:
        return "out_of_bounds", f"start byte must lie in the {roi_bytes} bytes of .roi, got {start}"
    if start + width * height > roi_bytes:
        return "truncated_image", f"bytes {start} to {start + width * height} of {roi_bytes}"
    return None


def _failed_downloads(tree: Tree, name: str, read_lids: set[str]) -> Iterator[Rejected]:
    """Bins of a dashboard of which nothing came; those that came in part were judged above."""
    data = read_companion(tree, name)
    if isinstance(data, Rejected):
        yield data
        return
    try:
        failures = json.loads(data)
        for failure in failures:
            if failure["lid"] not in read_lids:
                yield Rejected(
                    source=f"{name}#{failure['lid']}", reason="missing_file", detail=failure["detail"]
                )
    except Exception as error:  # a list edited by hand must not stop the ingest
        yield Rejected(source=name, reason="bad_table", detail=f"{type(error).__name__}: {error}")
