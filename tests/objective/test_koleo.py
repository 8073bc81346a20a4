"""KoLeo: golden value, duplicates, single images, gradient against the published formula."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from aqqua.objective.koleo import koleo_loss


def published(x):
    """dinov2/loss/koleo_loss.py for one crop, summed; the neighbour search as a loop."""
    x = F.normalize(x, dim=-1, eps=1e-8)
    total = x.new_zeros(())
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        nearest = max(others, key=lambda j: (x[i] @ x[j]).item())
        total = total - torch.log((x[i] - x[nearest] + 1e-8).pow(2).sum().sqrt() + 1e-8)
    return total


def test_golden_value():
    g = torch.Generator().manual_seed(0)
    for n in (16, 16, 13, 13):
        torch.randn(n, 64, generator=g)
    x = torch.randn(8, 32, generator=g)
    assert x[0, 0].item() == pytest.approx(1.6597587)
    assert koleo_loss(x[None]).item() / 8 == pytest.approx(-0.1757852, rel=1e-5)


def test_the_kernels_give_the_published_value_and_gradient(device):
    x = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(1)).to(device).requires_grad_()
    got, want = koleo_loss(x, backend="triton"), published(x[0]) + published(x[1])
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, x), torch.autograd.grad(want, x))


def test_value_and_gradient_of_each_crop_by_itself():
    x = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    got, want = koleo_loss(x), published(x[0]) + published(x[1])
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, x), torch.autograd.grad(want, x))


def test_packs_add_up_by_their_counts():
    """Neighbours stay inside a pack; the step's value is the sum of packs over the count of images."""
    x = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(2))
    step = (koleo_loss(x[:, :3]) + koleo_loss(x[:, 3:])) / 7
    means = [koleo_loss(part) / part.shape[1] for part in (x[:, :3], x[:, 3:])]
    torch.testing.assert_close(step, (3 * means[0] + 4 * means[1]) / 7)


def test_equal_images_are_finite():
    x = torch.ones(1, 3, 32, requires_grad=True)
    loss = koleo_loss(x)
    assert loss.item() / 3 == pytest.approx(16.525034, rel=1e-5)
    assert torch.isfinite(torch.autograd.grad(loss, x)[0]).all()


@pytest.mark.parametrize("images", [0, 1])
def test_no_neighbour_gives_zero(images):
    x = torch.randn(2, images, 4, requires_grad=True)
    loss = koleo_loss(x)
    assert loss.item() == 0.0
    assert torch.equal(torch.autograd.grad(loss, x)[0], torch.zeros_like(x))


def test_zero_features_are_finite():
    x = torch.zeros(1, 4, 8, requires_grad=True)
    loss = koleo_loss(x)
    assert torch.isfinite(torch.autograd.grad(loss, x)[0]).all()


def test_bfloat16_and_autocast_compute_in_float32():
    x = torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(3)).bfloat16()
    want = koleo_loss(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = koleo_loss(x)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


def test_a_repeated_image_is_no_neighbour_of_itself():
    """Rows 0 and 3 show one image: each looks for its neighbour among the others."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    x[:, 3] = x[:, 0] + 1e-3 * torch.randn(2, 8)
    image = torch.tensor([7, 1, 2, 7, 4])
    unit = F.normalize(x, dim=-1)
    expected = 0.0
    for crop in unit:
        for i in range(5):
            others = [j for j in range(5) if image[j] != image[i]]
            nearest = max(others, key=lambda j, i=i, crop=crop: float(crop[i] @ crop[j]))
            expected -= float((F.pairwise_distance(crop[i], crop[nearest], eps=1e-8) + 1e-8).log())
    assert float(koleo_loss(x, image)) == pytest.approx(expected, rel=1e-6)
    assert float(koleo_loss(x)) > expected + 1  # the near-copies push each other apart
    assert float(koleo_loss(x[:, :2], torch.tensor([3, 3]))) == 0.0
