"""Views stretched to squares as DINOv2 makes them, beside the law of torchvision's RandomResizedCrop."""

import numpy as np
import pytest
from made_views import plan

from aqqua.plan.footprint import footprint_sigma
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import Views

DINOV2 = ViewConfig(augmentation="dinov2")
P = 14


def sides(views: Views, patch_px: int = P) -> np.ndarray:
    """Height and width of each view in the image, source px."""
    linear = views.map_IS23[..., :2].astype(np.float64)
    down, across = np.linalg.norm(linear[..., 1], axis=-1), np.linalg.norm(linear[..., 0], axis=-1)
    return views.grid_IS2 * patch_px * np.stack([down, across], axis=-1)


def planned(
    height: int, width: int, config: ViewConfig = DINOV2, count: int = 2000, **known: object
) -> Views:
    return plan([height] * count, [width] * count, config, patch_px=P, **known)


def test_every_view_has_224_or_98_px_whatever_the_image():
    for shape in ((300, 200), (20, 900), (1, 1), (5000, 4000)):
        views = planned(*shape, count=20)
        assert (views.grid_IS2[:, :2] * P == 224).all()
        assert (views.grid_IS2[:, 2:] * P == 98).all()


def test_area_and_aspect_are_those_of_random_resized_crop():
    """In an image so large and square that no side is cut: there ten tries are never needed either."""
    config = DINOV2.model_copy(update={"global_area": (0.32, 0.5)})
    height, width = np.moveaxis(sides(planned(1200, 1200, config)), -1, 0)
    share = height * width / 1200**2
    for part, (low, high) in ((share[:, :2], (0.32, 0.5)), (share[:, 2:], config.local_area)):
        quarters = np.quantile(part, [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(quarters, low + (high - low) * np.linspace(0, 1, 5), atol=0.006)
    logs = np.log(width / height) / np.log(4 / 3)
    np.testing.assert_allclose(np.quantile(logs, [0, 0.25, 0.5, 0.75, 1]), np.linspace(-1, 1, 5), atol=0.02)


def random_resized_crop(rng: np.random.Generator, height: int, width: int) -> tuple[int, int]:
    """Height and width of a local crop, as torchvision's RandomResizedCrop.get_params draws them."""
    for _ in range(10):
        area = height * width * rng.uniform(*DINOV2.local_area)
        aspect = np.exp(rng.uniform(*np.log(DINOV2.aspect)))
        w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return h, w
    raise AssertionError("the law of the fallback is not compared")


@pytest.mark.parametrize("shape", [(600, 1000), (400, 400)])
def test_local_crops_are_as_large_and_long_as_those_of_random_resized_crop(shape):
    rng = np.random.default_rng(0)
    theirs = np.array([random_resized_crop(rng, *shape) for _ in range(8000)])
    ours = sides(planned(*shape))[:, 2:].reshape(-1, 2)
    shares = [0.1, 0.3, 0.5, 0.7, 0.9]
    for of in (lambda s: s.prod(axis=-1), lambda s: s[..., 1] / s[..., 0]):
        np.testing.assert_allclose(np.quantile(of(ours), shares), np.quantile(of(theirs), shares), rtol=0.03)


def test_a_side_too_long_is_shortened_to_the_image():
    height, width = np.moveaxis(sides(planned(100, 1000)), -1, 0)
    assert height.max() <= 100 + 1e-3
    assert (np.abs(height[:, :2] - 100) < 1e-3).mean() > 0.9
    # The other side keeps its own length, the square root of area · aspect.
    assert (width[:, :2] >= np.sqrt(0.32 * 100 * 1000 * 0.75) - 1e-2).all()


def test_views_are_upright_half_of_them_mirrored_and_inside():
    views = planned(300, 200)
    linear = views.map_IS23[..., :2]
    assert (linear[..., 0, 1] == 0).all()
    assert (linear[..., 1, 0] == 0).all()
    assert (linear[..., 1, 1] > 0).all()
    assert (linear[..., 0, 0] < 0).mean() == pytest.approx(0.5, abs=0.02)
    far = (linear @ (views.grid_IS2[..., ::-1, None] * P))[..., 0] + views.map_IS23[..., 2]
    for corner in (views.map_IS23[..., 2], far):
        assert (corner >= -0.01).all()
        assert (corner <= np.array([200, 300]) + 0.01).all()


def test_they_are_placed_anywhere_or_over_the_organism():
    """Of an organism in a corner; the centre of a small view tells."""
    box, half = (0, 0, 30, 30), np.array([300, 200]) / 2
    for aware, near in ((False, 0.25), (True, 0.95)):
        views = planned(300, 200, DINOV2.model_copy(update={"organism_aware": aware}), box=box)
        middle = views.map_IS23[..., :2] @ (views.grid_IS2[..., ::-1, None] * (P / 2))
        centre = (middle[..., 0] + views.map_IS23[..., 2])[:, 2:, ::-1]
        assert (centre < half).all(axis=-1).mean() == pytest.approx(near, abs=0.06)


def test_scale_and_blur_follow_the_geometric_mean_of_both_axes():
    calm = DINOV2.model_copy(update={"blur_sigma_px": (0.0, 0.0)})
    views = planned(700, 300, calm, um_per_px=10.0)
    zoom = np.sqrt((views.grid_IS2 * P / sides(views)).prod(axis=-1))
    np.testing.assert_allclose(views.um_per_px_IS, 10 / zoom, rtol=1e-5)
    np.testing.assert_allclose(
        views.sigma_IS, footprint_sigma(np.zeros_like(zoom), zoom), rtol=1e-4, atol=1e-4
    )


def test_what_is_larger_than_the_strongest_reduction_is_cut():
    config = DINOV2.model_copy(update={"max_reduce": 2.0})
    assert sides(planned(5000, 300, config))[:, :2, 0].max() == pytest.approx(448, rel=1e-4)
    assert sides(planned(5000, 4000, DINOV2, count=50))[:, :2, 0].max() > 4000


def test_a_square_may_be_turned_too():
    views = planned(300, 300, DINOV2.model_copy(update={"rotate": True}))
    linear = views.map_IS23[..., :2].astype(np.float64)
    angle = np.arctan2(-linear[..., 0, 1], linear[..., 1, 1])
    assert np.histogram(angle, 8, (-np.pi, np.pi))[0].min() > 0.1 * angle.size
    np.testing.assert_allclose((linear[..., 0] * linear[..., 1]).sum(-1), 0, atol=1e-4)  # rectangles
