"""Weights on disk: our own file, and warm starts that must compute what their authors' models do."""

import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from aqqua.model.config import ModelConfig
from aqqua.model.layouts import fit_position, resize_patch_kernel, split_position
from aqqua.model.sequences import Sequences
from aqqua.model.vit import Features, VisionTransformer
from aqqua.model.weights import export_hugging_face, load_model, load_pretrained, save_model
from aqqua.model.zoo import build

SMALL = {"width": 48, "heads": 3, "layers": 2, "position_grid": 4, "position": "learned"}
SMALL |= {"scale_token": False}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def loud(model: nn.Module) -> nn.Module:
    """Random everywhere, so that no tensor can be left out or swapped unseen."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def rows_of(images: torch.Tensor, patch: int) -> torch.Tensor:
    """Patch rows [N, P·P·C] of images [B, C, height, width]."""
    tiles = images.unfold(2, patch, patch).unfold(3, patch, patch)  # [B, C, rows, columns, P, P]
    return tiles.permute(0, 2, 3, 4, 5, 1).reshape(-1, patch * patch * images.shape[1])


def features_of(model: VisionTransformer, images: torch.Tensor) -> Features:
    patch = model.config.patch_px
    grid = [images.shape[2] // patch, images.shape[3] // patch]
    grids, um = torch.tensor([grid] * len(images)), torch.full((len(images),), float("nan"))
    with torch.no_grad():
        return model(rows_of(images, patch), Sequences.from_grids(grids, um, patch, model.config.prefix))


def assert_same(mine: Features, peer_BTD: torch.Tensor, prefix: int) -> None:
    torch.testing.assert_close(mine.cls_VD, peer_BTD[:, 0], **CLOSE)
    torch.testing.assert_close(mine.registers_VRD, peer_BTD[:, 1:prefix], **CLOSE)
    torch.testing.assert_close(mine.patches_ND, peer_BTD[:, prefix:].flatten(0, 1), **CLOSE)


def saved(tmp_path, state):
    path = tmp_path / "peer.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def test_patch_rows_equal_the_convolution():
    conv = nn.Conv2d(3, 8, kernel_size=4, stride=4)
    images = torch.randn(2, 3, 8, 12)
    weight = conv.weight.permute(0, 2, 3, 1).flatten(1)
    got = rows_of(images, 4) @ weight.T + conv.bias
    torch.testing.assert_close(got, conv(images).flatten(2).transpose(1, 2).flatten(0, 1))


@pytest.mark.parametrize("position", ["learned", "rope_physical"])
def test_save_and_load_give_every_bit(tmp_path, position):
    model = loud(build("tiny", layers=1, position=position))
    save_model(tmp_path / "model.safetensors", model, model.config)
    again = load_model(tmp_path / "model.safetensors")
    assert again.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("size_px", [(56, 56), (28, 84)], ids=str)
def test_timm_small_reg4_dinov2(tmp_path, timm, size_px):
    """The named model itself, at its own and at another, rectangular grid."""
    peer = timm.create_model("vit_small_patch14_reg4_dinov2", img_size=56, dynamic_img_size=True)
    loud(peer)
    config = ModelConfig(size="small", channels=3, position="learned", position_grid=4, scale_token=False)
    mine = load_pretrained(saved(tmp_path, peer.state_dict()), config)
    images = torch.randn(2, 3, *size_px)
    with torch.no_grad():
        want = peer.forward_features(images)
    assert_same(features_of(mine, images), want, prefix=5)


def test_timm_packed_swiglu(tmp_path, timm):
    """The giant's feed-forward, small."""
    from timm.layers import SwiGLUPacked

    peer = timm.models.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=48, depth=2, num_heads=3, init_values=1e-5, reg_tokens=4,
        no_embed_class=True, num_classes=0, global_pool="token", mlp_layer=SwiGLUPacked,
        mlp_ratio=2 * 128 / 48, act_layer=nn.SiLU,
    )  # fmt: skip
    loud(peer)
    mine = load_pretrained(
        saved(tmp_path, peer.state_dict()), ModelConfig(**SMALL, patch_px=4, channels=3, ffn="swiglu")
    )
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert_same(features_of(mine, images), peer.forward_features(images), prefix=5)


