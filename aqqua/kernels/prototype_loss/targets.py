"""Which teacher rows a student row learns from. Tables are made on the device, of counts the host knows.

Letter key: S student crops per image (globals first, in the teacher's order), G global crops per image,
I images, R = S·I rows, crop by crop. Test: tests/kernels/test_prototype_loss_contract.py.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from aqqua.kernels.prototype_loss.contract import MOST_TARGETS


def dino_targets(S: int, G: int, n_images: int, device: torch.device | str = "cpu") -> Int[Tensor, "R G"]:
    """Every crop learns from all global crops of its image but itself (−1 in its place).

    Row s·I + i is crop s of image i, teacher row g·I + i global crop g of it.

    Raises:
        ValueError: G is not 1 or 2, or there are fewer student crops than 2 or G.
    """
    if not 1 <= G <= MOST_TARGETS or max(G, 2) > S:
        raise ValueError(
            f"dino_targets: needs 1 or {MOST_TARGETS} global crops, and at least 2 student crops that begin "
            f"with them, got {G} and {S}; give the student all global crops and some local ones"
        )
    image_I = torch.arange(n_images, dtype=torch.int32, device=device)
    table_SIG = torch.arange(G, dtype=torch.int32, device=device) * n_images + image_I[:, None]
    table_SIG = table_SIG.expand(S, n_images, G).clone()
    for g in range(G):
        table_SIG[g, :, g] = -1
    return table_SIG.flatten(0, 1)


def ibot_targets(n_masked: int, device: torch.device | str = "cpu") -> Int[Tensor, "M 1"]:
    """Masked token m learns from what the teacher saw there."""
    return torch.arange(n_masked, dtype=torch.int32, device=device)[:, None]
