"""What the cells of one EcoTaxa row mean: place, time, depth, scale, instrument, volume, label.

Missing markers ('', nan, NA, 99999, ...) are None. A value that cannot be true (latitude 95, day 33)
is refused with bad_metadata: kept as None it would be a silent loss, kept as it is it would poison
maps. Formulas and formats: ecotaxa_back py/DB/Object.py and py/DB/helpers, tested on its imports.
"""

import re
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta

from aqqua.instruments.degrees import parse_degrees
from aqqua.instruments.ecotaxa_table import Row
from aqqua.instruments.numbers import TABLE_NO_DATA, finite, is_missing
from aqqua.instruments.ranges import DEPTH_M, LATITUDE, LONGITUDE
from aqqua.instruments.record import LabelStatus, ReadOptions, RejectedInputError
from aqqua.instruments.registry import facts
from aqqua.instruments.scale import SCANNER_PIXEL_UM, UVP_PIXEL_UM

YEARS = (1800, 2100)

MM_COLUMNS = ("process_particle_pixel_size_mm", "process_pixel_size_mm", "acq_pixel_size_mm", "acq_pixel_mm")
UM_COLUMNS = ("process_pixel_size_um", "process_pixel_um", "acq_pixel_size_um", "acq_pixel_um")
# Unit not in the name. process_pixel_size first: PlanktoScope wrote the flow cell's calibrated size
# there while process_pixel held a hardware constant (PlanktoScope pull request 927).
UNSAID_COLUMNS = ("process_pixel_size", "process_pixel", "acq_pixel_size", "acq_pixel")
SCALE_COLUMNS = (*MM_COLUMNS, *UM_COLUMNS, *UNSAID_COLUMNS)
# From the limit of light to the coarsest in-situ imager. A value from 0.1 to 0.3 has two readings in
# it (µm or mm): then only the instrument tells.
ANY_PIXEL_UM = (0.1, 300.0)
MICROSCOPE_PIXEL_UM = (0.1, 30.0)


@dataclass(frozen=True)
class _Own:
    """Columns of aqqua's own exports (aqqua.downstream.publish.ecotaxa), for what has no place in EcoTaxa."""

    instrument: str = "acq_aqqua_instrument"
    volume: str = "acq_aqqua_volume_l"
    um_per_px: str = "process_aqqua_um_per_px"
    group: str = "object_aqqua_group"
    label: str = "object_aqqua_label"
    label_status: str = "object_aqqua_label_status"
    label_aphia: str = "object_aqqua_label_aphia_id"
    class_name: str = "object_aqqua_class"
    class_aphia: str = "object_aqqua_class_aphia_id"
    licence: str = "object_aqqua_licence"


OWN = _Own()
INSTRUMENT_COLUMNS = ("acq_instrument", "acq_hardware", "acq_id", "process_software", "acq_software")
COLUMNS = frozenset(
    {
        *SCALE_COLUMNS,
        *INSTRUMENT_COLUMNS,
        *("object_id", "img_file_name", "img_rank", "object_lat", "object_lon", "object_date", "object_time"),
        *("object_depth_min", "object_depth_max", "object_annotation_category", "object_annotation_status"),
        *("sample_id", "sample_tot_vol", "acq_sub_part"),
        *("process_scale", "process_keeporiginal", "process_footerheight_px"),
        *astuple(OWN),
    }
)
OPTIONAL = frozenset(
    {
        *("img_rank", "sample_tot_vol", "acq_sub_part", "acq_software", "process_keeporiginal"),
        *astuple(OWN),
    }
)

# First match wins, searched in INSTRUMENT_COLUMNS in order. ZooProcess drives flatbed scanners only,
# so its software name stands for the ZooScan kind of picture whatever the scanner's brand.
_INSTRUMENTS = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (r"uvp[ _-]?6", "UVP6"),
        (r"uvp[ _-]?5.*hd", "UVP5hd"),
        (r"uvp[ _-]?5.*sd", "UVP5sd"),
        (r"uvp[ _-]?5", "UVP5"),
        (r"planktoscope", "PlanktoScope"),
        (r"flow[ _-]?cam", "FlowCam"),
        (r"ifcb|imaging flow ?cytobot", "IFCB"),
        (r"isiis", "ISIIS"),
        (r"cpics", "CPICS"),
        (r"loki", "LOKI"),
        (r"zoo[ _-]?cam", "ZooCAM"),
        (r"zoo[ _-]?scan|hydroptic", "ZooScan"),
        (r"\bvpr", "VPR"),
        (r"planktivore", "Planktivore"),
        (r"\bspc\b", "SPC"),
        (r"uvp ?app", "UVP6"),
        (r"zooprocess_pid", "ZooScan"),
    )
)
STATUSES: dict[str, LabelStatus] = {
    "validated": "validated",
    "predicted": "predicted",
    "dubious": "dubious",
    "discarded": "discarded",
}
_DATE = re.compile(r"(\d{4})(-?)(\d{2})\2(\d{2})")
_TIME = re.compile(r"(\d{1,6}|\d{1,2}:\d{1,2}(?::\d{1,2})?)(?:\.(\d+))?Z?")


