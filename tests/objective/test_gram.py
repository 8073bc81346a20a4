"""Gram anchoring: DINOv3's value on equal views, ragged views, gradient, no gradient to the teacher."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from aqqua.objective.gram import gram_loss


def draw(tokens, D=6, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(tokens, D, generator=g, dtype=dtype) for _ in range(2))
    return student.requires_grad_(), teacher


def test_equals_dinov3_on_equal_views():
    student, teacher = draw(3 * 4)
    xs, xt = (F.normalize(x.view(3, 4, 6), dim=-1) for x in (student, teacher))
    want = F.mse_loss(xs @ xs.mT, xt @ xt.mT)
    got = gram_loss(student, teacher, [4, 4, 4]) / 3
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, student), torch.autograd.grad(want, student))


def test_ragged_views_do_not_meet():
    student, teacher = draw(10)
    parts = gram_loss(student[:3], teacher[:3], [3]) + gram_loss(student[3:], teacher[3:], [7])
    torch.testing.assert_close(gram_loss(student, teacher, [3, 7]), parts)


def test_zero_when_equal_and_only_the_student_learns():
    student, teacher = draw(5)
    assert gram_loss(student, student.detach(), [5]).item() == 0.0
    teacher.requires_grad_()
    gram_loss(student, teacher, [2, 3]).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_no_views_give_zero():
    student, teacher = draw(0)
    loss = gram_loss(student, teacher, [])
    loss.backward()
    assert loss.item() == 0.0


def test_bfloat16_and_autocast_compute_in_float32():
    student, teacher = (x.detach().bfloat16() for x in draw(8, D=64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = gram_loss(student, teacher, [8])
    assert got.dtype == torch.float32
    assert torch.equal(got, gram_loss(student.float(), teacher.float(), [8]))


def test_lengths_must_cover_the_tokens():
    with pytest.raises(ValueError, match="must add up to the 5 patch tokens, got 4"):
        gram_loss(torch.zeros(5, 2), torch.zeros(5, 2), [1, 3])
