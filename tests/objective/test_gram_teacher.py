"""The Gram teacher: when it is taken, what it sees at twice the side, and its part in the loss."""

import pytest
import torch
from square_views import IMAGES, TEMPERATURE, made_batch, made_model

from aqqua.model.config import ModelConfig
from aqqua.model.sequences import Sequences
from aqqua.model.vit import VisionTransformer
from aqqua.objective.gram import gram_loss
from aqqua.objective.gram_teacher import COPIES, GramConfig, GramTeacher, from_teacher
from aqqua.objective.losses import Beside

COLOUR = ModelConfig(
    width=24, layers=1, heads=2, patch_px=4, channels=3, registers=1, layer_scale=0.5, position="rope",
    attention="reference",
)  # fmt: skip
GRIDS = [(1, 3), (2, 2), (4, 1), (2, 2), (1, 1)]


@pytest.mark.parametrize(
    ("share", "copies"),
    [(0.0, 0), (0.399, 0), (0.4, 1), (0.49, 1), (0.501, 2), (0.61, 3), (0.99, 3), (1.0, 3)],
)
def test_it_is_taken_at_shares_of_the_run(share, copies):
    config = GramConfig(start_share=0.4, refresh_share=0.1, max_refreshes=2)
    assert config.copies_at(share) == copies


def test_it_follows_when_it_is_due_and_stands_still_otherwise():
    model = made_model(gram={})
    gram, teacher = model.gram, model.teacher.backbone
    weight = gram.backbone.norm.weight
    with torch.no_grad():
        teacher.norm.weight.fill_(7.0)
    gram.follow(teacher, 0)
    assert not torch.equal(weight, teacher.norm.weight)
    gram.follow(teacher, 2)
    assert torch.equal(weight, teacher.norm.weight)
    assert int(model.state_dict()[COPIES]) == 2
    with torch.no_grad():
        teacher.norm.weight.fill_(8.0)
    gram.follow(teacher, 2)
    assert float(weight[0]) == 7.0
    assert not any(parameter.requires_grad for parameter in gram.parameters())


def image_of(rows_NF, grid, side):
    """Pixels [C, height, width] of one view, patch by patch."""
    (h, w), C = grid, rows_NF.shape[1] // side**2
    image = torch.empty(C, h * side, w * side)
    for n, row_F in enumerate(rows_NF):
        top, left = n // w * side, n % w * side
        image[:, top : top + side, left : left + side] = row_F.view(side, side, C).permute(2, 0, 1)
    return image


def rows_of(image, side):
    height, width = image.shape[1:]
    corners = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
    cut = [
        image[:, top : top + side, left : left + side].permute(1, 2, 0).reshape(-1) for top, left in corners
    ]
    return torch.stack(cut)


def cubic(t, a=-0.75):
    """Weights of four neighbours at a fraction t between the middle two (Keys 1981; torch: a = −0.75)."""
    near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t)]
    far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (1 + t, 2 - t)]
    return [far[0], near[0], near[1], far[1]]


