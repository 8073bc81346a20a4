"""Packs: which images share one token budget, and the plan of all their views.

A pack is filled exactly from planned sizes, before a pixel is read: images in lane order until
the next one does not fit, then the largest that still fit among the following 64.

Letters: I images, S views of an image, V = S·I views in the pack, N patch rows, M masked patches.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt64

from aqqua.plan.lanes import LOOK_AHEAD, Lane, LaneState, Window
from aqqua.plan.masks import MaskConfig, plan_masks
from aqqua.plan.philox import Purpose, uniforms
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import Views, plan_views, whole_views
from aqqua.store.read import Sizes

GLOBALS = 2  # global views of an image
_VIEW_STEP = np.uint64(0x9E3779B97F4A7C15)  # image key + view · step = key of the view


@dataclass(frozen=True)
class Pack:
    """Everything about a pack before its pixels. Views stand crop by crop: view s of image i is s·I + i.

    So the global views come first, and the teacher's pack is simply the first 2·I views.
    """

    block_I: Int64[np.ndarray, " I"]  # where each image lies in the dataset
    row_I: Int64[np.ndarray, " I"]
    visit_I: UInt64[np.ndarray, " I"]
    sizes: Sizes
    views_per_image: int  # S
    grid_V2: Int32[np.ndarray, "V 2"]  # patch rows and columns
    map_V23: Float32[np.ndarray, "V 2 3"]  # output px -> source px
    um_per_px_V: Float32[np.ndarray, " V"]  # after the map; NaN unknown
    sigma_V: Float32[np.ndarray, " V"]
    scale_V: Float32[np.ndarray, " V"]
    bias_VC: Float32[np.ndarray, "V 3"]
    noise_V: Float32[np.ndarray, " V"]
    key_V: UInt64[np.ndarray, " V"]  # random key of each view
    mask_N: Bool[np.ndarray, " N"]  # hidden from the student; only global patches ever are
    masked_M: Int64[np.ndarray, " M"]  # their rows among the N
    weight_M: Float32[np.ndarray, " M"]  # 1 / hidden patches of the view
    prefix_tokens: int  # CLS and registers of every view
    budget_tokens: int

    @property
    def n_images(self) -> int:
        return len(self.block_I)

    @property
    def n_views(self) -> int:
        return len(self.grid_V2)

    @property
    def image_V(self) -> Int64[np.ndarray, " V"]:
        return np.tile(np.arange(self.n_images), self.views_per_image)

    @property
    def patches_V(self) -> Int32[np.ndarray, " V"]:
        return self.grid_V2[:, 0] * self.grid_V2[:, 1]

    @property
    def patch_offsets_V1(self) -> Int64[np.ndarray, " V1"]:
        return np.concatenate([[0], np.cumsum(self.patches_V, dtype=np.int64)])

    @property
    def tokens(self) -> int:
        """Student tokens, prefixes included."""
        return int(self.patches_V.sum()) + self.prefix_tokens * self.n_views

    @property
    def fill(self) -> float:
        return self.tokens / self.budget_tokens


@dataclass(frozen=True)
class _PlannedWindow:
    window: Window
    views: Views
    tokens_E: np.ndarray


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
        self._planned: OrderedDict[int, _PlannedWindow] = OrderedDict()

    def next_pack(self, state: LaneState) -> tuple[Pack, LaneState]:
        """The pack that begins at `state`, and the state after it."""
        chosen, after = self._fill(state)
        return self._build(chosen), after

    def _fill(self, state: LaneState) -> tuple[list[tuple[int, int]], LaneState]:
        room = self.lane.config.pack_tokens
        entries = self._entries(state)
        chosen: list[tuple[int, int]] = []
        for ahead, (window, index, tokens) in enumerate(entries):
            used = ahead < LOOK_AHEAD and state.taken >> ahead & 1
            if used:
                continue
            if tokens > room:
                break
            chosen.append((window, index))
            room -= tokens
        open_entries = [(window, index, tokens)]
        used_flags = [False]
        for offset, (w, i, t) in zip(range(1, LOOK_AHEAD), entries, strict=False):
            open_entries.append((w, i, t))
            used_flags.append(bool(ahead + offset < LOOK_AHEAD and state.taken >> (ahead + offset) & 1))
        chosen += _fill_rest(open_entries, used_flags, room)
        taken = sum(1 << j for j, used in enumerate(used_flags) if used)
        return chosen, LaneState(open_entries[0][0], open_entries[0][1], taken)

    def _entries(self, state: LaneState) -> Iterator[tuple[int, int, int]]:
        """(window, index, tokens) from the state's position on, without end."""
        window, index, empty = state.window, state.index, 0
        while True:
            tokens = self._plan(window).tokens_E
            for i in range(index, len(tokens)):
                yield window, i, int(tokens[i])
            empty = 0 if len(tokens) else empty + 1
            if empty > 1000:
                raise ValueError(
                    "Packer: weights must keep some images, got 1000 empty windows; raise the weights"
                )
            window, index = window + 1, 0

    def _plan(self, number: int) -> _PlannedWindow:
        if number not in self._planned:
            window = self.lane.window(number)
            views = plan_views(window.sizes, window.visit_E, self.lane.seed, self.patch_px, self.view_config)
            tokens = views.patches_IS().sum(axis=1) + self.prefix_tokens * self.view_config.views
            self._planned[number] = _PlannedWindow(window, views, tokens)
            while len(self._planned) > 3:
                self._planned.popitem(last=False)
        self._planned.move_to_end(number)
        return self._planned[number]

    def _build(self, chosen: list[tuple[int, int]]) -> Pack:
        groups: dict[int, list[int]] = {}
        for window, index in chosen:
            groups.setdefault(window, []).append(index)
        parts = [(self._plan(number), np.array(rows)) for number, rows in groups.items()]

        def gather(pick) -> np.ndarray:
            return np.concatenate([pick(planned)[rows] for planned, rows in parts])

        def by_view(name: str) -> np.ndarray:
            values = gather(lambda planned: getattr(planned.views, name))
            return np.ascontiguousarray(np.swapaxes(values, 0, 1)).reshape(-1, *values.shape[2:])

        sizes = Sizes.concatenate([planned.window.sizes.take(rows) for planned, rows in parts])
        grid = by_view("grid_IS2")
        visit = gather(lambda planned: planned.window.visit_E)
        n_views = self.view_config.views
        key_V = (np.arange(n_views, dtype=np.uint64)[:, None] * _VIEW_STEP + sizes.key[None, :]).ravel()
        return Pack(
            block_I=gather(lambda planned: planned.window.block_E),
            row_I=gather(lambda planned: planned.window.row_E),
            visit_I=visit,
            sizes=sizes,
            views_per_image=n_views,
            grid_V2=grid,
            map_V23=by_view("map_IS23"),
            um_per_px_V=by_view("um_per_px_IS"),
            sigma_V=by_view("sigma_IS"),
            scale_V=by_view("scale_IS"),
            bias_VC=by_view("bias_ISC"),
            noise_V=by_view("noise_IS"),
            key_V=key_V,
            **self._masks(grid, key_V, visit),
            prefix_tokens=self.prefix_tokens,
            budget_tokens=self.lane.config.pack_tokens,
        )

    def _masks(self, grid_V2: np.ndarray, key_V: np.ndarray, visit_I: np.ndarray) -> dict[str, np.ndarray]:
        n_global = GLOBALS * len(visit_I)
        masks = plan_masks(
            grid_V2[:n_global], key_V[:n_global], np.tile(visit_I, GLOBALS), self.lane.seed, self.mask_config
        )
        patches = grid_V2[:, 0] * grid_V2[:, 1]
        starts = np.cumsum(patches) - patches
        mask_N = np.zeros(int(patches.sum()), bool)
        weight_N = np.zeros(len(mask_N), np.float32)
        for start, count, mask in zip(starts, patches, masks, strict=False):
            if mask is not None:
                mask_N[start : start + count] = mask
                weight_N[start : start + count] = 1.0 / mask.sum()
        masked = np.flatnonzero(mask_N)
        return {"mask_N": mask_N, "masked_M": masked, "weight_M": weight_N[masked]}


