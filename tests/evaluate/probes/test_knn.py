"""kNN: a plain loop says the same, votes are weighted by similarity, odd sizes and ties are settled."""

import math

import numpy as np
import pytest
import torch

from aqqua.evaluate.probes import knn
from aqqua.evaluate.probes.knn import TEMPERATURE, Knn


def fitted(train, labels, classes, k):
    rows, known = np.asarray(train, np.float32), np.asarray(labels)
    return Knn(k).fit(rows, known, classes, np.full(len(known), -1))


def knn_predict(train, labels, test, k, classes):
    """Classes of most votes."""
    found = fitted(train, labels, classes, k).probabilities(np.asarray(test, np.float32))
    return torch.from_numpy(found.argmax(axis=1))


def naive(train, labels, test, k, n_classes):
    """One pair at a time, in float64."""
    found = []
    for row in test:
        similarity = [float(row @ t / (np.linalg.norm(row) * np.linalg.norm(t))) for t in train]
        nearest = sorted(range(len(train)), key=lambda i: -similarity[i])[:k]
        votes = [0.0] * n_classes
        for i in nearest:
            votes[labels[i]] += math.exp(similarity[i] / TEMPERATURE)
        found.append(int(np.argmax(votes)))
    return found


@pytest.mark.parametrize("k", [1, 5, 20, 59])
def test_agrees_with_a_plain_loop(k):
    draw = np.random.default_rng(k)
    train, test = draw.normal(size=(60, 8)), draw.normal(size=(40, 8))
    labels = draw.integers(0, 6, 60)
    got = knn_predict(torch.tensor(train), torch.tensor(labels), torch.tensor(test), k, 6)
    assert got.tolist() == naive(train, labels, test, k, 6)


def test_chunks_do_not_matter(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    train, test = torch.randn(30, 4, generator=draw), torch.randn(17, 4, generator=draw)
    labels = torch.arange(30) % 3
    whole = knn_predict(train, labels, test, 5, 3)
    monkeypatch.setattr(knn, "CHUNK", 4)
    assert torch.equal(knn_predict(train, labels, test, 5, 3), whole)


def test_chunks_of_training_rows_do_not_matter(monkeypatch):
    draw = np.random.default_rng(1)
    train, asked, labels = draw.normal(size=(50, 4)), draw.normal(size=(9, 4)), np.arange(50) % 3
    whole = fitted(train, labels, 3, 20).sweep(asked, (1, 5, 20, 100))
    monkeypatch.setattr(knn, "TRAIN_CHUNK", 7)
    again = fitted(train, labels, 3, 20).sweep(asked, (1, 5, 20, 100))
    for k, found in whole.items():
        np.testing.assert_allclose(again[k], found, atol=1e-6)
    np.testing.assert_allclose(fitted(train, labels, 3, 5).probabilities(asked), whole[5], atol=1e-6)


@pytest.mark.parametrize("k", [1, 10, 200])
def test_equals_scikit_learn(k):
    """Cosine neighbours with these weights, on the same features."""
    from sklearn.neighbors import KNeighborsClassifier

    draw = np.random.default_rng(k)
    train, asked = (draw.normal(size=(rows, 16)).astype(np.float32) for rows in (300, 70))
    labels = draw.integers(0, 8, 300)
    peer = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda d: np.exp(-(d - d[:, :1]) / TEMPERATURE)
    )
    want = peer.fit(train.astype(np.float64), labels).predict_proba(asked.astype(np.float64))
    np.testing.assert_allclose(fitted(train, labels, 8, k).probabilities(asked), want, atol=2e-5)


def test_k_must_be_positive():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        fitted(np.eye(2), [0, 1], 2, 0)


def test_one_near_neighbour_outvotes_two_far_ones():
    """exp(1/0.07) is over twice exp(0.9/0.07): 4.2 times."""
    far = [0.9, math.sqrt(1 - 0.81)]
    train = torch.tensor([[1.0, 0.0], far, far])
    assert knn_predict(train, torch.tensor([1, 0, 0]), torch.tensor([[1.0, 0.0]]), 3, 2).tolist() == [1]
    near = [0.99, math.sqrt(1 - 0.99**2)]  # exp(-0.01/0.07) = 0.87 each: two of them win
    train = torch.tensor([[1.0, 0.0], near, near])
    assert knn_predict(train, torch.tensor([1, 0, 0]), torch.tensor([[1.0, 0.0]]), 3, 2).tolist() == [0]


def test_only_the_direction_counts():
    train, labels = torch.tensor([[100.0, 0.0], [0.0, 0.001]]), torch.tensor([0, 1])
    test = torch.tensor([[0.001, 0.0], [0.0, 100.0]])
    assert knn_predict(train, labels, test, 1, 2).tolist() == [0, 1]


def test_k_over_the_number_of_rows_lets_all_vote():
    train, labels = torch.eye(3), torch.tensor([2, 0, 0])
    test = torch.tensor([[1.0, 0.99, 0.99], [1.0, 0.1, 0.1]])
    assert knn_predict(train, labels, test, 1, 3).tolist() == [2, 2]
    for k in (3, 1000):
        assert knn_predict(train, labels, test, k, 3).tolist() == [0, 2]


def test_equal_votes_go_to_the_lowest_class():
    train, labels = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([3, 1])
    test = torch.tensor([[1.0, 1.0]]).repeat(50, 1)
    for k in (2, 7):
        assert knn_predict(train, labels, test, k, 5).tolist() == [1] * 50