def number(row: Row, column: str) -> float | None:
    """A finite number; None where missing. A decimal comma is read as a point.

    Raises:
        RejectedInputError: bad_metadata, the cell holds no number.
    """
    text = row.get(column)
    if is_missing(text):
        return None
    value = finite(_pointed(text))
    if value is None:
        raise RejectedInputError("bad_metadata", f"{column} must be a number, got {text[:40]!r}")
    return None if abs(value) in TABLE_NO_DATA else value


def _pointed(text: str) -> str:
    """A decimal comma as a point; with two commas it is no number."""
    return text.replace(",", ".") if text.count(",") == 1 else text


def coordinate(row: Row, column: str) -> float | None:
    """Degrees of object_lat or object_lon, decimal or as `DD°MM SS` (UVPapp); None where missing.

    Raises:
        RejectedInputError: bad_metadata, the cell holds no coordinate or one that cannot be.
    """
    text = row.get(column)
    if is_missing(text) or abs(finite(_pointed(text)) or 0) in TABLE_NO_DATA:
        return None
    limits = LATITUDE if column == "object_lat" else LONGITUDE
    value = parse_degrees(_pointed(text), limits)
    if value is None:
        raise RejectedInputError(
            "bad_metadata",
            f"{column} must be within ±{limits[1]:g}°, got {text[:40]!r}",
        )
    return value


