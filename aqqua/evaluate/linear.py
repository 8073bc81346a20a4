"""Linear probe: multinomial logistic regression on frozen, standardised features."""

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

STRENGTHS = (0.01, 0.1, 1.0)  # inverse regularisation tried; the best on a part of the training rows is taken
FITS = len(STRENGTHS) + 1  # one for each strength, then with the best on all rows
VALIDATION_SHARE = 0.2
MAX_ITERATIONS = 300


def _silent(_done: int) -> None:
    """Progress that nobody watches."""


def linear_predict(
    train_ND: Float[np.ndarray, "N D"],
    labels_N: Int[np.ndarray, " N"],
    test_MD: Float[np.ndarray, "M D"],
    seed: int,
    advance: Callable[[int], None] = _silent,
) -> tuple[Int[np.ndarray, " M"], float]:
    """Class of each test row, and the regularisation that was chosen.

    The strength is chosen on a validation part of the training rows by macro-F1, then all of them
    are used; the test rows are never looked at. Of training rows of a single class, that class is
    the answer, which does not depend on the number of threads. `advance` is called with the fits done,
    FITS in all.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from threadpoolctl import threadpool_limits

    if (labels_N == labels_N[0]).all():
        return np.full(len(test_MD), labels_N[0]), STRENGTHS[0]

    mean, std = train_ND.mean(axis=0), train_ND.std(axis=0) + 1e-6
    train_ND, test_MD = (train_ND - mean) / std, (test_MD - mean) / std
    validation_N = _validation(labels_N, seed)

    def fit(strength: float, rows: np.ndarray) -> LogisticRegression:
        model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, tol=1e-3)
        # One thread: the answer must not depend on how many there are, and is found no slower.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a probe at the iteration cap is good enough to rank strengths
            return model.fit(train_ND[rows], labels_N[rows])

    scores = dict.fromkeys(STRENGTHS, 0.0)
    for done, strength in enumerate(STRENGTHS if validation_N.any() else ()):
        advance(done)
        predicted = fit(strength, ~validation_N).predict(train_ND[validation_N])
        scores[strength] = f1_score(labels_N[validation_N], predicted, average="macro", zero_division=0)
    best = max(scores, key=lambda s: scores[s])
    advance(FITS - 1)
    predicted = fit(best, np.ones(len(train_ND), bool)).predict(test_MD)
    advance(FITS)
    return predicted, best


def _validation(labels_N: Int[np.ndarray, " N"], seed: int) -> Bool[np.ndarray, " N"]:
    """The same share of each class, rounded down: every class keeps rows to be learned from."""
    draw = np.random.default_rng(seed).random(len(labels_N))
    chosen = np.zeros(len(labels_N), bool)
    for label in np.unique(labels_N):
        rows = np.flatnonzero(labels_N == label)
        chosen[rows[np.argsort(draw[rows])][: int(VALIDATION_SHARE * len(rows))]] = True
    return chosen
