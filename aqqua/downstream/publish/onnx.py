"""The backbone as ONNX, for one image of any size: the same embeddings as the native model's.

The graph takes pixels that are already as the model sees them (`preprocessing` says how, and travels in the
file) and the µm/px. Inside stands the plain arithmetic of aqqua.model: packing, fused kernels and look-up
tables of grids have no place in a graph whose sides are unknown until it runs, so position codes are
computed from the sides here.

Letter key: N patches, T tokens, D width, H heads, E head width, P patch side, C channels, M side of a table.
Test: tests/downstream/publish/test_onnx.py.
"""

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from aqqua.downstream.publish.packages import needed
from aqqua.downstream.publish.preprocessing import preprocessing
from aqqua.kernels.attention.reference import turn_reference
from aqqua.model.block import Block
from aqqua.model.position import OFFSET, LearnedGrid
from aqqua.model.rotary import rotary_tables
from aqqua.model.sequences import Sequences
from aqqua.model.vit import VisionTransformer
from aqqua.plan.view_config import ViewConfig
from aqqua.store.new_file import new_file

WHO = "onnx"
OPSET = 20
KEY = "aqqua"  # of the notes in the file
INPUTS, OUTPUTS = ("image", "um_per_px"), ("cls", "registers", "patches")


def export_onnx(out: Path, backbone: VisionTransformer, views: ViewConfig) -> None:
    """Write the backbone as one .onnx file.

    Inputs: `image` float32 [C, rows·P, columns·P] and `um_per_px` float32 [1], NaN where unknown. Outputs:
    `cls` [1, D], `registers` [R, D] and `patches` [rows·columns, D], all after the final norm.

    Args:
        out: new file.
        backbone: on the CPU.
        views: how images are shown to it, kept in the file as notes.

    Raises:
        ValueError: `out` exists or is not named .onnx.
        RuntimeError: onnx or onnxscript is missing, or the file would pass 2 GB, the limit of its form.
    """
    if out.suffix != ".onnx":
        raise ValueError(f"{WHO}: the output must be named .onnx, got {out}; rename it")
    onnx = needed("onnx", WHO)
    needed("onnxscript", WHO)
    config = backbone.config
    if config.grey_embedding:
        raise ValueError(
            f"{WHO}: a model must have one patch embedding, got model.grey_embedding; share its "
            "safetensors file"
        )
    if sum(p.numel() * 4 for p in backbone.parameters()) > 2_000_000_000:
        raise RuntimeError(
            f"{WHO}: one file must stay below 2 GB, got a larger model; share its safetensors file"
        )
    model = OneImage(backbone).eval()
    # Sides of 3 and 5 patches: neither one, nor equal, nor the table's own, which would be fixed in the
    # graph.
    example = (torch.zeros(config.channels, 3 * config.patch_px, 5 * config.patch_px), torch.ones(1))
    rows, columns = torch.export.Dim("rows", min=1, max=4096), torch.export.Dim("columns", min=1, max=4096)
    shapes: Any = ({1: config.patch_px * rows, 2: config.patch_px * columns}, {})
    with _Quiet():
        program = torch.onnx.export(
            model, example, dynamo=True, opset_version=OPSET, dynamic_shapes=shapes,
            input_names=list(INPUTS), output_names=list(OUTPUTS), verbose=False,
        )  # fmt: skip
    proto = cast("torch.onnx.ONNXProgram", program).model_proto
    notes = {"model": config.model_dump(mode="json"), "preprocessing": preprocessing(config, views)}
    entry = proto.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(notes)
    onnx.checker.check_model(proto)
    with new_file(out, WHO) as partial:
        partial.write_bytes(proto.SerializeToString())


class _Quiet:
    """The exporter's warnings are about itself; its errors stay errors."""

    def __enter__(self) -> None:
        self._level = logging.getLogger("torch.onnx").level
        self._catch = warnings.catch_warnings()
        self._catch.__enter__()
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        logging.getLogger("torch.onnx").setLevel(self._level)
        self._catch.__exit__(None, None, None)


@dataclass(frozen=True, eq=False)
class Grid:
    """What position codes ask of a packing (aqqua.model.sequences), for one view of unknown sides."""

    rc_N2: Int[Tensor, "N 2"]
    sides_N2: Int[Tensor, "N 2"]
    view_N: Int[Tensor, " N"]
    um_per_px_V: Float[Tensor, " 1"]
    patch_px: int
    prefix: int
    tokens: int
    patch_rows_N: Int[Tensor, " N"]

    @classmethod
    def of(cls, rows: int, columns: int, um_per_px_1: Tensor, patch_px: int, prefix: int) -> "Grid":
        down = torch.arange(rows)[:, None].expand(rows, columns).flatten()
        across = torch.arange(columns)[None, :].expand(rows, columns).flatten()
        rc_N2 = torch.stack((down, across), dim=1)
        sides_N2 = torch.cat((_count(rows), _count(columns)))[None].expand(rows * columns, 2)
        return cls(
            rc_N2, sides_N2, torch.zeros_like(down), um_per_px_1, patch_px, prefix,
            prefix + rows * columns, torch.arange(rows * columns) + prefix,
        )  # fmt: skip


