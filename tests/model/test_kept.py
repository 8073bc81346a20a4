"""A backbone on some of the patches of each view: the rest has no part, what stays keeps its place."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from aqqua.model.config import ModelConfig
from aqqua.model.rotary import rotary_tables
from aqqua.model.sequences import Kept, Sequences
from aqqua.model.vit import VisionTransformer

GRIDS = torch.tensor([[3, 4], [1, 1], [2, 2], [5, 3]])
UM = torch.tensor([1.0, 0.5, float("nan"), 2.0])
POSITIONS = ["rope", "rope_physical", "learned", "factorised", "gsd", "none"]


def made(position: str = "rope", **fields: object) -> tuple[VisionTransformer, Tensor, Sequences, Tensor]:
    """Model, patch rows, packing, and which patches stay."""
    torch.manual_seed(0)
    config = ModelConfig(
        width=32, heads=2, layers=2, patch_px=2, registers=1, layer_scale=0.5, drop_path=0.0,
        position=position, attention="reference", **fields,
    )  # fmt: skip
    model = VisionTransformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    sequences = Sequences.from_grids(GRIDS, UM, 2, config.prefix)
    stays = torch.rand(sequences.patches) < 0.6
    stays[12] = stays[13] = True  # every view keeps one
    return model, torch.randn(sequences.patches, 4), sequences, stays


def kept_of(stays: Tensor, sequences: Sequences) -> Kept:
    return Kept(stays.nonzero()[:, 0], torch.bincount(sequences.view_N[stays], minlength=sequences.views))


def by_mask(
    model: VisionTransformer, rows: Tensor, sequences: Sequences, stays: Tensor
) -> tuple[Tensor, Tensor]:
    """CLS and patches where all tokens go through, but nobody looks at those that are dropped."""
    config = model.config
    x = model.embed(rows, sequences)
    seen = torch.ones(sequences.tokens, dtype=torch.bool)
    seen[sequences.patch_rows_N] = stays
    allowed = (sequences.view_T[:, None] == sequences.view_T) & seen
    rotary = rotary_tables(sequences, config)
    for block in model.blocks:
        q, k, v = block.attn.qkv(block.norm1(x)).unflatten(1, (3, config.heads, -1)).unbind(1)
        if rotary is not None:
            cos, sin = rotary.cos_TE[:, None], rotary.sin_TE[:, None]
            q, k = (t * cos + torch.cat([-t.chunk(2, -1)[1], t.chunk(2, -1)[0]], -1) * sin for t in (q, k))
        scores = torch.einsum("qhe,khe->hqk", q, k) / config.head_width**0.5
        weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
        out = torch.einsum("hqk,khe->qhe", weights, v).flatten(1)
        x = x + block.ls1(block.attn.proj(out))
        x = x + block.ls2(block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x)))))
    x = model.norm(x)
    return x[sequences.cls_rows_V], x[sequences.patch_rows_N]


@pytest.mark.parametrize("position", POSITIONS)
def test_it_is_the_model_in_which_nobody_sees_the_others(position):
    """Values, and the gradient of every weight."""
    model, rows, sequences, stays = made(position)
    got = model(rows, sequences, kept=kept_of(stays, sequences))
    cls, patches = by_mask(model, rows, sequences, stays)
    torch.testing.assert_close(got.cls_VD, cls, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.patches_ND[stays], patches[stays], rtol=1e-4, atol=1e-5)
    assert not got.patches_ND[~stays].any()
    weights, pull = list(model.parameters()), torch.randn_like(patches)
    mine = (got.patches_ND * pull)[stays].sum() + got.cls_VD.sum()
    theirs = (patches * pull)[stays].sum() + cls.sum()
    a, b = (torch.autograd.grad(loss, weights, allow_unused=True) for loss in (mine, theirs))
    for have, wanted in zip(a, b, strict=True):
        assert (have is None) == (wanted is None)
        if have is not None:
            torch.testing.assert_close(have, wanted, rtol=1e-3, atol=1e-4)


def test_packed_is_unpacked():
    model, rows, sequences, stays = made()
    packed, start = model(rows, sequences, kept=kept_of(stays, sequences)), 0
    for v, count in enumerate(GRIDS.prod(dim=1).tolist()):
        one, part = Sequences.from_grids(GRIDS[v : v + 1], UM[v : v + 1], 2, 2), slice(start, start + count)
        alone = model(rows[part], one, kept=kept_of(stays[part], one))
        torch.testing.assert_close(packed.cls_VD[v], alone.cls_VD[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(packed.patches_ND[part], alone.patches_ND, rtol=1e-5, atol=1e-5)
        start += count


def test_dropped_pixels_have_no_part_and_stochastic_depth_goes_on():
    model, rows, sequences, stays = made(kernels="reference")
    model = VisionTransformer(model.config.model_copy(update={"drop_path": 0.5}))
    kept, scores = kept_of(stays, sequences), torch.rand(2, 2, len(GRIDS))
    want = model(rows, sequences, kept=kept, drop_scores_L2V=scores)
    rows = torch.where(stays[:, None], rows, torch.full_like(rows, 1e6))
    assert torch.equal(model(rows, sequences, kept=kept, drop_scores_L2V=scores).cls_VD, want.cls_VD)
    everything = kept_of(torch.ones_like(stays), sequences)
    whole, same = (model(rows, sequences, kept=k, drop_scores_L2V=scores) for k in (None, everything))
    assert torch.equal(whole.cls_VD, same.cls_VD)
    assert torch.equal(whole.patches_ND, same.patches_ND)