def hugging_face_peer(transformers, swiglu=False, channels=3):
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=16, patch_size=4,
        num_channels=channels, num_register_tokens=4, use_swiglu_ffn=swiglu,
    )  # fmt: skip
    return loud(transformers.Dinov2WithRegistersModel(config))


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
@pytest.mark.parametrize("size_px", [(16, 16), (8, 24)], ids=str)
def test_hugging_face_with_registers(tmp_path, transformers, ffn, size_px):
    peer = hugging_face_peer(transformers, ffn == "swiglu")
    peer.save_pretrained(tmp_path)
    config = ModelConfig(**SMALL, patch_px=4, channels=3, ffn=ffn)
    mine = load_pretrained(tmp_path / "model.safetensors", config)
    images = torch.randn(2, 3, *size_px)
    with torch.no_grad():
        assert_same(features_of(mine, images), peer(images).last_hidden_state, prefix=5)


@pytest.mark.parametrize("scale_token", [False, True])
@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_export_is_read_by_automodel(tmp_path, transformers, ffn, scale_token):
    """A model with a scale token leaves as what it says of an unknown scale."""
    fields = {**SMALL, "scale_token": scale_token}
    mine = loud(VisionTransformer(ModelConfig(**fields, patch_px=4, ffn=ffn)))
    export_hugging_face(tmp_path / "out", mine)
    peer = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    images = torch.randn(2, 1, 8, 24)
    with torch.no_grad():
        assert_same(features_of(mine, images), peer(images).last_hidden_state, prefix=5)


def test_export_refuses_what_cannot_be_expressed(tmp_path):
    with pytest.raises(ValueError, match=r"must have position 'learned'.*got 'rope'"):
        export_hugging_face(tmp_path, build("tiny", layers=1, position="rope"))


def dinov2_state(model: VisionTransformer) -> dict[str, torch.Tensor]:
    """A grey model's tensors as the original DINOv2 would keep them, in chunked blocks, with CLS position."""
    state = dict(model.state_dict())
    side = (model.config.patch_px, model.config.patch_px, model.config.channels)
    kernel = state.pop("embed.patch_embed.weight").unflatten(1, side)
    table = state.pop("embed.position.table").flatten(0, 1)
    position = torch.randn(1, model.config.width)
    out = {
        "cls_token": (state.pop("embed.cls_token") - position[0])[None, None],
        "pos_embed": torch.cat((position, table))[None],
        "register_tokens": state.pop("embed.register_tokens")[None],
        "mask_token": state.pop("embed.mask_token")[None],
        "patch_embed.proj.bias": state.pop("embed.patch_embed.bias"),
        "patch_embed.proj.weight": kernel.permute(0, 3, 1, 2),
    }
    return out | {name.replace("blocks.", "blocks.0."): tensor for name, tensor in state.items()}


