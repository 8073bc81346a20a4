"""What serves a run, in the first line of its log. Test: tests/train/test_headline.py."""

import torch

from aqqua.kernels.attention import choose as choose_attention
from aqqua.model.zoo import count_parameters
from aqqua.objective.prototypes import served
from aqqua.train.run import Run


def headline(run: Run) -> str:
    """Model, precision, who computes what, data.

    Raises:
        RuntimeError: the config forces an implementation that cannot serve here, before the first step.
    """
    config, backbone = run.config, run.model.student.backbone
    shape, data = config.model, config.data
    serving = {
        "attention": choose_attention(run.device, run.compute_dtype, shape.attention),
        "blocks": backbone.serving_kernels(run.device, torch.float32),
        "losses": served(config.objective.kernels, run.device, run.compute_dtype),
        "optimizer": "torch" if run.fused is None else "triton",
        "renderer": run.feeder.renderer_name,
    }
    precision = str(run.compute_dtype).removeprefix("torch.")
    return (
        f"ViT {shape.width} wide, {shape.layers} layers, patch {shape.patch_px} px, "
        f"{count_parameters(backbone) / 1e6:.1f} M parameters, {precision} on {run.device.type}; "
        f"{', '.join(f'{what} {who}' for what, who in serving.items())}; {run.dataset.rows} images, "
        f"{data.lanes} lanes of {data.pack_tokens} tokens, about {run.images_per_step:.0f} images a step"
    )
