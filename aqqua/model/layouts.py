"""Weights of other projects' DINOv2 models, in our names and shapes, and back.

Read: the original DINOv2 (chunked blocks too), timm, and Hugging Face Dinov2 and Dinov2WithRegisters.
All become DINOv2's names first, then ours. Nothing is guessed: what has no place is an error, and
every change of content (channels summed, table resized, token new) is reported as a note.

Test: tests/model/test_weights.py.
"""

import re
from math import isqrt
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from aqqua.model.config import ModelConfig
from aqqua.model.patch_kernel import kernel_resize

State = dict[str, Tensor]
PatchResize = Literal["bicubic", "flexivit"]

_HUGGING_FACE = (
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.", ""),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"^layernorm\.", "norm."),
)
_QKV = re.compile(r"^(blocks\.\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)$")


def to_dinov2_names(state: State, config: ModelConfig) -> State:
    """The same tensors under the original DINOv2's names."""
    if any(name.startswith("encoder.layer.") for name in state):
        return _from_hugging_face(state)
    renamed = {}
    for name, tensor in state.items():
        name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)  # blocks in chunks, for FSDP
        name = "register_tokens" if name == "reg_token" else name
        if config.ffn == "swiglu":  # timm packs gate and up into fc1
            name = name.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3.")
        renamed[name] = tensor
    return renamed


def _from_hugging_face(state: State) -> State:
    renamed: State = {}
    for name, tensor in state.items():
        for pattern, new in _HUGGING_FACE:
            name = re.sub(pattern, new, name)
        renamed[name] = tensor
    for name in [known for known in renamed if _QKV.match(known)]:
        block, part, kind = _QKV.match(name).groups()  # type: ignore[union-attr]
        if part == "query":
            parts = [f"{block}.attention.attention.{each}.{kind}" for each in ("query", "key", "value")]
            renamed[f"{block}.attn.qkv.{kind}"] = torch.cat([renamed.pop(each) for each in parts])
    return renamed


def from_dinov2_names(
    state: State, config: ModelConfig, patch_resize: PatchResize
) -> tuple[State, list[str]]:
    """DINOv2's tensors in our names and shapes, and what had to be changed on the way."""
    state, notes, ours = dict(state), [], {}
    if "patch_embed.proj.weight" in state:
        kernel, changes = fit_patch_kernel(state.pop("patch_embed.proj.weight"), config, patch_resize)
        ours["embed.patch_embed.weight"] = kernel.permute(0, 2, 3, 1).flatten(1)
        notes += changes
        if config.grey_embedding:
            ours["embed.patch_embed_grey.weight"] = kernel.sum(dim=1).flatten(1)
            notes.append("patch embedding of grey images: the three colour channels summed into one")
    cls = state.pop("cls_token").flatten() if "cls_token" in state else None
    if "pos_embed" in state:
        table, cls_position = split_position(state.pop("pos_embed"))
        if cls is not None and cls_position is not None:
            cls = cls + cls_position  # only their sum is ever seen
        if config.position == "learned":
            ours["embed.position.table"], changes = fit_position(table, config.position_grid)
            notes += changes
        else:
            notes.append(f"learned position table left out: position is {config.position}")
    if cls is not None:
        ours["embed.cls_token"] = cls
    for name in ("register_tokens", "mask_token"):
        if name in state:
            tensor = state.pop(name)
            ours[f"embed.{name}"] = tensor.flatten() if name == "mask_token" else tensor.flatten(0, -2)
    for name, tensor in state.items():
        ours[name.replace("patch_embed.proj.", "embed.patch_embed.")] = tensor
    return ours, notes


def split_position(pos_embed: Tensor) -> tuple[Float[Tensor, "M M D"], Float[Tensor, " D"] | None]:
    """A flat position table as a square one, and the CLS entry where it has one."""
    flat = pos_embed.flatten(0, -2)
    side = isqrt(len(flat))
    if side**2 == len(flat):
        return flat.unflatten(0, (side, side)), None
    side = isqrt(len(flat) - 1)
    if side**2 + 1 != len(flat):
        raise ValueError(
            f"position table must be square, with or without CLS, got {len(flat)} rows; check the file"
        )
    return flat[1:].unflatten(0, (side, side)), flat[0]


def fit_position(table: Float[Tensor, "A A D"], side: int) -> tuple[Float[Tensor, "B B D"], list[str]]:
    """The table at another side, bicubic with antialias; unchanged where it fits."""
    if len(table) == side:
        return table, []
    image = table.float().permute(2, 0, 1)[None]
    resized = interpolate(image, size=(side, side), mode="bicubic", align_corners=False, antialias=True)
    note = f"position table resized from {len(table)}² to {side}²; set position_grid {len(table)} to keep it"
    return resized[0].permute(1, 2, 0).to(table.dtype), [note]


