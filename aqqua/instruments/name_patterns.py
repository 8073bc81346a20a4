"""What a file name of a known camera says: instrument, sample, group and time of the image.

One row per pattern, each with its source. A time is taken only where the name states its clock
(Unix time, 'Z', IFCB's UTC): a local hour read as UTC would move day and night.
Tests: tests/instruments/test_folder.py.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NameFacts:
    """What the name says. `group` is what must not be split between train and test."""

    instrument: str | None = None
    sample: str = ""
    group: str = ""
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A file-name pattern; its named parts `sample`, `group` and `time` are the facts."""

    pattern: re.Pattern[str]
    instrument: str | None
    read_time: Callable[[str], datetime] | None
    source: str


def name_facts(stem: str) -> NameFacts:
    """Facts in a file name without its suffix; an unknown name says nothing."""
    for known in PATTERNS:
        match = known.pattern.match(stem)
        if match:
            parts = match.groupdict()
            time = _time_or_none(known.read_time, parts.get("time"))
            return NameFacts(known.instrument, parts.get("sample") or "", parts.get("group") or "", time)
    return NameFacts()


def _time_or_none(read: Callable[[str], datetime] | None, text: str | None) -> datetime | None:
    if read is None or text is None:
        return None
    try:
        return read(text)
    except (ValueError, OverflowError):  # month 13, second 10^20: digits, but not a time
        return None


def _unix_seconds(text: str) -> datetime:
    return EPOCH + timedelta(seconds=int(text))


def _unix_microseconds(text: str) -> datetime:
    return EPOCH + timedelta(microseconds=int(text))


def _iso_utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _ifcb_new(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def _ifcb_old(text: str) -> datetime:
    return datetime.strptime(text, "%Y_%j_%H%M%S").replace(tzinfo=UTC)


def _row(
    pattern: str, instrument: str | None, read_time: Callable[[str], datetime] | None, source: str
) -> NamePattern:
    return NamePattern(re.compile(pattern, re.ASCII), instrument, read_time, source)


PATTERNS = (
    _row(
        r"(?P<group>(?P<sample>D(?P<time>\d{8}T\d{6})_IFCB\d+))_\d{5}(?!\d)",
        "IFCB",
        _ifcb_new,
        "bin id and 5-digit target, joefutrelle/pyifcb; the bin's clock is UTC (.hdr sampleTime ends in Z)",
    ),
    _row(
        r"(?P<group>(?P<sample>IFCB\d+_(?P<time>\d{4}_\d{3}_\d{6})))_\d{5}(?!\d)",
        "IFCB",
        _ifcb_old,
        "old-style bin id: year, day of year, time; joefutrelle/pyifcb",
    ),
    _row(
        r"(?P<group>SPC-PWSSC-(?P<time>\d{9,10}))-\d+-\d+(?:-\d+){4}",
        "PWSSC",
        _unix_seconds,
        "seth814/PWSSC-Plankton-Classification: Unix second, frame, roi, x, y, w, h. Grouped by second: "
        "frames are about 0.25 s apart (measured), so one animal may be in two of them",
    ),
    _row(
        r"(?P<group>SPC-[A-Z0-9]+-(?P<time>\d{16}))-\d+",
        "SPC",
        _unix_microseconds,
        "Scripps Plankton Camera image names: SPC-UW-<Unix µs of the frame>-…",
    ),
    _row(
        r"(?P<group>.*_(?P<time>\d{4}-?\d\d-?\d\dT\d\d:?\d\d(?::?\d\d(?:\.\d+)?)?)Z_PTVR\d+[HL]M_\d+)_\d+",
        "Planktivore",
        _iso_utc,
        "MBARI Planktivore: <mission>_<ISO time>Z_PTVR<nn>HM_<frame>_<roi>_…; group = frame",
    ),
    _row(
        r"(?P<group>(?P<sample>[Pp]ia\d+\.\d{4}-\d\d-\d\d\.\d{4}))\+N\d+",
        "PlanktonImager",
        None,
        "PlanktonAnalytics/PlanktonClassification: run start, then image number. The start is not the "
        "image's time (7 hours apart in a real DNN_Results.csv), its clock is not stated; group = run",
    ),
    _row(
        r"(?P<group>\d{8} +\d{6} +\d{3}) +\d{6} +\d{4} +\d{4}",
        "LOKI",
        None,
        "LOKI: date, time, ms, number, x, y, one or two spaces between (real files in ecotaxa/ecotaxa_back); "
        "clock not stated; group = frame",
    ),
    _row(
        r"(?P<group>\d{8}_\d{6}\.\d{3})\.\d+",
        "CPICS",
        None,
        "eqmh/plankton_imaging cpics/README: 20240309_022020.993.0; clock not stated; group = frame",
    ),
    _row(
        r"(?P<group>\d{8}-\d{6}(?:-\d{3})?)_\d+$",
        None,
        None,
        "UVP vignettes, ecotaxa/uvpec: YYYYMMDD-HHMMSS_n; group = frame. Other cameras write dates like "
        "this too, so it names no instrument (and gives no µm/px) and no clock",
    ),
)
