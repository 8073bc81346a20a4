"""Rotary position: DINOv3's golden numbers, and that no physical size is lost."""

import pytest
import torch

from aqqua.kernels.attention.reference import turn_reference
from aqqua.model.config import ModelConfig
from aqqua.model.rotary import normalised_turns, physical_turns, rotary_tables
from aqqua.model.sequences import Sequences

NAN = float("nan")


def tables(config, grids, um, patch_px=None):
    sequences = Sequences.from_grids(
        torch.tensor(grids), torch.tensor(um), patch_px or config.patch_px, config.prefix
    )
    return rotary_tables(sequences, config), sequences


def test_dinov3_golden_numbers():
    """D 384, 6 heads, grid 4×6, base 100, separate."""
    config = ModelConfig(position="rope", registers=0)
    rotary, sequences = tables(config, [[4, 6]], [1.0])
    cos, sin = (x[sequences.patch_rows_N].double() for x in (rotary.cos_TE, rotary.sin_TE))
    assert cos.shape == (24, 64)
    assert cos.sum().item() == pytest.approx(1011.25861, rel=1e-5)
    assert abs(sin.sum().item()) < 1e-4
    assert sin.abs().sum().item() == pytest.approx(594.4952, rel=1e-5)


def test_dinov3_periods():
    turns = normalised_turns(torch.tensor([[0, 0]]), torch.tensor([[1, 2]]), 16, 100.0, "separate")
    periods = -0.5 / turns[0, 1]  # column 0 of 2 lies at −0.5
    assert periods[[0, 1, 2, 15]].tolist() == pytest.approx([1, 1.333521, 1.778279, 74.989418], rel=1e-5)


@pytest.mark.parametrize(
    ("normalise", "first"), [("separate", (-0.5, -0.75)), ("max", (-0.75, -0.75)), ("min", (-0.5, -0.5))]
)
def test_normalisation_of_a_2_by_4_grid(normalise, first):
    turns = normalised_turns(torch.tensor([[0, 0]]), torch.tensor([[2, 4]]), 4, 100.0, normalise)
    assert turns[0, :, 0].tolist() == pytest.approx(first)


def test_cls_and_registers_are_not_turned():
    config = ModelConfig(size="tiny", position="rope", registers=2)
    rotary, sequences = tables(config, [[2, 2], [1, 3]], [1.0, NAN])
    x = torch.randn(sequences.tokens, 3, 64)
    turned = turn_reference(x, rotary.cos_TE, rotary.sin_TE)
    prefix = sequences.prefix_rows_VR.flatten()
    assert torch.equal(turned[prefix], x[prefix])
    assert not torch.allclose(turned[sequences.patch_rows_N], x[sequences.patch_rows_N])


def test_turning_is_rotate_half_and_keeps_length():
    config = ModelConfig(size="tiny", position="rope_physical")
    rotary, sequences = tables(config, [[3, 2]], [3.0])
    x = torch.randn(sequences.tokens, 3, 64)
    rotated = torch.cat((-x[..., 32:], x[..., :32]), dim=-1)
    want = x * rotary.cos_TE[:, None] + rotated * rotary.sin_TE[:, None]
    torch.testing.assert_close(turn_reference(x, rotary.cos_TE, rotary.sin_TE), want)
    torch.testing.assert_close(turn_reference(x, rotary.cos_TE, rotary.sin_TE).norm(dim=-1), x.norm(dim=-1))
    assert turn_reference(x.bfloat16(), rotary.cos_TE, rotary.sin_TE).dtype == torch.bfloat16


@pytest.mark.parametrize("magnification", [3, 5])
def test_resize_and_relabel_leaves_the_physical_code(magnification):
    """Resized by an odd factor r, patch i of the old image has the centre of patch r·i + (r−1)/2."""
    old = torch.cartesian_prod(torch.arange(4), torch.arange(5))
    new = old * magnification + (magnification - 1) // 2
    um_per_patch = torch.full((20,), 14 * 3.4)
    before = physical_turns(old, um_per_patch, 8, 2.0, 2e4)
    after = physical_turns(new, um_per_patch / magnification, 8, 2.0, 2e4)
    # The shortest wavelength sees 100 turns in this view; a fraction 1e-4 of a turn is rounding of µm/px.
    wrapped = (before - after + 0.5).remainder(1) - 0.5
    assert wrapped.abs().max() < 1e-4


def test_patch_side_and_scale_only_count_as_micrometres_per_patch():
    config = ModelConfig(size="tiny", position="rope_physical")
    coarse, _ = tables(config, [[3, 4]], [2.0], patch_px=7)
    fine, _ = tables(config, [[3, 4]], [1.0], patch_px=14)
    torch.testing.assert_close(coarse.cos_TE, fine.cos_TE)


def test_unknown_scale_leaves_normalised_coordinates_only():
    config = ModelConfig(size="tiny", position="rope_physical")
    rotary, sequences = tables(config, [[3, 4], [3, 4]], [NAN, 5.0])
    unknown, known = rotary.cos_TE[sequences.patch_rows_N].split(12)
    assert rotary.cos_TE.isfinite().all()
    assert rotary.sin_TE.isfinite().all()
    assert torch.equal(unknown[:, :16], torch.ones(12, 16))
    assert not torch.allclose(known[:, :16], torch.ones(12, 16))
    assert torch.equal(unknown[:, 16:32], known[:, 16:32])


def test_wavelengths_run_from_2_um_to_20_mm():
    turns = physical_turns(torch.tensor([[0, 0]]), torch.tensor([1.0]), 8, 2.0, 2e4)[0, 0]
    assert (0.5 / turns[[0, -1]]).tolist() == pytest.approx([2.0, 2e4], rel=1e-5)
    ratios = turns[:-1] / turns[1:]
    torch.testing.assert_close(ratios, ratios[:1].expand(7))


def test_other_positions_have_no_tables():
    assert tables(ModelConfig(size="tiny", position="learned"), [[1, 1]], [1.0])[0] is None
