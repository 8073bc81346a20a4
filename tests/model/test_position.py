"""Additive position codes: DINOv2's resized table, NaViT's fractions, Scale-MAE's golden numbers."""

import pytest
import torch
from torch.nn.functional import interpolate

from aqqua.model.position import FactorisedFractional, GsdSineCosine, LearnedGrid, gsd_sine_cosine
from aqqua.model.sequences import Sequences

GRIDS = torch.tensor([[4, 4], [1, 1], [7, 3], [2, 9], [7, 3], [4, 9], [5, 1]])


def pack(grids=GRIDS, um=None, patch_px=8):
    um = torch.ones(len(grids)) if um is None else torch.tensor(um)
    return Sequences.from_grids(grids, um, patch_px, prefix=1)


@pytest.mark.parametrize("offset", [False, True], ids=["size", "offset"])
def test_learned_grid_is_dinov2s_interpolation_of_each_view(offset):
    side, width = 4, 6
    position = LearnedGrid(side, width, offset)
    position.init_weights(torch.Generator().manual_seed(0))
    image = position.table.permute(2, 0, 1)[None]
    want = []
    for rows, columns in GRIDS.tolist():
        if (rows, columns) == (side, side):
            resized = image
        elif offset:
            scale = ((rows + 0.1) / side, (columns + 0.1) / side)
            resized = interpolate(image, scale_factor=scale, mode="bicubic")
        else:
            # One axis at a time: torch 2.13 on the CPU repeats the first row when a grid of many rows
            # is resized to width 1 in one call.
            tall = interpolate(image, size=(rows, side), mode="bicubic", antialias=True)
            resized = interpolate(tall, size=(rows, columns), mode="bicubic", antialias=True)
        assert resized.shape[-2:] == (rows, columns)
        want.append(resized[0].permute(1, 2, 0).flatten(0, 1))
    got, want = position(pack()), torch.cat(want)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    dy = torch.randn(want.shape, generator=torch.Generator().manual_seed(1))
    (a,) = torch.autograd.grad(got, position.table, dy)
    (b,) = torch.autograd.grad(want, position.table, dy)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_learned_grid_of_its_own_side_is_the_table():
    position = LearnedGrid(4, 6)
    position.init_weights()
    assert torch.equal(position(pack(torch.tensor([[4, 4]]))), position.table.flatten(0, 1))


def test_factorised_depends_on_the_fraction_of_the_side():
    position = FactorisedFractional(8, 6)
    position.init_weights(torch.Generator().manual_seed(0))
    own = position(pack(torch.tensor([[8, 8]]))).unflatten(0, (8, 8))
    torch.testing.assert_close(own, position.rows[:, None] + position.columns[None])
    # The middle of three columns and the only column lie at the same fraction, one half.
    middle = position(pack(torch.tensor([[1, 3]])))[1]
    torch.testing.assert_close(middle, position(pack(torch.tensor([[1, 1]])))[0])
    assert not torch.allclose(own[0, 1], own[1, 0])  # rows and columns have tables of their own


def test_gsd_golden_sum_and_layout():
    """Scale-MAE at D = 64, grid 4×4, resolutions 1, 0.5, 2; its CLS rows are zero."""
    rc = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    codes = [gsd_sine_cosine(rc, torch.full((16,), scale), 64) for scale in (1.0, 0.5, 2.0)]
    assert torch.stack(codes).double().sum().item() == pytest.approx(1561.00476, rel=1e-5)
    column_1 = codes[0][1]  # row 0, column 1: the first half speaks of columns, [sin | cos]
    assert column_1[0].item() == pytest.approx(torch.tensor(1.0).sin().item())
    assert column_1[16].item() == pytest.approx(torch.tensor(1.0).cos().item())
    assert torch.equal(column_1[32:48], torch.zeros(16))
    assert torch.equal(column_1[48:], torch.ones(16))


def test_gsd_is_equal_at_equal_places():
    """Patch 2 at 0.5 µm/px lies where patch 1 lies at 1 µm/px."""
    at = gsd_sine_cosine(torch.tensor([[2, 2], [1, 1]]), torch.tensor([0.5, 1.0]), 64)
    assert torch.equal(at[0], at[1])


def test_gsd_of_unknown_scale_is_the_reference_scale_and_a_learned_offset():
    position = GsdSineCosine(64, reference_um_per_px=2.0, patch_px=8)
    position.init_weights()
    codes = position(pack(torch.tensor([[2, 2], [2, 2], [2, 2]]), um=[2.0, float("nan"), 4.0]))
    reference, unknown, coarse = codes.split(4)
    torch.testing.assert_close(unknown, reference + position.unknown)
    assert position.unknown.abs().min() > 0  # unknown never passes for a known scale
    assert not torch.allclose(reference, coarse)
    unknown.sum().backward()
    torch.testing.assert_close(position.unknown.grad, torch.full((64,), 4.0))  # four patches


def test_gsd_of_other_patches_is_that_of_equal_places():
    """Patches of half the side at twice the µm/px are as large, and so are their codes."""
    position = GsdSineCosine(64, reference_um_per_px=2.0, patch_px=8)
    position.init_weights()
    grids = torch.tensor([[2, 3]])
    small = Sequences.from_grids(grids, torch.tensor([3.0]), patch_px=4, prefix=1)
    own = Sequences.from_grids(grids, torch.tensor([1.5]), patch_px=8, prefix=1)
    torch.testing.assert_close(position(small), position(own))
    torch.testing.assert_close(position.placed(small).relative_V, position.placed(own).relative_V)
