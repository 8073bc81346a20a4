"""Bad input is refused with the row that breaks it and a way out."""

import numpy as np
import pytest

from aqqua.evaluate.metrics.inputs import (
    class_numbers,
    gapless_numbers,
    probabilities,
    same_length,
    table,
    values,
    whole_numbers,
)

HALF = [0.5, 0.5]


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ([], r"must hold one class number per image, got shape \(0,\); give at least one"),
        ([[0, 1]], r"got shape \(1, 2\)"),
        ([0.0, 1.0], "must be whole numbers, got float64; number the classes from 0 to 2"),
        ([True, False], "must be whole numbers, got bool"),
        ([0, 3], "truth must be from 0 to 2, got 3 in row 1; leave out"),
        ([0, 2, -1], "must be from 0 to 2, got -1 in row 2"),
    ],
)
def test_class_numbers(classes, said):
    with pytest.raises(ValueError, match=said):
        class_numbers("truth", classes, 3)


def test_unknown_is_allowed_where_asked_for():
    assert class_numbers("truth", np.array([-1, 2], np.int8), 3, unknown=True).tolist() == [-1, 2]
    with pytest.raises(ValueError, match="or -1 for unknown, got -2 in row 0"):
        class_numbers("truth", [-2], 3, unknown=True)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([], r"must be a table of images and columns, got shape \(0,\)"),
        (np.zeros((0, 3)), r"got shape \(0, 3\); give at least one image"),
        ([0.5, 0.5], r"got shape \(2,\)"),
        ([HALF, [0.5, np.nan]], "must be finite, got nan in row 1; leave that row out"),
        ([HALF, [np.inf, 0]], "must be finite, got inf in row 1"),
        ([HALF, [1.5, -0.5]], "must not be negative, got -0.5 in row 1; give probabilities, not logits"),
        ([HALF, HALF, [0.5, 0.4]], "must sum to 1 in every row, got 0.9 in row 2; divide"),
        ([["a", "b"]], "must be numbers, got <U1"),
    ],
)
def test_probabilities(scores, said):
    with pytest.raises(ValueError, match=said):
        probabilities("scores", scores)


def test_half_precision_probabilities_are_probabilities():
    """As a predictions table keeps them: 200 classes, rounded to float16."""
    draw = np.random.default_rng(0)
    rows = draw.dirichlet(np.full(200, 0.1), 500).astype(np.float16)
    assert probabilities("scores", rows).dtype == np.float64


def test_values():
    assert values("x", [1, 2]).dtype == np.float64
    with pytest.raises(ValueError, match="x must be finite, got nan in row 1"):
        values("x", [1, np.nan])
    with pytest.raises(ValueError, match="x must hold one number per image"):
        values("x", [[1.0]])
    with pytest.raises(ValueError, match="x must be finite, got -inf in row 0"):
        table("x", [[-np.inf]])


def test_groups_have_no_gaps():
    assert whole_numbers("groups", [7, 0]).tolist() == [7, 0]
    assert gapless_numbers("groups", [1, 0, 1]).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="without gaps, got none of 1 and one of 2; use number_groups"):
        gapless_numbers("groups", [0, 2])
    with pytest.raises(ValueError, match="groups must be whole numbers, got <U1"):
        whole_numbers("groups", ["a"])


def test_lengths():
    assert same_length(truth=np.zeros(3), scores=np.zeros((3, 2))) == 3
    with pytest.raises(ValueError, match="got 3 of truth, 2 of scores; give the same images"):
        same_length(truth=np.zeros(3), scores=np.zeros(2))
