"""Ridge regression is scikit-learn's, and its strength is chosen on whole groups held back."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.preprocessing import StandardScaler

from aqqua.evaluate.probes.ridge import Ridge


def made(rows, width, noise, seed=0):
    draw = np.random.default_rng(seed)
    features = draw.normal(3, 5, (rows, width)).astype(np.float32)
    return features, features[:, 0] * 2 - features[:, 1] + 40 + draw.normal(0, noise, rows)


@pytest.mark.parametrize(("rows", "width"), [(80, 6), (20, 50)])
@pytest.mark.parametrize("strength", [0.1, 10.0, 1e4])
def test_it_is_scikit_learns(rows, width, strength):
    features, value = made(rows, width, 1.0)
    asked = made(7, width, 0.0, seed=1)[0]
    scaler = StandardScaler().fit(features)
    known = SklearnRidge(alpha=strength).fit(scaler.transform(features), value)
    found = Ridge((strength,)).fit(features, value, np.arange(rows))(asked)
    np.testing.assert_allclose(found, known.predict(scaler.transform(asked)), rtol=2e-5)


def test_noise_wants_a_strong_penalty_and_order_a_weak_one():
    groups = np.arange(120) // 4
    clear, value = made(120, 20, 0.01)
    assert Ridge().fit(clear, value, groups).strength <= 0.1
    draw = np.random.default_rng(5)
    assert Ridge().fit(clear, draw.normal(size=120), groups).strength >= 1e3


def test_a_column_that_never_changes_counts_for_nothing():
    features, value = made(60, 3, 0.1)
    still = np.column_stack([features, np.full(60, 7.0, np.float32)])
    found = Ridge((1.0,)).fit(still, value, np.arange(60))
    assert found.weights_D[-1] == 0
    np.testing.assert_allclose(found(still), Ridge((1.0,)).fit(features, value, np.arange(60))(features))


def test_rows_that_do_not_fit_are_refused():
    features, value = made(10, 3, 0.1)
    with pytest.raises(ValueError, match="ridge: rows, labels and groups must be as many"):
        Ridge().fit(features, value[:9], np.arange(10))
    features[3, 1] = np.nan
    with pytest.raises(ValueError, match="ridge: features must be finite, got others in row 3"):
        Ridge().fit(features, value, np.arange(10))
