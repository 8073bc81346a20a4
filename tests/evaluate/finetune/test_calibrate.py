"""Calibration: thresholds by hand, errors of traits."""

import numpy as np
import pytest

from aqqua.evaluate.finetune.calibrate import fit_thresholds, with_errors
from aqqua.evaluate.finetune.traits import Trait


def test_thresholds_by_hand():
    """Class 0 is right at .9, .8, .7 and wrong at .6, .5; class 1 is always right; nothing is of class 2."""
    score = [0.9, 0.8, 0.7, 0.6, 0.5]
    first = [[s, (1 - s) / 2, (1 - s) / 2] for s in score]
    probabilities = np.array([*first, [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    label = np.array([0, 0, 0, 1, 1, 1, 1])
    assert fit_thresholds(probabilities, label) == (0.7, 0.0, 0.0)


def test_errors_of_a_trait():
    trait = Trait(trait_id="t", kind="continuous")
    truth = np.append(np.linspace(-1, 1, 201), np.nan)
    known = with_errors(trait, truth, np.zeros(202))
    assert (known.error_low, known.error_high) == pytest.approx((-0.95, 0.95))
    assert with_errors(trait, truth[:10], np.zeros(10)) == trait
    binary = Trait(trait_id="t", kind="binary")
    assert with_errors(binary, truth, np.zeros(202)) == binary
