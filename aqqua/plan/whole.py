"""Packs for embedding: one undisturbed view of each image, nothing hidden, in row order.

Letters: I images. Test: tests/plan/test_whole.py.
"""

from collections.abc import Iterator

import numpy as np

from aqqua.plan.pack import Pack
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import Views, whole_views
from aqqua.store.sizes import Sizes


def whole_packs(
    sizes: Sizes, block: int, *, patch_px: int, prefix_tokens: int, budget_tokens: int, views: ViewConfig
) -> Iterator[Pack]:
    """Packs of one undisturbed view per image, in row order: for embedding.

    Args:
        sizes: of all images of a dataset block.
        block: its number.
        budget_tokens: of a pack, at least the cap of a global view and its prefix.
    """
    planned = whole_views(sizes, patch_px, views.max_tokens[0], views.min_tokens[0], views)
    places = np.full(len(sizes), block), np.arange(len(sizes)), np.zeros(len(sizes), np.uint64)
    yield from single_view_packs(sizes, planned, *places, patch_px, prefix_tokens, budget_tokens)


def single_view_packs(
    sizes: Sizes,
    planned: Views,
    block_I: np.ndarray,
    row_I: np.ndarray,
    visit_I: np.ndarray,
    patch_px: int,
    prefix_tokens: int,
    budget_tokens: int,
) -> Iterator[Pack]:
    """Packs of the first planned view of each image, in the order given, none of them masked.

    Args:
        sizes, planned: of the images and their views.
        block_I, row_I, visit_I: where each image lies in the dataset, and which visit of it this is.
        patch_px: the views were planned for.
        budget_tokens: of a pack, at least the largest view and its prefix.

    Raises:
        ValueError: a view is larger than the budget.
    """
    tokens_I = planned.patches_IS()[:, 0] + prefix_tokens
    if int(tokens_I.max(initial=0)) > budget_tokens:
        raise ValueError(
            f"whole_packs: budget_tokens must hold the largest image, {int(tokens_I.max())} tokens, got "
            f"{budget_tokens}; raise it"
        )
    start = 0
    while start < len(tokens_I):
        end = start + max(int(np.searchsorted(np.cumsum(tokens_I[start:]), budget_tokens, side="right")), 1)
        rows = np.arange(start, end)
        places = block_I[rows], row_I[rows], visit_I[rows]
        yield _single_view_pack(sizes, planned, rows, *places, patch_px, prefix_tokens, budget_tokens)
        start = end


def _single_view_pack(
    sizes: Sizes,
    planned: Views,
    rows: np.ndarray,
    block_I: np.ndarray,
    row_I: np.ndarray,
    visit_I: np.ndarray,
    patch_px: int,
    prefix_tokens: int,
    budget_tokens: int,
) -> Pack:
    grid = planned.grid_IS2[rows, 0]
    nothing = np.zeros(0, np.int64)
    return Pack(
        block_I=block_I,
        row_I=row_I,
        visit_I=visit_I,
        sizes=sizes.take(rows),
        views_per_image=1,
        grid_V2=grid,
        map_V23=planned.map_IS23[rows, 0],
        um_per_px_V=planned.um_per_px_IS[rows, 0],
        sigma_V=planned.sigma_IS[rows, 0],
        scale_V=planned.scale_IS[rows, 0],
        bias_VC=planned.bias_ISC[rows, 0],
        noise_V=planned.noise_IS[rows, 0],
        speck_VK4=planned.speck_ISK4[rows, 0],
        colour_V33=planned.colour_IS33[rows, 0],
        fold_VC=planned.fold_ISC[rows, 0],
        key_V=sizes.key[rows],
        mask_N=np.zeros(int((grid[:, 0] * grid[:, 1]).sum()), bool),
        masked_M=nothing,
        weight_M=nothing.astype(np.float32),
        patch_px=patch_px,
        prefix_tokens=prefix_tokens,
        budget_tokens=budget_tokens,
    )
