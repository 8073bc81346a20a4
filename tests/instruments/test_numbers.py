"""One rule for numbers in text; the readers' own limits are those of the store."""

import pytest

from aqqua.instruments.image_table import BadValueError, record_values
from aqqua.instruments.lmdb_release import RANGES
from aqqua.instruments.numbers import finite, finite_within, is_blank, is_missing, number
from aqqua.instruments.ranges import APHIA_ID, DEPTH_M, VOLUME_L
from aqqua.store import rows


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.5", 1.5), (" -2e3 ", -2000.0), ("99999", 99999.0), ("1_000", None), ("1,5", None), ("nan", None),
     ("-inf", None), ("", None), (None, None), ("x", None)],
)  # fmt: skip
def test_finite(text: str | None, value: float | None) -> None:
    assert finite(text) == value


def test_limits_are_inside() -> None:
    assert [finite_within(t, (0, 2)) for t in ("0", "2", "2.1", "-1", "x")] == [0, 2, None, None, None]


def test_what_an_instrument_calls_missing() -> None:
    assert [number(t) for t in ("99999", "-99999.0", "NaN", "9999", "7")] == [None, None, None, 9999, 7]
    assert all(is_missing(t) for t in ("", " ", "NA", "n/a", "None", "null", "-", "NaN"))
    assert not any(is_missing(t) for t in ("0", "nano", "99999"))
    assert all(is_blank(t) for t in ("", "nan", "99999"))
    assert not is_blank("Calanus")


@pytest.mark.parametrize(
    ("field", "limits"), [("depth_m", DEPTH_M), ("volume_l", VOLUME_L), ("aphia_id", APHIA_ID)]
)
def test_reader_release_and_store_have_the_same_limits(field: str, limits: tuple[float, float]) -> None:
    assert RANGES[field] == limits
    assert getattr(rows, field.upper()) == limits
    for end, beyond in zip(limits, (limits[0] - 1, limits[1] * 1.01), strict=True):
        assert record_values({field: f"{end:.12g}"})[field] == end
        with pytest.raises(BadValueError, match=field):
            record_values({field: f"{int(beyond)}"})
