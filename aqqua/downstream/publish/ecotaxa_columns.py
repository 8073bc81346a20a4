"""What one image says to EcoTaxa: the columns of its row, with their types, limits and texts.

Limits and meanings: EcoTaxa's TSV import (ecotaxa_back, py/BO/TSVFile.py, py/DB/Object.py): at most 500
`[f]` and 20 `[t]` free columns of an object, 30 of the others, texts of 250 characters. A score has no
column of its own
there: predicted rows get the score 1, so ours stands in `object_aqqua_score`.
Test: tests/downstream/publish/test_publish_ecotaxa.py.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal

import numpy as np

import aqqua
from aqqua.instruments.ecotaxa_cells import OWN

MAX_TEXT = 250
MAX_NUMBERS, MAX_TEXTS, MAX_OTHERS = 500, 20, 30  # free columns of an object, and of each other level
STATUSES = ("validated", "predicted", "dubious", "discarded")
_ESCAPED = re.compile(r"[\x00-\x1f\x7f%]|^ | $")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

SIZES = (
    *("area_um2", "esd_um", "major_um", "minor_um", "perimeter_um", "feret_um"),
    *("volume_sphere_um3", "volume_prolate_um3", "volume_moberg_sosik_um3"),
)
CARBON = ("carbon_pg", "carbon_low_pg", "carbon_high_pg")
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """All that is known of one image: a row of each table, None where there is none."""

    image: Fields
    prediction: Fields | None = None
    size: Fields | None = None
    carbon: Fields | None = None


@dataclass(frozen=True)
class Column:
    """A column of the table: its name, its type for EcoTaxa, and how to find its cell; None is empty."""

    name: str
    kind: Literal["t", "f"]
    value: Callable[[Shown], Any]


def escape_id(image_id: str) -> str:
    """The id without what a cell cannot hold, as %XX; other ids are unchanged. unescape_id takes it back."""
    return _ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", image_id)


def unescape_id(object_id: str) -> str:
    """The image_id that escape_id was given."""
    return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), object_id)


def object_id(image: Fields) -> str:
    """A unique id of at most 250 characters: the image's own, or its key where that is too long."""
    escaped = escape_id(image["image_id"])
    return escaped if len(escaped) <= MAX_TEXT else f"aqqua:{image['key']:016x}"


def file_name(image: Fields) -> str:
    """Place of the picture beside the table."""
    return f"images/{image['key']:016x}.png"


def columns(
    *, predicted: bool, sized: bool, weighed: bool, ids: Mapping[str, int], trust_folders: bool
) -> list[Column]:
    """The columns of a table.

    Args:
        predicted, sized, weighed: whether there are predictions, sizes and carbon.
        ids: class -> category id of EcoTaxa; empty where names are enough.
        trust_folders: a label given by a folder counts as validated.
    """

    def named(show: Shown) -> tuple[str | None, str | None]:
        return annotation(show, trust_folders)

    found = [
        Column("img_file_name", "t", lambda show: file_name(show.image)),
        Column("img_rank", "f", lambda _: 0),
        Column("object_id", "t", lambda show: object_id(show.image)),
        *_place(),
        Column("object_annotation_category", "t", lambda show: named(show)[0]),
        Column("object_annotation_status", "t", lambda show: named(show)[1]),
    ]
    if ids:
        found.append(Column("object_annotation_category_id", "f", lambda show: ids.get(named(show)[0] or "")))
    found += _own_facts()
    if predicted:
        found += [
            Column(OWN.class_name, "t", lambda show: (show.prediction or {}).get("class")),
            Column("object_aqqua_score", "f", lambda show: (show.prediction or {}).get("score")),
            Column(OWN.class_aphia, "f", lambda show: (show.prediction or {}).get("aphia_id")),
        ]
    if sized:
        found += [Column(f"object_aqqua_{name}", "f", _of("size", name)) for name in SIZES]
        found.append(Column("object_aqqua_size_flag", "t", _of("size", "flag")))
    if weighed:
        found += [Column(f"object_aqqua_{name}", "f", _of("carbon", name)) for name in CARBON]
        found.append(Column("object_aqqua_carbon_relation", "t", _of("carbon", "relation")))
    found += _levels()
    _require_within_limits(found)
    return found


def annotation(show: Shown, trust_folders: bool) -> tuple[str | None, str | None]:
    """Category and status: what people said of the image, else what the machine says; both or none."""
    label, status = show.image["label"], show.image["label_status"]
    if trust_folders and status == "folder":
        status = "validated"
    judged = label is not None and status in STATUSES
    if judged and status != "predicted":
        return label, status
    if show.prediction is not None and show.prediction["class"] is not None:
        return show.prediction["class"], "predicted"
    return (label, status) if judged else (None, None)


