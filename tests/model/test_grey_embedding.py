"""Grey and colour images in one pack, each through the patch embedding of its own channels."""

import pytest
import torch
from torch import Tensor

from aqqua.model.config import ModelConfig
from aqqua.model.layouts import to_hugging_face
from aqqua.model.sequences import Sequences
from aqqua.model.vit import VisionTransformer
from aqqua.train.optim import OptimConfig, multipliers

GRIDS, UM = torch.tensor([[2, 3], [1, 2], [3, 3]]), torch.tensor([1.0, 2.0, float("nan")])
GREY = torch.tensor([True, False, True])
FIELDS = {
    "width": 32, "heads": 2, "layers": 1, "patch_px": 4, "registers": 1, "layer_scale": 0.5, "drop_path": 0.0,
    "attention": "reference",
}  # fmt: skip
CONFIG = ModelConfig(**FIELDS, channels=3, grey_embedding=True)


def made(side: int = 4) -> tuple[VisionTransformer, Tensor, Sequences]:
    """Rows of a renderer of three channels: of grey images all three are the same."""
    torch.manual_seed(0)
    model = VisionTransformer(CONFIG)
    sequences = Sequences.from_grids(GRIDS, UM, side, CONFIG.prefix, grey_V=GREY)
    colour = torch.randn(sequences.patches, side**2, 3)
    grey_N = GREY[sequences.view_N]
    rows = torch.where(grey_N[:, None, None], colour[:, :, :1], colour)
    return model, rows.flatten(1), sequences


def alone(model: VisionTransformer, channels: int) -> VisionTransformer:
    """A plain model of so many channels with the weights that such images should meet."""
    plain = VisionTransformer(ModelConfig(**FIELDS, channels=channels))
    state = {name: t for name, t in model.state_dict().items() if "grey" not in name}
    if channels == 1:
        state["embed.patch_embed.weight"] = model.state_dict()["embed.patch_embed_grey.weight"]
    plain.load_state_dict(state)
    return plain


@pytest.mark.parametrize("side", [4, 6])
def test_each_view_is_seen_as_by_a_model_of_its_own_channels(side):
    model, rows, sequences = made(side)
    got = model(rows, sequences).cls_VD
    colour, grey = (alone(model, channels) for channels in (3, 1))
    want = torch.where(GREY[:, None], grey(rows[:, ::3], sequences).cls_VD, colour(rows, sequences).cls_VD)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_a_view_teaches_only_the_embedding_it_goes_through():
    model, rows, sequences = made()
    names = ("patch_embed_grey", "patch_embed")
    for view, teaches in ((0, 0), (1, 1)):
        loss = model(rows, sequences).cls_VD[view].square().sum()
        grads = torch.autograd.grad(loss, [getattr(model.embed, name).weight for name in names])
        assert grads[teaches].abs().max() > 0
        assert not grads[1 - teaches].any()


def test_it_goes_with_hidden_scales_parts_and_other_prefixes():
    _, _, sequences = made()
    hidden = sequences.hide_scale(torch.tensor([True, False, False]))
    assert torch.equal(hidden.grey_V, GREY)
    assert torch.equal(sequences.part(torch.tensor([2, 1])).grey_V, GREY[[2, 1]])
    assert torch.equal(sequences.with_prefix(4).grey_V, GREY)


def test_packs_that_do_not_say_and_forms_that_cannot_hold_it_are_refused():
    model, rows, _ = made()
    with pytest.raises(ValueError, match=r"must know which views are grey, got no grey_V"):
        model(rows, Sequences.from_grids(GRIDS, UM, 4, CONFIG.prefix))
    with pytest.raises(ValueError, match=r"one patch embedding, got model\.grey_embedding"):
        to_hugging_face(model.state_dict(), CONFIG)
    with pytest.raises(ValueError, match="grey_embedding needs channels 3, got 1"):
        ModelConfig(grey_embedding=True)


def test_it_learns_at_the_rate_of_a_patch_embedding():
    config = OptimConfig()
    want = multipliers("backbone.embed.patch_embed.weight", 12, config)
    assert multipliers("backbone.embed.patch_embed_grey.weight", 12, config) == want
