"""KoLeo: features of different images spread out, each away from its nearest neighbour.

Kozachenko-Leonenko entropy of the student's CLS features before the head. Test:
tests/objective/test_koleo.py.

Letter key: G global crops per image, I images of the pack (distinct), D width.
"""

from jaxtyping import Float, Int
from torch import Tensor

from aqqua.kernels.segment import koleo


def koleo_loss(
    features_GID: Float[Tensor, "G I D"],
    image_I: Int[Tensor, " I"] | None = None,
    backend: str = "auto",
) -> Float[Tensor, ""]:
    """Sum over rows of −log(distance to the nearest neighbour), each global crop by itself (float32).

    Divided by the image count of the step it is DINOv2's value (mean per crop, summed over crops). A pack
    of one image has no neighbour and gives 0. Two equal images give a finite value (16.525034 at D = 32).

    Args:
        features_GID: CLS features, one row per global crop and image.
        image_I: which image each row is of. A repeated image (a weight above 1, a window that crosses
            epochs) is no neighbour of itself, and a row without any other image counts 0. None: all
            images differ.
        backend: of aqqua.kernels.segment.koleo, which computes it: 'auto', 'triton' or 'reference'.

    Source: dinov2/loss/koleo_loss.py: neighbour by largest dot product, 1e-8 added to every component of
        the difference (torch.nn.PairwiseDistance) and once more inside the logarithm.
    """
    return koleo(features_GID.contiguous(), image_I, backend)
