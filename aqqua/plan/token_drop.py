"""Which patches the student never gets: a share of each view, drawn at random; hidden ones always stay.

The student then works on fewer tokens for the same views, so that a pack holds more images. How many a view
loses is known from its grid alone, before it is packed. The teacher sees every patch. What is drawn belongs
to the view and its visit, whatever pack it is in; only that hidden patches stay depends on the masks.

Source: NaViT (Dehghani 2023, arXiv 2307.06304), section 2.2, continuous token dropping; there the rate is
drawn anew for each image, here it is constant. Letters: V views of a pack, N patch rows, B blocks of four
draws. Test: tests/plan/test_token_drop.py.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, UInt64

from aqqua.plan.philox import Purpose, uniforms

_BLOCK = 4  # draws of one counter
_BLOCK_STEP = np.uint64(0xD6E8FEB86659FD93)  # view key + block · step = key of the block


def dropped_patches(
    patches: Int32[np.ndarray, "..."], share: float | Float64[np.ndarray, "..."]
) -> Int64[np.ndarray, "..."]:
    """How many of a view's patches go; all but one at most, for a share is at most 3/4."""
    return np.floor(patches * share).astype(np.int64)


def plan_drops(
    patches_V: Int32[np.ndarray, " V"],
    share_V: Float64[np.ndarray, " V"],
    mask_N: Bool[np.ndarray, " N"],
    keys_V: UInt64[np.ndarray, " V"],
    visits_V: UInt64[np.ndarray, " V"],
    seed: int,
) -> Bool[np.ndarray, " N"]:
    """True where a patch is dropped: of each view the patches of smallest draw that are not hidden.

    Args:
        patches_V: patches of each view.
        share_V: of them that are dropped, 0 to 3/4.
        mask_N: patches hidden from the student, which stay; a view's share must leave room for them.
        keys_V, visits_V: random key of each view, and which visit of its image it belongs to.
        seed: of the run.
    """
    view_N = np.repeat(np.arange(len(patches_V)), patches_V)
    first_V = np.cumsum(patches_V) - patches_V
    draw_N = _draws(patches_V, keys_V, visits_V, seed) + mask_N  # from 1 on: hidden
    order_N = np.lexsort((draw_N, view_N))
    rank_N = np.arange(len(view_N)) - first_V[view_N]  # of order_N's entries, in their view
    dropped_N = np.zeros(len(view_N), bool)
    dropped_N[order_N] = rank_N < dropped_patches(patches_V, share_V)[view_N]
    assert not (dropped_N & mask_N).any(), "the packer refuses shares that leave hidden patches no room"
    return dropped_N


def _draws(
    patches_V: np.ndarray, keys_V: np.ndarray, visits_V: np.ndarray, seed: int
) -> Float64[np.ndarray, " N"]:
    """One for each patch, in [0, 1)."""
    blocks_V = -(-patches_V // _BLOCK)
    view_B = np.repeat(np.arange(len(patches_V)), blocks_V)
    block_B = (np.arange(len(view_B)) - (np.cumsum(blocks_V) - blocks_V)[view_B]).astype(np.uint64)
    keys_B = keys_V[view_B] + block_B * _BLOCK_STEP
    draw_B4 = uniforms(seed, keys_B, visits_V[view_B], Purpose.TOKEN_DROP, _BLOCK)
    place_B4 = block_B.astype(np.int64)[:, None] * _BLOCK + np.arange(_BLOCK)
    return draw_B4[place_B4 < patches_V[view_B, None]]
