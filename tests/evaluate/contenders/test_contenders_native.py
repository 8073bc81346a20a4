"""Our models as contenders: the embedder's features, facts of every setting, FLOPs as torch counts."""

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aqqua.evaluate.contenders.native import Native
from aqqua.evaluate.features import Embedder
from aqqua.model.vit import VisionTransformer
from aqqua.plan.view_config import ViewConfig


def test_features_are_the_embedder_s(dataset, backbone):
    embedder = Embedder(backbone, ViewConfig(), "cls+mean")
    contender = Native(embedder, "runs/a")
    np.testing.assert_array_equal(contender(dataset, 1), embedder(dataset, 1))
    assert contender.facts.width == 64
    assert contender.facts.parameters == sum(p.numel() for p in backbone.parameters())
    assert contender.facts.input == "native resolution, 16 to 256 patches of 8 px, µm/px told"


def test_the_key_follows_weights_pooling_views_and_what_no_weight_shows(backbone):
    plain = Native(Embedder(backbone, ViewConfig()), "a").facts
    torch.manual_seed(5)
    others = [
        Embedder(VisionTransformer(backbone.config), ViewConfig()),
        Embedder(backbone, ViewConfig(), "mean"),
        Embedder(backbone, ViewConfig(max_tokens=(64, 16))),
    ]
    turned = VisionTransformer(backbone.config.model_copy(update={"rope_base": 7.0}))
    turned.load_state_dict(backbone.state_dict())
    others.append(Embedder(turned, ViewConfig()))
    assert len({plain.key, *(Native(e, "a").facts.key for e in others)}) == 5
    assert Native(others[-1], "a").facts.sha256 == plain.sha256
    assert '"arithmetic": "float32 on cpu"' in plain.settings
    assert Native(Embedder(backbone, ViewConfig()), "other/path").facts.key == plain.key


@pytest.mark.parametrize("number", [0, 3])
def test_flops_are_those_that_torch_counts(dataset, backbone, number):
    embedder = Embedder(backbone, ViewConfig())
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        embedder(dataset, number)
    got = Native(embedder, "a").flops(dataset.sizes(number))
    assert got * dataset.rows_of(number) == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_flops_of_no_image_are_none(dataset, backbone):
    assert Native(Embedder(backbone, ViewConfig()), "a").flops(dataset.sizes(0).take(np.zeros(0, int))) == 0
