"""Logistic regression: scikit-learn's, warm or cold; its strength is chosen on groups held back."""

import numpy as np
import pytest
import torch
from clouds import clouds

from aqqua.evaluate.probes import logistic
from aqqua.evaluate.probes.logistic import STRENGTHS, Logistic, minimise, softmax_rows


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_probabilities_equal_scikit_learn(classes, strength):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, labels, groups = clouds(60, spread=2.0, classes=classes, width=12)
    asked, _, _ = clouds(30, seed=1, spread=2.0, classes=classes, width=12)
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000, tol=1e-8))
    want = peer.fit(rows.astype(np.float64), labels).predict_proba(asked.astype(np.float64))
    found = Logistic((strength,)).fit(rows, labels, classes, groups).probabilities(asked)
    np.testing.assert_allclose(found, want, atol=1e-3)
    assert want.std() > 0.01  # else the comparison would say little


def test_a_warm_start_ends_where_a_cold_one_does():
    rows, labels, _ = clouds(50, spread=2.0)
    rows = (rows - rows.mean(0)) / rows.std(0)
    cold = start = np.zeros((4, 7))
    for strength in (1e-3, 1e-2, 0.1, 1.0):
        start = minimise(rows, labels, strength, start, 1000)
        straight = minimise(rows, labels, strength, cold, 1000)
        np.testing.assert_allclose(softmax_rows(rows, start), softmax_rows(rows, straight), atol=2e-3)


def test_chunks_do_not_matter(monkeypatch):
    rows, labels, groups = clouds(50, spread=2.0)
    whole = Logistic((0.1,)).fit(rows, labels, 4, groups).probabilities(rows)
    monkeypatch.setattr(logistic, "CHUNK", 33)
    np.testing.assert_allclose(
        Logistic((0.1,)).fit(rows, labels, 4, groups).probabilities(rows), whole, atol=1e-4
    )


def test_many_chunks_give_the_same_bits_by_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(logistic, "CHUNK", 16)
    rows, labels, groups = clouds(100, spread=2.0)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(Logistic((0.1, 1.0)).fit(rows, labels, 4, groups).probabilities(rows))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)


def test_groups_that_shift_want_a_stronger_hand():
    """Each group shifts all of its rows far along 60 columns that say nothing of the class.

    On rows of the same groups these columns seem to help; on groups held back they do not.
    """
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    labels = (groups + (draw.random(200) < 0.15)) % 2  # a group is nearly of one class, by chance
    signal = labels[:, None] + draw.normal(scale=1.2, size=(200, 2))
    rows = np.hstack([signal, draw.normal(size=(20, 60))[groups] * 3 + draw.normal(size=(200, 60))])
    by_group = Logistic().fit(rows.astype(np.float32), labels, 2, groups, 0)
    alone = Logistic().fit(rows.astype(np.float32), labels, 2, np.arange(200), 0)
    assert by_group.strength < alone.strength


def test_patience_ends_the_search(monkeypatch):
    tried = []
    plain = minimise
    monkeypatch.setattr(
        logistic, "minimise", lambda rows, labels, strength, *rest: tried.append(strength) or plain(
            rows, labels, strength, *rest)
    )  # fmt: skip
    rows, labels, groups = clouds(30, spread=0.2)
    found = Logistic().fit(rows, labels, 4, groups)
    best = STRENGTHS.index(found.strength)
    assert tried == [*STRENGTHS[: best + 1 + logistic.PATIENCE], found.strength]


def test_strengths_that_say_one_class_throughout_do_not_end_the_search():
    """Of a common class and two rare ones the strongest four call all rows alike, and score alike."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(400, 6)).astype(np.float32)
    labels = np.digitize(rows[:, 0] + draw.normal(0, 0.3, 400), (-0.7, 0.7))
    found = Logistic().fit(rows, labels, 3, np.arange(400) // 8)
    assert found.strength > STRENGTHS[logistic.PATIENCE]
    assert (found.probabilities(rows).argmax(axis=1) == labels).mean() > 0.75


def test_progress_ends_with_all_fits():
    rows, labels, groups = clouds(20)
    told = []
    probe = Logistic((0.1, 1.0))
    probe.fit(rows, labels, 4, groups, 0, told.append)
    assert told[-1] == probe.fits == 3
    assert told == sorted(told)


@pytest.mark.parametrize("rare", [1, 2, 5])
def test_a_class_with_few_rows_does_no_harm(rare):
    rows, labels, groups = clouds(30)
    kept = np.flatnonzero((labels != 3) | (np.cumsum(labels == 3) <= rare))
    asked, truth, _ = clouds(10, seed=1)
    found = Logistic().fit(rows[kept], labels[kept], 4, groups[kept]).probabilities(asked).argmax(axis=1)
    assert (found[truth != 3] == truth[truth != 3]).mean() > 0.95
