"""Setting validation images apart by whole groups, so that a score is not of next frames of the same cast.

Letters: N labelled images. Test: tests/evaluate/finetune/test_groups.py.
"""

import hashlib

import numpy as np
from jaxtyping import Bool, Int


def rows_set_apart(
    groups_N: list[bytes], label_N: Int[np.ndarray, " N"], share: float, seed: int
) -> Bool[np.ndarray, " N"]:
    """True for the images of groups that are set apart.

    Groups are taken in an order drawn by (seed, name) until so many images are apart. A group stays in
    training where no other image would show one of its classes, or where it would take more than twice the
    share: a split by group is coarse where groups are few.

    Args:
        label_N: class of each image; all 0 where there are no classes.

    Raises:
        ValueError: no group can be set apart.
    """
    names = sorted(set(groups_N))
    number = {name: g for g, name in enumerate(names)}
    group_N = np.array([number[name] for name in groups_N])
    members = np.split(np.argsort(group_N, kind="stable"), np.cumsum(np.bincount(group_N))[:-1])
    left_C = np.bincount(label_N)
    wanted, taken = share * len(label_N), np.zeros(len(label_N), bool)
    apart = 0
    for g in sorted(range(len(names)), key=lambda g: _draw(names[g], seed)):
        counts_C = np.bincount(label_N[members[g]], minlength=len(left_C))
        if apart + len(members[g]) > max(2 * wanted, 1) or ((left_C == counts_C) & (counts_C > 0)).any():
            continue
        left_C = left_C - counts_C
        taken[members[g]] = True
        apart += len(members[g])
        if apart >= wanted:
            break
    if not apart:
        raise ValueError(
            f"finetune: the images must be of groups of which some can be set apart to stop by, got "
            f"{len(names)} groups of {len(label_N)} images; label more samples, or raise validation_share"
        )
    return taken


def _draw(name: bytes, seed: int) -> bytes:
    return hashlib.blake2b(name, digest_size=8, key=seed.to_bytes(8, "little")).digest()
