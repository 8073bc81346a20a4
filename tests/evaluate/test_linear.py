"""The linear probe: it separates what can be separated and never looks at the test rows to choose."""

import numpy as np
import pytest

from aqqua.evaluate.linear import STRENGTHS, _validation, linear_predict


def clouds(per_class, seed=0, spread=0.3, classes=4, width=6):
    """Gaussian clouds round the corners of a simplex, far from the origin and of unequal scale."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    features = np.eye(classes, width)[labels] * 4 + draw.normal(scale=spread, size=(len(labels), width))
    return features * np.array([1, 10, 100, 1, 1e-3, 1]) + 1000, labels


def test_separable_classes_are_told_apart():
    train, labels = clouds(30)
    test, truth = clouds(20, seed=1)
    predicted, strength = linear_predict(train, labels, test, seed=0)
    np.testing.assert_array_equal(predicted, truth)
    assert strength in STRENGTHS


def test_test_rows_have_no_say():
    """Neither the strength nor the answer for a row depends on which other rows are asked for."""
    train, labels = clouds(25, spread=2.5)
    test, _ = clouds(10, seed=1, spread=2.5)
    together, strength = linear_predict(train, labels, test, seed=0)
    for rows in (slice(0, 1), slice(5, 20), slice(30, 40)):
        alone, again = linear_predict(train, labels, test[rows], seed=0)
        np.testing.assert_array_equal(alone, together[rows])
        assert again == strength
    _, with_outliers = linear_predict(train, labels, test * 1e6, seed=0)
    assert with_outliers == strength


def test_same_seed_same_answer():
    train, labels = clouds(20, spread=3.0)
    test, _ = clouds(20, seed=1, spread=3.0)
    first, second = (linear_predict(train, labels, test, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]


@pytest.mark.parametrize("rare", [1, 2, 5, 8])
def test_a_class_with_few_rows(rare):
    """It does no harm to the others; with a row in the validation part it is asked for, and found."""
    train, labels = clouds(30)
    kept = np.flatnonzero((labels != 3) | (np.cumsum(labels == 3) <= rare))
    test, truth = clouds(10, seed=1)
    predicted, _ = linear_predict(train[kept], labels[kept], test, seed=0)
    np.testing.assert_array_equal(predicted[truth != 3], truth[truth != 3])
    if rare >= 5:
        assert set(predicted[truth == 3].tolist()) == {3}


def test_validation_leaves_every_class_rows_to_learn_from():
    labels = np.repeat([0, 1, 2, 3], [1, 2, 5, 50])
    for seed in range(20):
        chosen = _validation(labels, seed)
        assert [int(chosen[labels == c].sum()) for c in range(4)] == [0, 0, 1, 10]


def test_too_few_rows_to_validate():
    features, labels = np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 1])
    predicted, strength = linear_predict(features, labels, np.array([[0.5], [10.5]]), seed=0)
    assert (predicted.tolist(), strength) == ([0, 1], STRENGTHS[0])


def test_one_class_is_the_answer():
    predicted, _ = linear_predict(np.ones((3, 2)), np.array([7, 7, 7]), np.zeros((4, 2)), seed=0)
    assert predicted.tolist() == [7, 7, 7, 7]


def test_threads_have_no_say():
    from threadpoolctl import threadpool_limits

    train, labels = clouds(60, spread=2.5)
    test, _ = clouds(40, seed=1, spread=2.5)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(linear_predict(train, labels, test, seed=0)[0])
    np.testing.assert_array_equal(*found)
