"""The detector of spikes, by numbers that can be checked by hand."""

import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqqua.train.spike import SpikeConfig, SpikeError, Spikes, numbers_of

# Mean 3, deviation 2 (of 1, 5, 1, 5), so that from 6 deviations on 15 is the last usual value.
USUAL = (1.0, 5.0, 1.0, 5.0)
CONFIG = SpikeConfig(window=4)


def seen(values: list[float], config: SpikeConfig = CONFIG) -> list[int]:
    """Steps at which a spike is said, of values from step 1 on."""
    spikes = Spikes()
    return [step for step, x in enumerate(values, 1) if spikes.see(step, {"loss": x}, config)]


def test_three_of_five_are_a_spike_and_fewer_are_none():
    assert seen([*USUAL, 15.01, 15.01, 15.01]) == [7]
    assert seen([*USUAL, 99.0, 3.0, 99.0, 3.0, 99.0]) == [9]
    assert seen([*USUAL, 99.0, 3.0, 99.0, 3.0, 3.0, 99.0]) == []  # the first is no longer among the last five
    assert seen([*USUAL, 1e30]) == []
    assert seen([*USUAL, 15.0, 15.0, 15.0]) == []  # not above
    assert seen([*USUAL, -99.0, -99.0, -99.0]) == []  # a fall is no spike


def test_it_knows_where_the_spike_began():
    spikes = Spikes()
    for step, x in enumerate([*USUAL, 99.0, 3.0, 99.0, 99.0], 11):
        spikes.see(step, {"loss": x}, CONFIG)
    assert spikes.odd == [15, 17, 18]
    assert spikes.began == 15


def test_nothing_is_odd_before_the_window_is_full():
    assert seen([1.0, 5.0, 1.0, 1e9, 1e9, 1e9]) == []


def test_a_spike_is_not_taken_into_the_statistics_and_the_window_rolls():
    spikes = Spikes()
    for step, x in enumerate([*USUAL, 99.0, 7.0, 98.0], 1):
        spikes.see(step, {"loss": x, "norm": 1.0}, CONFIG)
    assert spikes.usual == {"loss": [5.0, 1.0, 5.0, 7.0], "norm": [1.0] * 4}


def test_the_norm_alone_may_be_odd_and_the_loss_of_that_step_is_not_taken():
    spikes = Spikes()
    numbers = [{"loss": 2.0, "norm": x} for x in (*USUAL, 50.0, 50.0, 50.0)]
    said = [spikes.see(step, row, CONFIG) for step, row in enumerate(numbers, 1)]
    assert said == [False] * 6 + [True]
    assert len(spikes.usual["loss"]) == 4


def test_what_stands_still_has_a_little_room():
    """A thousandth of the mean stands for the deviation."""
    assert seen([10.0] * 4 + [10.059] * 3) == []
    assert seen([10.0] * 4 + [10.061] * 3) == [7]


@given(st.lists(st.floats(0, 1e30), max_size=40), st.integers(0, 40))
def test_its_state_is_json_and_continues_exactly(values, cut):
    whole, first = Spikes(), Spikes()
    config = SpikeConfig(window=5, sigma=1.0, odd_steps=2)
    told = [whole.see(step, {"loss": x}, config) for step, x in enumerate(values)]
    mine = [first.see(step, {"loss": x}, config) for step, x in enumerate(values[:cut])]
    again = Spikes.of(json.loads(json.dumps(asdict(first))))
    mine += [
        again.see(step, {"loss": x}, config) for step, x in enumerate(values[cut:], min(cut, len(values)))
    ]
    assert mine == told
    assert again == whole


def test_an_older_checkpoint_has_no_state():
    assert Spikes.of(None) == Spikes() == Spikes.of({})


def test_the_norm_is_that_of_all_gradients():
    assert numbers_of(2.0, {"a": 3.0, "b": 4.0}) == {"loss": 2.0, "gradient norm": 5.0}
    assert math.isclose(numbers_of(2.0, {"a": 1e30, "b": 1e30})["gradient norm"], math.sqrt(2) * 1e30)


def test_a_spike_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"odd_steps must be at most train.spike.of_last, 5, got 6"):
        SpikeConfig(odd_steps=6)
    assert SpikeError.exit_code == 3
