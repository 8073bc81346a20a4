"""Which images share a pack: the same from C++ and Python, whatever the windows; never over the room."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqqua import _core
from aqqua.plan.fill import Filling, TokensOf, fill, fill_reference
from aqqua.plan.lanes import LOOK_AHEAD, LaneState

BOTH = pytest.mark.parametrize("served_by", [fill, fill_reference])


def endless(*windows: list[int]) -> TokensOf:
    """The windows given, over and over."""
    return lambda number: np.array(windows[number % len(windows)], np.int64)


def pairs(filling: Filling) -> list[tuple[int, int]]:
    return list(zip(filling.window_I.tolist(), filling.index_I.tolist(), strict=True))


def assert_same(got: Filling, want: Filling) -> None:
    assert pairs(got) == pairs(want)
    assert got.after == want.after
    assert got.window_I.dtype == got.index_I.dtype == want.window_I.dtype == want.index_I.dtype == np.int64


WINDOW = st.lists(st.integers(1, 60), max_size=30) | st.lists(st.integers(1, 60), max_size=3)


@given(
    windows=st.lists(WINDOW, min_size=1, max_size=8).filter(any),
    room=st.integers(60, 3000),
    window=st.integers(0, 20),
    index=st.integers(0, 40),
    taken=st.integers(0, (1 << 63) - 1).map(lambda bits: 2 * bits) | st.just(0),
)
@settings(max_examples=300, deadline=None)
def test_equals_the_reference_over_windows_of_any_length(windows, room, window, index, taken):
    state = LaneState(window, index, taken)
    asked: dict[str, list[int]] = {"native": [], "reference": []}

    def watched(who: str) -> TokensOf:
        return lambda number: asked[who].append(number) or endless(*windows)(number)

    got = fill(watched("native"), state, room)
    assert_same(got, fill_reference(watched("reference"), state, room))
    assert asked["native"] == asked["reference"]
    tokens = [windows[w % len(windows)][i] for w, i in pairs(got)]
    assert 0 < sum(tokens) <= room
    assert len(set(pairs(got))) == len(tokens)


@given(st.lists(st.integers(1, 400), min_size=65, max_size=300), st.integers(400, 4000))
@settings(max_examples=100, deadline=None)
def test_packs_follow_each_other_as_in_the_reference_and_lose_nothing(tokens, room):
    state = LaneState()
    used = []
    for _ in range(12):
        got, want = (served_by(endless(tokens), state, room) for served_by in (fill, fill_reference))
        assert_same(got, want)
        used += [window * len(tokens) + index for window, index in pairs(got)]
        state = got.after
    first = state.window * len(tokens) + state.index
    assert sorted(used) == sorted(
        [*range(first), *(first + j for j in range(LOOK_AHEAD) if state.taken >> j & 1)]
    )


@BOTH
def test_an_example_worked_out_by_hand(served_by):
    """4 and 3 in order; the 5 does not fit the 3 tokens left; of 2, 1, 2 and 1 the first 2 and 1 do."""
    tokens_of = endless([4, 3], [5, 2, 1, 2, 1], [9] * 80)
    filling = served_by(tokens_of, LaneState(), 10)
    assert pairs(filling) == [(0, 0), (0, 1), (1, 1), (1, 2)]
    assert filling.after == LaneState(1, 0, 0b110)
    # What was taken is passed over: 5, 2 and 1, then 9 does not fit, nor does any other.
    filling = served_by(tokens_of, filling.after, 10)
    assert pairs(filling) == [(1, 0), (1, 3), (1, 4)]
    assert filling.after == LaneState(2, 0, 0)


@BOTH
def test_only_64_entries_are_looked_at_and_of_equals_the_first_is_taken(served_by):
    big_then_small = [10] + [10] * 63 + [3] * 10
    assert pairs(served_by(endless(big_then_small), LaneState(), 14)) == [(0, 0), (0, 64)]
    assert pairs(served_by(endless([10, 10, *[10] * 63, 3, 3]), LaneState(), 14)) == [(0, 0)]
    filling = served_by(endless([10, 10, *[10] * 60, 3, 3, 3, *[9] * 9]), LaneState(), 16)
    assert pairs(filling) == [(0, 0), (0, 62), (0, 63)]
    assert filling.after == LaneState(0, 1, 1 << 61 | 1 << 62)


@BOTH
def test_a_place_behind_the_last_entry_of_a_window_is_the_next_window(served_by):
    filling = served_by(endless([1, 2], [7] * 99), LaneState(0, 5), 7)
    assert pairs(filling) == [(1, 0)]


@BOTH
@pytest.mark.parametrize("tokens", [0, -1, 101])
def test_an_entry_that_fits_no_pack_is_an_error(served_by, tokens):
    message = f"fill: every entry must have 1 to 100 tokens, got {tokens}; raise data.pack_tokens"
    for ahead in (0, 3, 8, 60):
        with pytest.raises(ValueError, match=message):
            served_by(endless([*[20] * ahead, tokens, *[20] * 100]), LaneState(), 100)
    served_by(endless([*[20] * 69, tokens]), LaneState(), 100)  # it is the 70th; nobody looks so far


@BOTH
def test_a_thousand_empty_windows_are_an_error(served_by):
    with pytest.raises(ValueError, match="weights must keep some images, got 1000 empty windows; raise"):
        served_by(endless([]), LaneState(), 100)


@BOTH
@pytest.mark.parametrize(
    ("state", "room", "message"),
    [
        (LaneState(), 0, "room must be 1 to 2..62 - 1 tokens, got 0; set data.pack_tokens"),
        (LaneState(), 1 << 62, "room must be 1 to 2..62 - 1 tokens, got 4611686018427387904"),
        (LaneState(taken=1), 9, "64 bits taken, the lowest clear, got LaneState.*taken=1.; resume from"),
        (LaneState(taken=1 << 64), 9, "64 bits taken, the lowest clear"),
        (LaneState(taken=-2), 9, "64 bits taken, the lowest clear"),
        (LaneState(index=-1), 9, "window and index >= 0"),
        (LaneState(window=-1), 9, "window and index >= 0"),
    ],
)
def test_says_what_must_hold(served_by, state, room, message):
    with pytest.raises(ValueError, match=f"fill: .*{message}"):
        served_by(endless([5]), state, room)


def test_the_binding_asks_for_more_and_checks_its_array():
    assert _core.fill(np.zeros(0, np.int64), 0, 10) is None
    assert _core.fill(np.full(63, 20, np.int64), 0, 20) is None
    chosen, first, taken = _core.fill(np.full(65, 20, np.int64), 0, 20)
    assert (chosen.tolist(), first, taken) == ([0], 1, 0)
    with pytest.raises(ValueError, match=r"fill: tokens_A must be contiguous int64 \[3\], got int32 \[3\]"):
        _core.fill(np.ones(3, np.int32), 0, 10)


@pytest.mark.parametrize(
    ("taken", "room", "message"),
    [
        (0, -5, "room must be 1 to 2..62 - 1 tokens, got -5; set data.pack_tokens"),
        (0, 0, "room must be 1 to 2..62 - 1 tokens, got 0"),
        (0, 1 << 62, "room must be 1 to 2..62 - 1 tokens, got 4611686018427387904"),
        (0, 1 << 70, "room must be 1 to 2..62 - 1 tokens, got 1180591620717411303424"),
        (-2, 9, "taken must be 0 to 2..64 - 1, got -2; resume from a sound checkpoint"),
        (1 << 64, 9, "taken must be 0 to 2..64 - 1, got 18446744073709551616"),
    ],
)
def test_the_binding_checks_its_numbers(taken, room, message):
    with pytest.raises(ValueError, match=f"^fill: {message}"):
        _core.fill(np.full(65, 2), taken, room)
