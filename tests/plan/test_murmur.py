"""The finaliser of MurmurHash3 against the numbers of the original."""

import numpy as np

from aqqua.plan.murmur import finaliser

# fmix32 of smhasher, MurmurHash3.cpp.
KNOWN = {0: 0, 1: 0x514E28B7, 2: 0x30F4C306, 0xFFFFFFFF: 0x81F16F39}


def test_the_numbers_of_the_original():
    assert finaliser(np.array(list(KNOWN), np.uint64)).tolist() == list(KNOWN.values())


def test_upper_bits_are_dropped_and_no_two_words_meet():
    words = np.arange(1 << 16, dtype=np.uint64)
    hashed = finaliser(words)
    np.testing.assert_array_equal(finaliser(words | np.uint64(1 << 40)), hashed)
    assert len(np.unique(hashed)) == len(words)
    assert int(hashed.max()) < 1 << 32
