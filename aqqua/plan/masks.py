"""Which patches iBOT hides: block masks on each view's own grid, ratios spread over the pack.

Half of a pack's global views are masked, the k-th of them at a ratio from the k-th of equal bins
of the ratio range, as in DINOv2; which view gets which bin is a draw of the view itself. Views
under four patches are never masked; a masked view hides at least one patch.

`plan_masks` is served by C++ (aqqua._core); `plan_masks_reference` is its specification.

Letters: V views of a pack, G global ones, N patch rows, M masked patches, A attempts to place a block.
Source: BEiT block masking as in dinov2/data/masking.py; collate.py for the ratio bins.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt64
from pydantic import BaseModel, ConfigDict, Field, model_validator

from aqqua import _core
from aqqua.plan.cut import QUANTILES, log_uniform
from aqqua.plan.philox import Purpose, require_seed, uniforms

ASPECT = (0.3, 1 / 0.3)  # of a block; DINOv2
MIN_BLOCK = 4  # patches; DINOv2
ATTEMPTS = 10  # to place one block; DINOv2
ATTEMPTS_DRAWN = 64  # in all, per view


class MaskConfig(BaseModel):
    """iBOT masking; DINOv2's values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    odds: float = Field(default=0.5, ge=0, le=1, description="share of global views that are masked")
    ratio: tuple[float, float] = Field(
        default=(0.1, 0.5), description="share of a masked view's patches hidden"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "MaskConfig":
        low, high = self.ratio
        if not 0 <= low <= high <= 1:
            raise ValueError(f"ratio must be low, high with 0 <= low <= high <= 1, got {low}, {high}; fix it")
        return self


@dataclass(frozen=True)
class Masks:
    """What the student does not see of a pack of N patch rows."""

    mask_N: Bool[np.ndarray, " N"]  # True = hidden
    masked_M: Int64[np.ndarray, " M"]  # the rows that iBOT asks about, ascending; where any are hidden, those
    weight_M: Float32[np.ndarray, " M"]  # 1 / such rows of the view


def plan_masks(
    grid_V2: Int32[np.ndarray, "V 2"],
    keys_G: UInt64[np.ndarray, " G"],
    visits_G: UInt64[np.ndarray, " G"],
    seed: int,
    config: MaskConfig,
) -> Masks:
    """Masks of a pack's views, of which the first G are global; only these are ever masked.

    Args:
        grid_V2: patch rows and columns of all views of the pack.
        keys_G: random key of each global view.
        visits_G: which visit of its image it belongs to; below 2**32.
        seed: of the run, 64 bits.

    Raises:
        ValueError: a grid is below 1 x 1, a visit or the seed too large, or there are more global views than
            views.
    """
    low, high = config.ratio
    return Masks(
        *_core.plan_masks(
            grid_V2=np.ascontiguousarray(grid_V2),
            keys_G=np.ascontiguousarray(keys_G),
            visits_G=np.ascontiguousarray(visits_G),
            seed=seed,
            odds=config.odds,
            low=low,
            high=high,
            aspects_Q=log_uniform(*ASPECT),
        )
    )


def plan_masks_reference(
    grid_V2: Int32[np.ndarray, "V 2"],
    keys_G: UInt64[np.ndarray, " G"],
    visits_G: UInt64[np.ndarray, " G"],
    seed: int,
    config: MaskConfig,
) -> Masks:
    """The specification of `plan_masks`, in NumPy and Python."""
    _check(grid_V2, keys_G, visits_G)
    require_seed("plan_masks", seed)
    patches_V = grid_V2.prod(axis=1, dtype=np.int64)
    starts_V = np.cumsum(patches_V) - patches_V
    mask_N = np.zeros(int(patches_V.sum()), bool)
    weight_N = np.zeros(len(mask_N), np.float32)
    for view, mask in _masks_of_views(grid_V2[: len(keys_G)], keys_G, visits_G, seed, config).items():
        rows = slice(starts_V[view], starts_V[view] + patches_V[view])
        mask_N[rows] = mask
        weight_N[rows] = 1.0 / mask.sum()
    masked_M = np.flatnonzero(mask_N)
    return Masks(mask_N, masked_M, weight_N[masked_M])


def all_patches(grid_V2: Int32[np.ndarray, "V 2"], n_global: int) -> Masks:
    """Nothing is hidden, and iBOT asks about every patch of the global views: distillation.

    Source: DINOv2's authors on distillation, dinov2 issues #96 and #176: "apply the masked-image-modeling
    loss to all the tokens".
    """
    patches_V = grid_V2.prod(axis=1, dtype=np.int64)
    counts_G = patches_V[:n_global]
    return Masks(
        np.zeros(int(patches_V.sum()), bool),
        np.arange(int(counts_G.sum())),
        np.repeat((1.0 / counts_G).astype(np.float32), counts_G),
    )


def _masks_of_views(
    grid_G2: np.ndarray, keys_G: np.ndarray, visits_G: np.ndarray, seed: int, config: MaskConfig
) -> dict[int, np.ndarray]:
    """Masks of the views that get one, in row-major patch order."""
    patches = grid_G2.prod(axis=1, dtype=np.int64)
    eligible = np.flatnonzero(patches >= MIN_BLOCK)
    n_masked = max(int(len(patches) * config.odds), 1) if config.odds > 0 else 0
    draw = uniforms(seed, keys_G[eligible], visits_G[eligible], Purpose.MASK_CHOICE, 2)
    chosen = np.lexsort((keys_G[eligible], draw[:, 0]))[:n_masked]
    low, high = config.ratio
    ratio = low + (high - low) * (np.arange(len(chosen)) + draw[chosen, 1]) / len(chosen)
    views = eligible[chosen]
    blocks = uniforms(seed, keys_G[views], visits_G[views], Purpose.MASK_BLOCKS, 4 * ATTEMPTS_DRAWN)
    masks = {}
    for view, share, stream in zip(views.tolist(), ratio.tolist(), blocks, strict=True):
        rows, columns = grid_G2[view].tolist()
        masks[view] = block_mask(rows, columns, int(rows * columns * share), stream.reshape(-1, 4)).ravel()
    return masks


def _check(grid_V2: np.ndarray, keys_G: np.ndarray, visits_G: np.ndarray) -> None:
    if len(keys_G) > len(grid_V2):
        raise ValueError(
            f"plan_masks: global views must be among the {len(grid_V2)} views, got {len(keys_G)}; "
            "take it from a Pack"
        )
    small = (grid_V2 < 1).any(axis=1)
    if small.any():
        rows, columns = grid_V2[small][0]
        raise ValueError(
            f"plan_masks: every grid must be at least 1 x 1 patches, got {rows} x {columns}; "
            "leave the image out"
        )
    patches = int(grid_V2.prod(axis=1, dtype=np.int64).sum())
    if patches >= 1 << 31:
        raise ValueError(
            f"plan_masks: a pack must have fewer than 2**31 patches, got {patches}; lower data.pack_tokens"
        )
    large = visits_G >> np.uint64(32) != 0
    if large.any():
        raise ValueError(
            f"plan_masks: every visit must be below 2**32, got {visits_G[large][0]}; start a new run"
        )


def block_mask(
    rows: int, columns: int, wanted: int, draws: Float64[np.ndarray, "A 4"]
) -> Bool[np.ndarray, "rows columns"]:
    """Rectangles hidden until `wanted` patches are, or until no further one fits; at least one patch."""
    mask = np.zeros((rows, columns), bool)
    aspects = log_uniform(*ASPECT)
    hidden, failures = 0, 0
    for u_area, u_aspect, u_top, u_left in draws:
        left_over = wanted - hidden
        if left_over <= 0 or failures == ATTEMPTS:
            break
        smallest = min(MIN_BLOCK, left_over)
        area = smallest + (left_over - smallest) * u_area
        aspect = aspects[int(u_aspect * QUANTILES)]
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        failures += 1
        if not (0 < height <= rows and 0 < width <= columns):
            continue
        top, left = int(u_top * (rows - height + 1)), int(u_left * (columns - width + 1))
        block = mask[top : top + height, left : left + width]
        new = block.size - int(block.sum())
        if 0 < new <= left_over:
            block[:] = True
            hidden, failures = hidden + new, 0
    if not hidden:
        mask[int(draws[-1, 2] * rows), int(draws[-1, 3] * columns)] = True
    return mask
