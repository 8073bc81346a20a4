"""Features: packed equals one by one, rows keep their order, pooling, patches."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from drawn_images import blob, make_dataset

from aqqua.evaluate.features import Embedder, all_features, fingerprint
from aqqua.model.vit import VisionTransformer
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.whole import whole_packs
from aqqua.store.read import Block, Dataset


@pytest.mark.parametrize("pooling", ["cls", "mean", "cls+mean"])
def test_packed_equals_one_image_at_a_time(dataset, backbone, pooling, monkeypatch):
    views = ViewConfig(max_tokens=(36, 16))
    embedder = Embedder(backbone, views, pooling)
    packed = all_features(embedder, dataset)
    assert packed.shape == (dataset.rows, embedder.width)
    assert packed.dtype == np.float32
    monkeypatch.setattr("aqqua.evaluate.features.BUDGET_TOKENS", 1)  # then every image is a pack of its own
    np.testing.assert_allclose(all_features(embedder, dataset), packed, atol=1e-5, rtol=0)
    assert packed.std(axis=0).min() > 1e-3  # the images differ, so the comparison means something


def test_rows_are_in_the_order_of_the_dataset(dataset, backbone, tmp_path):
    embedder = Embedder(backbone, ViewConfig())
    features = all_features(embedder, dataset)
    ids = dataset.table(["image_id"])["image_id"].to_pylist()
    for row in (0, 20, 48):
        number = int(ids[row].removeprefix("made/image"))
        alone = make_dataset(tmp_path / str(row), [np.zeros((1, 1), np.uint8)] * number + [blob(number)])
        names = alone.table(["image_id"])["image_id"].to_pylist()
        again = all_features(embedder, alone)[names.index(ids[row])]
        np.testing.assert_allclose(again, features[row], atol=1e-5)


def test_mean_pooling_is_the_mean_of_each_image_s_patches(dataset, backbone):
    block = dataset.block(0)
    cls, mean, both = (Embedder(backbone, ViewConfig(), pooling) for pooling in ("cls", "mean", "cls+mean"))
    found, start = mean(dataset, 0), 0
    packs = list(
        whole_packs(block.sizes, 0, patch_px=8, prefix_tokens=5, budget_tokens=1 << 20, views=ViewConfig())
    )
    assert len(packs) == 1
    patches = mean._forward(packs[0], block)[0].patches_ND
    for i, count in enumerate(packs[0].patches_V.tolist()):
        want = patches[start : start + count].mean(dim=0)
        np.testing.assert_allclose(found[i], want.detach().numpy(), atol=1e-5)
        start += count
    assert start == len(patches)
    np.testing.assert_allclose(both(dataset, 0), np.hstack([cls(dataset, 0), found]), atol=1e-6)
    assert (cls.width, mean.width, both.width) == (32, 32, 64)


def test_a_cap_over_the_usual_budget_is_no_error(dataset, backbone, monkeypatch):
    monkeypatch.setattr("aqqua.evaluate.features.BUDGET_TOKENS", 8)
    assert len(Embedder(backbone, ViewConfig(max_tokens=(64, 16)))(dataset, 3)) == 1


def test_an_empty_block_gives_no_rows(dataset, backbone):
    class Empty(Dataset):
        def __init__(self) -> None:
            pass

        def block(self, _block: int) -> Block:
            nothing = np.zeros(0, np.int64)
            return Block(dataset.sizes(0).take(nothing), np.zeros(1, np.int64), np.zeros(0, np.uint8))

    assert Embedder(backbone, ViewConfig())(Empty(), 0).shape == (0, 32)


def test_patches_are_those_that_are_pooled(dataset, backbone):
    embedder = Embedder(backbone, ViewConfig(), "mean")
    for number in (0, 3):
        tokens, offsets = embedder.patches(dataset, number)
        assert (tokens.dtype, offsets[0], offsets[-1]) == (np.float32, 0, len(tokens))
        means = np.array([tokens[start:end].mean(axis=0) for start, end in pairwise(offsets.tolist())])
        np.testing.assert_allclose(means, embedder(dataset, number), atol=1e-5)


def test_fingerprint_follows_the_weights(backbone):
    torch.manual_seed(1)
    other = VisionTransformer(backbone.config)
    assert fingerprint(other) != fingerprint(backbone)
    other.load_state_dict(backbone.state_dict())
    assert fingerprint(other) == fingerprint(backbone)


def test_features_follow_the_scale_that_is_told(dataset, backbone):
    true, twice, hidden = (Embedder(backbone, ViewConfig(), told_times=t)(dataset, 0) for t in (1, 2, np.nan))
    known_I = np.isfinite(dataset.sizes(0).um_per_px)
    assert known_I.any()
    assert (np.abs(twice - true).max(axis=1) > 1e-4)[known_I].all()
    assert (np.abs(hidden - true).max(axis=1) > 1e-4)[known_I].all()
