"""Scores against numbers worked out by hand."""

import numpy as np
import pytest

from aqqua.evaluate.metrics import score

NAMES = ["Acartia", "Ceratium", "detritus", "Oithona"]


def test_by_hand():
    truth = np.array([0, 0, 0, 0, 1, 1, 2])
    guess = np.array([0, 0, 0, 1, 1, 0, 0])
    # class 0: 3 hits, 5 guesses, 4 true -> P 3/5, R 3/4, F1 2/3. class 1: 1 hit of 2 and 2 -> F1 1/2.
    # class 2: never guessed -> F1 0. Class 3 does not occur: it counts nowhere.
    found = score(truth, guess, NAMES)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found.accuracy == pytest.approx(4 / 7)
    assert found.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert found.recall == pytest.approx({"Acartia": 0.75, "Ceratium": 0.5, "detritus": 0.0})


def test_a_guess_of_an_absent_class_costs_recall_only():
    # class 0: 1 of 2 found, no false alarm -> F1 2·1·½/(1½) = 2/3; class 1 perfect; class 3 is not asked for.
    found = score(np.array([0, 0, 1]), np.array([0, 3, 1]), NAMES)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    assert found.balanced_accuracy == pytest.approx(0.75)
    assert "Oithona" not in found.recall


def test_a_rare_class_counts_like_a_common_one():
    truth = np.array([0] * 98 + [1] * 2)
    found = score(truth, np.zeros(100, int), NAMES)
    assert found.accuracy == pytest.approx(0.98)
    assert found.balanced_accuracy == pytest.approx(0.5)
    assert found.macro_f1 == pytest.approx((2 * 0.98 / 1.98) / 2)


def test_perfect_is_one():
    truth = np.array([0, 1, 2, 3, 3])
    found = score(truth, truth, NAMES)
    assert (found.macro_f1, found.accuracy, found.balanced_accuracy) == (1.0, 1.0, 1.0)
