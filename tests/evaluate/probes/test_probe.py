"""What all probes promise: probabilities that sum to 1, none for a class never seen, the same by seed."""

import numpy as np
import pytest
import torch
from clouds import clouds

from aqqua.evaluate.probes.boosting import Boosting
from aqqua.evaluate.probes.knn import Knn
from aqqua.evaluate.probes.linear import Linear
from aqqua.evaluate.probes.logistic import Logistic
from aqqua.evaluate.probes.probe import Standardised, one_thread

PROBES = {
    "knn": Knn(5),
    "whitened": Knn(5, whitened=True),
    "logistic": Logistic((0.01, 1.0)),
    "linear": Linear((0.01, 0.1), epochs=2, min_steps=60),
    "boosting": Boosting(rounds=8),
}
each_probe = pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES.keys())


@each_probe
def test_probabilities_and_their_order(probe):
    """Classes 1 and 5 of seven have no training rows: 0 for them, whatever is asked."""
    rows, labels, groups = clouds(40, spread=0.4, classes=5, plain=True)
    number = np.array([0, 2, 3, 4, 6])[labels]
    asked, truth, _ = clouds(9, seed=1, spread=0.4, classes=5, plain=True)
    found = probe.fit(rows, number, 7, groups, 3).probabilities(asked)
    assert found.dtype == np.float32
    assert found.shape == (45, 7)
    assert not found[:, [1, 5]].any()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found.argmax(axis=1) == np.array([0, 2, 3, 4, 6])[truth]).mean() > 0.9


@each_probe
def test_the_same_by_seed_whatever_the_threads(probe):
    from threadpoolctl import threadpool_limits

    rows, labels, groups = clouds(30, spread=1.5)
    asked, _, _ = clouds(10, seed=1, spread=1.5)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with threadpool_limits(threads):
                found.append(probe.fit(rows, labels, 4, groups, 3).probabilities(asked))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)


@each_probe
def test_asked_rows_have_no_say(probe):
    rows, labels, groups = clouds(20, spread=1.5)
    asked, _, _ = clouds(10, seed=1, spread=1.5)
    predictor = probe.fit(rows, labels, 4, groups, 0)
    together = predictor.probabilities(asked)
    for some in (slice(0, 1), slice(5, 20)):
        np.testing.assert_allclose(predictor.probabilities(asked[some]), together[some], atol=1e-6)
    assert predictor.probabilities(asked[:0]).shape == (0, 4)


@each_probe
def test_one_class_is_the_answer(probe):
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = probe.fit(rows, np.array([2, 2, 2]), 4, np.zeros(3, int), 0).probabilities(rows + 1)
    np.testing.assert_array_equal(found, np.eye(4)[[2, 2, 2]])


@each_probe
def test_two_rows_are_enough(probe):
    rows = np.array([[0.0, 1.0], [10.0, 1.0]], np.float32)
    found = probe.fit(rows, np.array([0, 1]), 2, np.array([-1, -1]), 0).probabilities(rows)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@each_probe
@pytest.mark.breaks_shapes
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"groups": np.zeros(3, int)}, "must be as many"),
        ({"labels": np.array([0, 1, 4, 0])}, "labels must be class numbers from 0 to 3"),
        ({"labels": np.array([0, -1, 2, 0])}, "leave unlabelled rows out"),
        (
            {"rows": np.array([[0, 1], [2, 3], [np.nan, 0], [1, 1]])},
            "got others in row 2 of 4",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(probe, change, sentence):
    given = {"rows": np.ones((4, 2)), "labels": np.array([0, 1, 2, 3]), "groups": np.zeros(4, int)} | change
    with pytest.raises(ValueError, match=sentence):
        probe.fit(given["rows"], given["labels"], 4, given["groups"], 0)


def test_a_column_that_never_changes_becomes_zero():
    rows = np.array([[1e4, 1, 0], [1e4, 3, 0]], np.float32)
    got = Standardised.of(rows)(np.array([[2e4, 2, 5], [1e4, 4, 0]], np.float32))
    np.testing.assert_allclose(got, [[0, 0, 0], [0, 2, 0]])


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    inside = []

    def fails():
        with one_thread():
            inside.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert inside == [1]
    assert torch.get_num_threads() == before
