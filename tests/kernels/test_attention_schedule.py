"""The tables of the Triton attention: every token once, no sequence across two tiles, few empty rows."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aqqua.kernels.attention.schedule import BLOCK, NARROW, WIDE, best_fit, make_schedule

LENGTHS = st.lists(st.one_of(st.integers(1, 20), st.integers(1, 400)), min_size=1, max_size=60)


def one_by_one(lengths, largest):
    """Rows and free rows of the tiles of best fit, one sequence after the other, longest first."""
    rows, room = [], []
    for length in sorted((n for n in lengths if n <= largest), reverse=True):
        tile = min((b for b in range(len(room)) if room[b] >= length), key=room.__getitem__, default=None)
        if tile is None:
            tile = len(room)
            rows.append(NARROW if length <= NARROW else WIDE)
            room.append(rows[-1])
        room[tile] -= length
    return sorted(zip(rows, room, strict=True))


@settings(deadline=None)
@given(LENGTHS, st.sampled_from([NARROW, WIDE]))
def test_best_fit_is_best_fit(lengths, largest):
    found = best_fit(np.array(lengths), largest)
    held = found.tile_V >= 0
    room = found.rows_B - np.bincount(
        found.tile_V[held], np.array(lengths)[held], minlength=len(found.rows_B)
    )
    assert sorted(zip(found.rows_B.tolist(), room.tolist(), strict=True)) == one_by_one(lengths, largest)


@settings(deadline=None)
@given(LENGTHS, st.sampled_from([NARROW, WIDE]), st.integers(1, 400))
def test_every_token_is_served_once_with_its_own_sequence(lengths, largest, limit):
    schedule = make_schedule(torch.tensor(lengths), "cpu", largest_tile=largest, limit=limit)
    view_T = np.repeat(np.arange(len(lengths)), lengths)
    served = np.zeros(len(view_T), int)
    for table in (schedule.narrow_B2R.numpy(), schedule.wide_B2R.numpy()):
        token, view = table[:, 0], table[:, 1]
        assert ((token < 0) == (view < 0)).all()
        np.add.at(served, token[token >= 0], 1)
        assert (view[token >= 0] == view_T[token[token >= 0]]).all()
        for tile in view:  # all of a sequence is in one tile
            whole, counts = np.unique(tile[tile >= 0], return_counts=True)
            assert (counts == np.array(lengths)[whole]).all()
    for number, (start, length, first, block) in enumerate(schedule.blocks_B4.tolist()):
        view = view_T[start]
        assert (length, start) == (lengths[view], sum(lengths[:view]))
        assert length <= limit
        assert number == block + first // BLOCK
        served[start + first : start + min(first + BLOCK, length)] += 1
    if schedule.rest is not None:
        np.add.at(served, schedule.rest.rows_U.numpy(), 1)
        over = [n for n in lengths if n > max(limit, largest)]
        assert schedule.rest.lengths.tolist() == over
        assert schedule.rest.offsets.tolist() == np.cumsum([0, *over]).tolist()
        assert schedule.rest.max_length == max(over)
    assert (served == 1).all()
    assert schedule.tokens == len(view_T)


def test_short_sequences_fill_wide_tiles_before_they_open_one():
    schedule = make_schedule(torch.tensor([100, 20, 8, 64]), "cpu")
    assert len(schedule.wide_B2R) == 1
    assert (schedule.wide_B2R[0, 0] >= 0).all()
    assert len(schedule.narrow_B2R) == 1


def test_tables_are_aligned_for_wide_loads():
    schedule = make_schedule(torch.tensor([100, 3, 200, 500]), "cpu")
    for table in (schedule.narrow_B2R, schedule.wide_B2R, schedule.blocks_B4):
        assert table.dtype == torch.int32
        assert table.is_contiguous()
        assert table.storage_offset() * 4 % 16 == 0


def test_an_arrangement_made_elsewhere_serves():
    """Tiles of another packer, in its own order; a sequence it left out goes into blocks."""
    made = SimpleNamespace(
        rows_B=np.array([64, 128]), tile_V=np.array([1, 0, -1]), row_V=np.array([0, 4, -1])
    )
    schedule = make_schedule(torch.tensor([70, 5, 3]), "cpu", made)
    assert schedule.wide_B2R[0, 0, :71].tolist() == [*range(70), -1]
    assert schedule.narrow_B2R[0, 0, 3:10].tolist() == [-1, 70, 71, 72, 73, 74, -1]
    assert schedule.blocks_B4.tolist() == [[75, 3, 0, 0]]


@pytest.mark.parametrize(
    ("tile", "row", "message"),
    [
        ([0, 0], [0, 4], "no two sequences may share a row"),
        ([0, 0], [0, 60], "every sequence must lie inside its tile"),
        ([0, 1], [0, 0], "every sequence must lie inside its tile"),
        ([0], [0], "must be of the pack's 2 sequences, got 1 tiles"),
    ],
)
def test_a_wrong_arrangement_is_refused(tile, row, message):
    made = SimpleNamespace(rows_B=np.array([64]), tile_V=np.array(tile), row_V=np.array(row))
    with pytest.raises(ValueError, match=message):
        make_schedule(torch.tensor([5, 7]), "cpu", made)


def test_contract_names_the_fix():
    with pytest.raises(ValueError, match=r"every sequence must have a token, got lengths \[0\]; leave empty"):
        make_schedule(torch.tensor([3, 0]), "cpu")
    with pytest.raises(ValueError, match="largest_tile must be 64 or 128, got 96"):
        make_schedule(torch.tensor([3]), "cpu", largest_tile=96)
    made = SimpleNamespace(rows_B=np.array([96]), tile_V=np.array([0]), row_V=np.array([0]))
    with pytest.raises(ValueError, match=r"tiles must have 64 or 128 rows and at most 128, got \[96\]"):
        make_schedule(torch.tensor([5]), "cpu", made)
