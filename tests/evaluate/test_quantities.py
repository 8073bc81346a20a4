"""Measured traits are judged by figures of their kind, which are scikit-learn's, on the test side alone."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, cohen_kappa_score, r2_score

from aqqua.evaluate.protocol import Task
from aqqua.evaluate.quantities import judge_quantities, linear_answer
from aqqua.evaluate.suites.measured import MeasuredTrait
from aqqua.evaluate.suites.split import LEARNT_FROM, TESTED

N = 400
DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(N, 6)).astype(np.float32)
GROUPS = np.arange(N) // 8
SIDE = np.where(GROUPS % 3 == 0, TESTED, LEARNT_FROM).astype(np.int8)
SIGNAL = ROWS[:, 0] + DRAW.normal(0, 0.3, N)
VALUES = {
    "length": ("continuous", False, 5 * SIGNAL),
    "carbon": ("continuous", True, 10.0 ** (2 + SIGNAL)),
    "eggs": ("binary", False, (SIGNAL > 0.5).astype(float)),
    "gut": ("ordinal", False, np.digitize(SIGNAL, (-0.7, 0.7)) * 2.0),
}


def made(name, values=None, side=SIDE):
    kind, log10, value = VALUES[name]
    trait = MeasuredTrait("traits", name, "u", kind, log10, np.arange(N), value if values is None else values)
    images = SimpleNamespace(group_I=GROUPS)
    prepared = SimpleNamespace(images=images, measured=(trait,))
    return trait, Task(prepared, SimpleNamespace(name="sample", side_I=side))


class Oracle:
    """A head that always says this of the tested images."""

    def __init__(self, answer):
        self.answer = answer

    def values(self, rows, _trait):
        assert len(rows) == len(self.answer)
        return self.answer


@pytest.mark.parametrize("name", VALUES)
def test_figures_are_those_of_scikit_learn(name):
    trait, task = made(name)
    tested = SIDE == TESTED
    truth = trait.value_N[tested]
    answer = linear_answer(trait, ROWS[~tested], trait.value_N[~tested], GROUPS[~tested], ROWS[tested])
    linear, tuned = judge_quantities("m", ROWS, Oracle(answer), task)
    assert (linear.probe, tuned.probe) == (f"{name}, linear", f"{name}, fine-tuned")
    assert linear.figures == tuned.figures
    assert linear.images == tested.sum()
    figures = {key: found.value for key, found in linear.figures.items()}
    if name == "length":
        assert figures["r2"] == pytest.approx(r2_score(truth, answer))
        assert set(figures) == {"r2", "spearman"}
    elif name == "carbon":
        off = np.log10(answer / truth)
        assert figures["rmse_log10"] == pytest.approx(np.sqrt((off**2).mean()))
        assert figures["bias_log10"] == pytest.approx(off.mean())
        assert figures["r2_log10"] == pytest.approx(r2_score(np.log10(truth), np.log10(answer)))
    elif name == "eggs":
        assert figures["average_precision"] == pytest.approx(average_precision_score(truth, answer))
    else:
        assert set(answer) <= {0, 2, 4}
        assert figures["quadratic_kappa"] == pytest.approx(
            cohen_kappa_score(truth, answer, weights="quadratic")
        )
    best = max(figures[key] for key in figures if not key.startswith(("rmse", "bias", "level")))
    assert best > 0.75  # the signal is there to be found


def test_nothing_of_the_test_is_fitted_on():
    trait, _ = made("carbon")
    other = np.where(SIDE == TESTED, 1e6, trait.value_N)
    other[np.flatnonzero(SIDE == TESTED)[0]] = 1.0
    tested = SIDE == TESTED
    before = linear_answer(trait, ROWS[~tested], trait.value_N[~tested], GROUPS[~tested], ROWS[tested])
    (scores,) = judge_quantities("m", ROWS, None, made("carbon", other)[1])
    off = np.log10(before / other[tested])
    assert scores.figures["bias_log10"].value == pytest.approx(off.mean())


def test_a_head_that_does_not_know_the_trait_leaves_the_probe_alone():
    _, task = made("length")
    (linear,) = judge_quantities("m", ROWS, SimpleNamespace(values=lambda *_: None), task)
    assert linear.probe == "length, linear"


def test_what_is_too_little_says_nothing():
    few = np.full(N, LEARNT_FROM, np.int8)
    few[:4] = TESTED
    assert list(judge_quantities("m", ROWS, None, made("length", side=few)[1])) == []
    alike = np.where(SIDE == TESTED, 1.0, VALUES["eggs"][2])
    assert list(judge_quantities("m", ROWS, None, made("eggs", alike)[1])) == []
    # Nothing to learn from: a head can still be judged, a probe cannot be fitted.
    none = np.where(SIDE == TESTED, TESTED, 2).astype(np.int8)
    _, task = made("length", side=none)
    answer = VALUES["length"][2][none == TESTED]
    (tuned,) = judge_quantities("m", ROWS, Oracle(answer), task)
    assert tuned.probe == "length, fine-tuned"
    assert tuned.figures["r2"].value == 1


def test_a_line_far_out_stays_a_number():
    trait, _ = made("carbon")
    far = linear_answer(trait, ROWS, trait.value_N, GROUPS, ROWS * 1e6)
    assert np.isfinite(far).all()
    assert far.max() == pytest.approx(100 * trait.value_N.max())