class OneImage(nn.Module):
    """The backbone on one image, in plain PyTorch that can be exported."""

    def __init__(self, backbone: VisionTransformer):
        super().__init__()
        self.backbone = backbone

    def forward(self, image_CHW: Tensor, um_per_px_1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config, embed = self.backbone.config, self.backbone.embed
        side = config.patch_px
        rows, columns = image_CHW.shape[1] // side, image_CHW.shape[2] // side
        patches_NF = (
            image_CHW.reshape(config.channels, rows, side, columns, side)
            .permute(1, 3, 2, 4, 0)
            .reshape(rows * columns, config.patch_values)
        )
        grid = Grid.of(rows, columns, um_per_px_1, side, config.prefix)
        sequences = cast("Sequences", grid)
        x_ND = embed.patch_embed(patches_NF)
        if isinstance(embed.position, LearnedGrid):
            x_ND = x_ND + resized(embed.position, rows, columns)
        elif embed.position is not None:
            x_ND = x_ND + embed.position(sequences)
        cls_1D = embed.cls_token[None]
        if embed.scale is not None:
            cls_1D = cls_1D + embed.scale(um_per_px_1)
        x_TD = torch.cat((cls_1D, embed.register_tokens, x_ND))
        rotary = rotary_tables(sequences, config)
        angles = None if rotary is None else (rotary.cos_TE, rotary.sin_TE)
        for block in self.backbone.blocks:
            x_TD = _run(cast("Block", block), x_TD, angles)
        x_TD = self.backbone.norm(x_TD)
        return x_TD[:1], x_TD[1 : config.prefix], x_TD[config.prefix :]


def _run(block: Block, x_TD: Tensor, angles: tuple[Tensor, Tensor] | None) -> Tensor:
    """A block, its attention over all tokens: there is one view."""
    attention = block.attn
    q_THE, k_THE, v_THE = attention.qkv(block.norm1(x_TD)).unflatten(1, (3, attention.heads, -1)).unbind(1)
    if angles is not None:
        q_THE, k_THE = turn_reference(q_THE, *angles), turn_reference(k_THE, *angles)
    qkv_1HTE = [part.transpose(0, 1)[None] for part in (q_THE, k_THE, v_THE)]
    o_THE = scaled_dot_product_attention(*qkv_1HTE)[0].transpose(0, 1)
    x_TD = x_TD + block.ls1(attention.proj(o_THE.flatten(1)))
    return x_TD + block.ls2(block.mlp(block.norm2(x_TD)))


def resized(position: LearnedGrid, rows: int, columns: int) -> Float[Tensor, "N D"]:
    """The learned table at a grid, as position.LearnedGrid.resized, its weights computed from the sides."""
    side = len(position.table)
    weights = _offset_weights if position.offset else _size_weights
    down_RM, across_CM = weights(side, rows), weights(side, columns)
    moved = torch.einsum("rm,mnd,cn->rcd", down_RM, position.table, across_CM)
    if not position.offset:  # at its own sides the size form is the table itself
        return moved.flatten(0, 1)
    # The offset form leaves a table of its own sides untouched.
    own = ((_count(rows) == side) & (_count(columns) == side)).to(moved.dtype)
    untouched = torch.einsum("rm,mnd,cn->rcd", _nearest(side, rows), position.table, _nearest(side, columns))
    return torch.lerp(moved, untouched, own).flatten(0, 1)


def _count(number: int) -> Int[Tensor, " 1"]:
    """A side as a tensor. As a number of Python, the graph would not let it be divided."""
    return torch.arange(number)[-1:] + 1


def _nearest(side: int, target: int) -> Float[Tensor, "R M"]:
    return (torch.arange(target)[:, None] == torch.arange(side)[None, :]).float()


def _size_weights(side: int, target: int) -> Float[Tensor, "R M"]:
    """Weights of a bicubic resize with antialias: a cubic (a = −½) as wide as the step, when it shrinks.

    Source: aten/src/ATen/native/cpu/UpSampleKernel.cpp, HelperInterpCubic, aa form.
    """
    step = side / _count(target).float()
    wide = step.clamp(min=1.0)
    centres_R = (torch.arange(target) + 0.5) * step
    away_RM = (torch.arange(side)[None, :] + 0.5 - centres_R[:, None]) / wide
    weights_RM = _cubic(away_RM.abs(), -0.5)
    return weights_RM / weights_RM.sum(dim=1, keepdim=True)


def _offset_weights(side: int, target: int) -> Float[Tensor, "R M"]:
    """Weights of a bicubic resize by (n + 0.1)/M without antialias: a cubic (a = −¾), rim repeated."""
    step = side / (_count(target).float() + OFFSET)
    at_R = (torch.arange(target) + 0.5) * step - 0.5
    low_R = at_R.floor()
    weights_RM = torch.zeros(1, side)
    for tap in (-1, 0, 1, 2):
        where_R = (low_R + tap).clamp(0, side - 1)
        hit_RM = (where_R[:, None] == torch.arange(side)[None, :]).float()
        weights_RM = weights_RM + hit_RM * _cubic((at_R - low_R - tap).abs(), -0.75)[:, None]
    return weights_RM


def _cubic(away: Tensor, a: float) -> Tensor:
    """Keys' cubic convolution kernel of a distance."""
    near = ((a + 2) * away - (a + 3)) * away * away + 1
    far = ((away - 5) * away + 8) * away * a - 4 * a
    return torch.where(away <= 1, near, torch.where(away < 2, far, torch.zeros_like(away)))
