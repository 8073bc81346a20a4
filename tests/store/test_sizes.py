"""What planning knows of images: blocks put together."""

import pytest

from aqqua.store.sizes import Sizes


def test_at_least_one_block_is_put_together():
    with pytest.raises(ValueError, match=r"^Sizes: concatenate must be given .* block, got none; pass"):
        Sizes.concatenate([])
