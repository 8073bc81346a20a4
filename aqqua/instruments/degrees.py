"""Latitude and longitude as written: decimal degrees, or degrees, minutes and seconds as `DD°MM SS`.

UVPapp writes `43°48 08`, EcoTaxa reads it as deg + (MM + SS/60)/60 with the sign of deg
(ecotaxa_back py/BO/helpers). Files pass through wrong encodings: whatever stands between degrees
and minutes, digits, ASCII letters (N, S), signs, points and commas apart, is taken for '°'.
Test: tests/instruments/test_degrees.py.
"""

import re

from aqqua.instruments.numbers import finite

_DMS = re.compile(
    r"([+-]?)(\d{1,3})[^\d.,+A-Za-z-]+(\d{1,2}(?:\.\d+)?)[' ]\s*(\d{1,2}(?:\.\d+)?)[\" ]*", re.ASCII
)


def parse_degrees(text: str, limits: tuple[float, float]) -> float | None:
    """Degrees within the limits; None for what is no coordinate or lies outside."""
    match = _DMS.fullmatch(text.strip())
    if match is None:
        value = finite(text)
    else:
        degrees, minutes, seconds = (float(part) for part in match.group(2, 3, 4))
        if minutes >= 60 or seconds >= 60:
            return None
        size = degrees + (minutes + seconds / 60) / 60
        value = -size if match[1] == "-" else size
    return value if value is not None and limits[0] <= value <= limits[1] else None
