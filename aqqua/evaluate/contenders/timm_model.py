"""Any image encoder of timm, with the size and normalisation of its own pretraining.

Weights come from a safetensors file that is named, or that timm has fetched before; nothing is downloaded
here and no pickle is read. Letters: B images, D width, N patches.
Test: tests/evaluate/contenders/test_timm_model.py.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from aqqua.evaluate.contenders.square_input import INTERPOLATIONS, SquareInput
from aqqua.evaluate.contenders.square_model import Seen, SquareModel
from aqqua.evaluate.contenders.torchvision_import import import_peer
from aqqua.evaluate.features import Pooling

SEED = 0  # of random weights
ESSENTIAL = (  # of a pretrained_cfg: what may decide the features, not where its weights are from
    "architecture", "tag", "input_size", "fixed_input_size", "interpolation", "mean", "std", "pool_size",
)  # fmt: skip


@dataclass(frozen=True)
class TimmAsked:
    """Which model of timm, and how it is shown images."""

    model: str  # as timm names it, with or without a tag: vit_small_patch14_dinov2.lvd142m
    weights: Path | None = None  # safetensors; None: as timm has fetched them before
    random: bool = False  # untrained
    size: int | None = None  # pixels; None: of its pretraining
    stretch: bool = False


def open_timm(asked: TimmAsked, name: str, pooling: Pooling, device: torch.device) -> SquareModel:
    """The encoder without its classifier.

    Raises:
        ValueError: timm does not know the model, its weights are not here, or they do not fit it.
        RuntimeError: timm or torchvision is not installed.
    """
    timm = import_peer("timm")
    config = _config(timm, asked.model)
    if len(set(config.input_size[1:])) != 1:
        raise ValueError(f"timm: the model's input must be a square, got {config.input_size}; choose another")
    interpolation = config.interpolation if config.interpolation in INTERPOLATIONS else "bicubic"
    view = SquareInput(
        asked.size or config.input_size[1], 3, tuple(config.mean), tuple(config.std), interpolation,
        asked.stretch,
    )  # fmt: skip
    weights = None if asked.random else asked.weights or _fetched(asked.model, config)
    network = _create(timm, asked, config, view.size, weights).to(device).eval()
    facts = {"model": asked.model, "pretrained_cfg": {key: getattr(config, key) for key in ESSENTIAL}}
    return SquareModel(name, "timm", network, view, _look_of(network), pooling, device, facts)


def _config(timm: Any, model: str) -> Any:
    """What timm states of a model's pretraining."""
    plain = re.fullmatch(r"[A-Za-z0-9_.\-]+", model) is not None  # 'hf-hub:...' would be downloaded
    if not plain or not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(), 1)
        hint = f"did you mean {near[0]}?" if near else "see timm.list_models()"
        raise ValueError(
            f"timm: the model must be one that timm {timm.__version__} has, got {model!r}; {hint}"
        )
    try:
        return timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        raise ValueError(f"timm: the tag after the dot must be one of the model's, got: {error}") from error


def _fetched(model: str, config: Any) -> Path:
    """The weights that timm fetched before."""
    from huggingface_hub import try_to_load_from_cache

    file = config.hf_hub_filename or "model.safetensors"
    found = try_to_load_from_cache(config.hf_hub_id, file) if config.hf_hub_id else None
    if isinstance(found, str) and found.endswith(".safetensors"):
        return Path(found)
    raise ValueError(
        f"timm: the weights of {model} must be here, got none and nothing is downloaded; name a file, "
        f"timm:{model}?weights=FILE.safetensors, or take it untrained, timm:{model}@random"
    )


def _create(timm: Any, asked: TimmAsked, config: Any, size: int, weights: Path | None) -> nn.Module:
    extra: dict[str, Any] = {"num_classes": 0}
    if config.fixed_input_size:
        extra["img_size"] = size
    if weights is None:
        return _seeded(timm, asked.model, SEED, pretrained=False, **extra)
    if weights.suffix != ".safetensors" or not weights.is_file():
        raise ValueError(
            f"timm: weights must be a .safetensors file that exists, got {weights}; other formats can run "
            "code when opened: convert it once where you trust it, with safetensors.torch.save_file"
        )
    extra |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(weights)}}
    try:
        network, again = (_seeded(timm, asked.model, seed, **extra) for seed in (SEED, SEED + 1))
    except (RuntimeError, KeyError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"timm: {weights} must hold the weights of {asked.model}, got: {first}; name the model of them"
        ) from error
    # Without a classifier, timm leaves at random what the file does not have, and says nothing.
    other = dict(again.named_parameters())
    left = [name for name, value in network.named_parameters() if not torch.equal(value, other[name])]
    if left:
        raise ValueError(
            f"timm: {weights} must hold the weights of {asked.model}, got no {left[0]} and {len(left) - 1} "
            "others; name the model of them"
        )
    return network


def _seeded(timm: Any, model: str, seed: int, **extra: Any) -> nn.Module:
    """A model of timm whose random numbers follow the seed, and nobody else's are changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(model, **extra)


def _look_of(network: Any) -> Callable[[Tensor], Seen]:
    def look(images: Tensor) -> Seen:
        features = network.forward_features(images)
        whole_BD = network.forward_head(features, pre_logits=True)
        return Seen(whole_BD, _patches(features, network))

    return look


def _patches(features: Tensor, network: Any) -> Tensor:
    """Patch tokens [B, N, D] of tokens or of a map with its channels first or last."""
    if features.ndim == 3:
        return features[:, getattr(network, "num_prefix_tokens", 0) :]
    if features.ndim == 4 and features.shape[-1] == network.num_features != features.shape[1]:
        return features.flatten(1, 2)
    if features.ndim == 4:
        return features.flatten(2).transpose(1, 2)
    raise ValueError(
        f"timm: features must be tokens or a map, got {features.ndim} dimensions; choose another model"
    )
