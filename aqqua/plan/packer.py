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
from aqqua.plan.masks import MaskConfig, all_patches, plan_masks
from aqqua.plan.pack import GLOBALS, Pack
from aqqua.plan.philox import Purpose, uniforms
from aqqua.plan.token_drop import dropped_patches, plan_drops
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
        self, lane: Lane, *, patch_px: int, prefix_tokens: int, views: ViewConfig, masks: MaskConfig | None
    ) -> None:
        """
        Args:
            masks: None: nothing is hidden, iBOT asks about all patches (`all_patches`).

        Raises:
            ValueError: a pack cannot hold the views of the largest image, or of a view whose patches are
                dropped too few would be left for iBOT.
        """
        largest = sum(
            count * (tokens + prefix_tokens)
            for count, tokens in zip((GLOBALS, views.locals), views.max_tokens, strict=True)
        )
        if largest > lane.config.pack_tokens:
            raise ValueError(
                f"Packer: pack_tokens must hold the views of the largest image, {largest} tokens, "
                f"got {lane.config.pack_tokens}; raise data.pack_tokens or lower views.max_tokens"
            )
        _check_drop(views, masks)
        self.lane, self.patch_px, self.prefix_tokens = lane, patch_px, prefix_tokens
        self.view_config, self.mask_config = views, masks
        self._planned: dict[tuple[int, int], _PlannedWindow] = {}  # by window and patch side; none passed yet

    def next_pack(self, state: LaneState) -> tuple[Pack, LaneState]:
        """The pack that begins at `state`, and the state after it."""
        planned, patch_px = dict(self._planned), self._patch_px_of(state)

        def tokens_of(number: int) -> Int64[np.ndarray, " E"]:
            key = number, patch_px
            if key not in planned:
                planned[key] = self._plan(*key)
            return planned[key].tokens_E

        filling = fill(tokens_of, state, self.lane.config.pack_tokens)
        self._planned = {key: of for key, of in planned.items() if key[0] >= filling.after.window}
        used = dict.fromkeys(filling.window_I.tolist())  # in the order of their first image
        parts = [(planned[number, patch_px], filling.index_I[filling.window_I == number]) for number in used]
        return self._build(parts, patch_px), filling.after

    def _patch_px_of(self, state: LaneState) -> int:
        """Side of the patches of the pack that begins at `state`, as no other pack of the lane does."""
        sides = self.view_config.patch_choices
        if not sides:
            return self.patch_px
        key = np.array([self.lane.lane], np.uint64) * _VIEW_STEP + np.uint64(state.window)
        draw = uniforms(self.lane.seed, key, np.array([state.index], np.uint64), Purpose.PATCH_SIDE, 1)
        return sides[int(draw[0, 0] * len(sides))]

    def _plan(self, number: int, patch_px: int) -> _PlannedWindow:
        window = self.lane.window(number)
        views = plan_views(window.sizes, window.visit_E, self.lane.seed, patch_px, self.view_config)
        patches_IS = views.patches_IS()
        kept_IS = patches_IS - dropped_patches(patches_IS, self.view_config.token_drop_S())
        tokens = kept_IS.sum(axis=1) + self.prefix_tokens * self.view_config.views
        return _PlannedWindow(window, views, tokens)

    def _build(self, parts: list[tuple[_PlannedWindow, np.ndarray]], patch_px: int) -> Pack:
        """The pack of the given images of some windows, in this order."""

        def gather(name: str) -> np.ndarray:
            values_of = attrgetter(name)
            return np.concatenate([values_of(planned)[rows] for planned, rows in parts])

        sizes = Sizes.concatenate([planned.window.sizes.take(rows) for planned, rows in parts])
        visit_I = gather("window.visit_E")
        views = {name.replace("_IS", "_V"): _crop_by_crop(gather(f"views.{name}")) for name in _VIEW_FIELDS}
        n_views, n_global = self.view_config.views, GLOBALS * len(visit_I)
        key_V = (np.arange(n_views, dtype=np.uint64)[:, None] * _VIEW_STEP + sizes.key[None, :]).ravel()
        if self.mask_config is None:
            masks = all_patches(views["grid_V2"], n_global)
        else:
            visit_G = np.tile(visit_I, GLOBALS)
            masks = plan_masks(views["grid_V2"], key_V[:n_global], visit_G, self.lane.seed, self.mask_config)
        dropped_N = None
        if any(self.view_config.token_drop):
            dropped_N = plan_drops(
                views["grid_V2"].prod(axis=1, dtype=np.int32),
                np.repeat(self.view_config.token_drop_S(), len(visit_I)),
                masks.mask_N,
                key_V,
                np.tile(visit_I, n_views),
                self.lane.seed,
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
            patch_px=patch_px,
            dropped_N=dropped_N,
            prefix_tokens=self.prefix_tokens,
            budget_tokens=self.lane.config.pack_tokens,
        )


def _check_drop(views: ViewConfig, masks: MaskConfig | None) -> None:
    """Patches that iBOT asks about are never dropped, so the share of both is at most all."""
    asked = 1.0 if masks is None else masks.ratio[1] if masks.odds else 0.0
    if views.token_drop[0] + asked > 1 + 1e-9:  # 0.1 and 0.9 are 1
        fix = "use 0 with distill" if masks is None else "lower it or masks.ratio"
        raise ValueError(
            f"Packer: views.token_drop of a global view must leave the {asked:.0%} that iBOT may ask about, "
            f"got {views.token_drop[0]}; {fix}"
        )


def _crop_by_crop(values_IS: np.ndarray) -> np.ndarray:
    """[I, S, ...] -> [V, ...]: view s of image i becomes s·I + i."""
    images, views, *rest = values_IS.shape
    return np.ascontiguousarray(np.swapaxes(values_IS, 0, 1)).reshape(views * images, *rest)
