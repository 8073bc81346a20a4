import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqqua.cost.tokens import equal_views, expected_masked, fixed_224_98, kept_share, role_of
from aqqua.model.block import kept_views
from aqqua.model.config import ModelConfig
from aqqua.plan.masks import MaskConfig


def test_sums_and_means_by_hand():
    role = role_of(np.array([5, 130, 20]), per=2)
    assert (role.views, role.tokens, role.squares) == (1.5, 77.5, (25 + 16900 + 400) / 2)
    assert role.tile_squares == (128**2 + 256**2 + 128**2) / 2
    assert role.mean == pytest.approx(155 / 3)
    assert role.n2 == pytest.approx(17325 / 155)
    assert role.patches(prefix=5) == 77.5 - 7.5


def test_enlarged_views_have_that_many_more_patches():
    small, large = (role_of(np.array([5 + p for p in patches])) for patches in ((6, 20), (24, 80)))
    got = small.enlarged(2, prefix=5)
    assert (got.views, got.tokens, got.squares) == (large.views, large.tokens, large.squares)
    assert small.patch_squares(prefix=5) == 36 + 400


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=50))
def test_n2_is_at_least_the_mean_and_at_most_the_largest(lengths):
    role = role_of(np.array(lengths))
    assert role.mean <= role.n2 * (1 + 1e-12)
    assert role.n2 <= max(lengths) * (1 + 1e-12)
    assert role.tile_squares >= role.squares
    whole = role_of(np.array(lengths[:1])).plus(role_of(np.array(lengths[1:])))
    assert whole.squares == pytest.approx(role.squares)


def test_no_view_has_no_mean():
    assert equal_views(0, 20).mean == equal_views(0, 20).n2 == 0


def test_dinov2_s_crops():
    tokens = fixed_224_98(ModelConfig(registers=0), MaskConfig())
    assert tokens.student.tokens == 2 * 257 + 8 * 50
    assert tokens.globals_.n2 == 257
    assert tokens.masked == pytest.approx(0.5 * 0.3 * 512)  # half of the views, 0.1 to 0.5 of their patches
    assert tokens.student_rows == pytest.approx(10 + tokens.masked)
    assert tokens.teacher_rows == pytest.approx(2 + tokens.masked)
    assert tokens.images_per_pack(9140) == pytest.approx(10)
    assert expected_masked(tokens.globals_, 1, MaskConfig(odds=1.0, ratio=(0.25, 0.25))) == 128


@pytest.mark.parametrize("views", [1, 7, 24, 1000])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.95])
def test_kept_share_is_the_block_s(views, rate):
    import torch

    kept = views if rate == 0 else len(kept_views(torch.rand(views), rate))
    assert kept_share(views, rate) == kept / views
