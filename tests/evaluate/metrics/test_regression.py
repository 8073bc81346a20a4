"""Scores of quantities against scikit-learn and SciPy, and by hand."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as sk

from aqqua.evaluate.metrics.regression import errors, level_error, log_errors, quadratic_kappa, spearman


def test_a_factor_of_ten_too_much():
    found = log_errors(np.array([1.0, 10, 100]), np.array([10.0, 100, 1000]))
    assert (found.bias, found.rmse) == pytest.approx((1, 1))
    assert found.r2 == pytest.approx(1 - 3 / 2)
    perfect = log_errors(np.array([1.0, 10]), np.array([1.0, 10]))
    assert (perfect.r2, perfect.rmse, perfect.bias) == (1, 0, 0)


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 40), st.integers(0, 2**32))
def test_as_scikit_learn_and_scipy(n, seed):
    draw = np.random.default_rng(seed)
    truth, found = draw.lognormal(0, 2, n), draw.lognormal(0, 2, n)
    plain, logs = errors(truth, found), log_errors(truth, found)
    assert plain.r2 == pytest.approx(sk.r2_score(truth, found))
    assert plain.rmse == pytest.approx(sk.root_mean_squared_error(truth, found))
    assert plain.bias == pytest.approx((found - truth).mean())
    assert logs.r2 == pytest.approx(sk.r2_score(np.log10(truth), np.log10(found)))
    assert logs.rmse == pytest.approx(sk.root_mean_squared_error(np.log10(truth), np.log10(found)))
    coarse = np.round(np.log10(found)), np.round(np.log10(truth))  # with equals
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy tells of constant input
        assert spearman(*coarse) == pytest.approx(spearmanr(*coarse).statistic, nan_ok=True)
    assert spearman(truth, found) == pytest.approx(spearmanr(truth, found).statistic)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 2**32))
def test_ordinal_as_scikit_learn(n, levels, seed):
    draw = np.random.default_rng(seed)
    truth, found = draw.integers(0, levels, n), draw.integers(0, levels, n)
    assert level_error(truth, found, levels) == pytest.approx(sk.mean_absolute_error(truth, found))
    same = len(np.unique(np.concatenate([truth, found]))) == 1
    kappa = quadratic_kappa(truth, found, levels)
    if same:
        assert np.isnan(kappa)
    else:
        want = sk.cohen_kappa_score(truth, found, weights="quadratic", labels=range(levels))
        assert kappa == pytest.approx(want)


def test_undefined_is_nan():
    one = np.array([2.0])
    assert np.isnan(errors(one, one).r2)
    assert np.isnan(spearman(one, one))
    assert np.isnan(spearman(np.array([1.0, 1]), np.array([1.0, 2])))
    assert errors(one, np.array([3.0])).bias == 1


def test_bad_input_names_the_row():
    with pytest.raises(ValueError, match="truth must be above 0 to have a logarithm, got 0 in row 1"):
        log_errors(np.array([1.0, 0]), np.array([1.0, 1]))
    with pytest.raises(ValueError, match="predictions must be above 0 to have a logarithm, got -3 in row 0"):
        log_errors(np.array([1.0, 1]), np.array([-3.0, 1]))
    with pytest.raises(ValueError, match="truth must be finite, got nan in row 0"):
        errors(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(ValueError, match="got 2 of truth, 1 of predictions"):
        spearman(np.array([1.0, 2]), np.array([1.0]))
    with pytest.raises(ValueError, match="predictions must be from 0 to 2, got 3 in row 0"):
        level_error(np.array([0]), np.array([3]), 3)
    with pytest.raises(ValueError, match="truth must hold one number per image"):
        errors(np.array([]), np.array([]))
