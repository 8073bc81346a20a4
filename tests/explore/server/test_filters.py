"""Filters: what DuckDB keeps is what the same filter keeps by hand."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_explorer import HOSTILE, SPECIES

from aqqua.explore.server.filters import read_filters

NAMES = st.lists(
    st.one_of(st.none(), st.sampled_from([*SPECIES[:5], *HOSTILE, "absent", "'", "0", "7"])), max_size=4
)
LIMIT = st.one_of(st.none(), st.floats(-10, 500, width=32), st.floats(18_000, 19_000))


@st.composite
def one_filter(draw):
    column = draw(st.sampled_from(["label", "class", "cluster", "depth_m", "time", "novelty", "height"]))
    if column in ("label", "class", "cluster"):
        return {"column": column, "names": draw(NAMES)}
    return {"column": column, "from": draw(LIMIT), "to": draw(LIMIT), "unknown": draw(st.booleans())}


def by_hand(asked, filters):
    keep = np.ones(asked.rows, bool)
    for one in filters:
        column = asked.values(one["column"])
        if "names" in one:
            codes = [
                -1 if n is None else column.names.index(n)
                for n in one["names"]
                if n is None or n in column.names
            ]
            keep &= np.isin(column.values, codes)
        else:
            low = np.float32(-np.inf if one["from"] is None else one["from"])
            high = np.float32(np.inf if one["to"] is None else one["to"])
            inside = (column.values >= low) & (column.values <= high)
            keep &= inside | (np.isnan(column.values) & one["unknown"])
    return np.flatnonzero(keep)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters=st.lists(one_filter(), max_size=3))
def test_what_is_kept_is_what_a_person_would_keep(asked, filters):
    assert asked.kept(read_filters(json.dumps(filters))).tolist() == by_hand(asked, filters).tolist()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ('{"column": "label"}', "must be a list"),
        ("[1]", "must be a list"),
        ("x" * 400_000, "letters at most"),
        ('[{"column": "key", "from": 1}]', "a column must be one of"),
        ('[{"column": "label\\" OR 1=1 --", "names": []}]', "a column must be one of"),
        ('[{"column": ["label"], "names": []}]', "a column must be one of"),
        ('[{"column": "label", "from": 1}]', "must have names"),
        ('[{"column": "depth_m", "names": ["1"]}]', "must have from"),
        ('[{"column": "label", "names": [1]}]', "must be texts or null"),
        ('[{"column": "label", "names": "a"}]', "must be a list"),
        ('[{"column": "depth_m", "from": "1; DROP"}]', "must be a number"),
        ('[{"column": "depth_m", "from": NaN}]', "must be a number"),
        ('[{"column": "depth_m", "from": true}]', "must be a number"),
        ('[{"column": "depth_m", "unknown": 1}]', "must be true or false"),
    ],
)
def test_what_is_no_filter_is_refused_in_a_sentence(asked, text, said):
    with pytest.raises(ValueError, match=said):
        asked.kept(read_filters(text))
