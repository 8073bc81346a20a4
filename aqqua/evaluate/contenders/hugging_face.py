"""Encoders saved by transformers, from a local folder: config.json beside safetensors.

Code that comes with a model is never run, pickles are never read, nothing is downloaded.
Letters: B images, D width, N patches. Test: tests/evaluate/contenders/test_contenders_hugging_face.py.
"""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from aqqua.evaluate.contenders.square_input import SquareInput
from aqqua.evaluate.contenders.square_model import Seen, SquareModel
from aqqua.evaluate.contenders.torchvision_import import import_peer
from aqqua.evaluate.features import Pooling

RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # PIL's numbers
USUAL_SIZE = 224
MAY_BE_MISSING = ("pooler.", "mask_token", "embeddings.mask_token")  # of no use to features, left out below

NOT_FEATURES = ("_name_or_path", "transformers_version")  # of a config.json: where and when it was saved


def open_hugging_face(
    folder: Path, name: str, pooling: Pooling, device: torch.device, size: int | None, stretch: bool
) -> SquareModel:
    """The image encoder of a folder of transformers.

    Args:
        size: side shown, pixels; None: as the folder's preprocessor says, else 224.

    Raises:
        ValueError: not such a folder, weights that are not safetensors or not whole, or code of its own.
        RuntimeError: transformers or torchvision is not installed.
    """
    config = _checked_config(folder)
    transformers = import_peer("transformers")
    try:
        network, info = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"hf: {folder} must be a model that transformers {transformers.__version__} reads, got: {first}; "
            "save it again with save_pretrained"
        ) from error
    network = getattr(network, "vision_model", network)  # of an encoder of images and text
    missing = [key for key in info["missing_keys"] if not key.startswith(MAY_BE_MISSING)]
    if missing or info["mismatched_keys"]:
        wrong = [*missing, *map(str, info["mismatched_keys"])]
        raise ValueError(
            f"hf: {folder} must hold all weights of its config.json, got {len(wrong)} missing or of another "
            f"shape, first {wrong[0]}; save it again with save_pretrained"
        )
    if any(key.startswith("pooler.") for key in info["missing_keys"]):
        network.pooler = None
    if hasattr(getattr(network, "embeddings", None), "mask_token"):
        network.embeddings.mask_token = None  # only pretraining hides patches
    network = network.to(device).eval()
    view = _view(folder, config, size, stretch)
    facts = {key: value for key, value in config.items() if key not in NOT_FEATURES}
    look = _look_of(network, view.size)
    return SquareModel(name, "hugging-face", network, view, look, pooling, device, facts)


def _checked_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"hf: the folder must hold a config.json, got {folder}; see save_pretrained")
    config = _read_json(file)
    if "auto_map" in config:
        raise ValueError(
            f"hf: {file} must be of a model that transformers has itself, got code of its own (auto_map); "
            "it would run here: choose another model"
        )
    if not list(folder.glob("*.safetensors")):
        raise ValueError(
            f"hf: {folder} must hold weights as .safetensors, got none; other formats can run code when "
            "opened: convert them once where you trust them, with save_pretrained"
        )
    return config


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"hf: {file} must be JSON, got: {error}; fetch it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"hf: {file} must be a JSON object, got {type(found).__name__}; fetch it again")
    return found


def _view(folder: Path, config: dict[str, Any], size: int | None, stretch: bool) -> SquareInput:
    """As the folder's preprocessor says; transformers' own defaults are those of ImageNet."""
    file = folder / "preprocessor_config.json"
    said = _read_json(file) if file.is_file() else {}
    vision = config.get("vision_config", config)
    channels = int(vision.get("num_channels", 3))
    plain = SquareInput(1)
    mean, std = said.get("image_mean", plain.mean), said.get("image_std", plain.std)
    if said.get("do_normalize") is False:
        mean, std = (0.0,) * 3, (1.0,) * 3
    if channels == 1 and len(mean) == 3:
        mean, std = (sum(mean) / 3,), (sum(std) / 3,)
    sides = [said.get("crop_size") if said.get("do_center_crop", True) else None, said.get("size")]
    found = next((side for side in map(_side, sides) if side), None)
    return SquareInput(
        size or found or (USUAL_SIZE if said else _side(vision.get("image_size")) or USUAL_SIZE),
        channels,
        tuple(map(float, mean)),
        tuple(map(float, std)),
        RESAMPLING.get(said.get("resample", 3), "bicubic"),
        stretch,
    )


def _side(said: Any) -> int | None:
    """Of 224, [224, 224], {"height": 224, "width": 224} or {"shortest_edge": 256}."""
    if isinstance(said, dict):
        said = said.get("height") or said.get("shortest_edge")
    if isinstance(said, list | tuple):
        said = said[0] if said else None
    return int(said) if said else None


def _look_of(network: Any, size: int) -> Callable[[Tensor], Seen]:
    """Reads the last hidden state; the CLS is its first token, or what the model pools where it has none."""
    accepted = inspect.signature(network.forward).parameters
    resized = "interpolate_pos_encoding" in accepted and _side(network.config.image_size) != size
    extra = {"interpolate_pos_encoding": True} if resized else {}
    patch = _side(getattr(network.config, "patch_size", None))

    def look(images: Tensor) -> Seen:
        found = network(pixel_values=images, **extra)
        state, pooled = found.last_hidden_state, getattr(found, "pooler_output", None)
        if state.ndim == 4:  # a map, channels first
            state, prefix = state.flatten(2).transpose(1, 2), 0
        else:
            prefix = state.shape[1] - (size // patch) ** 2 if patch else 0
        patches_BND = state[:, prefix:]
        if prefix and not hasattr(network, "post_layernorm"):  # CLIP norms its CLS once more, by itself
            return Seen(state[:, 0], patches_BND)
        return Seen(patches_BND.mean(dim=1) if pooled is None else pooled.flatten(1), patches_BND)

    return look
