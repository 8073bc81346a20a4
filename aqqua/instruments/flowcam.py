"""FlowCam runs of VisualSpreadsheet: particles are boxes (.lst) of collage pictures (.tif).

A run is a folder with one `<run>.lst` (a table of particles), `<run>.ctx` (what the instrument was
set to), collages `<run>_000001.tif`, masks `<run>_000001_bin.tif` and background pictures
`cal_image_000001.tif`. Windows paths inside .ctx and .cla are of the instrument's computer: ignored.

Source of the .lst layout: a real VisualSpreadsheet 4.19.3 run; MorphoCut's FlowCamReader and
zooimage's readFlowCAMlst (version line, num-fields, name|type lines since format 017).
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from aqqua.instruments.companion import MAX_LONG_TABLE_BYTES, read_companion
from aqqua.instruments.degrees import parse_degrees
from aqqua.instruments.image import SUFFIXES, Box, EncodedImage
from aqqua.instruments.ini import sections
from aqqua.instruments.numbers import finite_within, number
from aqqua.instruments.ranges import LATITUDE, LONGITUDE
from aqqua.instruments.record import Found, ReadOptions, Record, Rejected, Sample
from aqqua.instruments.registry import UM_PER_PX_RANGE
from aqqua.instruments.tree import Tree

NAME = "FlowCam"

_BOX_COLUMNS = ("id", "image_x", "image_y", "image_w", "image_h", "collage_file")
_FIRST_VERSION = 17  # the first .lst that names its columns
_NOT_ORGANISMS = re.compile(r"(.*_bin|cal_image_\d+|raw(?:file|_image)?_\d+)$", re.IGNORECASE)
_VOLUME_ML = re.compile(
    r"(?:Fluid|Sample) Volume Imaged\s*(?:ml\s*,|:)\s*([\d.]+)\s*(?:ml)?\s*$", re.IGNORECASE
)
_INTEGER = re.compile(r"-?[0-9]{1,9}$")
_START = re.compile(r"Start:\s*(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
_COMPANIONS = (".ctx", ".csv", ".cla", ".edg", "_run_summary.txt", "_summary.csv", "_notes.txt")


@dataclass(slots=True)
class _Run:
    """One .lst with what is known of its run; None is unknown."""

    lst: str  # member
    pictures: dict[str, str]  # picture file name, lower case -> member
    um_per_px: float | None = None  # .ctx CalibrationConstant
    volume_l: float | None = None
    lat: float | None = None
    lon: float | None = None
    utc_offset: timedelta | None = None  # of the times in the .lst
    start: datetime | None = None  # UTC, known when the offset is
    facts: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # collages that a row names

    @property
    def name(self) -> str:
        return PurePosixPath(self.lst).stem


def claim(tree: Tree) -> frozenset[str]:
    """Every .lst with a numeric version line, its companions, and all pictures of its folder."""
    runs = [name for name in tree.names(".lst") if _is_lst(tree, name)]
    folders = {str(PurePosixPath(name).parent) for name in runs}
    stems = {str(PurePosixPath(name).with_suffix("")) for name in runs}
    companions = {stem + suffix for stem in stems for suffix in _COMPANIONS}
    found = {name for name in tree.names() if name in companions}
    pictures = {n for n in tree.names(".tif", ".tiff") if str(PurePosixPath(n).parent) in folders}
    return frozenset(found | pictures | set(runs))


def _is_lst(tree: Tree, name: str) -> bool:
    try:
        head = tree.read(name, 0, 64).split(b"\n")[0].strip()
    except Exception:  # zipfile raises zlib.error, BadZipFile, EOFError; another reader may report it
        return False
    return head.isdigit() and len(head) == 3


def read(tree: Tree, claimed: frozenset[str], options: ReadOptions) -> Iterator[Found]:
    """Runs in order: one Record for each particle row, one Sample, then the pictures no row names."""
    names = sorted(claimed)
    folders: dict[str, list[str]] = {}
    for name in names:
        if name.lower().endswith(SUFFIXES):
            folders.setdefault(str(PurePosixPath(name).parent), []).append(name)
    used: set[str] = set()
    for lst in (name for name in names if name.lower().endswith(".lst")):
        pictures = {PurePosixPath(n).name.lower(): n for n in folders.get(str(PurePosixPath(lst).parent), [])}
        run = yield from _open_run(tree, lst, pictures, claimed)
        yield from _read_run(tree, run, options)
        used |= run.used
    for name in (name for members in folders.values() for name in members if name not in used):
        if _NOT_ORGANISMS.match(PurePosixPath(name).stem):
            yield Rejected(source=name, reason="not_an_organism", detail="mask, calibration or full frame")
        else:
            yield Rejected(
                source=name, reason="unlisted_image", detail="no row of the .lst names this picture"
            )


def _open_run(
    tree: Tree, lst: str, pictures: dict[str, str], claimed: frozenset[str]
) -> Generator[Rejected, None, _Run]:
    run = _Run(lst, pictures)
    texts = {}
    for suffix in (".ctx", "_summary.csv", "_run_summary.txt"):
        member = lst[: -len(".lst")] + suffix
        if member in claimed:
            data = read_companion(tree, member)
            if isinstance(data, Rejected):
                yield data
            else:
                texts[suffix] = data.decode("latin-1")
    if lst[: -len(".lst")] + ".ctx" not in claimed:
        yield Rejected(source=lst, reason="missing_file", detail=f"no {run.name}.ctx beside the .lst")
    context = sections(texts.get(".ctx", ""))
    yield from _take_context(run, context)
    # summary.csv has four digits of what run_summary.txt rounds.
    run.volume_l = _volume_l(texts.get("_summary.csv", "")) or _volume_l(texts.get("_run_summary.txt", ""))
    run.utc_offset = _utc_offset(context, texts.get("_run_summary.txt", ""))
    start = _time(context.get("general", {}).get("runstarttime", ""))
    run.start = start.replace(tzinfo=UTC) if start and run.utc_offset else None
    return run


def _take_context(run: _Run, context: dict[str, dict[str, str]]) -> Iterator[Rejected]:
    fluid, general, software = (context.get(name, {}) for name in ("fluid", "general", "software"))
    source, scale = run.lst[: -len(".lst")] + ".ctx", fluid.get("calibrationconstant")
    run.um_per_px = finite_within(scale, UM_PER_PX_RANGE)
    if scale and run.um_per_px is None:
        detail = f"CalibrationConstant must be 0.01 to 1000 µm/px, got {scale[:40]}"
        yield Rejected(source=source, reason="bad_metadata", detail=detail)
    for name, limits in (("latitude", LATITUDE), ("longitude", LONGITUDE)):
        text = general.get(f"location{name}")
        value = parse_degrees(text or "", limits)
        if value is not None:
            setattr(run, name[:3], value)
        elif text:
            detail = f"location{name} must be degrees, got {text[:40]}"
            yield Rejected(source=source, reason="bad_metadata", detail=detail)
    wanted = {
        "software_version": software.get("softwareversion"),
        "magnification": software.get("cameramagnification"),
        "flow_cell": fluid.get("flowcelltype"),
        "sample_dilution": fluid.get("sampledilution"),
        "run_start_as_written": general.get("runstarttime"),
        "frames": context.get("capturestats", {}).get("rawimagetotal"),
    }
    run.facts |= {name: value for name, value in wanted.items() if value}


def _volume_l(text: str) -> float | None:
    """Fluid volume imaged, the volume the particle counts stand for; only where it says ml."""
    for line in text.splitlines():
        match = _VOLUME_ML.search(line.strip()) if " ml" in line.lower() else None
        value = number(match[1]) if match else None
        if value:
            return value * 1e-3
    return None


def _utc_offset(context: dict[str, dict[str, str]], summary: str) -> timedelta | None:
    """How far the .lst's local times are from UTC, when two files of the run prove it.

    The .ctx writes RunStartTime in UTC, run_summary.txt the same moment in local time (measured:
    08:14:01 and 10:14:01 in a European April). Equal or odd differences prove nothing: None.
    """
    start = _START.search(summary)
    utc = _time(context.get("general", {}).get("runstarttime", ""))
    local = _time(start[1]) if start else None
    if utc is None or local is None:
        return None
    offset = local - utc
    in_use = offset and abs(offset) <= timedelta(hours=14) and not offset % timedelta(minutes=15)
    return offset if in_use else None


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=None)
    except ValueError:
        return None


def _read_run(tree: Tree, run: _Run, options: ReadOptions) -> Iterator[Found]:
    data = read_companion(tree, run.lst, MAX_LONG_TABLE_BYTES)
    if isinstance(data, Rejected):
        yield data
        return
    lines = data.decode("latin-1").splitlines()
    columns = _columns(lines)
    if isinstance(columns, str):
        yield Rejected(source=run.lst, reason="bad_table", detail=columns)
        return
    images = rows = 0
    ids: set[str] = set()
    for found in _rows(run, lines[2 + len(columns) :], columns, ids, options):
        rows += 1
        images += isinstance(found, Record)
        yield found
    yield Sample(
        sample=run.name,
        instrument=options.instrument or NAME,
        images=images,
        triggers=rows,
        volume_l=run.volume_l,
        time=run.start,
        lat=run.lat,
        lon=run.lon,
        source=run.lst,
        facts=run.facts,
    )


def _columns(lines: list[str]) -> list[str] | str:
    """Column names of the table, or what is wrong with its head."""
    version = int(lines[0]) if lines and _INTEGER.match(lines[0].strip()) else 0
    label, _, count = lines[1].partition("|") if len(lines) > 1 else ("", "", "")
    if version < _FIRST_VERSION or label.strip() != "num-fields" or not _INTEGER.match(count.strip()):
        return f"a .lst must be of format 017 or later, got version {version}; export it again"
    columns = [line.split("|")[0].strip() for line in lines[2 : 2 + int(count)]]
    lacking = [name for name in _BOX_COLUMNS if name not in columns]
    if len(columns) < int(count) or lacking:
        return (
            f"the head must name {count.strip()} columns with {', '.join(_BOX_COLUMNS)}, got {len(columns)}"
        )
    return columns


def _rows(
    run: _Run, lines: list[str], columns: list[str], ids: set[str], options: ReadOptions
) -> Iterator[Record | Rejected]:
    for at, line in enumerate(lines, start=3 + len(columns)):
        if not line.strip():
            continue
        cells = line.split("|")
        if len(cells) < len(columns):
            detail = f"a row must have {len(columns)} cells, got {len(cells)}"
            yield Rejected(source=f"{run.lst}#{at}", reason="bad_table", detail=detail)
        else:
            yield _particle(run, dict(zip(columns, cells, strict=False)), at, ids, options)


def _particle(
    run: _Run, row: dict[str, str], at: int, ids: set[str], options: ReadOptions
) -> Record | Rejected:
    particle, box = row["id"].strip(), _box(row)
    source = f"{run.lst}#{particle or at}"
    if not particle or box is None:
        return Rejected(
            source=f"{run.lst}#{at}", reason="bad_table", detail="id and box must be whole numbers"
        )
    # A name from a table is only looked up among the pictures of the run's own folder.
    collage = run.pictures.get(re.split(r"[/\\]", row["collage_file"].strip())[-1].lower())
    if collage is not None:
        run.used.add(collage)
    object_id = f"{run.name}_{particle}"
    if particle in ids:
        return Rejected(source=source, reason="duplicate_id", detail=f"{object_id} twice")
    ids.add(particle)
    if collage is None:
        detail = f"no collage {row['collage_file'][:200]!r} beside the .lst"
        return Rejected(source=source, reason="missing_image", detail=detail)
    if box[0] < 0 or box[1] < 0 or box[2] <= box[0] or box[3] <= box[1]:
        return Rejected(source=source, reason="out_of_bounds", detail=f"box {box} (top, left, bottom, right)")
    local = _time(row.get("timestamp", ""))
    return Record(
        object_id=object_id,
        pixels=EncodedImage(collage, box=box),
        instrument=options.instrument or NAME,
        um_per_px=options.um_per_px or _row_scale(run, row),
        sample=run.name,
        group=run.name,
        time=(local - run.utc_offset).replace(tzinfo=UTC) if local and run.utc_offset else None,
        lat=run.lat,
        lon=run.lon,
        volume_l=run.volume_l,
        licence=options.licence,
        source=source,
    )


def _box(row: dict[str, str]) -> Box | None:
    cells = [row[f"image_{side}"].strip() for side in "xywh"]
    if not all(_INTEGER.match(cell) for cell in cells):
        return None
    x, y, width, height = (int(cell) for cell in cells)
    return y, x, y + height, x + width


def _row_scale(run: _Run, row: dict[str, str]) -> float | None:
    """µm/px of the .ctx; the row's cal_const stands in where there is none, a difference is noted."""
    own = finite_within(row.get("cal_const"), UM_PER_PX_RANGE)
    if run.um_per_px is None:
        return own
    if own is not None and abs(own - run.um_per_px) > 1e-3 * run.um_per_px:
        run.facts["cal_const_differs"] = f"{own:.10g}"
    return run.um_per_px
