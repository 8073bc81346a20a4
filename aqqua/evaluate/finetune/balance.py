"""Few classes hold most plankton images: four ways to learn the rare ones, and what each does.

none: images as they are. weights: an image's loss counts the inverse of its class's frequency. sampler: an
image is shown as many times an epoch as makes classes equal, each time turned otherwise. logit_adjustment:
the logits get tau · log(prior) in training and not afterwards: the answer is that of equal classes.

Source: Menon et al. 2021, "Long-tail learning via logit adjustment", eq. 10. Letters: N images, C classes.
Test: tests/evaluate/finetune/test_balance.py.
"""

import numpy as np
from jaxtyping import Float64, Int, Int64, UInt64

from aqqua.plan.philox import Purpose, uniforms

MOST_COPIES = 255  # of an image in an epoch: the copy number has 8 bits of a visit (aqqua/plan/philox.py)


def inverse_frequency(label_N: Int[np.ndarray, " N"], classes: int) -> Float64[np.ndarray, " C"]:
    """Weight of each class, so that all classes weigh the same and an image weighs 1 on average."""
    counts_C = np.bincount(label_N, minlength=classes)
    present = counts_C > 0
    return np.where(present, len(label_N) / (np.maximum(counts_C, 1) * present.sum()), 0.0)


def log_prior(label_N: Int[np.ndarray, " N"], classes: int) -> Float64[np.ndarray, " C"]:
    """log of the share of each class; of one without an image, of half an image."""
    counts_C = np.maximum(np.bincount(label_N, minlength=classes), 0.5)
    return np.log(counts_C / counts_C.sum())


def copies(
    weight_N: Float64[np.ndarray, " N"], key_N: UInt64[np.ndarray, " N"], seed: int, epoch: int
) -> Int64[np.ndarray, " N"]:
    """How often each image is shown in an epoch: its weight, the fraction drawn by (seed, image, epoch)."""
    draw_N = uniforms(seed, key_N, np.full(len(key_N), epoch, np.uint64), Purpose.REPEAT, 1)[:, 0]
    whole_N = np.floor(weight_N)
    return np.minimum(whole_N + (draw_N < weight_N - whole_N), MOST_COPIES).astype(np.int64)