def _fill_rest(
    open_entries: list[tuple[int, int, int]], used: list[bool], room: int
) -> list[tuple[int, int]]:
    """Largest first, whatever still fits; marks what it takes in `used`."""
    chosen = []
    for j in sorted(range(len(open_entries)), key=lambda j: (-open_entries[j][2], j)):
        window, index, tokens = open_entries[j]
        if not used[j] and tokens <= room:
            used[j] = True
            chosen.append((window, index))
            room -= tokens
    return chosen


def drop_scores(pack: Pack, seed: int, step: int, layers: int) -> Float32[np.ndarray, "L 2 V"]:
    """Scores for drop-path: in each layer's two branches the views with the smallest are kept.

    Drawn by (seed, step, view), so they do not depend on the pack a view is in.
    """
    step_V = np.full(pack.n_views, step % (1 << 32), np.uint64)
    draw = uniforms(seed, pack.key_V, step_V, Purpose.DROP_PATH, 2 * layers)
    return np.ascontiguousarray(draw.T.astype(np.float32)).reshape(layers, 2, pack.n_views)


def hide_scale(pack: Pack, seed: int, odds: float) -> Bool[np.ndarray, " V"]:
    """Views whose µm/px is hidden from the model this time, so that it learns to do without."""
    draw = uniforms(seed, pack.key_V, np.tile(pack.visit_I, pack.views_per_image), Purpose.HIDE_SCALE, 1)
    return draw[:, 0] < odds


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
    tokens_I = planned.patches_IS()[:, 0] + prefix_tokens
    if int(tokens_I.max(initial=0)) > budget_tokens:
        raise ValueError(
            f"whole_packs: budget_tokens must hold the largest image, {int(tokens_I.max())} tokens, got "
            f"{budget_tokens}; raise it"
        )
    start = 0
    while start < len(tokens_I):
        end = start + max(int(np.searchsorted(np.cumsum(tokens_I[start:]), budget_tokens, side="right")), 1)
        yield _whole_pack(sizes, planned, block, np.arange(start, end), prefix_tokens, budget_tokens)
        start = end


def _whole_pack(
    sizes: Sizes, planned: Views, block: int, rows: np.ndarray, prefix_tokens: int, budget_tokens: int
) -> Pack:
    grid = planned.grid_IS2[rows, 0]
    nothing = np.zeros(0, np.int64)
    return Pack(
        block_I=np.full(len(rows), block),
        row_I=rows,
        visit_I=np.zeros(len(rows), np.uint64),
        sizes=sizes.take(rows),
        views_per_image=1,
        grid_V2=grid,
        map_V23=planned.map_IS23[rows, 0],
        um_per_px_V=planned.um_per_px_IS[rows, 0],
        sigma_V=planned.sigma_IS[rows, 0],
        scale_V=planned.scale_IS[rows, 0],
        bias_VC=planned.bias_ISC[rows, 0],
        noise_V=planned.noise_IS[rows, 0],
        key_V=sizes.key[rows],
        mask_N=np.zeros(int((grid[:, 0] * grid[:, 1]).sum()), bool),
        masked_M=nothing,
        weight_M=nothing.astype(np.float32),
        prefix_tokens=prefix_tokens,
        budget_tokens=budget_tokens,
    )
