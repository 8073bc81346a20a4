"""Who computes what in a run, worked out before it begins. Test: tests/train/test_serving.py."""

from collections.abc import Callable

import torch

from aqqua.kernels.attention import choose as choose_attention
from aqqua.model.vit import serving_kernels
from aqqua.objective.prototypes import served
from aqqua.train.backend import choose_renderer, served_backend
from aqqua.train.fused import serving_step
from aqqua.train.settings import PretrainConfig


def serving(config: PretrainConfig, device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """For each setting that chooses an implementation, the one that serves on this device.

    Args:
        dtype: of the matrix products.

    Raises:
        ValueError: a setting forces one that cannot serve here; the message names the setting.
    """
    model, losses = config.model, config.objective.kernels
    data = config.data
    asked: dict[str, tuple[str, Callable[[], str]]] = {
        "data.backend": (data.backend, lambda: served_backend(data.backend)),
        "model.attention": (model.attention, lambda: choose_attention(device, dtype, model.attention)),
        "model.kernels": (model.kernels, lambda: serving_kernels(model, device, torch.float32)),
        "objective.kernels": (losses, lambda: served(losses, device, dtype)),
        "optim.backend": (config.optim.backend, lambda: _mover(config, device)),
        "data.renderer": (data.renderer, lambda: choose_renderer(data.renderer, device)[0]),
    }
    found = {}
    for setting, (wanted, choose) in asked.items():
        try:
            found[setting] = choose()
        except RuntimeError as error:
            raise ValueError(f"pretrain: {setting}={wanted} must be able to serve here: {error}") from error
    if losses == "recompute":
        found["objective.kernels"] += ", logits recomputed"
    return found


def _mover(config: PretrainConfig, device: torch.device) -> str:
    if config.train.engine == "zero":
        return f"ZeRO stage {config.train.zero.stage}"
    return serving_step(config.optim, device)
