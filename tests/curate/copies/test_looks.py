"""Pixels of candidates on disk are those of the dataset."""

import numpy as np
from held_pictures import hold, organism

from aqqua.curate.copies.looks import first_rows, spill_pixels
from aqqua.curate.images.descriptor import difference


def test_spilled_pixels_are_those_of_the_rows(tmp_path):
    pictures = [organism(n, 12 + n) for n in range(20)] + [organism(3).astype(np.uint16) * 9]
    dataset = hold(tmp_path / "data", pictures, block_rows=4)
    rows = np.array([0, 3, 4, 5, 11, 20])
    pixels = spill_pixels(dataset, rows, tmp_path / "pixels.bin")
    first = first_rows(dataset)
    for row in rows.tolist():
        number = int(np.searchsorted(first, row, side="right")) - 1
        block, i = dataset.block(number), row - int(first[number])
        found, wide = pixels.of(row)
        assert np.array_equal(found, difference(block.pixels(i), block.sizes.background[i]))
        assert wide == (block.sizes.bits[i] == 16)