def cell(column: Column, show: Shown) -> str:
    """The text of a cell.

    Raises:
        ValueError: a text is longer than EcoTaxa takes, or would break the table.
    """
    value = column.value(show)
    if value is None:
        return ""
    if column.kind == "f":
        return _number(value)
    text = str(value)
    broken = _CONTROL.search(text)
    if len(text) > MAX_TEXT or broken:
        got = f"{len(text)} characters" if not broken else f"{broken[0]!r} in it"
        raise ValueError(
            f"ecotaxa: {column.name} must be at most {MAX_TEXT} characters of plain text, got {got} for "
            f"image "
            f"{show.image['image_id'][:80]!r}; shorten it at its source"
        )
    return text


def _number(value: Any) -> str:
    """Shortest digits that give the same number again; a float32 has fewer than the float64 made of it."""
    if isinstance(value, int):
        return str(value)
    if not np.isfinite(value):
        return ""
    return np.format_float_positional(value, trim="-")


def _of(table: str, name: str) -> Callable[[Shown], Any]:
    return lambda show: (getattr(show, table) or {}).get(name)


def _place() -> list[Column]:
    return [
        Column("object_lat", "f", lambda show: show.image["lat"]),
        Column("object_lon", "f", lambda show: show.image["lon"]),
        Column("object_date", "t", lambda show: _date(show.image["time"])),
        Column("object_time", "t", lambda show: _time(show.image["time"])),
        Column("object_depth_min", "f", lambda show: show.image["depth_m"]),
        Column("object_depth_max", "f", lambda show: show.image["depth_m"]),
    ]


def _own_facts() -> list[Column]:
    """What EcoTaxa has no place for: free columns, which our own reader takes back."""
    return [
        Column(OWN.label, "t", lambda show: show.image["label"]),
        Column(OWN.label_status, "t", lambda show: show.image["label_status"]),
        Column(OWN.label_aphia, "f", lambda show: show.image["aphia_id"]),
        Column(OWN.group, "t", lambda show: show.image["group"] or None),
        Column(OWN.licence, "t", lambda show: show.image["licence"]),
    ]


def _levels() -> list[Column]:
    """Sample, acquisition and process. A µm/px or volume of its own makes an acquisition of its own, because
    EcoTaxa keeps one value for all objects of an acquisition."""
    return [
        Column("sample_id", "t", lambda show: show.image["sample"] or None),
        Column("acq_id", "t", _acquisition),
        Column("acq_instrument", "t", lambda show: show.image["instrument"]),
        Column(OWN.instrument, "t", lambda show: show.image["instrument"]),
        Column(OWN.volume, "f", lambda show: show.image["volume_l"]),
        Column("process_id", "t", _acquisition),
        # In µm, as PlanktoScope and ZooProcess write it; ours says the unit in its name.
        Column("process_pixel", "f", lambda show: show.image["um_per_px"]),
        Column(OWN.um_per_px, "f", lambda show: show.image["um_per_px"]),
        Column("process_software", "t", lambda _: f"aqqua {aqqua.__version__}"),
    ]


def _acquisition(show: Shown) -> str:
    image = show.image
    parts = [image["instrument"], image["sample"]]
    parts += [f"{_number(image[name])} {unit}" for name, unit in (("um_per_px", "um"), ("volume_l", "l"))
              if image[name] is not None]  # fmt: skip
    name = " ".join(part for part in parts if part)
    if len(name) <= MAX_TEXT:
        return name
    digest = blake2b(name.encode(), digest_size=8).hexdigest()
    return f"{name[: MAX_TEXT - len(digest) - 1]}~{digest}"


def _date(time: datetime | None) -> str | None:
    return None if time is None else time.strftime("%Y%m%d")


def _time(time: datetime | None) -> str | None:
    if time is None:
        return None
    fraction = f".{time.microsecond // 1000:03d}" if time.microsecond else ""
    return time.strftime("%H%M%S") + fraction


# Columns of an object that EcoTaxa itself knows; all others are free and counted.
_KNOWN = re.compile(r"object_(id|lat|lon|date|time|depth_min|depth_max|annotation_\w+)")


def _require_within_limits(found: list[Column]) -> None:
    free = [c for c in found if c.name.startswith("object_") and not _KNOWN.fullmatch(c.name)]
    numbers = sum(c.kind == "f" for c in free)
    others = [sum(c.name.startswith(f"{level}_") for c in found) for level in ("acq", "process", "sample")]
    assert numbers <= MAX_NUMBERS, numbers
    assert len(free) - numbers <= MAX_TEXTS, len(free) - numbers
    assert max(others) <= MAX_OTHERS, others
