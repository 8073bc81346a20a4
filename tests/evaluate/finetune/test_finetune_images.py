"""Images: every one as often as it should be, turned anew each time, and features in the order asked for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aqqua.evaluate.features import all_features, pack_features, pooled
from aqqua.evaluate.finetune.config import FinetuneConfig
from aqqua.evaluate.finetune.images import Images, drawn_order


def images_of(made, embedder, **options) -> Images:
    config = FinetuneConfig(batch_images=24, pack_tokens=400, **options)
    return Images.of(made.dataset, made.rows, embedder.views, config)


@pytest.mark.parametrize("window", [1, 3, 100])
def test_an_epoch_shows_every_image_as_often_as_it_repeats(disks_and_rods, embedder, window):
    images = images_of(disks_and_rods, embedder, window_blocks=window)
    train = np.flatnonzero(np.arange(160) % 5 > 0)
    repeats = np.arange(len(train)) % 4
    shown, sizes = np.zeros(160, int), []
    for step in images.steps(embedder.backbone, train, repeats, epoch=2):
        assert np.concatenate([index for _, _, index in step.packs]).tolist() == step.index_I.tolist()
        np.add.at(shown, step.index_I, 1)
        sizes.append(len(step.index_I))
        for pack, pixels, index in step.packs:
            assert pack.tokens <= 400
            keys = images.key_N[index]
            np.testing.assert_array_equal(pack.key_V, keys)
            for i, row in enumerate(index):
                np.testing.assert_array_equal(pixels[i], disks_and_rods.shapes[row].picture)
    np.testing.assert_array_equal(shown[train], repeats)
    assert shown.sum() == repeats.sum()
    assert sizes[:-1] == [24] * (len(sizes) - 1)


def test_epochs_and_copies_differ_and_an_epoch_repeats(disks_and_rods, embedder):
    images = images_of(disks_and_rods, embedder)
    train, twice = disks_and_rods.rows, np.full(160, 2)

    def maps(epoch: int) -> tuple[list[int], dict[tuple[int, int], np.ndarray]]:
        order, found = [], {}
        for step in images.steps(embedder.backbone, train, twice, epoch):
            order += step.index_I.tolist()
            for pack, _, index in step.packs:
                for v, row in enumerate(index.tolist()):
                    found[row, int(pack.visit_I[v])] = pack.map_V23[v]
        return order, found

    first, again, later = maps(0), maps(0), maps(1)
    assert first[0] == again[0] != later[0]
    assert len(first[1]) == 320
    assert all(np.array_equal(first[1][k], again[1][k]) for k in first[1])
    copies = [np.array_equal(first[1][row, 0], first[1][row, 1 << 24]) for row in range(160)]
    assert 0 < np.mean(copies) < 0.35  # one of eight symmetries is the same by chance


def test_the_order_does_not_depend_on_the_number_of_an_image():
    keys = np.arange(50, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    one = drawn_order(keys, np.ones(50, np.int64), 0, 3)
    other = drawn_order(keys[::-1].copy(), np.ones(50, np.int64), 0, 3)
    np.testing.assert_array_equal(keys[one.index], keys[::-1][other.index])


@pytest.mark.parametrize("pooling", ["cls", "cls+mean"])
def test_features_are_those_of_the_embedder_in_the_order_asked_for(disks_and_rods, embedder, pooling):
    images = images_of(disks_and_rods, embedder)
    which = np.random.default_rng(0).permutation(160)[:70]
    found = images.features(embedder.backbone, pooling, which, torch.device("cpu")).numpy()
    wanted = all_features(replace(embedder, pooling=pooling), disks_and_rods.dataset)
    np.testing.assert_allclose(found, wanted[which], atol=2e-5)


def test_without_turn_and_flip_training_sees_what_validation_sees(disks_and_rods, embedder):
    images = images_of(disks_and_rods, embedder, turn="none", flip=False)
    plain = images.features(embedder.backbone, "cls", disks_and_rods.rows, torch.device("cpu"))
    ones = np.ones(160, np.int64)
    for step in images.steps(embedder.backbone, disks_and_rods.rows, ones, 0):
        for pack, pixels, index in step.packs:
            seen = pooled(*pack_features(embedder.backbone, pack, pixels, torch.device("cpu")), "cls")
            torch.testing.assert_close(seen.detach(), plain[torch.from_numpy(index)], atol=2e-5, rtol=1e-4)
