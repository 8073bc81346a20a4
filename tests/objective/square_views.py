"""A small model and packs of square views for it."""

import torch

from aqqua.model.config import ModelConfig
from aqqua.model.heads import HeadConfig
from aqqua.model.sequences import Sequences
from aqqua.objective.ssl import Batch, ObjectiveConfig, SelfSupervised

IMAGES, LOCALS, PATCH = 5, 3, 8
GLOBAL, LOCAL = 4, 2  # patches per side
HEAD = HeadConfig(prototypes=24, hidden=32, bottleneck=16)
TEMPERATURE = 0.05
MODEL = ModelConfig(
    width=32, layers=2, heads=2, patch_px=PATCH, registers=2, layer_scale=0.5, drop_path=0.0,
    attention="reference",
)  # fmt: skip


def made_model(backbone: ModelConfig = MODEL, **objective: object) -> SelfSupervised:
    """Student and teacher with weights of their own, large enough that everything matters."""
    torch.manual_seed(1)
    model = SelfSupervised(backbone, ObjectiveConfig.model_validate({"head": HEAD, **objective}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def made_batch(images: int = IMAGES, seed: int = 2) -> Batch:
    """Views crop by crop: global 1 of all images, global 2 of all, local 1 of all, ..."""
    draw = torch.Generator().manual_seed(seed)
    sides = torch.tensor([GLOBAL] * 2 * images + [LOCAL] * LOCALS * images)
    grids = torch.stack((sides, sides), dim=1)
    um_per_px = torch.rand(len(sides), generator=draw) + 0.5
    student = Sequences.from_grids(grids, um_per_px, PATCH, MODEL.prefix)
    teacher = Sequences.from_grids(grids[: 2 * images], um_per_px[: 2 * images], PATCH, MODEL.prefix)
    mask_VP = torch.zeros(2 * images, GLOBAL**2, dtype=torch.bool)
    for view in range(0, 2 * images, 2):  # every second global view, with 2, 3, 4, ... patches hidden
        mask_VP[view, torch.randperm(GLOBAL**2, generator=draw)[: 2 + view // 2]] = True
    weight_VP = mask_VP / mask_VP.sum(dim=1, keepdim=True).clamp(min=1)
    mask_N = torch.cat([mask_VP.flatten(), torch.zeros(LOCALS * images * LOCAL**2, dtype=torch.bool)])
    return Batch(
        patches_NF=torch.randn(student.patches, PATCH**2, generator=draw),
        student=student,
        teacher=teacher,
        n_images=images,
        image_I=torch.arange(images),
        mask_N=mask_N,
        masked_M=mask_N.nonzero()[:, 0],
        weight_M=weight_VP[mask_VP],
        drop_scores_L2V=None,
        hide_scale_V=None,
    )
