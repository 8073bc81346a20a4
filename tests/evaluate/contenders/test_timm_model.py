"""timm's models: as timm itself answers, from a file of weights or untrained, never from the network."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aqqua.evaluate.contenders.opening import open_contender
from aqqua.evaluate.contenders.square_model import SquareModel
from aqqua.evaluate.contenders.torchvision_import import import_peer

CPU = torch.device("cpu")
TINY = "timm:vit_tiny_patch16_224"


def opened(spec, pooling="cls") -> SquareModel:
    contender = open_contender(spec, pooling, CPU)
    assert isinstance(contender, SquareModel)
    return contender


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights with its classifier, for pictures of 224 px."""
    timm, file = import_peer("timm"), tmp_path_factory.mktemp("timm") / "tiny.safetensors"
    torch.manual_seed(3)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10)
    save_file(model.state_dict(), file)
    return file, model.eval()


def test_a_file_of_weights_answers_as_timm_does(weights, dataset):
    file, peer = weights
    contender = opened(f"{TINY}?weights={file}")
    block = dataset.block(3)
    with torch.no_grad():
        features = peer.forward_features(torch.from_numpy(contender.view(block, 0)[None]))
    np.testing.assert_allclose(contender(dataset, 3), features[:, 0].numpy(), atol=1e-5)
    tokens, offsets = contender.patches(dataset, 3)
    np.testing.assert_allclose(tokens, features[0, 1:].numpy(), atol=1e-5)
    assert offsets.tolist() == [0, 196]
    mean = opened(f"{TINY}?weights={file}", "mean")(dataset, 3)
    np.testing.assert_allclose(mean, features[:, 1:].mean(dim=1).numpy(), atol=1e-5)
    assert contender.facts.parameters == 5_524_416  # timm's 5.72 M without the classifier of 1000
    assert contender.view.mean == (0.5, 0.5, 0.5)  # as its pretrained_cfg says, not ImageNet's
    assert contender.facts.key == opened(f"{TINY}?weights={file}").facts.key


def test_the_key_knows_the_model_and_where_it_runs(weights, dataset):
    """Of one network's weights two models can be made: the second's activation is another (quick GELU)."""
    file, _ = weights
    clip, quick = (opened(f"timm:vit_base_patch32_clip{q}_224@random?size=32") for q in ("", "_quickgelu"))
    assert clip.facts.sha256 == quick.facts.sha256
    assert not np.allclose(clip(dataset, 3), quick(dataset, 3), atol=1e-3)
    assert clip.facts.key != quick.facts.key
    contender = opened(f"{TINY}?weights={file}")
    settings = json.loads(contender.facts.settings)
    assert settings["arithmetic"] == "float32 on cpu"
    assert settings["config"]["model"] == "vit_tiny_patch16_224"
    assert settings["config"]["pretrained_cfg"]["input_size"] == [3, 224, 224]
    on_cuda = replace(contender, device=torch.device("cuda"))
    on_cuda.__dict__["width"] = contender.width  # the network itself stays where it is
    assert on_cuda.facts.key != contender.facts.key
    copy = file.with_name("copy.safetensors")
    copy.write_bytes(file.read_bytes())
    assert opened(f"{TINY}?weights={copy}").facts.key == contender.facts.key  # where a file lies says nothing


def test_random_weights_are_the_same_each_time_and_draw_nothing_else(dataset):
    torch.manual_seed(0)
    first = torch.rand(3)
    torch.manual_seed(0)
    contender = opened(f"{TINY}@random?size=32")
    assert torch.equal(torch.rand(3), first)
    assert contender.facts == opened(f"{TINY}@random?size=32").facts
    both = opened(f"{TINY}@random?size=32", "cls+mean")
    np.testing.assert_allclose(both(dataset, 0)[:, :192], contender(dataset, 0), atol=1e-6)
    assert both.facts.width == 384


def test_a_batch_is_images_one_by_one(dataset, monkeypatch):
    contender = opened(f"{TINY}@random?size=32")
    whole = contender(dataset, 0)
    monkeypatch.setattr("aqqua.evaluate.contenders.square_model.BATCH", 3)
    np.testing.assert_allclose(contender(dataset, 0), whole, atol=1e-5)


def test_size_and_stretch_change_what_is_shown(dataset):
    keys = {opened(f"{TINY}@random{q}").facts.key for q in ("?size=32", "?size=48", "?size=32&stretch=yes")}
    assert len(keys) == 3
    stretched, padded = (opened(f"{TINY}@random?size=32{q}")(dataset, 0) for q in ("&stretch=yes", ""))
    assert np.abs(stretched - padded).max() > 1e-3


def test_flops_by_hand(dataset):
    """12 blocks of width 192 over 5 tokens, after a patch embedding of 4 patches."""
    n, d = 5, 192
    block = 2 * n * (3 * d * d + d * d + 8 * d * d) + 4 * n * n * d
    want = 2 * 4 * 16 * 16 * 3 * d + 12 * block
    assert opened(f"{TINY}@random?size=32").flops(dataset.sizes(0)) == want


@pytest.mark.parametrize("model", ["resnet10t", "swin_tiny_patch4_window7_224"])
def test_maps_become_patches(model, dataset):
    size = 64 if model == "resnet10t" else 56
    contender = opened(f"timm:{model}@random?size={size}")
    tokens, offsets = contender.patches(dataset, 3)
    assert offsets.tolist() == [0, 4]
    assert tokens.shape == (4, contender.facts.width)
    np.testing.assert_allclose(
        tokens.mean(axis=0), contender(dataset, 3)[0], atol=1e-5
    )  # what it pools itself


def test_what_cannot_be_opened(weights, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"\x80")
    (tmp_path / "torn.safetensors").write_bytes(b"\x80")
    said = {
        TINY: "nothing is downloaded; name a file",
        "timm:vit_tiny_patch16_225@random": "did you mean vit_",
        "timm:hf-hub:timm/resnet18@random": "must be one that timm",
        "timm:vit_tiny_patch16_224.nothing@random": "the tag after the dot",
        f"{TINY}?weights={tmp_path}/a.pth": r"must be a \.safetensors file",
        f"{TINY}?weights={tmp_path}/absent.safetensors": "that exists",
        f"{TINY}?weights={tmp_path}/torn.safetensors": "must hold the weights of vit_tiny_patch16_224",
        f"timm:resnet10t?weights={weights[0]}": "must hold the weights of resnet10t, got no conv1",
        f"timm:vit_small_patch16_224?weights={weights[0]}": "must hold the weights of vit_small_patch16_224",
    }
    for spec, sentence in said.items():
        with pytest.raises(ValueError, match=sentence) as caught:
            opened(spec)
        assert "\n" not in str(caught.value)
