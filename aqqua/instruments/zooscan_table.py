"""The text of a ZooProcess .pid or ZooImage .zim: ini sections, then [Data] with one row per object.

Sources: real .pid files of ZooProcess 6 and 7 (`;` between cells, latin-1, bare lines inside
sections) and a real ZooImage .zid (tab between cells, decimal point, trailing tab).
"""

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aqqua.instruments.ini import sections
from aqqua.instruments.numbers import is_blank, number
from aqqua.instruments.scale import SCANNER_PIXEL_UM, pixel_size_um

_DATE = re.compile(r"\d{8}-\d{4}$")
_FACTS = {  # section, key -> name; operator, author and free comments stay behind
    ("sample", "sampleid"): "sample_id",
    ("sample", "ship"): "ship",
    ("sample", "scientificprog"): "programme",
    ("sample", "stationid"): "station",
    ("sample", "latitude"): "latitude_as_written",
    ("sample", "longitude"): "longitude_as_written",
    ("sample", "zmin"): "zmin_m",
    ("sample", "zmax"): "zmax_m",
    ("sample", "nettype"): "net_type",
    ("sample", "netmesh"): "net_mesh_um",
    ("sample", "vol"): "vol_m3",
    ("image", "hardware"): "hardware",
    ("fraction", "fracid"): "fraction",
    ("subsample", "subpart"): "sub_part",
    ("subsample", "submethod"): "sub_method",
    ("subsample", "volini"): "vol_ini",
    ("particules_process", "measures_unit"): "measures_unit",
    ("particules_process", "analysed_objects"): "analysed_objects",
    ("particules_process", "threshold"): "threshold",
    ("process", "threshold"): "threshold",
}


@dataclass(frozen=True, slots=True)
class ObjectTable:
    """One scan: what its sections say and the objects of its table. Unknown is None."""

    objects: tuple[tuple[int, str, str], ...]  # line, Item, Label
    bad_rows: tuple[tuple[int, str], ...]  # line, what is wrong
    has_table: bool
    um_per_px: float | None
    pixel_text: str  # the pixel size as written, '' where there is none
    time: datetime | None
    depth_m: float | None  # middle of the net's path
    volume_l: float | None  # water that the scanned part of the sample stands for
    analysed: int | None  # objects the software says it measured
    facts: dict[str, str] = field(default_factory=dict)


def parse_table(data: bytes) -> ObjectTable:
    """Read a .pid or .zim whole. Never raises: what cannot be read is in bad_rows or None."""
    head, _, body = data.decode("latin-1").partition("[Data]")
    found = sections(head)
    objects, bad_rows, has_table = _objects(body, first_line=head.count("\n") + 1)
    sample = found.get("sample", {})
    particles = found.get("particules_process", {}) | found.get("process", {})
    pixel_text = particles.get("pixsize", "")
    analysed = number(particles.get("analysed_objects"))
    return ObjectTable(
        objects=tuple(objects),
        bad_rows=tuple(bad_rows),
        has_table=has_table,
        um_per_px=_um_per_px(pixel_text, found),
        pixel_text=pixel_text,
        time=_time(sample.get("date", "")),
        depth_m=_depth_m(sample),
        volume_l=_volume_l(sample, found.get("subsample", {})),
        analysed=int(analysed) if analysed is not None else None,
        facts=_facts(found),
    )


def _facts(found: dict[str, dict[str, str]]) -> dict[str, str]:
    known: dict[str, str] = {}
    for (section, key), name in _FACTS.items():
        value = found.get(section, {}).get(key, "")
        if not is_blank(value):
            known.setdefault(name, value)
    return known


def _objects(body: str, first_line: int) -> tuple[list[tuple[int, str, str]], list[tuple[int, str]], bool]:
    """Rows as (line, Item, Label), bad rows as (line, why), and whether there is a table at all."""
    lines = body.splitlines()
    head = next((at for at, line in enumerate(lines) if line.lstrip().lower().startswith("!item")), None)
    if head is None:
        return [], [], False
    mark = ";" if ";" in lines[head] else "\t"
    columns = [name.strip(" !").lower() for name in lines[head].rstrip(f"\n{mark}").split(mark)]
    if "label" not in columns:
        return [], [(first_line + head, "the table must have the columns Item and Label")], True
    label = columns.index("label")
    good, bad = [], []
    for at, line in enumerate(lines[head + 1 :], start=first_line + head + 1):
        cells = [cell.strip() for cell in line.split(mark)]
        if not line.strip():
            continue
        if len(cells) < len(columns):
            bad.append((at, f"a row must have {len(columns)} cells, got {len(cells)}"))
        elif not cells[0] or not cells[label]:
            bad.append((at, "a row must have an Item and a Label"))
        else:
            good.append((at, cells[0], cells[label]))
    return good, bad, True


def _um_per_px(pixel_text: str, found: dict[str, dict[str, str]]) -> float | None:
    """PixSize, in mm by the software and in µm where a user changed it; else from dots per inch."""
    if pixel_text:
        return pixel_size_um(number(pixel_text), SCANNER_PIXEL_UM)
    for section in ("particules_process", "image_process", "info"):
        dpi = number(found.get(section, {}).get("resolution"))
        if dpi and dpi > 0:
            return pixel_size_um(25_400 / dpi, SCANNER_PIXEL_UM)
    return None


def _time(text: str) -> datetime | None:
    """[Sample] Date 'YYYYMMDD-HHMM', UTC as ZooProcess asks for."""
    try:
        return datetime.strptime(text, "%Y%m%d-%H%M").replace(tzinfo=UTC) if _DATE.match(text) else None
    except ValueError:
        return None


def _depth_m(sample: dict[str, str]) -> float | None:
    low, high = number(sample.get("zmin")), number(sample.get("zmax"))
    return (low + high) / 2 if low is not None and high is not None and 0 <= low <= high else None


def _volume_l(sample: dict[str, str], subsample: dict[str, str]) -> float | None:
    """Vol m³ of the tow divided by SubPart (1/SubPart of the catch was scanned), in litres."""
    volume_m3, part = number(sample.get("vol")), number(subsample.get("subpart"))
    if volume_m3 is None or part is None or volume_m3 <= 0 or part < 1:
        return None
    litres = volume_m3 * 1e3 / part
    return litres if math.isfinite(litres) else None
