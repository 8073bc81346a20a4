"""KoLeo beyond a pack: shares of packs add up to the value and gradient over all their images."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from square_views import TEMPERATURE, made_batch, made_model

from aqqua.objective.koleo import koleo_loss
from aqqua.objective.losses import Beside
from aqqua.objective.spread import nearest_rows, neighbours_of, spread_loss, unit_rows

SIZES = (3, 1, 5)


def drawn(images=9, width=6):
    g = torch.Generator().manual_seed(0)
    return torch.randn(2, images, width, generator=g, dtype=torch.float64).requires_grad_()


def shares(x_GJD, image_J, count=1, sizes=SIZES):
    """Of each pack of these sizes, one after the other."""
    unit = unit_rows(x_GJD.detach())
    parts = zip(unit.split(sizes, dim=1), image_J.split(sizes), strict=True)
    nearest = torch.cat([nearest_rows(u, i, unit, image_J, count) for u, i in parts], dim=1)
    firsts = [sum(sizes[:n]) for n in range(len(sizes))]
    among = [neighbours_of(unit, nearest, first, size) for first, size in zip(firsts, sizes, strict=True)]
    packs = zip(x_GJD.split(sizes, dim=1), among, strict=True)
    return [spread_loss(features, beside) for features, beside in packs]


@pytest.mark.parametrize("image", [range(9), (0, 1, 2, 0, 4, 5, 1, 7, 8)], ids=["distinct", "repeated"])
def test_shares_add_up_to_the_loss_over_all_packs(image):
    x, image_J = drawn(), torch.tensor(image)
    got, want = sum(shares(x, image_J)), koleo_loss(x, image_J)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, x), torch.autograd.grad(want, x))


def test_several_neighbours_are_dinov3s():
    """dinov3/loss/koleo_loss.py on one GPU, topk 3: mean over rows and neighbours, as loops."""
    x, total = drawn(), 0.0
    for crop in x:
        unit = F.normalize(crop, dim=-1)
        likeness = (unit @ unit.T).detach()
        for i, row in enumerate(unit):
            others = sorted(
                (j for j in range(9) if j != i), key=lambda j, i=i, likeness=likeness: -float(likeness[i, j])
            )
            for j in others[:3]:
                total = total - ((row - unit[j] + 1e-8).pow(2).sum().sqrt() + 1e-8).log() / 3
    got = sum(shares(x, torch.arange(9), count=3))
    torch.testing.assert_close(got, total)
    torch.testing.assert_close(torch.autograd.grad(got, x), torch.autograd.grad(total, x))


def test_rows_without_enough_other_images():
    x = drawn(3)
    assert sum(shares(x, torch.tensor([4, 4, 4]), 2, (1, 2))).item() == 0.0
    few, one = (sum(shares(x, torch.arange(3), count, (1, 2))) for count in (5, 1))
    assert torch.isfinite(torch.autograd.grad(few, x)[0]).all()
    nearest = nearest_rows(unit_rows(x), torch.arange(3), unit_rows(x), torch.arange(3), 5)
    assert (nearest[..., :2] >= 0).all()
    assert (nearest[..., 2:] == -1).all()
    assert one.item() != few.item()


def test_bfloat16_and_autocast_compute_in_float32():
    x = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(3)).bfloat16()
    want = sum(shares(x.float(), torch.arange(9)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = sum(shares(x, torch.arange(9)))
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


def test_the_survey_is_what_the_student_will_say_and_the_loss_is_that_of_a_pack():
    """Without drop-path: masks and hidden scales are in it, so one pack alone is the usual KoLeo."""
    model, batch = made_model(), made_batch()
    unit = model.survey(batch)
    features = model.student.backbone(batch.patches_NF, batch.student, mask_N=batch.mask_N)
    said = unit_rows(features.cls_VD[: 2 * batch.n_images].unflatten(0, (2, batch.n_images)))
    torch.testing.assert_close(unit, said, rtol=1e-5, atol=1e-6)
    assert not unit.requires_grad
    nearest = nearest_rows(unit, batch.image_I, unit, batch.image_I, 1)
    beside = Beside(neighbours=neighbours_of(unit, nearest, 0, batch.n_images))
    taught = model.teach(batch)
    targets = model.targets([taught], TEMPERATURE)
    usual, spread = (
        model.learn(batch, taught, targets, batch.n_images, beside=given) for given in (Beside(), beside)
    )
    torch.testing.assert_close(spread.koleo, usual.koleo)
