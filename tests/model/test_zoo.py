"""Named sizes: parameters and operations against timm's models and plain arithmetic."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aqqua.model.config import SIZES, ModelConfig
from aqqua.model.sequences import Sequences
from aqqua.model.vit import VisionTransformer
from aqqua.model.zoo import build, count_parameters, flops_per_token


def on_meta(**fields) -> VisionTransformer:
    with torch.device("meta"):
        return VisionTransformer(ModelConfig(channels=3, position="learned", scale_token=False, **fields))


@pytest.mark.parametrize("size", ["small", "base", "large", "giant"])
def test_parameters_are_timms(size, timm):
    with torch.device("meta"):
        peer = timm.create_model(f"vit_{size}_patch14_reg4_dinov2", img_size=224)
    mine = on_meta(size=size)
    assert count_parameters(mine) - mine.config.width == count_parameters(peer)  # ours has a mask token
    assert len(mine.blocks) == len(peer.blocks)


@pytest.mark.parametrize(
    ("size", "millions"), [("small", 22.06), ("base", 86.58), ("large", 304.37), ("giant", 1136.48)]
)
def test_parameters_in_millions(size, millions):
    """As released, with a table for 518 px. Source: timm, vit_*_patch14_reg4_dinov2."""
    released = on_meta(size=size, position_grid=37)
    assert count_parameters(released) / 1e6 == pytest.approx(millions, abs=0.01)


def test_swiglu_widths():
    assert ModelConfig(size="giant").ffn_width == 4096
    assert ModelConfig(width=384, ffn="swiglu").ffn_width == 1024
    assert ModelConfig(width=100, heads=5, ffn="swiglu").ffn_width == 272  # 266 rounded up to 8s


def test_size_fills_what_is_not_given():
    config = ModelConfig(size="large", layers=3)
    assert (config.width, config.layers, config.heads, config.ffn) == (1024, 3, 16, "mlp")
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config
    assert ModelConfig() == ModelConfig(size="small")
    assert all(fields["width"] == 64 * fields["heads"] for fields in SIZES.values())


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"one of tiny, small, base, large, giant, got 'nano'"):
        build("nano")


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_operations_are_torchs_count(ffn):
    model = build("tiny", layers=2, ffn=ffn, attention="reference", position="none", scale_token=False)
    sequences = Sequences.from_grids(torch.tensor([[4, 5]] * 3), torch.ones(3), 14, model.config.prefix)
    patches = torch.randn(sequences.patches, model.config.patch_values)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(patches, sequences)
    want = flops_per_token(model.config, 25.0) * sequences.tokens
    assert counter.get_total_flops() == pytest.approx(want, rel=1e-6)
