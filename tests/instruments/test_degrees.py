"""Coordinates as people and programs write them."""

import pytest

from aqqua.instruments.degrees import parse_degrees
from aqqua.instruments.ranges import LATITUDE, LONGITUDE


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        ("43°48 08", 43 + (48 + 8 / 60) / 60),
        ("43ï¿½48 08", 43 + (48 + 8 / 60) / 60),  # '°' after a wrong decoding, as in a real header
        ("-0°30 0", -0.5),
        ("009°30 37", 9 + (30 + 37 / 60) / 60),
        ("43º15 0", 43.25),
        ("43°15' 36\"", 43.26),
        ("-43.25", -43.25),
        ("43°61 08", None),
        ("43S48 08", None),  # a hemisphere in the middle must not become north
        ("43,5°10 0", None),
        ("95.0", None),
        ("4_3", None),
        ("inf", None),
        ("nan", None),
        ("", None),
    ],
)
def test_degrees(text: str, degrees: float | None) -> None:
    assert parse_degrees(text, LATITUDE) == (None if degrees is None else pytest.approx(degrees))


def test_the_limits_are_those_of_the_axis() -> None:
    assert parse_degrees("-179°59 0", LONGITUDE) == pytest.approx(-179.983333)
    assert parse_degrees("-179°59 0", LATITUDE) is None
    assert parse_degrees("90", LATITUDE) == 90
