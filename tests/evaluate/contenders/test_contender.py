"""The protocol: everything that can be judged follows it, and its key follows all that decides features."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aqqua.evaluate.contenders.contender import WithPatches, arithmetic
from aqqua.evaluate.contenders.handcrafted import Handcrafted
from aqqua.evaluate.contenders.native import Native
from aqqua.evaluate.contenders.opening import open_contender
from aqqua.evaluate.contenders.pixels import Pixels
from aqqua.evaluate.features import Embedder
from aqqua.plan.view_config import ViewConfig

CPU = torch.device("cpu")
MADE = {
    "aqqua": lambda backbone: Native(Embedder(backbone, ViewConfig()), "runs/a"),
    "timm": lambda _: open_contender("timm:vit_tiny_patch16_224@random?size=32", device=CPU),
    "pixels": lambda _: Pixels(),
    "handcrafted": lambda _: Handcrafted(),
}


@pytest.mark.parametrize("kind", MADE)
def test_all_answer_alike(kind, dataset, backbone):
    contender = MADE[kind](backbone)
    facts = contender.facts
    assert facts.kind == kind
    for number in (0, 3):  # of 16 images and of one
        found = contender(dataset, number)
        assert found.dtype == np.float32
        assert found.shape == (dataset.rows_of(number), facts.width)
        assert np.isfinite(found).all()
    assert (facts.sha256 is None) == (facts.parameters == 0) == (kind in ("pixels", "handcrafted"))
    assert (contender.flops(dataset.sizes(0)) > 0) == isinstance(contender, WithPatches)
    assert isinstance(contender, WithPatches) == (kind in ("aqqua", "timm"))


def test_patches_of_every_image(dataset, backbone):
    for kind in ("aqqua", "timm"):
        contender = MADE[kind](backbone)
        assert isinstance(contender, WithPatches)
        tokens, offsets = contender.patches(dataset, 0)
        assert tokens.shape == (offsets[-1], contender.facts.width)
        assert (np.diff(offsets) >= 1).all()
        assert (len(offsets), offsets[0], tokens.dtype) == (17, 0, np.float32)


@pytest.mark.parametrize(
    "change", [{"sha256": "0"}, {"input": "other"}, {"settings": "other"}, {"width": 1}, {"kind": "x"}]
)
def test_the_key_follows_every_fact(change):
    assert replace(Pixels.facts, **change).key != Pixels.facts.key
    assert replace(Pixels.facts).key == Pixels.facts.key


def test_the_arithmetic_is_that_of_the_device():
    assert arithmetic(torch.device("cpu")) == "float32 on cpu"
    assert arithmetic(torch.device("cuda:1")) == "bfloat16 on cuda"
