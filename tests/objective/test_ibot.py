"""iBOT loss: golden value, divisor, sums over packs and ranks."""

import pytest
import torch

from aqqua.objective.ibot import ibot_loss
from aqqua.objective.sinkhorn import sinkhorn


def golden_inputs():
    g = torch.Generator().manual_seed(0)
    _, _, tt, ss = (torch.randn(n, 64, generator=g) for n in (16, 16, 13, 13))
    masks = torch.zeros(4, 16, dtype=torch.bool)
    masks[0, :5] = True
    masks[2, 3:11] = True
    weights = (1 / masks.sum(dim=1).clamp(min=1))[:, None].expand_as(masks)[masks]
    return ss, sinkhorn(tt, 0.07).probabilities(tt), weights


def test_golden_value():
    student, teacher, weights = golden_inputs()
    assert weights.tolist() == pytest.approx([1 / 5] * 5 + [1 / 8] * 8)
    assert ibot_loss(student, teacher, weights, 4).item() == pytest.approx(13.0656404, rel=1e-6)


def test_gradient_of_the_formula():
    student, teacher, weights = (x.double() for x in golden_inputs())
    student.requires_grad_()
    got = ibot_loss(student, teacher, weights, 4)
    want = -((teacher * (student / 0.1).log_softmax(dim=1)).sum(dim=1) * weights).sum() / 4
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, student), torch.autograd.grad(want, student))


@pytest.mark.parametrize("split", [[5, 8], [13, 0]], ids=str)
def test_packs_add_up_and_one_without_masks_is_zero(split):
    student, teacher, weights = golden_inputs()
    student.requires_grad_()
    packs = zip(student.split(split), teacher.split(split), weights.split(split), strict=True)
    losses = [ibot_loss(s, t, w, torch.tensor(4.0)) for s, t, w in packs]
    whole = ibot_loss(student, teacher, weights, 4)
    total = torch.stack(losses).sum()
    torch.testing.assert_close(total, whole)
    torch.testing.assert_close(torch.autograd.grad(total, student), torch.autograd.grad(whole, student))
    if split[1] == 0:
        assert losses[1].item() == 0.0


def test_two_ranks_with_unequal_crops_are_one_rank():
    student, teacher, weights = golden_inputs()
    want = torch.autograd.grad(ibot_loss(student.requires_grad_(), teacher, weights, 4), student)[0]
    averaged = torch.zeros_like(student)
    ranks = [(slice(0, 5), 1), (slice(5, 13), 3)]  # masked tokens, and crops, masked or not
    total = torch.tensor(float(sum(crops for _, crops in ranks)))
    for rank, _ in ranks:
        mine = student[rank].detach().requires_grad_()
        loss = ibot_loss(mine, teacher[rank], weights[rank], total) * 2
        averaged[rank] += torch.autograd.grad(loss, mine)[0] / 2
    torch.testing.assert_close(averaged, want)


def test_bfloat16_student():
    student, teacher, weights = golden_inputs()
    narrow = student.bfloat16().requires_grad_()
    loss = ibot_loss(narrow, teacher, weights, 4)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, ibot_loss(narrow.float(), teacher, weights, 4))
    assert narrow.grad.dtype == torch.bfloat16
    assert torch.isfinite(narrow.grad).all()
