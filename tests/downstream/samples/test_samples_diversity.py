"""richness and shannon by hand."""

import numpy as np
import pytest

from aqqua.downstream.samples.diversity import richness, shannon


def test_by_hand():
    found = np.array([[1.0, 1.0, 1.0, 1.0], [3.0, 1.0, 0.0, 0.0], [5.0, 0.0, 0.0, 0.0], [0.0] * 4])
    assert richness(found).tolist() == [4, 2, 1, 0]
    wanted = [np.log(4), -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), 0.0, np.nan]
    np.testing.assert_allclose(shannon(found), wanted)
    np.testing.assert_allclose(shannon(found * 17), wanted)


@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_refuses_what_is_no_abundance(bad):
    for function in (richness, shannon):
        with pytest.raises(ValueError, match="0 or above and finite"):
            function(np.array([[1.0, bad]]))
