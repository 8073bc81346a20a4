"""The tables of the Triton attention: every token once, no sequence across two tiles, few empty rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aqqua.kernels.attention.schedule import BLOCK, NARROW, WIDE, make_schedule

LENGTHS = st.lists(st.one_of(st.integers(1, 20), st.integers(1, 400)), min_size=1, max_size=60)


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


def test_contract_names_the_fix():
    with pytest.raises(ValueError, match=r"every sequence must have a token, got lengths \[0\]; leave empty"):
        make_schedule(torch.tensor([3, 0]), "cpu")
    with pytest.raises(ValueError, match="largest_tile must be 64 or 128, got 96"):
        make_schedule(torch.tensor([3]), "cpu", largest_tile=96)
