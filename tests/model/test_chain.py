"""The backbone by our kernels: the same features and gradients as block by block, and nothing leaks.

On a machine without a GPU Triton's interpreter runs the kernels. Tolerance: of features and gradients twice
the largest error of the blocks in float32, against the blocks in float64; else 1e-4.
"""

import pytest
import torch

from aqqua.model.config import ModelConfig
from aqqua.model.sequences import Sequences
from aqqua.model.vit import VisionTransformer, serving_kernels

GRIDS = torch.tensor([[3, 4], [1, 1], [2, 3], [1, 5]])
UM = torch.tensor([1.0, 88.0, float("nan"), 0.3])
SCORES = torch.rand(2, 2, 4, generator=torch.Generator().manual_seed(4))
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def small(device, kernels="triton", **fields) -> VisionTransformer:
    start = {"width": 64, "heads": 2, "layers": 2, "patch_px": 2, "registers": 2, "layer_scale": 0.5}
    config = ModelConfig(**{**start, "drop_path": 0.5, "attention": "grouped", "kernels": kernels, **fields})
    model = VisionTransformer(config, torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    return model.to(device)


def pack(config, device, views=slice(None), seed=2):
    sequences = Sequences.from_grids(GRIDS[views], UM[views], config.patch_px, config.prefix, device)
    draw = torch.Generator().manual_seed(seed)
    patches = torch.randn(sequences.patches, config.patch_values, generator=draw)
    mask = torch.rand(sequences.patches, generator=draw) < 0.3
    return patches.to(device), sequences, mask.to(device)


def told(features):
    return features.cls_VD, features.registers_VRD, features.patches_ND


def features_and_gradients(model, scores, autocast=False):
    """Three features, then the gradient of the patches and of each parameter."""
    dtype, device = model.norm.weight.dtype, model.norm.weight.device
    patches, sequences, mask = pack(model.config, device)
    patches = patches.to(dtype).requires_grad_()
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        found = told(model(patches, sequences, mask_N=mask, drop_scores_L2V=scores))
    draw = torch.Generator().manual_seed(3)
    loss = sum((x.sin() * torch.randn(x.shape, generator=draw).to(device)).sum() for x in found)
    inputs = [patches, *model.parameters()]
    gradients = torch.autograd.grad(loss, inputs, materialize_grads=True)
    return [*found, *gradients]


def error(got, want):
    assert got.shape == want.shape
    return (got.double() - want).abs().max()


@pytest.mark.parametrize("fields", [
    {}, {"ffn": "swiglu", "position": "none"}, {"attention": "triton"}, {"activation_checkpointing": True},
], ids=["mlp", "swiglu", "attention", "checkpointing"])  # fmt: skip
@pytest.mark.parametrize("scores", [None, SCORES], ids=["all views", "stochastic depth"])
def test_features_and_every_gradient_are_those_of_the_blocks(fields, scores, device):
    got = features_and_gradients(small(device, **fields), scores)
    blocks = small(device, "reference", **{**fields, "attention": "grouped"})
    plain, exact = features_and_gradients(blocks, scores), features_and_gradients(blocks.double(), scores)
    for mine, theirs, want in zip(got, plain, exact, strict=True):
        assert error(mine, want) <= 2 * error(theirs, want) + 2e-6 * want.abs().max()


@pytest.mark.parametrize("attention", ["grouped", "triton"])
def test_packed_equals_unpacked(attention, device):
    model = small(device, attention=attention, position="rope_physical")
    patches, sequences, mask = pack(model.config, device)
    with torch.no_grad():
        together = model(patches, sequences, mask_N=mask)
        pieces = (sequences.lengths - sequences.prefix).tolist()
        parts = zip(patches.split(pieces), mask.split(pieces), strict=True)
        for view, (own_patches, own_mask) in enumerate(parts):
            _, alone, _ = pack(model.config, device, slice(view, view + 1))
            features = model(own_patches, alone, mask_N=own_mask)
            torch.testing.assert_close(together.cls_VD[[view]], features.cls_VD, **CLOSE)
            torch.testing.assert_close(together.registers_VRD[[view]], features.registers_VRD, **CLOSE)
            own = together.patches_ND[sequences.view_N == view]
            torch.testing.assert_close(own, features.patches_ND, **CLOSE)


@pytest.mark.parametrize("scores", [None, SCORES], ids=["all views", "stochastic depth"])
def test_no_view_sees_another(scores, device):
    """What the last view holds changes no other view, and no gradient of one, by a bit."""
    model = small(device, attention="triton")
    patches, sequences, _ = pack(model.config, device)
    found = []
    for value in (0.0, 1e3):
        own = torch.where((sequences.view_N == 3)[:, None], value, patches).requires_grad_()
        features = model(own, sequences, drop_scores_L2V=scores)
        others = features.cls_VD[:3], features.patches_ND[sequences.view_N != 3]
        (gradient,) = torch.autograd.grad(sum(x.sin().sum() for x in others), own)
        assert not gradient[sequences.view_N == 3].any()
        found.append((*others, gradient))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_mixed_precision_keeps_the_stream_in_float32(device):
    """As the blocks under autocast: branches in bfloat16, features in float32."""
    exact = features_and_gradients(small(device, "reference"), SCORES)
    got, plain = (
        features_and_gradients(small(device, kernels), SCORES, autocast=True)
        for kernels in ("triton", "reference")
    )
    for mine, theirs, want in zip(got, plain, exact, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - want).norm() <= 3 * (theirs - want).norm() <= 0.3 * want.norm()


def test_without_gradients_the_features_are_the_same(device):
    model = small(device)
    patches, sequences, _ = pack(model.config, device)
    want = told(model(patches, sequences))
    with torch.no_grad():
        got = told(model(patches, sequences))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_weights_do_not_depend_on_the_kernels(device):
    ours, plain = small(device), small(device, "reference")
    plain.load_state_dict(ours.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in plain.named_parameters()]


def test_what_serves(device):
    at = torch.device("cpu"), torch.float32
    assert serving_kernels(ModelConfig(size="tiny", layers=1), *at) == "reference"
    model = small(device).double()
    patches, sequences, _ = pack(model.config, device)
    with pytest.raises(RuntimeError, match=r"backend 'triton' needs float32, .* got torch.float64"):
        model(patches.double(), sequences)
