"""Strata: what is unknown is a value, seasons turn at the equator, temperature levels and keeps the total."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aqqua.curate.balance.strata import Strata, StrataConfig, temper

JULY = dt.datetime(2024, 7, 31, 23, tzinfo=dt.UTC)


def table(**columns: list[object]) -> pa.Table:
    rows = len(next(iter(columns.values())))
    kinds = {
        "lat": pa.float64(),
        "lon": pa.float64(),
        "depth_m": pa.float32(),
        "time": pa.timestamp("ms", "UTC"),
    }
    words = pa.array(columns.get("instrument", ["UVP6"] * rows)).dictionary_encode()
    others = {name: pa.array(columns.get(name, [None] * rows), kind) for name, kind in kinds.items()}
    return pa.table({"instrument": words, **others})


def strata(found: pa.Table, **config: object) -> list[str]:
    return Strata(StrataConfig.model_validate(config)).of(found).to_pylist()


def test_the_unknown_is_a_value_of_its_own():
    found = table(
        lat=[5.0, None, 5.0], lon=[5.0, 5.0, None], depth_m=[3.0, None, 3.0], time=[JULY, JULY, None]
    )
    assert strata(found, grid_degrees=10) == [
        "UVP6 | 0 to 10 N, 0 to 10 E | 0 to 50 m | summer",
        "UVP6 | unknown | unknown | unknown",
        "UVP6 | unknown | 0 to 50 m | unknown",
    ]


def test_seasons_are_of_the_hemisphere():
    months = [dt.datetime(2024, month, 1, tzinfo=dt.UTC) for month in range(1, 13)]
    north = ["winter"] * 2 + ["spring"] * 3 + ["summer"] * 3 + ["autumn"] * 3 + ["winter"]
    opposite = {"winter": "summer", "summer": "winter", "spring": "autumn", "autumn": "spring"}
    for lat, want in ((0.0, north), (54.0, north), (-0.1, [opposite[name] for name in north])):
        assert strata(table(lat=[lat] * 12, time=months), by=["season"]) == want


def test_depth_bands_begin_at_their_edge():
    found = table(depth_m=[0.0, 49.9, 50.0, 1000.0, 6000.0])
    want = ["0 to 50 m", "0 to 50 m", "50 to 200 m", "below 1000 m", "below 1000 m"]
    assert strata(found, by=["depth"]) == want


def test_strata_do_not_depend_on_the_block():
    found = table(instrument=["IFCB", "UVP6", "IFCB"], depth_m=[1.0, 60.0, None])
    one_by_one = [strata(found.slice(i, 1))[0] for i in range(3)]
    assert one_by_one == strata(found)
    assert strata(found, by=["instrument"]) == ["IFCB", "UVP6", "IFCB"]
    assert strata(found, by=[]) == [""] * 3


def test_bad_settings_are_refused():
    for wrong in ({"grid_degrees": 7}, {"depth_m": (200, 50)}, {"by": ["ship"]}, {"alpha": 1.5}):
        with pytest.raises(ValidationError):
            StrataConfig.model_validate(wrong)


def test_temperature():
    images = np.array([10000.0, 100.0, 0.0])
    assert temper(images, 200 * images, 1100, 0.5).tolist() == pytest.approx([1000, 100, 0])
    assert temper(images, 200 * images, 1000, 0).tolist() == pytest.approx([500, 500, 0])
    assert temper(images, 200 * images, 10100, 1).tolist() == pytest.approx([10000, 100, 0])
    # 10 repeats bound the second; the first takes what is left.
    assert temper(images, 2 * images, 10100, 0.5).tolist() == pytest.approx([9900, 200, 0])


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=20),
    st.floats(0, 1),
    st.floats(1, 50),
    st.floats(0, 1),
)
def test_temperature_keeps_the_total_and_the_bound(images, alpha, repeats, share):
    images_S = np.array(images, np.float64)
    total = share * repeats * images_S.sum()
    uses = temper(images_S, repeats * images_S, total, alpha)
    assert uses.sum() == pytest.approx(total, rel=1e-9, abs=1e-9)
    assert (uses <= repeats * images_S).all()
