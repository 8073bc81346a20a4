"""The backbone on packed views: packed equals unpacked, nothing leaks, stochastic depth, start values."""

import pytest
import torch

from aqqua.model.block import kept_views
from aqqua.model.config import ModelConfig
from aqqua.model.rotary import rotary_tables
from aqqua.model.sequences import Sequences
from aqqua.model.vit import VisionTransformer

GRIDS = torch.tensor([[3, 4], [1, 1], [2, 7], [1, 5], [3, 4]])
UM = torch.tensor([1.0, 88.0, float("nan"), 0.3, 2.5])
POSITIONS = ["learned", "factorised", "gsd", "rope", "rope_physical", "none"]


def small(**fields) -> VisionTransformer:
    """Two blocks of width 32, in float64 with every branch loud, so that a difference cannot hide."""
    start = {"width": 32, "heads": 2, "layers": 2, "patch_px": 2, "registers": 2, "layer_scale": 0.5}
    config = ModelConfig(**{**start, "position_grid": 4, "drop_path": 0.4, **fields})
    model = VisionTransformer(config, torch.Generator().manual_seed(0)).double()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        )
    return model


def pack(config, grids=GRIDS, um=UM):
    sequences = Sequences.from_grids(grids, um, config.patch_px, config.prefix)
    draw = torch.Generator().manual_seed(2)
    patches = torch.randn(sequences.patches, config.patch_values, generator=draw, dtype=torch.float64)
    mask = torch.rand(sequences.patches, generator=draw) < 0.3
    return patches, sequences, mask


