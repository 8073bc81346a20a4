"""Patch tokens of many images: which rows are whose, taking some, packing them."""

import numpy as np
import pytest

from aqqua.evaluate.tokens import PatchTokens

TABLE = np.arange(14, dtype=np.float16).reshape(7, 2)


def test_images_own_their_rows():
    tokens = PatchTokens.packed(TABLE, np.array([0, 1, 4, 7]))
    assert (len(tokens), tokens.width) == (3, 2)
    packed, offsets = tokens.pack(np.array([2, 0]))
    np.testing.assert_array_equal(packed, TABLE[[4, 5, 6, 0]])
    assert (packed.dtype, offsets.dtype, offsets.tolist()) == (np.float32, np.int32, [0, 3, 4])


def test_some_images_without_a_copy():
    last = PatchTokens.packed(TABLE, np.array([0, 1, 4, 7])).take(np.array([False, True, True]))
    tokens = last.take(np.array([1, 0]))
    assert tokens.table_ND is TABLE
    np.testing.assert_array_equal(tokens.pack(np.arange(2))[0], TABLE[[4, 5, 6, 1, 2, 3]])


@pytest.mark.parametrize("offsets", [[], [0, 3], [1, 7], [0, 3, 3, 7], [0, 5, 3, 7]])
def test_offsets_that_do_not_fit(offsets):
    with pytest.raises(ValueError, match="offsets must rise from 0 to 7"):
        PatchTokens.packed(TABLE, np.array(offsets, np.int64))
