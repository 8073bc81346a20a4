"""DINO loss: against the double loop over pairs, DINOv2's own two terms, and sums over packs and ranks."""

import pytest
import torch

from aqqua.objective.dino import dino_loss


def draw(S, G, images, K=13, dtype=torch.float64):
    g = torch.Generator().manual_seed(S * 100 + G * 10 + images)
    student = torch.randn(S, images, K, generator=g, dtype=dtype).requires_grad_()
    teacher = torch.randn(G, images, K, generator=g, dtype=dtype).mul(3).softmax(dim=-1)
    return student, teacher


def cross_entropy(student_IK, teacher_IK):
    return -(teacher_IK * (student_IK / 0.1).log_softmax(dim=-1)).sum(dim=-1)


def double_loop(student, teacher):
    S, G = len(student), len(teacher)
    pairs = [(g, s) for g in range(G) for s in range(S) if g != s]
    return sum(cross_entropy(student[s], teacher[g]).mean() for g, s in pairs) / len(pairs)


@pytest.mark.parametrize(("S", "G"), [(10, 2), (2, 2), (5, 3), (3, 1), (2, 1)])
def test_value_and_gradient_of_the_double_loop(S, G):
    student, teacher = draw(S, G, images=4)
    got, want = dino_loss(student, teacher, 4), double_loop(student, teacher)
    torch.testing.assert_close(got, want, check_dtype=False)
    torch.testing.assert_close(torch.autograd.grad(got, student), torch.autograd.grad(want, student))


def test_equals_the_two_terms_of_dinov2():
    """ssl_meta_arch.py: teacher CLS chunks swapped, the global term a mean over 2·I rows times 2."""
    G, n_locals, images = 2, 8, 6
    student, teacher = draw(G + n_locals, G, images)
    n_global_terms, n_local_terms = G * (G - 1), G * n_locals
    swapped = torch.cat([teacher[1], teacher[0]])
    loss_global = cross_entropy(student[:G].flatten(0, 1), swapped).mean() * 2
    loss_local = sum(cross_entropy(s, t).mean() for s in student[G:] for t in teacher)
    want = (loss_global + loss_local) / (n_global_terms + n_local_terms)
    torch.testing.assert_close(dino_loss(student, teacher, images), want, check_dtype=False)


@pytest.mark.parametrize("split", [[1, 5], [2, 2, 2], [6, 0]], ids=str)
def test_packs_add_up(split):
    student, teacher = draw(4, 2, images=6)
    whole = dino_loss(student, teacher, 6)
    packs = zip(student.split(split, dim=1), teacher.split(split, dim=1), strict=True)
    parts = torch.stack([dino_loss(s, t, torch.tensor(6.0)) for s, t in packs]).sum()
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, student), torch.autograd.grad(whole, student))


def test_two_ranks_with_unequal_images_are_one_rank():
    """Each rank: its images / all images × ranks; the engine then averages gradients over ranks."""
    student, teacher = draw(4, 2, images=7)
    whole = torch.autograd.grad(dino_loss(student, teacher, 7), student)[0]
    ranks = [slice(0, 2), slice(2, 7)]
    total = sum(student[:, r].shape[1] for r in ranks)  # the all-reduced count
    averaged = torch.zeros_like(student)
    for rank in ranks:
        mine = student[:, rank].detach().requires_grad_()
        loss = dino_loss(mine, teacher[:, rank], total) * len(ranks)
        averaged[:, rank] += torch.autograd.grad(loss, mine)[0] / len(ranks)
    torch.testing.assert_close(averaged, whole)


def test_bfloat16_student():
    student, teacher = draw(4, 2, images=3, dtype=torch.float32)
    narrow = student.detach().bfloat16().requires_grad_()
    loss = dino_loss(narrow, teacher, 3)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, dino_loss(narrow.float(), teacher, 3))
    assert torch.isfinite(narrow.grad).all()
    assert narrow.grad.abs().amax(dim=(1, 2)).min() > 0  # every crop learns


@pytest.mark.parametrize(("S", "G"), [(1, 1), (1, 2)])
def test_errors(S, G):
    with pytest.raises(ValueError, match=f"got {S} student and {G} teacher crops"):
        dino_loss(torch.zeros(S, 3, 4), torch.zeros(G, 3, 4), 3)
