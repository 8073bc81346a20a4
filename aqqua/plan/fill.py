"""Which images share a pack: in lane order until the next one does not fit, then the largest that do.

`fill` is served by C++ (aqqua._core); `fill_reference` is its specification.

Letters: E entries of a window, I images of a pack. Test: tests/plan/test_fill.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from aqqua import _core
from aqqua.plan.lanes import LOOK_AHEAD, LaneState

TokensOf = Callable[[int], Int64[np.ndarray, " E"]]  # student tokens of a window's entries, in their order
_MOST_EMPTY = 1000  # windows without an image, one after the other


@dataclass(frozen=True)
class Filling:
    """The images of a pack in the order they were chosen, and where the lane stands after them."""

    window_I: Int64[np.ndarray, " I"]
    index_I: Int64[np.ndarray, " I"]  # within the window
    after: LaneState


def fill(tokens_of: TokensOf, state: LaneState, room: int) -> Filling:
    """The images of the pack of `room` tokens that begins at `state`.

    They are taken in order until the first that is too large for what is left; that one will open the
    next pack. The rest is filled with the largest that still fit among the 63 behind it, which
    `after.taken` remembers.

    Args:
        tokens_of: of a window: tokens of its entries, 1 to `room` each. Windows are asked for one by
            one, no further than needed; any may be empty.

    Raises:
        ValueError: an entry does not fit an empty pack, `state` cannot be, or 1000 windows are empty.
    """
    _check(state, room)
    windows = _windows(tokens_of, state)
    numbers: list[int] = []
    ahead: list[np.ndarray] = []
    found = None
    while found is None:
        number, tokens = next(windows)
        numbers.append(number)
        ahead.append(tokens)
        # All of it again for each window: planning one costs far more than filling from many.
        found = _core.fill(np.concatenate(ahead, dtype=np.int64), state.taken, room)
    chosen_I, first, taken = found
    entry_J = np.append(chosen_I, first)
    ends = np.cumsum([len(tokens) for tokens in ahead])
    part_J = np.searchsorted(ends, entry_J, side="right")
    begins = np.array([-state.index, *ends[:-1]])  # so that entry - begin is the index in the window
    window_J, index_J = np.array(numbers)[part_J], entry_J - begins[part_J]
    return Filling(window_J[:-1], index_J[:-1], LaneState(int(window_J[-1]), int(index_J[-1]), taken))


def fill_reference(tokens_of: TokensOf, state: LaneState, room: int) -> Filling:
    """The specification of `fill`, entry by entry."""
    _check(state, room)
    entries = _entries(tokens_of, state, room)
    chosen: list[tuple[int, int]] = []
    rest = room
    for ahead, (window, index, tokens) in enumerate(entries):
        if ahead < LOOK_AHEAD and state.taken >> ahead & 1:
            continue
        if tokens > rest:
            break
        chosen.append((window, index))
        rest -= tokens
    open_entries = [(window, index, tokens)]
    used = [False]
    for offset, entry in zip(range(1, LOOK_AHEAD), entries, strict=False):
        open_entries.append(entry)
        used.append(bool(ahead + offset < LOOK_AHEAD and state.taken >> (ahead + offset) & 1))
    chosen += _fill_rest(open_entries, used, rest)
    taken = sum(1 << j for j, is_used in enumerate(used) if is_used)
    window_I, index_I = np.array(chosen, np.int64).reshape(-1, 2).T
    return Filling(window_I, index_I, LaneState(window, index, taken))


def _fill_rest(
    open_entries: list[tuple[int, int, int]], used: list[bool], room: int
) -> list[tuple[int, int]]:
    """Largest first, whatever still fits; marks what it takes in `used`."""
    chosen = []
    for j in sorted(range(len(open_entries)), key=lambda j: (-open_entries[j][2], j)):
        window, index, tokens = open_entries[j]
        if not used[j] and tokens <= room:
            used[j] = True
            chosen.append((window, index))
            room -= tokens
    return chosen


def _entries(tokens_of: TokensOf, state: LaneState, room: int) -> Iterator[tuple[int, int, int]]:
    """(window, index, tokens) from the state's position on, without end; shares nothing with `_windows`."""
    window, empty = state.window, 0
    while empty <= _MOST_EMPTY:
        tokens_E = tokens_of(window).tolist()
        for index in range(len(tokens_E)):
            if window == state.window and index < state.index:
                continue
            if not 1 <= tokens_E[index] <= room:
                raise ValueError(
                    f"fill: every entry must have 1 to {room} tokens, got {tokens_E[index]}; raise "
                    "data.pack_tokens"
                )
            yield window, index, tokens_E[index]
        empty = 0 if tokens_E else empty + 1
        window += 1
    raise ValueError(
        f"fill: weights must keep some images, got {_MOST_EMPTY} empty windows; raise the weights"
    )


def _windows(tokens_of: TokensOf, state: LaneState) -> Iterator[tuple[int, np.ndarray]]:
    """Number and tokens of the windows from the state's position on, without end."""
    window, first, empty = state.window, state.index, 0
    while True:
        tokens = tokens_of(window)
        yield window, tokens[first:]
        empty = 0 if len(tokens) else empty + 1
        if empty > _MOST_EMPTY:
            raise ValueError(
                f"fill: weights must keep some images, got {_MOST_EMPTY} empty windows; raise the weights"
            )
        window, first = window + 1, 0


def _check(state: LaneState, room: int) -> None:
    if not 1 <= room < 1 << 62:
        raise ValueError(f"fill: room must be 1 to 2**62 - 1 tokens, got {room}; set data.pack_tokens")
    if state.window < 0 or state.index < 0 or state.taken % 2 or not 0 <= state.taken < 1 << LOOK_AHEAD:
        raise ValueError(
            "fill: a lane must stand at window and index >= 0 with 64 bits taken, the lowest clear, got "
            f"{state}; resume from a sound checkpoint"
        )
