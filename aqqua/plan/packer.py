"""From a lane's order to packs: plan the views of a window, fill a pack, hide what iBOT asks for.

A pack is filled exactly from planned sizes, before a pixel is read.

Letters: E entries of a window, I images, S views of an image, V = S·I views in the pack.
Test: tests/plan/test_packer.py. Timing: bench/data/pack.py.
"""

from dataclasses import dataclass, fields
from operator import attrgetter

import numpy as np
from jaxtyping import Int64

from aqqua.plan.fill import fill
from aqqua.plan.lanes import Lane, LaneState, Window
from aqqua.plan.masks import MaskConfig, plan_masks
from aqqua.plan.pack import GLOBALS, Pack
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import Views, plan_views
from aqqua.store.sizes import Sizes

_VIEW_STEP = np.uint64(0x9E3779B97F4A7C15)  # image key + view · step = key of the view
_VIEW_FIELDS = tuple(field.name for field in fields(Views))


@dataclass(frozen=True)
class _PlannedWindow:
    window: Window
    views: Views
    tokens_E: Int64[np.ndarray, " E"]  # student tokens of all views of an image


class Packer:
    """Cuts a lane's endless order into packs. Holds no state but a cache: `next_pack` is a pure function."""

    def __init__(
        self, lane: Lane, *, patch_px: int, prefix_tokens: int, views: ViewConfig, masks: MaskConfig
    ) -> None:
        largest = sum(
            count * (tokens + prefix_tokens)
            for count, tokens in zip((GLOBALS, views.locals), views.max_tokens, strict=True)
        )
        if largest > lane.config.pack_tokens:
            raise ValueError(
                f"Packer: pack_tokens must hold the views of the largest image, {largest} tokens, "
                f"got {lane.config.pack_tokens}; raise data.pack_tokens or lower views.max_tokens"
            )
        self.lane, self.patch_px, self.prefix_tokens = lane, patch_px, prefix_tokens
        self.view_config, self.mask_config = views, masks
        self._planned: dict[int, _PlannedWindow] = {}  # what the pack before saw of the next one's windows

    def next_pack(self, state: LaneState) -> tuple[Pack, LaneState]:
        """The pack that begins at `state`, and the state after it."""
        planned: dict[int, _PlannedWindow] = {}

        def tokens_of(number: int) -> Int64[np.ndarray, " E"]:
            planned[number] = self._planned.get(number) or self._plan(number)
            return planned[number].tokens_E

        filling = fill(tokens_of, state, self.lane.config.pack_tokens)
        self._planned = {number: planned[number] for number in planned if number >= filling.after.window}
        used = dict.fromkeys(filling.window_I.tolist())  # in the order of their first image
        parts = [(planned[number], filling.index_I[filling.window_I == number]) for number in used]
        return self._build(parts), filling.after

    def _plan(self, number: int) -> _PlannedWindow:
        window = self.lane.window(number)
        views = plan_views(window.sizes, window.visit_E, self.lane.seed, self.patch_px, self.view_config)
        tokens = views.patches_IS().sum(axis=1) + self.prefix_tokens * self.view_config.views
        return _PlannedWindow(window, views, tokens)

    def _build(self, parts: list[tuple[_PlannedWindow, np.ndarray]]) -> Pack:
        """The pack of the given images of some windows, in this order."""

        def gather(name: str) -> np.ndarray:
            values_of = attrgetter(name)
            return np.concatenate([values_of(planned)[rows] for planned, rows in parts])

        sizes = Sizes.concatenate([planned.window.sizes.take(rows) for planned, rows in parts])
        visit_I = gather("window.visit_E")
        views = {name.replace("_IS", "_V"): _crop_by_crop(gather(f"views.{name}")) for name in _VIEW_FIELDS}
        n_views, n_global = self.view_config.views, GLOBALS * len(visit_I)
        key_V = (np.arange(n_views, dtype=np.uint64)[:, None] * _VIEW_STEP + sizes.key[None, :]).ravel()
        masks = plan_masks(
            views["grid_V2"], key_V[:n_global], np.tile(visit_I, GLOBALS), self.lane.seed, self.mask_config
        )
        return Pack(
            block_I=gather("window.block_E"),
            row_I=gather("window.row_E"),
            visit_I=visit_I,
            sizes=sizes,
            views_per_image=n_views,
            **views,
            key_V=key_V,
            mask_N=masks.mask_N,
            masked_M=masks.masked_M,
            weight_M=masks.weight_M,
            prefix_tokens=self.prefix_tokens,
            budget_tokens=self.lane.config.pack_tokens,
        )


def _crop_by_crop(values_IS: np.ndarray) -> np.ndarray:
    """[I, S, ...] -> [V, ...]: view s of image i becomes s·I + i."""
    images, views, *rest = values_IS.shape
    return np.ascontiguousarray(np.swapaxes(values_IS, 0, 1)).reshape(views * images, *rest)