def when(row: Row) -> datetime | None:
    """UTC time of object_date with object_time; None unless both are known: midnight would be a guess.

    Dates are YYYYMMDD or YYYY-MM-DD; times HH:MM[:SS], HHMMSS, or HMM and HMMSS with the leading
    zero lost in a spreadsheet, each with an optional fraction of a second and 'Z'.
    """
    day, clock = row.get("object_date"), row.get("object_time")
    if _is_missing(day) or _is_missing(clock):
        return None
    date_parts, time_parts = _DATE.fullmatch(day), _TIME.fullmatch(clock)
    try:
        if not date_parts or not time_parts:
            raise ValueError("unknown form")
        year, month, day_of_month = (int(part) for part in date_parts.group(1, 3, 4))
        hour, minute, second = _clock(time_parts[1])
        moment = datetime(year, month, day_of_month, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        wrong = f"object_date and object_time must be a real moment, got {day[:20]!r} {clock[:20]!r}"
        raise RejectedInputError("bad_metadata", f"{wrong}: {error}") from error
    if not YEARS[0] <= moment.year <= YEARS[1]:
        raise RejectedInputError(
            "bad_metadata", f"object_date must be from {YEARS[0]} to {YEARS[1]}, got {day!r}"
        )
    return moment + timedelta(seconds=float(f"0.{time_parts[2] or 0}"))


def _is_missing(text: str) -> bool:
    return is_missing(text) or re.fullmatch("9{4,}", text) is not None


def _clock(text: str) -> tuple[int, int, int]:
    if ":" in text:
        hours, minutes, *seconds = (int(part) for part in text.split(":"))
        return hours, minutes, seconds[0] if seconds else 0
    text = text.zfill(4).ljust(6, "0") if len(text) < 5 else text.zfill(6)
    return int(text[:2]), int(text[2:4]), int(text[4:])


def depth_m(row: Row) -> float | None:
    """Middle of object_depth_min and object_depth_max; None unless both are known."""
    shallow, deep = number(row, "object_depth_min"), number(row, "object_depth_max")
    if shallow is None or deep is None:
        return None
    if not all(DEPTH_M[0] <= value <= DEPTH_M[1] for value in (shallow, deep)):
        raise RejectedInputError(
            "bad_metadata", f"depth must be {DEPTH_M[0]:g} to {DEPTH_M[1]:g} m, got {shallow}, {deep}"
        )
    return (shallow + deep) / 2


def instrument(row: Row) -> str:
    """Name of registry.yaml for what the acquisition and process columns say, or "unknown"."""
    if own := row.get(OWN.instrument):
        return own
    for column in INSTRUMENT_COLUMNS:
        for pattern, name in _INSTRUMENTS:
            if pattern.search(row.get(column)):
                return name
    return "unknown"


def um_per_px(row: Row, instrument_name: str, options: ReadOptions) -> float | None:
    """Micrometres per pixel of the stored picture: the user's, else the table's, else the registry's.

    Raises:
        RejectedInputError: ambiguous_scale when the unit cannot be told, or when columns disagree.
    """
    if options.um_per_px is not None:
        return options.um_per_px
    if OWN.um_per_px in row.cells:  # its name has the unit, and an empty cell is one that was unknown before
        return number(row, OWN.um_per_px)
    found = (_column_um(row, column, instrument_name) for column in SCALE_COLUMNS)
    sizes = [size for size in found if size is not None]
    if not sizes:
        return _registry_um(row, instrument_name)
    if max(sizes) > 1.05 * min(sizes) and instrument_name != "PlanktoScope":
        raise RejectedInputError("ambiguous_scale", f"pixel sizes disagree: {sizes} µm; give --um-per-px")
    return sizes[0] / _zoom(row)


def _registry_um(row: Row, instrument_name: str) -> float | None:
    """Not for a scanner of another make, which counts as a ZooScan by its software only."""
    told = f"{row.get('acq_instrument')} {row.get('acq_hardware')}".lower()
    if instrument_name == "ZooScan" and "zooscan" not in told and "hydroptic" not in told:
        return None
    return facts(instrument_name).um_per_px


def _column_um(row: Row, column: str, instrument_name: str) -> float | None:
    value = number(row, column)
    if value is None:
        return None
    if value <= 0:
        raise RejectedInputError("bad_metadata", f"{column} must be above 0, got {value}")
    if column in MM_COLUMNS:
        readings = {value * 1000}
    elif column in UM_COLUMNS:
        readings = {value}
    else:
        readings = {value, value * 1000}
    low, high = _plausible_um(instrument_name)
    plausible = [reading for reading in readings if low <= reading <= high]
    if len(plausible) != 1:
        raise RejectedInputError("ambiguous_scale", f"{column} = {value}: µm or mm? give --um-per-px")
    return plausible[0]


def _plausible_um(instrument_name: str) -> tuple[float, float]:
    if instrument_name.startswith("UVP"):
        return UVP_PIXEL_UM
    if instrument_name == "ZooScan":
        return SCANNER_PIXEL_UM
    return MICROSCOPE_PIXEL_UM if instrument_name in ("IFCB", "FlowCam", "PlanktoScope") else ANY_PIXEL_UM


def _zoom(row: Row) -> float:
    """UVPapp can enlarge its vignettes (process_scale); the kept originals beside them stay as they are."""
    zoom = number(row, "process_scale")
    if zoom is None or zoom == 1:
        return 1.0
    if not 0.1 <= zoom <= 10:
        raise RejectedInputError("bad_metadata", f"process_scale must be 0.1 to 10, got {zoom}")
    if row.get("process_keeporiginal").lower() == "y":
        raise RejectedInputError("ambiguous_scale", f"enlarged {zoom}× or original? give --um-per-px")
    return zoom


def volume_l(row: Row, instrument_name: str) -> float | None:
    """Litres of water whose organisms were imaged: as we wrote it, or sample_tot_vol [m³] over acq_sub_part.

    The latter only for ZooProcess, where both columns have a defined meaning, and only when both are positive
    numbers. They are free text to EcoTaxa ("foo" is imported): anything else is an unknown volume.
    """
    own = number(row, OWN.volume)
    if own is not None:
        return own
    if instrument_name != "ZooScan":
        return None
    try:
        cubic_metres, parts = number(row, "sample_tot_vol"), number(row, "acq_sub_part")
    except RejectedInputError:
        return None
    if cubic_metres is None or parts is None or cubic_metres <= 0 or parts < 1:
        return None
    return cubic_metres * 1000 / parts


def label(row: Row) -> tuple[str | None, LabelStatus]:
    """Category as written with its status. Without one of the four states a category is unlabelled."""
    category = row.get("object_annotation_category") or None
    status = STATUSES.get(row.get("object_annotation_status").lower(), "unlabelled")
    return category, status if category else "unlabelled"


def aphia_id(row: Row) -> int | None:
    """AphiaID of the category, where one of our own exports told it and nobody has changed the category."""
    category = row.get("object_annotation_category")
    told = ((OWN.label, OWN.label_aphia), (OWN.class_name, OWN.class_aphia))
    found = (number(row, aphia) for name, aphia in told if category and row.get(name) == category)
    return next((int(value) for value in found if value is not None), None)