def resized(x, size, axis):
    """One axis, bicubic, pixel centres aligned, edges repeated."""
    n, out = x.shape[axis], []
    for i in range(size):
        at = (i + 0.5) * n / size - 0.5
        base = int(at // 1)
        taps = [min(max(base + offset, 0), n - 1) for offset in (-1, 0, 1, 2)]
        weights = cubic(at - base)
        out.append(sum(w * x.select(axis, tap) for w, tap in zip(weights, taps, strict=True)))
    return torch.stack(out, dim=axis)


def test_at_twice_the_side_each_view_is_enlarged_and_its_features_come_down():
    torch.manual_seed(0)
    backbone = VisionTransformer(COLOUR)
    um = torch.tensor([1.0, 2.0, float("nan"), 4.0, 5.0])
    views = Sequences.from_grids(torch.tensor(GRIDS), um, 4, COLOUR.prefix)
    rows_NF = torch.randn(views.patches, COLOUR.patch_values)
    got = GramTeacher(backbone, 2).features(rows_NF, views)
    want, first = [], 0
    for number, (h, w) in enumerate(GRIDS):
        image = image_of(rows_NF[first : first + h * w], (h, w), 4)
        large = resized(resized(image, 8 * h, 1), 8 * w, 2)
        alone = Sequences.from_grids(
            torch.tensor([[2 * h, 2 * w]]), um[number : number + 1] / 2, 4, COLOUR.prefix
        )
        features = backbone(rows_of(large, 4), alone).patches_ND.detach().view(2 * h, 2 * w, -1)
        want.append(resized(resized(features, h, 0), w, 1).flatten(0, 1))
        first += h * w
    torch.testing.assert_close(got, torch.cat(want), rtol=1e-4, atol=1e-5)


def test_at_the_same_side_it_is_the_backbone():
    backbone = VisionTransformer(COLOUR)
    views = Sequences.from_grids(torch.tensor(GRIDS), torch.ones(5), 4, COLOUR.prefix)
    rows_NF = torch.randn(views.patches, COLOUR.patch_values)
    assert torch.equal(GramTeacher(backbone, 1).features(rows_NF, views), backbone(rows_NF, views).patches_ND)


def learnt(model, batch, beside):
    taught = model.teach(batch)
    return model.learn(batch, taught, model.targets([taught], TEMPERATURE), batch.n_images, beside=beside)


@pytest.mark.parametrize("scale", [1, 2])
def test_it_is_a_part_of_the_loss_with_its_gradient(scale):
    model, batch = made_model(gram={"scale": scale}), made_batch()
    plain = made_model()
    for mine, theirs in zip(model.student.parameters(), plain.student.parameters(), strict=True):
        mine.data.copy_(theirs.data)
    off, on = (learnt(model, batch, Beside(gram_weight=weight)) for weight in (0.0, 1.5))
    assert off.more["gram"].item() == 0.0
    n = batch.teacher.patches
    features = model.student.backbone(batch.patches_NF, batch.student, mask_N=batch.mask_N)
    anchor = model.gram.features(batch.patches_NF[:n], batch.teacher)
    want = gram_loss(features.patches_ND[:n], anchor, [16] * 2 * IMAGES) / (2 * IMAGES)
    torch.testing.assert_close(on.more["gram"], want)
    assert on.total.item() == pytest.approx(off.total.item() + 1.5 * want.item(), rel=1e-5)
    weights = list(model.student.backbone.parameters())
    parts = [torch.autograd.grad(loss, weights, allow_unused=True) for loss in (on.total, off.total, want)]
    for got, without, of_gram in zip(*parts, strict=True):
        if of_gram is not None:
            torch.testing.assert_close(got, without + 1.5 * of_gram, rtol=1e-3, atol=1e-5)


def test_packs_add_up():
    model, packs = made_model(gram={}), [made_batch(2, seed=5), made_batch(3, seed=6)]
    beside = Beside(gram_weight=1.0)
    alone = [learnt(model, pack, beside).more["gram"] for pack in packs]
    taught = [model.teach(pack) for pack in packs]
    targets = model.targets(taught, TEMPERATURE)
    shares = [
        model.learn(pack, said, targets, 5, beside=beside).more["gram"]
        for pack, said in zip(packs, taught, strict=True)
    ]
    assert sum(shares).item() == pytest.approx((2 * alone[0] + 3 * alone[1]).item() / 5, rel=1e-5)


def test_an_older_checkpoint_gets_it_from_its_teacher():
    model, older = made_model(gram={}), made_model()
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    tensors = from_teacher(older.state_dict(), wanted)
    assert {name: tensor.shape for name, tensor in tensors.items()} == wanted
    assert torch.equal(tensors["gram.backbone.norm.weight"], older.teacher.backbone.norm.weight)
    assert int(tensors[COPIES]) == 0
    assert from_teacher(model.state_dict(), wanted).keys() == wanted.keys()
    assert from_teacher(older.state_dict(), older.state_dict()).keys() == older.state_dict().keys()
