"""The attentive probe: by hand, packed equals one by one, it finds a patch that the mean of all drowns."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from aqqua.evaluate.probes.attentive import Attentive, Looks
from aqqua.evaluate.tokens import PatchTokens


def planted(images, seed, width=8, classes=3):
    """Images of 3 to 12 noisy patches, one of which says the class and, in column 7, that it does."""
    draw = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    counts = draw.integers(3, 13, images)
    offsets = np.concatenate([[0], counts.cumsum()])
    rows = draw.normal(scale=2.0, size=(offsets[-1], width))
    rows[:, -1] = draw.normal(scale=0.1, size=offsets[-1])
    for i, (start, end) in enumerate(pairwise(offsets)):
        row = draw.integers(start, end)
        rows[row, :classes] = 6 * np.eye(classes)[labels[i]]
        rows[row, -1] = 5
    return PatchTokens.packed((rows * 3 + 50).astype(np.float32), offsets), labels, np.arange(images) % 12


def test_finds_the_patch_that_counts():
    train, labels, groups = planted(240, 0)
    asked, truth, _ = planted(90, 1)
    predictor = Attentive((1e-6, 1e-2), batch=32, min_steps=250).fit(train, labels, 3, groups, 0)
    assert predictor.rate == 1e-2
    found = predictor.probabilities(asked)
    assert (found.argmax(axis=1) == truth).mean() > 0.9
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_by_hand():
    """softmax of scores over an image's own patches, head by head, then values, then classes; in float64."""
    tokens, _, _ = planted(5, 3, width=128)
    mean, std = np.full(128, 50.0), np.full(128, 6.0)
    looks = Looks(2, 3, mean, std, seed=1)
    for look in looks.heads:
        torch.nn.init.normal_(look.query_HD, std=0.3)
        torch.nn.init.normal_(look.class_K)
    found = looks.probabilities(tokens)
    assert looks.heads[0].query_HD.shape == (2, 128)
    for g, look in enumerate(looks.heads):
        query, value, weight, bias = (
            getattr(look, name).detach().double().numpy()
            for name in ("query_HD", "value_DD", "class_KD", "class_K")
        )
        for i in range(5):
            x = (tokens.pack(np.array([i]))[0].astype(np.float64) - mean) / std
            scores = np.exp(x @ query.T)
            share = scores / scores.sum(axis=0)
            seen = np.concatenate([share[:, h] @ (x @ value.T)[:, h * 64 : h * 64 + 64] for h in range(2)])
            logits = np.exp(weight @ seen + bias)
            np.testing.assert_allclose(found[i, g], logits / logits.sum(), atol=1e-4)


def test_packed_equals_one_by_one_and_neighbours_have_no_say():
    train, labels, groups = planted(60, 0)
    asked, _, _ = planted(20, 1)
    predictor = Attentive((1e-2,), min_steps=20).fit(train, labels, 3, groups, 0)
    together = predictor.probabilities(asked)
    for i in (0, 7, 19):
        np.testing.assert_allclose(
            predictor.probabilities(asked.take(np.array([i])))[0], together[i], atol=1e-5
        )
    assert predictor.probabilities(asked.take(np.zeros(20, bool))).shape == (0, 3)


def test_the_same_by_seed_and_a_class_never_seen():
    train, labels, groups = planted(60, 0)
    probe = Attentive((1e-3, 1e-2), min_steps=15)
    found = [probe.fit(train, labels * 2, 6, groups, seed).probabilities(train) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert found[0].shape == (60, 6)
    assert not found[0][:, [1, 3, 5]].any()


def test_one_class_is_the_answer():
    train, labels, groups = planted(9, 0)
    found = Attentive().fit(train, labels * 0 + 1, 3, groups, 0).probabilities(train)
    np.testing.assert_array_equal(found, np.eye(3)[[1] * 9])


def test_tokens_that_are_not_numbers_are_told():
    train, labels, groups = planted(9, 0)
    train.table_ND[4, 2] = np.nan
    with pytest.raises(ValueError, match="attentive: features must be finite"):
        Attentive().fit(train, labels, 3, groups, 0)
