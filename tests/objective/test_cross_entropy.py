"""Soft cross-entropy: golden value, and value and gradient against the formula."""

import pytest
import torch

from aqqua.objective.cross_entropy import soft_cross_entropy
from aqqua.objective.sinkhorn import sinkhorn


def naive(student, target, temperature):
    return -(target * (student / temperature).log_softmax(dim=1)).sum(dim=1)


def draw(rows, K, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    student = torch.randn(rows, K, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
    target = torch.randn(rows, K, generator=g, dtype=torch.float64).softmax(dim=1) * 2  # a sum of two rows
    return student, target.to(torch.promote_types(dtype, torch.float32))


def test_golden_value():
    g = torch.Generator().manual_seed(0)
    t, s = torch.randn(16, 64, generator=g), torch.randn(16, 64, generator=g)
    loss = soft_cross_entropy(s, sinkhorn(t, 0.07).probabilities(t), 0.1).mean()
    assert loss.item() == pytest.approx(23.6426735, rel=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_value_and_gradient_in_float64(rows, temperature):
    student, target = draw(rows, 11)
    weight = torch.randn(rows, dtype=torch.float64)
    got, want = soft_cross_entropy(student, target, temperature), naive(student, target, temperature)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(
        torch.autograd.grad(got, student, weight), torch.autograd.grad(want, student, weight)
    )


def test_bfloat16_logits_are_raised_to_float32():
    student, target = draw(5, 300, torch.bfloat16)
    wide = student.detach().float().requires_grad_()
    before = student.detach().clone(), target.clone()
    got, want = soft_cross_entropy(student, target, 0.1), naive(wide, target, 0.1)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want)
    got.sum().backward()
    want.sum().backward()
    assert student.grad.dtype == torch.bfloat16
    torch.testing.assert_close(student.grad, wide.grad.bfloat16())
    assert torch.equal(student.detach(), before[0])
    assert torch.equal(target, before[1])


def test_autocast_changes_nothing():
    student, target = draw(5, 64, torch.float32)
    want = soft_cross_entropy(student, target, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = soft_cross_entropy(student, target, 0.1)
    assert torch.equal(got, want)


def test_large_logits_are_finite():
    student = torch.tensor([[50.0, -50.0, 0.0]], requires_grad=True)
    loss = soft_cross_entropy(student, torch.tensor([[0.0, 1.0, 0.0]]), 0.04)
    assert loss.item() == pytest.approx(2500.0)
    assert torch.isfinite(torch.autograd.grad(loss.sum(), student)[0]).all()
