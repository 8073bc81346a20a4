"""Columns of an atlas as codes and numbers."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from aqqua.explore.server.columns import BINS, histogram, values_of


def chunked(values, kind):
    return pa.chunked_array([pa.array(values, kind)])


@given(st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "", "<b>", "ü"])), min_size=1, max_size=30))
def test_words_become_codes_of_names_the_commonest_first(words):
    column = values_of(chunked(words, pa.string()), "names")
    back = [None if code < 0 else column.names[code] for code in column.values]
    assert back == words
    counts = column.about()["counts"]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == sum(word is not None for word in words)


def test_a_cluster_is_a_name_and_none_is_unknown():
    column = values_of(chunked([3, -1, 3, 10], pa.int32()), "names")
    assert column.names == ("3", "10")
    assert column.values.tolist() == [0, -1, 0, 1]


def test_times_are_days_and_what_is_not_finite_is_unknown():
    times = values_of(chunked([86_400_000, None, 129_600_000], pa.timestamp("ms", "UTC")), "time")
    assert times.values[[0, 2]].tolist() == [1.0, 1.5]
    assert np.isnan(times.values[1])
    numbers = values_of(chunked([1.0, np.inf, None, np.nan, 3.0], pa.float32()), "numbers")
    assert (numbers.low, numbers.high) == (1.0, 3.0)
    assert np.isnan(numbers.values[1:4]).all()


def test_a_histogram_counts_all_and_those_kept():
    numbers = values_of(chunked([0.0, 0.0, 5.0, 10.0, None], pa.float32()), "numbers")
    found = histogram(numbers, np.array([0, 3, 4]))
    assert (found["all"][0], found["all"][BINS // 2], found["all"][-1], sum(found["all"])) == (2, 1, 1, 4)
    assert (found["kept"][0], found["kept"][-1], sum(found["kept"])) == (1, 1, 2)
    alike = histogram(values_of(chunked([2.0, 2.0], pa.float32()), "numbers"), None)
    assert sum(alike["all"]) == 2
