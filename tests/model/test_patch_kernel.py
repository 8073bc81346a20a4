"""One patch embedding for every patch side: FlexiViT's resize against its definition."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from aqqua.model.config import ModelConfig
from aqqua.model.layouts import resize_patch_kernel
from aqqua.model.patch_kernel import resized_rows
from aqqua.model.sequences import Sequences
from aqqua.model.vit import VisionTransformer

OLD = 4


def resized_patches(rows_NF: Tensor, old: int, side: int, channels: int) -> Tensor:
    """Patch rows, values as (row, column, channel), resized as images."""
    images = rows_NF.unflatten(1, (old, old, channels)).permute(0, 3, 1, 2)
    larger = interpolate(images, size=(side, side), mode="bicubic", align_corners=False, antialias=True)
    return larger.permute(0, 2, 3, 1).flatten(1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [5, 8, 13])
def test_an_enlarged_patch_gets_the_answer_of_the_patch(side, channels):
    """The identity of the paper, section 3.4: ⟨B x, w'⟩ = ⟨x, w⟩ for every patch x."""
    weight = torch.randn(7, OLD**2 * channels, dtype=torch.float64)
    rows = torch.randn(9, OLD**2 * channels, dtype=torch.float64)
    larger = resized_patches(rows, OLD, side, channels)
    got = larger @ resized_rows(weight, OLD, side, channels).T
    torch.testing.assert_close(got, rows @ weight.T, rtol=0, atol=1e-5)


def test_a_reduced_kernel_is_the_nearest_there_is():
    """Bᵀ w' cannot be w; no other w' comes nearer, which is the mean squared error over white patches."""
    weight = torch.randn(1, 64, dtype=torch.float64)
    resize_GF = resized_patches(torch.eye(64, dtype=torch.float64), 8, 5, 1).T
    want = torch.linalg.lstsq(resize_GF.T, weight[0], driver="gelsd").solution
    torch.testing.assert_close(resized_rows(weight, 8, 5, 1)[0], want, rtol=1e-4, atol=1e-4)


def test_kernels_and_rows_are_resized_alike_and_gradients_flow():
    kernel = torch.randn(6, 3, OLD, OLD, requires_grad=True)
    rows = resized_rows(kernel.permute(0, 2, 3, 1).flatten(1), OLD, 6, 3)
    want = resize_patch_kernel(kernel, 6, "flexivit").permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(rows, want, rtol=1e-5, atol=1e-5)
    pull = torch.randn_like(rows)
    got, wanted = (torch.autograd.grad(of, kernel, pull, retain_graph=True)[0] for of in (rows, want))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    own = kernel.flatten(1)
    assert resized_rows(own, OLD, OLD, 3) is own


@pytest.mark.parametrize("position", ["rope", "learned", "factorised", "gsd", "rope_physical"])
def test_a_model_says_the_same_of_an_enlarged_image(position):
    """Every patch enlarged twice at half the µm/px: the same organism, the same features."""
    torch.manual_seed(0)
    config = ModelConfig(
        width=32, heads=2, layers=2, patch_px=OLD, registers=1, layer_scale=0.5, position=position,
        scale_token=False, attention="reference", drop_path=0.0,
    )  # fmt: skip
    model = VisionTransformer(config).eval()
    grids, um_per_px = torch.tensor([[3, 2], [1, 4]]), torch.tensor([1.0, 0.5])
    rows = torch.randn(10, config.patch_values)
    own = Sequences.from_grids(grids, um_per_px, OLD, config.prefix)
    larger = Sequences.from_grids(grids, um_per_px / 2, 2 * OLD, config.prefix)
    want = model(rows, own)
    got = model(resized_patches(rows, OLD, 2 * OLD, 1), larger)
    torch.testing.assert_close(got.cls_VD, want.cls_VD, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.patches_ND, want.patches_ND, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [3, 6])
def test_packed_is_unpacked_at_any_side(side):
    """Forward and gradient of the stored kernel."""
    torch.manual_seed(0)
    config = ModelConfig(width=32, heads=2, layers=1, patch_px=OLD, registers=0, attention="reference")
    model = VisionTransformer(config).eval()
    grids, um = torch.tensor([[2, 3], [1, 1], [4, 2]]), torch.tensor([1.0, float("nan"), 3.0])
    sequences = Sequences.from_grids(grids, um, side, config.prefix)
    rows = torch.randn(sequences.patches, side**2)
    packed = model(rows, sequences).cls_VD
    alone, start = [], 0
    for v, count in enumerate(grids.prod(dim=1).tolist()):
        one = Sequences.from_grids(grids[v : v + 1], um[v : v + 1], side, config.prefix)
        alone.append(model(rows[start : start + count], one).cls_VD)
        start += count
    unpacked = torch.cat(alone)
    torch.testing.assert_close(packed, unpacked, rtol=1e-5, atol=1e-5)
    weight, pull = model.embed.patch_embed.weight, torch.randn_like(packed)
    got, want = (torch.autograd.grad(of, weight, pull)[0] for of in (packed, unpacked))
    assert got.shape == (32, OLD**2)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
