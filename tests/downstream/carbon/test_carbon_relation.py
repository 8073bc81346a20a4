"""A relation takes any unit of its quantity, and no other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqqua.downstream.carbon.registry import load_registry
from aqqua.downstream.carbon.relation import Relation


def relation(name):
    return Relation(load_registry().entry(name, allow_unverified=True))


@given(st.floats(1e-2, 1e9))
@settings(deadline=None)
def test_the_unit_makes_no_difference(volume):
    protist = relation("protist")
    pg = protist.evaluate(np.array([volume]), "um**3")
    assert protist.evaluate(np.array([volume * 1e-9]), "mm**3") == pytest.approx(pg, rel=1e-12)
    assert protist.evaluate(np.array([volume]), "um**3", "ug") == pytest.approx(pg * 1e-6, rel=1e-12)


@pytest.mark.parametrize(
    ("unit", "output"), [("um**2", None), ("um", None), ("furlong^", None), ("um**3", "m")]
)
def test_refuses_another_unit(unit, output):
    with pytest.raises(ValueError, match="must be in a unit such as"):
        relation("protist").evaluate(np.array([1.0]), unit, output)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_refuses_a_size_that_makes_no_sense(bad):
    with pytest.raises(
        ValueError, match=r"volume for protist must be 0 or above and finite, got .* in row 1"
    ):
        relation("protist").evaluate(np.array([1.0, bad]), "um**3")


def test_says_where_it_was_not_made_from():
    volumes = np.array([179.0, 180.0, 1000.0, 280_000.0, 280_001.0])
    assert relation("dinoflagellate").extrapolated(volumes, "um**3").tolist() == [
        True,
        False,
        False,
        False,
        True,
    ]
    assert not relation("protist").extrapolated(volumes, "um**3").any()
    assert relation("marine_snow").extrapolated(np.array([0.5e9, 0.6e9]), "um**3").tolist() == [True, False]
