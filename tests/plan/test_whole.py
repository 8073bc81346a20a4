"""Packs for embedding: every image once, in row order, whole."""

import numpy as np
import pytest
from made_sizes import isiis_like, sizes

from aqqua.plan.pack import Pack
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import whole_views
from aqqua.plan.whole import whole_packs
from aqqua.store.sizes import Sizes


@pytest.mark.parametrize("budget", [261, 600, 4096, 1 << 20])
def test_whole_packs_show_every_row_once_in_order(budget):
    images = sizes(*isiis_like(300))
    options = {"patch_px": 8, "prefix_tokens": 5, "budget_tokens": budget}
    packs = list(whole_packs(images, 7, views=ViewConfig(), **options))
    assert np.concatenate([pack.row_I for pack in packs]).tolist() == list(range(300))
    planned = whole_views(images, 8, 256, 16, ViewConfig())
    for name, theirs in (("grid_V2", "grid_IS2"), ("map_V23", "map_IS23"), ("bias_VC", "bias_ISC")):
        together = np.concatenate([getattr(pack, name) for pack in packs])
        np.testing.assert_array_equal(together, getattr(planned, theirs)[:, 0])
    for pack, after in zip(packs, [*packs[1:], None], strict=True):
        assert (pack.block_I == 7).all()
        assert pack.tokens <= budget
        assert pack.n_views == pack.n_images == len(pack.sizes)
        assert len(pack.mask_N) == pack.patch_offsets_V1[-1]
        assert not pack.mask_N.any()
        if after is not None:
            assert pack.tokens + after.patches_V[0] + 5 > budget


def test_whole_packs_need_room_for_the_largest_image():
    def pack_all(images: Sizes, budget: int) -> list[Pack]:
        options = {"patch_px": 8, "prefix_tokens": 5, "budget_tokens": budget}
        return list(whole_packs(images, 0, views=ViewConfig(), **options))

    with pytest.raises(ValueError, match=r"must hold the largest image, 261 tokens, got 260; raise it"):
        pack_all(sizes(128, 128), 260)
    assert pack_all(sizes([], []), 260) == []