def fit_patch_kernel(
    kernel: Float[Tensor, "D C A A"], config: ModelConfig, method: PatchResize
) -> tuple[Float[Tensor, "D c B B"], list[str]]:
    """A patch embedding's convolution kernel at our channels and patch side.

    Three channels become one by their sum: exact for a grey image given to the old model thrice.
    """
    notes = []
    if kernel.shape[1] == 3 and config.channels == 1:
        kernel = kernel.sum(dim=1, keepdim=True)
        notes.append("patch embedding: the three colour channels summed into one")
    if kernel.shape[1] != config.channels:
        raise ValueError(
            f"channels must be {kernel.shape[1]} for these weights, got {config.channels}; change the config"
        )
    if kernel.shape[-1] != config.patch_px:
        notes.append(f"patch embedding: resized from {kernel.shape[-1]} to {config.patch_px} px, {method}")
        kernel = resize_patch_kernel(kernel, config.patch_px, method)
    return kernel, notes


def resize_patch_kernel(
    kernel: Float[Tensor, "D C A A"], side: int, method: PatchResize
) -> Float[Tensor, "D C B B"]:
    """A patch kernel for patches of another side.

    flexivit: aqqua.model.patch_kernel; in its paper it beats the plain resize at every size.
    bicubic: resized as an image and scaled by (old/new)², so that a flat patch answers about as before.
    """
    old = kernel.shape[-1]
    if method == "bicubic":
        resized = interpolate(
            kernel.float(), size=(side, side), mode="bicubic", align_corners=False, antialias=True
        )
        return (resized * (old / side) ** 2).to(kernel.dtype)
    resized = kernel.double().flatten(2) @ kernel_resize(old, side, kernel.device).T
    return resized.unflatten(2, (side, side)).to(kernel.dtype)


def to_hugging_face(state: State, config: ModelConfig) -> tuple[State, dict]:
    """Our tensors as Dinov2WithRegisters, and its config.json.

    A model with a scale token leaves as what it is for an unknown scale: that vector goes into CLS.

    Raises:
        ValueError: that architecture cannot express this model.
    """
    if config.grey_embedding:
        raise ValueError(
            "Hugging Face's Dinov2WithRegisters must have one patch embedding, got model.grey_embedding; "
            "share the aqqua safetensors file instead"
        )
    if config.position != "learned" or config.position_interpolation != "size" or config.registers < 1:
        raise ValueError(
            "Hugging Face's Dinov2WithRegisters must have position 'learned', position_interpolation 'size' "
            f"and registers, got {config.position!r}, {config.position_interpolation!r} and "
            f"{config.registers}; share the aqqua safetensors file instead"
        )
    cls, table = state["embed.cls_token"], state["embed.position.table"]
    if config.scale_token:
        cls = cls + state["embed.scale.unknown"]
    side = (config.patch_px, config.patch_px, config.channels)
    out = {
        "embeddings.cls_token": cls[None, None],
        "embeddings.mask_token": state["embed.mask_token"][None],
        "embeddings.register_tokens": state["embed.register_tokens"][None],
        "embeddings.position_embeddings": torch.cat((torch.zeros_like(cls)[None], table.flatten(0, 1)))[None],
        "embeddings.patch_embeddings.projection.weight": (
            state["embed.patch_embed.weight"].unflatten(1, side).permute(0, 3, 1, 2)
        ),
        "embeddings.patch_embeddings.projection.bias": state["embed.patch_embed.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    for name, tensor in state.items():
        if name.startswith("blocks."):
            out |= _block_to_hugging_face(name.replace("blocks.", "encoder.layer.", 1), tensor)
    return out, _hugging_face_config(config)


def _block_to_hugging_face(name: str, tensor: Tensor) -> State:
    if ".attn.qkv." in name:
        parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
        return {name.replace(".attn.qkv.", f".attention.attention.{part}."): piece for part, piece in parts}
    name = name.replace(".attn.proj.", ".attention.output.dense.")
    name = re.sub(r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1", name)
    return {name.replace(".mlp.w12.", ".mlp.weights_in.").replace(".mlp.w3.", ".mlp.weights_out."): tensor}


def _hugging_face_config(config: ModelConfig) -> dict:
    return {
        "architectures": ["Dinov2WithRegistersModel"],
        "model_type": "dinov2_with_registers",
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "mlp_ratio": 4,
        "hidden_act": "gelu",
        "use_swiglu_ffn": config.ffn == "swiglu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "layerscale_value": config.layer_scale,
        "image_size": config.position_grid * config.patch_px,
        "patch_size": config.patch_px,
        "num_channels": config.channels,
        "num_register_tokens": config.registers,
    }
