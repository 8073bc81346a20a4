"""Traits: kinds that values show, coding and back, and values that do not fit."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from aqqua.evaluate.finetune.traits import Trait, define_trait, guess_kind

VALUES = st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=30, unique=True)


@pytest.mark.parametrize(
    ("values", "unit", "kind"),
    [
        ([0, 1, 1], "", "binary"),
        ([0, 1, 1], "um", "continuous"),
        ([1, 2, 3, 2], "level", "ordinal"),
        ([1, 2, 3.5], "", "continuous"),
        (list(range(40)), "", "continuous"),
    ],
)
def test_the_kind_shows_in_values_and_unit(values, unit, kind):
    assert guess_kind(np.array([*values, np.nan], float), unit) == kind
    assert define_trait("t", np.array([*values, np.nan], float), unit).kind == kind


@given(VALUES, st.booleans())
@example([1e6, 1e6 - 2], True)
def test_continuous_values_come_back(values, log10):
    assume(np.ptp(values) > 1e-6 * max(values))
    value = np.array([*values, np.nan])
    trait = define_trait("t", value, "um", log10=log10)
    coded = trait.encode(value)
    assert np.nanmean(coded) == pytest.approx(0, abs=1e-6)
    assert np.nanstd(coded) == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(trait.decode(coded), value, rtol=1e-6, atol=1e-9 * max(values))


def test_ordinal_values_come_back():
    value = np.array([5.0, 1.0, np.nan, 2.0, 5.0])
    trait = define_trait("t", value, "")
    assert trait.levels == (1, 2, 5)
    np.testing.assert_array_equal(trait.encode(value), [2, 0, np.nan, 1, 2])
    np.testing.assert_array_equal(trait.decode(np.array([2.0, 0.0])), [5, 1])


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        ([2, 2, np.nan], {}, r"two values at least, got \[2\.0\]"),
        ([np.nan], {}, r"two values at least, got \[\]"),
        ([0, 1, 0.5], {"kind": "binary"}, r"must be 0 or 1, got 0\.5"),
        ([0, 1, 2.5], {"log10": True}, r"must be above 0, got 0\.0"),
        ([1e-3, np.nextafter(1e-3, 1)], {}, r"differ by more than a millionth"),
        ([1e-3, np.nextafter(1e-3, 1)], {"log10": True}, r"differ by more than a millionth"),
    ],
)
def test_values_that_do_not_fit(values, options, said):
    with pytest.raises(ValueError, match=said):
        define_trait("t", np.array(values, float), "", **options)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "ordinal"},
        {"kind": "ordinal", "levels": (1, 1)},
        {"kind": "binary", "levels": (0, 1)},
        {"kind": "binary", "log10": True},
        {"kind": "continuous", "std": 0},
    ],
)
def test_a_definition_must_make_sense(fields):
    with pytest.raises(ValidationError):
        Trait(trait_id="t", **fields)
