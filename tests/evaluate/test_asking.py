"""Probes by name: each answers with probabilities of all classes, and learns what there is to learn."""

import numpy as np
import pytest

from aqqua.evaluate.asking import FITTED, NEIGHBOURS, PROBES, ask
from aqqua.evaluate.probes.attentive import Attentive
from aqqua.evaluate.tokens import PatchTokens


def clouds(rows, seed):
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 3, rows)
    features = draw.normal(size=(rows, 4)).astype(np.float32)
    features[np.arange(rows), label] += 5
    return features, label


@pytest.mark.parametrize("probe", [name for name in PROBES if name not in ("attentive", "few-shot")])
def test_a_probe_tells_clouds_apart(probe):
    (train, label), (asked, truth) = clouds(240, 0), clouds(60, 1)
    found = ask(probe, train, label, 4, np.arange(240) // 4, asked, seed=0).answers
    names = [f"kNN k={k}" for k in NEIGHBOURS]
    want = {"knn": names, "whitened-knn": [f"whitened {name}" for name in names]}.get(probe, [probe])
    assert list(found) == want
    for probabilities in found.values():
        assert probabilities.shape == (60, 4)  # a class without training rows has its column
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
        assert (probabilities.argmax(axis=1) == truth).mean() > 0.9


def test_the_attentive_probe_takes_patch_tokens(monkeypatch):
    brief = Attentive(rates=(1e-2,), epochs=1, min_steps=5)
    monkeypatch.setitem(FITTED, "attentive", lambda: brief)
    (train, label), (asked, _) = clouds(60, 0), clouds(20, 1)
    tokens = [
        PatchTokens.packed(np.repeat(x, 2, axis=0), np.arange(0, 2 * len(x) + 1, 2)) for x in (train, asked)
    ]
    found = ask("attentive", tokens[0], label, 3, np.arange(60), tokens[1], seed=0).answers
    assert found["attentive"].shape == (20, 3)


def test_no_such_probe():
    with pytest.raises(ValueError, match="must be one of knn, whitened-knn, logistic"):
        ask("svm", np.zeros((2, 2)), np.zeros(2, int), 1, np.zeros(2, int), np.zeros((1, 2)), 0)
