"""Boosting: scikit-learn's trees, as many rounds as groups held back want."""

import numpy as np
from clouds import clouds

from aqqua.evaluate.probes.boosting import Boosting


def test_equals_scikit_learn_after_its_rounds():
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows, labels, groups = clouds(40, spread=2.0, classes=3)
    predictor = Boosting(rounds=15).fit(rows, labels, 3, groups, 0)
    peer = HistGradientBoostingClassifier(max_iter=predictor.rounds, early_stopping=False, random_state=0)
    want = peer.fit(rows, labels).predict_proba(rows)
    np.testing.assert_allclose(predictor.probabilities(rows), want, atol=1e-6)


def test_noise_wants_fewer_rounds_than_what_can_be_learned():
    rows, labels, groups = clouds(60, spread=0.8)
    noise = np.random.default_rng(0).normal(size=rows.shape)
    probe = Boosting(rounds=25)
    assert probe.fit(noise, labels, 4, groups, 0).rounds < probe.fit(rows, labels, 4, groups, 0).rounds


def test_a_class_that_is_all_held_back_has_no_say_in_the_rounds():
    """Every image of class 3 is in one group; whichever side it falls on, the fit ends."""
    rows, labels, groups = clouds(30)
    groups = np.where(labels == 3, 10, groups)
    for seed in range(4):
        found = Boosting(rounds=5).fit(rows, labels, 4, groups, seed).probabilities(rows)
        assert (found.argmax(axis=1) == labels).mean() > 0.9