def pieces(sequences):
    return (sequences.lengths - sequences.prefix).tolist()


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_packed_equals_unpacked_with_every_gradient(position, ffn):
    model = small(position=position, ffn=ffn)
    patches, sequences, mask = pack(model.config)
    patches.requires_grad_()
    hide = torch.tensor([False, True, False, False, False])
    together = model(patches, sequences, mask_N=mask, hide_scale_V=hide)
    weight = torch.randn(sequences.views, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(features, weight, view_N):
        registers = (features.registers_VRD.sin() * weight[:, None]).sum()
        return (
            (features.cls_VD.sin() * weight).sum()
            + registers
            + (features.patches_ND.sin() * weight[view_N]).sum()
        )

    inputs = [patches, *model.parameters()]
    got = torch.autograd.grad(loss(together, weight, sequences.view_N), inputs)

    total, parts = 0.0, zip(patches.split(pieces(sequences)), mask.split(pieces(sequences)), strict=True)
    for view, (own_patches, own_mask) in enumerate(parts):
        one = slice(view, view + 1)
        alone = Sequences.from_grids(GRIDS[one], UM[one], 2, model.config.prefix)
        features = model(own_patches, alone, mask_N=own_mask, hide_scale_V=hide[one])
        torch.testing.assert_close(together.cls_VD[one], features.cls_VD)
        torch.testing.assert_close(together.registers_VRD[one], features.registers_VRD)
        torch.testing.assert_close(together.patches_ND[sequences.view_N == view], features.patches_ND)
        total = total + loss(features, weight[one], alone.view_N)
    want = torch.autograd.grad(total, inputs)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("position", POSITIONS)
def test_no_view_sees_another(position):
    """d out_i / d in_j is exactly 0 for i ≠ j, and is not for i = j."""
    model = small(position=position)
    patches, sequences, _ = pack(model.config)
    patches.requires_grad_()
    features = model(patches, sequences)
    for view in range(sequences.views):
        own = features.cls_VD[view].sum() + features.patches_ND[sequences.view_N == view].pow(2).sum()
        (grad,) = torch.autograd.grad(own, patches, retain_graph=True)
        assert torch.equal(grad[sequences.view_N != view], torch.zeros_like(grad[sequences.view_N != view]))
        assert grad[sequences.view_N == view].abs().sum() > 0


def test_order_of_views_does_not_matter():
    model = small(position="rope_physical")
    patches, sequences, _ = pack(model.config)
    order = torch.tensor([4, 2, 0, 1, 3])
    shuffled = torch.cat([patches.split(pieces(sequences))[view] for view in order])
    moved = Sequences.from_grids(GRIDS[order], UM[order], 2, model.config.prefix)
    torch.testing.assert_close(model(shuffled, moved).cls_VD, model(patches, sequences).cls_VD[order])


def test_content_of_padding_does_not_matter():
    """A pack is filled up by one more view; what it holds changes no other view by a bit."""
    model = small(position="rope").float()
    patches, sequences, _ = pack(model.config)
    patches = patches.float()
    padding = sequences.view_N == 4
    other = torch.where(padding[:, None], 1e3, patches)
    a, b = model(patches, sequences), model(other, sequences)
    assert torch.equal(a.cls_VD[:4], b.cls_VD[:4])
    assert torch.equal(a.patches_ND[~padding], b.patches_ND[~padding])


def test_mask_token_hides_the_patch_but_not_its_place():
    model = small(position="rope")
    patches, sequences, mask = pack(model.config)
    other = torch.where(mask[:, None], 7.0, patches)
    a, b = model(patches, sequences, mask_N=mask), model(other, sequences, mask_N=mask)
    assert torch.equal(a.patches_ND, b.patches_ND)
    assert not torch.allclose(a.patches_ND, model(patches, sequences).patches_ND)


@pytest.mark.parametrize("position", ["gsd", "rope_physical"])
def test_hidden_scale_is_hidden_from_every_code(position):
    model = small(position=position)
    patches, sequences, _ = pack(model.config)
    hide = torch.ones(5, dtype=torch.bool)
    other = Sequences.from_grids(GRIDS, UM * 7, 2, model.config.prefix)
    a, b = model(patches, sequences, hide_scale_V=hide), model(patches, other, hide_scale_V=hide)
    assert torch.equal(a.patches_ND, b.patches_ND)
    assert not torch.allclose(a.patches_ND, model(patches, sequences).patches_ND)


@pytest.mark.parametrize("position", ["learned", "rope"])
def test_drop_path_equals_the_residual_mask(position):
    """Running a branch on a subset equals running it on all and masking the residual per view."""
    model = small(position=position)
    patches, sequences, _ = pack(model.config)
    scores = torch.rand(2, 2, 5, generator=torch.Generator().manual_seed(4))
    got = model(patches, sequences, drop_scores_L2V=scores)

    x, rotary = model.embed(patches, sequences), rotary_tables(sequences, model.config)
    for block, (attend, transform) in zip(model.blocks, scores, strict=True):
        for score, branch in (
            (attend, lambda x, block=block: block._attend(x, sequences, rotary)),
            (transform, block._transform),
        ):
            smallest = score.sort().values[2]  # keep int(5·0.6) = 3
            gain_V = (score <= smallest).double() * 5 / 3
            x = x + branch(x) * gain_V[sequences.view_T][:, None]
    want = model.norm(x)
    torch.testing.assert_close(got.cls_VD, want[sequences.cls_rows_V])
    torch.testing.assert_close(got.patches_ND, want[sequences.patch_rows_N])

    inputs = list(model.parameters())
    a = torch.autograd.grad(got.patches_ND.sin().sum(), inputs, allow_unused=True)
    b = torch.autograd.grad(want[sequences.patch_rows_N].sin().sum(), inputs, allow_unused=True)
    for mine, masked in zip(a, b, strict=True):
        torch.testing.assert_close(mine, masked)


@pytest.mark.parametrize(
    ("views", "rate", "kept"), [(10, 0.3, 7), (10, 0.1, 9), (3, 0.9, 1), (1, 0.5, 1), (5, 0.4, 3)]
)
def test_kept_views_are_those_of_smallest_score(views, rate, kept):
    scores = torch.rand(views, generator=torch.Generator().manual_seed(0))
    assert kept_views(scores, rate).tolist() == sorted(scores.argsort()[:kept].tolist())


def test_checkpointing_changes_nothing():
    plain, saving = small(), small(activation_checkpointing=True)
    patches, sequences, _ = pack(plain.config)
    scores = torch.rand(2, 2, 5, generator=torch.Generator().manual_seed(4))
    grads = []
    for model in (plain, saving):
        loss = model(patches, sequences, drop_scores_L2V=scores).patches_ND.sin().sum()
        grads.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
    for a, b in zip(*grads, strict=True):
        assert a is b is None or torch.equal(a, b)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_every_parameter_is_initialised_and_learns(position, ffn):
    config = ModelConfig(width=32, heads=2, layers=1, patch_px=2, position=position, ffn=ffn)
    model = VisionTransformer(config)
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    model.init_weights(torch.Generator().manual_seed(0))
    forgotten = [name for name, p in model.named_parameters() if p.isnan().any()]
    assert not forgotten
    patches, sequences, mask = pack(model.config)
    features = model(patches.float(), sequences, mask_N=mask)
    (features.cls_VD.sin().sum() + features.patches_ND.sin().sum()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_start_values_are_dinov2s():
    model = VisionTransformer(ModelConfig(size="tiny", position="learned"), torch.Generator().manual_seed(0))
    assert model.blocks[0].attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.embed.position.table.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.embed.register_tokens.std().item() == pytest.approx(1e-6, rel=0.1)
    assert not model.embed.mask_token.any()
    assert not model.blocks[0].mlp.fc1.bias.any()
    assert torch.equal(model.blocks[0].ls1.gamma, torch.full((192,), 1e-5))
    assert model.norm.eps == 1e-6
    again = VisionTransformer(model.config, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_scale_token_tells_known_scales_apart_and_unknown_is_one():
    model = small(position="none")
    grids = torch.tensor([[2, 2]]).expand(4, 2)
    patches, sequences, _ = pack(model.config, grids, torch.tensor([1.0, 1.1, float("nan"), float("nan")]))
    same = patches[:4].repeat(4, 1)
    cls = model(same, sequences).cls_VD
    assert (cls[0] - cls[1]).abs().max() > 1e-3
    torch.testing.assert_close(cls[2], cls[3])


def test_98_px_at_patch_14_gives_49_patches_and_a_cls():
    model = VisionTransformer(ModelConfig(size="tiny", layers=1, registers=0))
    sequences = Sequences.from_grids(torch.tensor([[7, 7]]), torch.tensor([1.0]), 14, model.config.prefix)
    features = model(torch.randn(49, 196), sequences)
    assert sequences.tokens == 50
    assert features.patches_ND.shape == (49, 192)
    assert features.registers_VRD.shape == (1, 0, 192)


def test_bfloat16_autocast_keeps_the_residual_in_float32():
    model = small(position="rope").float()
    patches, sequences, _ = pack(model.config)
    scores = torch.rand(2, 2, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = model(patches.float(), sequences, drop_scores_L2V=scores)
    want = model(patches.float(), sequences, drop_scores_L2V=scores)
    assert got.patches_ND.dtype == torch.float32
    assert (got.patches_ND - want.patches_ND).norm() < 0.03 * want.patches_ND.norm()


def test_packs_that_do_not_fit_are_refused():
    model = small()
    patches, sequences, _ = pack(model.config)
    with pytest.raises(ValueError, match=r"patches must be \[44, 4\], got \[43, 4\]; render with patch_px 2"):
        model(patches[1:], sequences)
    with pytest.raises(ValueError, match=r"drop scores must be \[2, 2, 5\] on the CPU, got \[2, 2, 4\]"):
        model(patches, sequences, drop_scores_L2V=torch.rand(2, 2, 4))
    wrong = Sequences.from_grids(GRIDS, UM, 2, prefix=1)
    with pytest.raises(ValueError, match=r"prefix must be 3, got 1; make the Sequences"):
        model(patches, wrong)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 100, "heads": 3}, "width must be a multiple of heads"),
        ({"width": 36, "heads": 3, "position": "rope_physical"}, "head width divisible by 8, got 12"),
        ({"rope_shortest_um": 5.0, "rope_longest_um": 2.0}, "must exceed"),
        ({"depth": 3}, "Extra inputs are not permitted"),
        ({"size": "huge"}, "Input should be 'tiny'"),
        ({"drop_path": 1.0}, "less than 1"),
    ],
)
def test_configuration_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**fields)
