"""Named sets of augmentation: what every setting of ViewConfig that is not given takes.

`plankton` is ViewConfig's own defaults: docs/augmentation.md has the reason of each. `dinov2` is what was
made for photographs of the web, for comparison. Source: dinov2/data/augmentations.py and transforms.py of
facebookresearch/dinov2 (05c66df). Each value as there but these, which fold several operations into one:

- gain stands for contrast and brightness, both 0.4 there: one factor about the background instead of one
  about the mean grey and one about 0. What brightness does to a grey of one half is in offset: 0.4 · ½.
- hue turns in YIQ, not in HSV (aqqua/plan/colour.py). Operations have one order, there a random one.
- mean and std are the means of ImageNet's three: a plan has one of each.
- sampling is bilinear after a Gaussian, there bicubic; nothing is cut to [0, 1] on the way.
- local views are 98 px at patch 14 as in the recipes of its ViT-L and ViT-g; its default is 96 px.

Test: tests/plan/test_augmentation.py.
"""

from types import MappingProxyType
from typing import Any, Literal

AugmentationName = Literal["plankton", "dinov2"]

_DINOV2: dict[str, Any] = {
    "global_area": (0.32, 1.0),
    "local_area": (0.05, 0.32),
    "aspect": (3 / 4, 4 / 3),
    "geometry": "square",
    "rotate": False,
    "flip": True,
    "organism_aware": False,
    "scale_jitter": (1.0, 1.0),
    "max_tokens": (256, 49),  # 224 and 98 px at patch 14
    "max_reduce": 256.0,  # images of 25,000 px are stretched whole; there is no bound there
    "gain": (0.6, 1.4),
    "offset": (-0.2, 0.2),
    "saturation": (0.8, 1.2),
    "hue": (-0.1, 0.1),
    "photometric_odds": 0.8,
    "grey_odds": 0.2,
    "invert_odds": (0.0, 0.0),
    "solarize_odds": (0.0, 0.2),
    "blur": "paper",
    "blur_sigma_px": (0.1, 2.0),
    "local_blur_odds": 0.5,
    "noise": (0.0, 0.0),
    "specks": 0,
    "subtract_background": False,
    "mean": 0.449,  # of 0.485, 0.456, 0.406
    "std": 0.226,  # of 0.229, 0.224, 0.225
}
AUGMENTATIONS = MappingProxyType({"plankton": MappingProxyType({}), "dinov2": MappingProxyType(_DINOV2)})
