"""Which patches iBOT hides: block masks on each view's own grid, ratios spread over the pack.

Half of a pack's global views are masked, the k-th of them at a ratio from the k-th of equal bins
of the ratio range, as in DINOv2; which view gets which bin is a draw of the view itself. Views
under four patches are never masked; a masked view hides at least one patch.

Source: BEiT block masking as in dinov2/data/masking.py; collate.py for the ratio bins.
"""

import math

import numpy as np
from jaxtyping import Bool, Float64, Int32, UInt64
from pydantic import BaseModel, ConfigDict, Field, model_validator

from aqqua.plan.cut import QUANTILES, log_uniform
from aqqua.plan.philox import Purpose, uniforms

ASPECT = (0.3, 1 / 0.3)  # of a block; DINOv2
MIN_BLOCK = 4  # patches; DINOv2
ATTEMPTS = 10  # to place one block; DINOv2
_BLOCK_DRAWS = 4 * 64  # at most 64 attempts per view


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


def plan_masks(
    grid_V2: Int32[np.ndarray, "V 2"],
    keys_V: UInt64[np.ndarray, " V"],
    visits_V: UInt64[np.ndarray, " V"],
    seed: int,
    config: MaskConfig,
) -> list[Bool[np.ndarray, " ..."] | None]:
    """Mask of each global view of a pack, True = hidden, in row-major patch order; None = unmasked."""
    patches = grid_V2[:, 0] * grid_V2[:, 1]
    eligible = np.flatnonzero(patches >= MIN_BLOCK)
    n_masked = max(int(len(patches) * config.odds), 1) if config.odds > 0 else 0
    draw = uniforms(seed, keys_V[eligible], visits_V[eligible], Purpose.MASK_CHOICE, 2)
    chosen = np.lexsort((keys_V[eligible], draw[:, 0]))[:n_masked]
    masks: list[Bool[np.ndarray, " ..."] | None] = [None] * len(patches)
    if not len(chosen):
        return masks
    low, high = config.ratio
    ratio = low + (high - low) * (np.arange(len(chosen)) + draw[chosen, 1]) / len(chosen)
    views = eligible[chosen]
    blocks = uniforms(seed, keys_V[views], visits_V[views], Purpose.MASK_BLOCKS, _BLOCK_DRAWS)
    for view, share, stream in zip(views, ratio, blocks, strict=True):
        rows, columns = (int(side) for side in grid_V2[view])
        masks[view] = block_mask(rows, columns, int(rows * columns * share), stream.reshape(-1, 4)).ravel()
    return masks


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
