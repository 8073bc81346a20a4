"""From predictions to shares that undo the classifier's known errors: CC, PCC, ACC, PACC, EMQ.

Own code, equal to quapy 0.2.3 in tests: `import quapy` takes seconds and brings pandas, matplotlib and a
downloader of data sets, and it solves the adjustment by finite differences, slow and rough for a
hundred classes. M images judged, N images to learn from, S samples, C classes.

Sources: Forman 2008, Quantifying counts and costs via classification (CC, ACC); Bella et al. 2010,
Quantification via probability estimators (PCC, PACC); Bunse 2022, On multi-class extensions of adjusted
classify and count (least squares on the simplex); Saerens, Latinne & Decaestecker 2002 (EMQ).

Test: tests/evaluate/metrics/test_correction.py.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from aqqua.evaluate.metrics.inputs import class_numbers, gapless_numbers, probabilities, same_length
from aqqua.evaluate.metrics.quantification import class_shares, mean_shares

Method = Literal["CC", "PCC", "ACC", "PACC", "EMQ"]
METHODS: tuple[Method, ...] = get_args(Method)
EPSILON, MIN_ROUNDS, MAX_ROUNDS = 1e-4, 11, 1000  # of EMQ; as in quapy
SUM_WEIGHT = 1e3  # of "shares sum to 1" against one equation of the adjustment


@dataclass(frozen=True)
class Corrector:
    """What the classifier does to images of each class, from rows that it did not learn from."""

    called_CC: Float[np.ndarray, "C C"]  # column: share of the class's images that are called each class
    mean_CC: Float[np.ndarray, "C C"]  # column: mean probabilities of the class's images
    prior_C: Float[np.ndarray, " C"]  # shares among the rows that the classifier learned from

    def shares(
        self, method: Method, probability_MC: Float[np.ndarray, "M C"], sample_M: Int[np.ndarray, " M"]
    ) -> Float[np.ndarray, "S C"]:
        """Shares of each sample; rows sum to 1.

        Args:
            method: CC counts the most probable classes; PCC adds up probabilities; ACC and PACC undo
                `called_CC` and `mean_CC`; EMQ finds the shares under which the probabilities, made with
                `prior_C` in mind, agree with themselves.

        Raises:
            ValueError: an unknown method, rows that are no probabilities of these classes, unequal
                lengths, or a sample without images.
        """
        probability_MC, n_classes = probabilities("probabilities", probability_MC), len(self.prior_C)
        if probability_MC.shape[1] != n_classes:
            raise ValueError(
                f"probabilities must be of {n_classes} classes, got {probability_MC.shape[1]}; "
                "fit the correction on the same classes"
            )
        if method in ("CC", "ACC"):
            raw_SC = class_shares(probability_MC.argmax(axis=1), sample_M, n_classes)
            return raw_SC if method == "CC" else _adjust(self.called_CC, raw_SC)
        if method in ("PCC", "PACC"):
            raw_SC = mean_shares(probability_MC, sample_M)
            return raw_SC if method == "PCC" else _adjust(self.mean_CC, raw_SC)
        if method != "EMQ":
            raise ValueError(f"the correction must be one of {', '.join(METHODS)}, got {method}; choose one")
        sample_M = gapless_numbers("samples", sample_M)
        same_length(probabilities=probability_MC, samples=sample_M)
        rows = (probability_MC[sample_M == s] for s in range(sample_M.max() + 1))
        return np.array([expectation_maximisation(self.prior_C, row_MC) for row_MC in rows])


def fit_corrector(
    truth_N: Int[np.ndarray, " N"],
    probability_NC: Float[np.ndarray, "N C"],
    prior_C: Float[np.ndarray, " C"] | None = None,
) -> Corrector:
    """Learn the errors. A class without rows is taken to be called right always.

    Args:
        prior_C: shares of the classes among the rows that the judged classifier learned from, which its
            probabilities have in mind; None: those among these rows.

    Raises:
        ValueError: rows that are no probabilities, classes out of range, or unequal lengths.
    """
    probability_NC = probabilities("probabilities", probability_NC)
    n_classes = probability_NC.shape[1]
    truth_N = class_numbers("truth", truth_N, n_classes)
    same_length(truth=truth_N, probabilities=probability_NC)
    called_CC, mean_CC = np.eye(n_classes), np.eye(n_classes)
    for c in np.unique(truth_N):
        rows_NC = probability_NC[truth_N == c]
        called_CC[:, c] = np.bincount(rows_NC.argmax(axis=1), minlength=n_classes) / len(rows_NC)
        mean_CC[:, c] = rows_NC.mean(axis=0)
    if prior_C is None:
        prior_C = np.bincount(truth_N, minlength=n_classes) / len(truth_N)
    return Corrector(called_CC, mean_CC, prior_C)


def expectation_maximisation(
    prior_C: Float[np.ndarray, " C"], probability_MC: Float[np.ndarray, "M C"]
) -> Float[np.ndarray, " C"]:
    """Shares of one sample by EMQ; stops when they move by under EPSILON on average."""
    prior_C = prior_C if (prior_C > 0).all() else (prior_C + EPSILON) / (prior_C + EPSILON).sum()
    share_C = prior_C
    for done in range(1, MAX_ROUNDS + 1):
        weighted_MC = probability_MC * (share_C / prior_C)
        before_C, share_C = share_C, (weighted_MC / weighted_MC.sum(axis=1, keepdims=True)).mean(axis=0)
        if done > MIN_ROUNDS and np.abs(share_C - before_C).mean() < EPSILON:
            break
    return share_C


def _adjust(rate_CC: np.ndarray, raw_SC: np.ndarray) -> Float[np.ndarray, "S C"]:
    """Shares that the classifier would turn into the raw ones: least squares, none negative, sum 1."""
    from scipy.optimize import nnls

    n_classes = len(rate_CC)
    left = np.concatenate([rate_CC, np.full((1, n_classes), SUM_WEIGHT)])
    found = [nnls(left, np.append(raw_C, SUM_WEIGHT), maxiter=100 * n_classes)[0] for raw_C in raw_SC]
    share_SC = np.array(found)
    return share_SC / share_SC.sum(axis=1, keepdims=True)