def test_original_dinov2_names(tmp_path):
    model = loud(VisionTransformer(ModelConfig(**SMALL, patch_px=4)))
    again = load_pretrained(saved(tmp_path, dinov2_state(model)), model.config)
    for (name, a), b in zip(model.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_changes_of_content_are_logged(tmp_path, caplog):
    colour = loud(VisionTransformer(ModelConfig(**SMALL, patch_px=4, channels=3)))
    config = ModelConfig(**{**SMALL, "position_grid": 5, "scale_token": True}, patch_px=8)
    state = dinov2_state(colour)
    del state["mask_token"]
    with caplog.at_level(logging.INFO, "aqqua.model.weights"):
        load_pretrained(saved(tmp_path, state), config)
    for part in (
        "three colour channels summed", "resized from 4 to 8 px, flexivit", "table resized from 4² to 5²",
        "embed.mask_token starts fresh", "embed.scale.unknown starts fresh",
    ):  # fmt: skip
        assert part in caplog.text


def test_grey_is_the_colour_model_on_a_grey_image(tmp_path):
    colour = loud(VisionTransformer(ModelConfig(**SMALL, patch_px=4, channels=3)))
    grey = load_pretrained(saved(tmp_path, dinov2_state(colour)), ModelConfig(**SMALL, patch_px=4))
    images = torch.randn(2, 1, 16, 16)
    a, b = features_of(grey, images), features_of(colour, images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(a.cls_VD, b.cls_VD, **CLOSE)
    torch.testing.assert_close(a.patches_ND, b.patches_ND, **CLOSE)


def test_resized_patch_kernels_answer_as_before():
    even = torch.arange(1.0, 7.0)[:, None, None, None].expand(6, 1, 4, 4)
    larger = resize_patch_kernel(even, 8, "bicubic")
    torch.testing.assert_close(larger.sum((1, 2, 3)), even.sum((1, 2, 3)), **CLOSE)
    kernel = torch.randn(6, 1, 4, 4)
    patches = torch.randn(5, 1, 4, 4)
    resized = nn.functional.interpolate(patches, size=(8, 8), mode="bicubic", antialias=True)
    exact = resize_patch_kernel(kernel, 8, "flexivit")
    got = torch.einsum("dcab,ncab->nd", exact, resized)
    torch.testing.assert_close(got, torch.einsum("dcab,ncab->nd", kernel, patches), rtol=1e-4, atol=1e-4)


def test_flexivit_is_timms(timm):
    kernel = torch.randn(6, 3, 8, 8)
    want = timm.layers.resample_patch_embed(kernel, [6, 6])
    torch.testing.assert_close(resize_patch_kernel(kernel, 6, "flexivit"), want, rtol=1e-4, atol=1e-4)


def test_position_tables():
    table = torch.randn(1, 17, 6)
    square, cls = split_position(table)
    assert square.shape == (4, 4, 6)
    assert torch.equal(cls, table[0, 0])
    assert split_position(table[:, 1:])[1] is None
    assert fit_position(square, 4) == (square, [])
    with pytest.raises(ValueError, match=r"must be square, with or without CLS, got 12 rows"):
        split_position(table[:, :12])


@pytest.mark.parametrize("name", ["teacher.pth", "model.pt", "pytorch_model.bin", "last.ckpt"])
def test_pickled_weights_are_never_opened(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(ValueError, match=r"must be a .safetensors file, got .*can run code.*save_file"):
        load_pretrained(path, ModelConfig())


def test_misfits_are_listed(tmp_path):
    model = VisionTransformer(ModelConfig(**SMALL, patch_px=4))
    state = dinov2_state(model)
    state["head.weight"] = torch.zeros(3)
    del state["norm.bias"]
    path = saved(tmp_path, state)
    with pytest.raises(ValueError, match=r"missing norm.bias; unknown head.weight; adjust"):
        load_pretrained(path, model.config)
    with pytest.raises(ValueError, match=r"embed.register_tokens must be \[2, 48\], got \[4, 48\]"):
        load_pretrained(path, ModelConfig(**SMALL, patch_px=4, registers=2))
    with pytest.raises(ValueError, match=r"channels must be 1 for these weights, got 3"):
        load_pretrained(path, ModelConfig(**SMALL, patch_px=4, channels=3))


def test_foreign_and_damaged_files_are_named(tmp_path):
    path = saved(tmp_path, {"a": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"must hold an aqqua configuration, got none; .* load_pretrained"):
        load_model(path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"must be a whole safetensors file"):
        load_model(path)


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    model = build("tiny", layers=1)
    save_model(path, model, model.config)
    before = load_file(path)

    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("aqqua.model.weights.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(path, build("tiny", layers=1), model.config)
    assert all(torch.equal(before[name], tensor) for name, tensor in load_file(path).items())
