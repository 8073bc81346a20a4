"""Class scores against numbers worked out by hand and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from aqqua.evaluate.metrics.classes import confusion, count_classes, most_probable


def test_by_hand():
    truth = np.array([0, 0, 0, 0, 1, 1, 2])
    guess = np.array([0, 0, 0, 1, 1, 0, 0])
    # class 0: 3 hits, 5 guesses, 4 true -> P 3/5, R 3/4, F1 2/3. class 1: 1 hit of 2 and 2 -> F1 1/2.
    # class 2: never guessed -> F1 0. Class 3 does not occur: it counts nowhere.
    found = count_classes(truth, guess, 4)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found.accuracy == pytest.approx(4 / 7)
    assert found.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    np.testing.assert_allclose(found.recall_C, [0.75, 0.5, 0, np.nan])
    np.testing.assert_allclose(found.precision_C, [0.6, 0.5, np.nan, np.nan])
    np.testing.assert_allclose(found.f1_C, [2 / 3, 0.5, 0, np.nan])
    np.testing.assert_array_equal(found.asked_C, [4, 2, 1, 0])


def test_a_guess_of_an_absent_class_costs_recall_only():
    # class 0: 1 of 2 found, no false alarm -> F1 2·1·½/(1½) = 2/3; class 1 perfect; class 3 is not asked for.
    found = count_classes(np.array([0, 0, 1]), np.array([0, 3, 1]), 4)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    assert found.balanced_accuracy == pytest.approx(0.75)
    assert found.precision_C[3] == 0
    assert np.isnan(found.recall_C[3])


def test_a_rare_class_counts_like_a_common_one():
    found = count_classes(np.array([0] * 98 + [1] * 2), np.zeros(100, int), 2)
    assert found.accuracy == pytest.approx(0.98)
    assert found.balanced_accuracy == pytest.approx(0.5)
    assert found.macro_f1 == pytest.approx((2 * 0.98 / 1.98) / 2)


def test_plankton_only():
    """Images of detritus (class 2) are left out; a copepod called detritus is missed; detritus called a
    copepod is no false alarm here."""
    truth, guess = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 2, 1, 0, 0, 2])
    found = count_classes(truth, guess, 3, np.array([True, True, False]))
    # class 0: hit 1 of 2, called twice among plankton; class 1: hit 1 of 2, called once.
    np.testing.assert_allclose(found.recall_C, [0.5, 0.5, np.nan])
    np.testing.assert_allclose(found.f1_C, [0.5, 2 / 3, np.nan])
    assert found.accuracy == 0.5
    assert found.macro_f1 == pytest.approx((0.5 + 2 / 3) / 2)
    with pytest.raises(ValueError, match="images of counted classes must be there, got 0 of 6"):
        count_classes(truth, guess, 4, np.array([False, False, False, True]))
    with pytest.raises(ValueError, match="must be 3 of true or false, got int64"):
        count_classes(truth, guess, 3, np.array([1, 1, 0]))


@pytest.mark.filterwarnings("ignore:A single label was found", "ignore:y_pred contains classes")
@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 7), st.integers(0, 2**32))
def test_as_scikit_learn(n, classes, seed):
    draw = np.random.default_rng(seed)
    truth, guess = draw.integers(0, classes, n), draw.integers(0, classes, n)
    found, present = count_classes(truth, guess, classes), np.unique(truth)
    assert found.accuracy == pytest.approx(sk.accuracy_score(truth, guess))
    assert found.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(truth, guess))
    macro = sk.f1_score(truth, guess, labels=present, average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(macro)
    each = {"labels": range(classes), "average": None, "zero_division": np.nan}
    np.testing.assert_allclose(found.precision_C, sk.precision_score(truth, guess, **each))
    np.testing.assert_allclose(found.recall_C, sk.recall_score(truth, guess, **each))
    f1 = sk.f1_score(truth, guess, labels=present, average=None, zero_division=0)
    np.testing.assert_allclose(found.f1_C[present], f1)
    assert np.isnan(np.delete(found.f1_C, present)).all()
    matrix = sk.confusion_matrix(truth, guess, labels=range(classes))
    np.testing.assert_array_equal(confusion(truth, guess, classes), matrix)


def test_most_probable():
    assert most_probable(np.array([[0.2, 0.8], [0.5, 0.5]], np.float32)).tolist() == [1, 0]
    with pytest.raises(ValueError, match="must sum to 1"):
        most_probable(np.array([[0.2, 0.2]]))


def test_bad_input():
    with pytest.raises(ValueError, match="got 2 of truth, 1 of predictions"):
        count_classes(np.array([0, 1]), np.array([0]), 2)
    with pytest.raises(ValueError, match="predictions must be from 0 to 1, got 2 in row 1"):
        confusion(np.array([0, 1]), np.array([0, 2]), 2)
