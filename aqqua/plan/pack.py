"""A pack: images that share one token budget, and the plan of all their views.

Letters: I images, S views of an image, V = S·I views in the pack, K specks of a view, N patch rows, M masked
patches.
Test: tests/plan/test_pack.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt64

from aqqua.plan.philox import Purpose, uniforms
from aqqua.store.sizes import Sizes

GLOBALS = 2  # global views of an image


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
    speck_VK4: Float32[np.ndarray, "V K 4"]  # x, y, radius, level; what each number does: plan.views.Views
    colour_V33: Float32[np.ndarray, "V 3 3"]
    fold_VC: Float32[np.ndarray, "V 3"]
    key_V: UInt64[np.ndarray, " V"]  # random key of each view
    mask_N: Bool[np.ndarray, " N"]  # hidden from the student; only global patches ever are
    masked_M: Int64[np.ndarray, " M"]  # rows that iBOT asks about: the hidden ones; see plan.masks.Masks
    weight_M: Float32[np.ndarray, " M"]  # 1 / such rows of the view
    patch_px: int  # side of the patches of all views
    prefix_tokens: int  # CLS and registers of every view
    budget_tokens: int
    dropped_N: Bool[np.ndarray, " N"] | None = None  # patches that the student never gets; None: gets all

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
    def grey_V(self) -> Bool[np.ndarray, " V"]:
        """Views of images of one channel."""
        return np.tile(self.sizes.channels == 1, self.views_per_image)

    @property
    def patches_V(self) -> Int32[np.ndarray, " V"]:
        return self.grid_V2[:, 0] * self.grid_V2[:, 1]

    @property
    def kept_V(self) -> Int32[np.ndarray, " V"]:
        """Patches of each view that the student gets."""
        if self.dropped_N is None:
            return self.patches_V
        return np.add.reduceat(~self.dropped_N, self.patch_offsets_V1[:-1], dtype=np.int32)

    @property
    def patch_offsets_V1(self) -> Int64[np.ndarray, " V1"]:
        return np.concatenate([[0], np.cumsum(self.patches_V, dtype=np.int64)])

    @property
    def tokens(self) -> int:
        """Student tokens, prefixes included."""
        return int(self.kept_V.sum()) + self.prefix_tokens * self.n_views

    @property
    def fill(self) -> float:
        return self.tokens / self.budget_tokens


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
