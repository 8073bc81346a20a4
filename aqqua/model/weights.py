"""Weights on disk: safetensors out and in, and a warm start from other projects' models.

Only safetensors is read: a .pth file is a program that runs when it is opened.
Test: tests/model/test_weights.py.
"""

import json
import logging
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from aqqua.model.config import ModelConfig
from aqqua.model.layouts import (
    PatchResize,
    State,
    from_dinov2_names,
    to_dinov2_names,
    to_hugging_face,
)
from aqqua.model.vit import VisionTransformer

log = logging.getLogger(__name__)

CONFIG_KEY = "aqqua_model_config"
# What another project's file may lack: these start fresh, and the log says so.
_MAY_BE_NEW = (
    "embed.mask_token",
    "embed.register_tokens",
    "embed.scale.",
    "embed.position.rows",
    "embed.position.columns",
)


def save_model(
    path: Path, model: VisionTransformer, config: ModelConfig, about: dict[str, str] | None = None
) -> None:
    """Write weights and configuration as one safetensors file, complete or not at all.

    Args:
        path: the file to make; an old one is replaced.
        model: the weights.
        config: the model's configuration, kept in the file's header.
        about: further entries of the header, for example how images were shown to the model.
    """
    _write(path, model.state_dict(), {**(about or {}), CONFIG_KEY: config.model_dump_json()})


def read_about(path: Path) -> dict[str, str]:
    """The header entries of a file of save_model.

    Raises:
        ValueError: not a safetensors file, or damaged.
    """
    return _read(path)[1]


def load_model(path: Path) -> VisionTransformer:
    """The backbone that save_model wrote, on the CPU.

    Raises:
        ValueError: not a safetensors file, not of aqqua, or damaged.
    """
    state, metadata = _read(path)
    if CONFIG_KEY not in metadata:
        raise ValueError(
            f"load_model: {path} must hold an aqqua configuration, got none; for weights of DINOv2, timm or "
            "Hugging Face use load_pretrained with a configuration"
        )
    model = VisionTransformer(ModelConfig.model_validate_json(metadata[CONFIG_KEY]).for_any_machine())
    _fill(model, state, path)
    return model


def load_backbone(path: Path, config: ModelConfig) -> VisionTransformer:
    """A backbone to go on from: a file of save_model, or one that load_pretrained knows.

    Raises:
        ValueError: the file cannot be read, or is of another architecture than `config`.
    """
    state, metadata = _read(path)
    if CONFIG_KEY not in metadata:
        return load_pretrained(path, config)
    model = VisionTransformer(config)
    _fill(model, state, path)
    return model


def load_pretrained(
    path: Path, config: ModelConfig, patch_resize: PatchResize = "flexivit"
) -> VisionTransformer:
    """A backbone started from DINOv2, timm or Hugging Face (Dinov2, Dinov2WithRegisters) weights.

    Grey models take the sum of the colour kernels; table and patch kernel are resized where the
    configuration asks for other sides. Each such change is logged.

    Args:
        path: the safetensors file.
        config: the model wanted; its width, layers, heads, ffn and registers must be the file's.
        patch_resize: how a patch kernel changes its side; see layouts.resize_patch_kernel.

    Raises:
        ValueError: the file cannot be read, or its tensors do not fit the configuration.
    """
    state, _ = _read(path)
    ours, notes = from_dinov2_names(to_dinov2_names(state, config), config, patch_resize)
    model = VisionTransformer(config)
    fresh = model.state_dict()
    for name in fresh:
        if name not in ours and name.startswith(_MAY_BE_NEW):
            ours[name] = fresh[name]
            notes.append(f"{name} starts fresh: the file has none")
    _fill(model, ours, path)
    for note in notes:
        log.info("%s: %s", path.name, note)
    return model


def export_hugging_face(folder: Path, model: VisionTransformer) -> None:
    """Write model.safetensors and config.json so that transformers' AutoModel reads the backbone.

    Raises:
        ValueError: Dinov2WithRegisters cannot express this model.
    """
    state, config = to_hugging_face(model.state_dict(), model.config)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "model.safetensors", state, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _write(path: Path, state: State, metadata: dict[str, str]) -> None:
    partial = path.with_name(path.name + ".partial")
    save_file({name: t.detach().contiguous().cpu() for name, t in state.items()}, partial, metadata)
    partial.replace(path)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if path.suffix != ".safetensors":
        raise ValueError(
            f"weights must be a .safetensors file, got {path.name}: other formats can run code when opened; "
            "convert it once where you trust it, with safetensors.torch.save_file"
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} must be a whole safetensors file, got: {error}; fetch it again") from error


def _fill(model: VisionTransformer, state: State, path: Path) -> None:
    """Load tensors that must be exactly the model's."""
    wanted = model.state_dict()
    faults = [f"missing {name}" for name in wanted if name not in state]
    faults += [f"unknown {name}" for name in state if name not in wanted]
    faults += [
        f"{name} must be {list(wanted[name].shape)}, got {list(state[name].shape)}"
        for name in wanted
        if name in state and wanted[name].shape != state[name].shape
    ]
    if faults:
        shown = "; ".join(faults[:8]) + (f"; and {len(faults) - 8} more" if len(faults) > 8 else "")
        raise ValueError(
            f"weights in {path} must fit the configuration, got {shown}; adjust the configuration"
        )
    model.load_state_dict(state)
