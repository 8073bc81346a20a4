"""What an IFCB .hdr tells: time, position, .adc columns, and the water volume that a bin looked at.

New headers are `key: value` lines; old ones are quoted free text and tell nothing we need.
Volume analysed = 0.25 mL/min · (run time − inhibit time): the syringe pushes at 0.25 mL/min and
the camera is blind for the inhibit time of each trigger.

Source: hsosik/ifcb-analysis IFCB_volume_analyzed.m and IFCB_volume_analyzed_fromADC.m (flow rate,
last-row rule); EuropeanIFCBGroup/iRfcb R/ifcb_volume_analyzed.R (2 % rule, per clock).
Test: tests/instruments/test_ifcb.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aqqua.instruments.numbers import finite, finite_within
from aqqua.instruments.ranges import LATITUDE, LONGITUDE

FLOW_ML_PER_MIN = 0.25
CLOCK_TOLERANCE = 0.02  # header and .adc clocks further apart: the .adc is right
MAX_RUN_S = 86_400.0  # a run takes about 20 minutes; more than a day is a broken clock
RUN_S = (0.0, MAX_RUN_S)
LAT_KEYS = ("gpslatitude", "latitude")
LON_KEYS = ("gpslongitude", "longitude")


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of a .hdr that we use; all unknown for an old or missing one."""

    time: datetime | None = None  # sampleTime, UTC
    run_s: float | None = None
    inhibit_s: float | None = None
    lat: float | None = None
    lon: float | None = None
    is_beads: bool = False
    columns: tuple[str, ...] = ()  # of the .adc, lower case, letters and digits only


@dataclass(frozen=True, slots=True)
class Volume:
    """Water analysed, and which clocks gave it."""

    litres: float
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the .adc keeps what we need, 0-based. Names and places: pyifcb adc.py, ADCFileFormat lines."""

    width: int
    height: int
    start: int
    run_time: int | None = None  # seconds since the start of the run, at this trigger
    inhibit_time: int | None = None  # seconds of it in which no trigger was possible


OLD_COLUMNS = Columns(width=11, height=12, start=13)
NEW_COLUMNS = Columns(width=15, height=16, start=17, run_time=22, inhibit_time=23)


def lid_time(lid: str) -> datetime | None:
    """Start of the bin as its name tells it, UTC; None where the digits are not a date."""
    try:
        if lid.startswith("I"):
            text, form = lid.split("_", 1)[1], "%Y_%j_%H%M%S"
        else:
            text, form = lid.split("_")[0], "D%Y%m%dT%H%M%S"
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None


def parse_header(text: str) -> Header:
    """Header from its text. A value that cannot be true becomes unknown; nothing raises."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values.setdefault(key.strip().lower(), value.strip())
    lat, lon = _position(values)
    kinds = (values.get("runtype", ""), values.get("sampletype", ""))
    return Header(
        time=_time(values.get("sampletime", "")),
        run_s=finite_within(values.get("runtime"), RUN_S),
        inhibit_s=finite_within(values.get("inhibittime"), RUN_S),
        lat=lat,
        lon=lon,
        is_beads=any("bead" in kind.lower() for kind in kinds),
        columns=tuple(_plain(name) for name in values.get("adcfileformat", "").split(",")),
    )


def named_columns(header: Header, default: Columns) -> Columns:
    """Columns by the names of the header's ADCFileFormat line; by position where it names none."""
    place = {name: index for index, name in reversed(list(enumerate(header.columns)))}
    if not {"roiwidth", "roiheight", "startbyte"} <= place.keys():
        return default
    return Columns(
        width=place["roiwidth"],
        height=place["roiheight"],
        start=place["startbyte"],
        run_time=place.get("runtime"),
        inhibit_time=place.get("inhibittime"),
    )


def clocks_of(rows: Sequence[list[str]], columns: Columns) -> Iterator[tuple[float, float]]:
    """(run time, inhibit time) in seconds of the rows, last row first; unreadable rows are passed over."""
    run, inhibit = columns.run_time, columns.inhibit_time
    if run is None or inhibit is None:
        return
    for fields in reversed(rows):
        if max(run, inhibit) < len(fields):
            clocks = finite(fields[run]), finite(fields[inhibit])
            if clocks[0] is not None and clocks[1] is not None:
                yield clocks[0], clocks[1]


def sampled_volume(header: Header, clocks: Iterator[tuple[float, float]]) -> Volume | None:
    """Volume analysed in litres; None where neither header nor .adc has sane clocks (old bins).

    Args:
        clocks: (run, inhibit) in seconds of the .adc rows, last row first.
    """
    table = next(((run, inhibit) for run, inhibit in clocks if 0 <= inhibit < run <= MAX_RUN_S), None)
    run_s, run_from = _choose(header.run_s, table[0] if table else None)
    inhibit_s, inhibit_from = _choose(header.inhibit_s, table[1] if table else None)
    if header.run_s is not None and header.run_s == header.inhibit_s and table:
        (run_s, inhibit_s), run_from, inhibit_from = table, "adc", "adc"
    if run_s is None or inhibit_s is None or run_s <= inhibit_s:
        return None
    litres = FLOW_ML_PER_MIN * (run_s - inhibit_s) / 60 / 1000
    known = {"run_time_from": run_from, "inhibit_time_from": inhibit_from}
    return Volume(litres, {**known, "run_time_s": f"{run_s:.6g}", "inhibit_time_s": f"{inhibit_s:.6g}"})


def _choose(header: float | None, table: float | None) -> tuple[float | None, str]:
    if header is None:
        return table, "adc"
    if table is None or table <= 0 or abs(header / table - 1) <= CLOCK_TOLERANCE:
        return header, "header"
    return table, "adc"


def _plain(name: str) -> str:
    """'start_byte', 'StartByte' and 'ROI width' in one spelling: headers of 2010 and 2022 differ."""
    return "".join(c for c in name.lower() if c.isalnum())


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _position(values: dict[str, str]) -> tuple[float | None, float | None]:
    """Both or neither; 0, 0 is a receiver without a fix."""
    lat = next((finite_within(values[k], LATITUDE) for k in LAT_KEYS if k in values), None)
    lon = next((finite_within(values[k], LONGITUDE) for k in LON_KEYS if k in values), None)
    if lat is None or lon is None or (lat == 0 and lon == 0):
        return None, None
    return lat, lon
