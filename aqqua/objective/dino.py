"""DINO: all crops of an image must agree with what the teacher says of its other global crops.

The published loss is a mean over images and over pairs (teacher global crop, student crop other than
itself). Here it is a sum over the images of one pack, divided by the image count of the whole step, so
packs and ranks add up. Test: tests/objective/test_dino.py.

Letter key: S student crops per image (globals first, in the teacher's order), G global crops per image,
I images in the pack, K prototypes.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.objective.cross_entropy import soft_cross_entropy


def dino_loss(
    student_SIK: Float[Tensor, "S I K"],
    teacher_GIK: Float[Tensor, "G I K"],
    n_images_total: int | Float[Tensor, ""],
    student_temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """This pack's share of the DINO loss of the step (float32).

    Args:
        student_SIK: student logits; crop s < G is the image teacher crop s saw.
        teacher_GIK: target probabilities (`Assignment.probabilities`). Takes no gradient.
        n_images_total: images of all packs and ranks of the step (images, not crops). Where the data
            parallel engine averages gradients over ranks, multiply the loss by their number.

    Raises:
        ValueError: fewer student crops than global crops, or a single crop (nothing to compare).

    Source: dinov2/loss/dino_clstoken_loss.py, train/ssl_meta_arch.py: L_local = sum / (Ng + Nl) and
        L_global = 2·mean / (Ng + Nl) with Ng = G(G−1), Nl = G·(S−G), so Ng + Nl = G(S−1) pairs.
    """
    S, G = len(student_SIK), len(teacher_GIK)
    if max(G, 2) > S or G < 1:
        raise ValueError(
            f"dino_loss: needs at least 2 student crops, the teacher's global crops first, got {S} student "
            f"and {G} teacher crops; give the student all global crops and some local ones"
        )
    all_globals_IK = teacher_GIK.float().sum(dim=0)
    loss = student_SIK.new_zeros((), dtype=torch.float32)
    # Cross-entropy is linear in the target: the pairs of one student crop are one cross-entropy.
    for s, student_IK in enumerate(student_SIK):
        if s >= G:
            target_IK = all_globals_IK
        elif G > 1:
            # Summed without its own crop, not subtracted: exact for small probabilities.
            target_IK = torch.cat([teacher_GIK[:s], teacher_GIK[s + 1 :]]).float().sum(dim=0)
        else:
            continue  # the only global crop has no other global crop to agree with
        loss = loss + soft_cross_entropy(student_IK, target_IK, student_temperature).sum()
    return loss / (G * (S - 1)) / n_images_total
