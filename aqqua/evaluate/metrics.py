"""How good predictions are: every class counts the same, however rare."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class Scores:
    """Scores over the classes that occur among the test images."""

    macro_f1: float
    accuracy: float
    balanced_accuracy: float
    recall: dict[str, float]  # of each class


def score(truth_M: Int[np.ndarray, " M"], predicted_M: Int[np.ndarray, " M"], names: list[str]) -> Scores:
    """Macro-F1, accuracy, balanced accuracy and recall per class."""
    from sklearn.metrics import f1_score

    present = np.unique(truth_M)
    recall = {names[c]: float((predicted_M[truth_M == c] == c).mean()) for c in present}
    return Scores(
        macro_f1=float(f1_score(truth_M, predicted_M, labels=present, average="macro", zero_division=0)),
        accuracy=float((truth_M == predicted_M).mean()),
        balanced_accuracy=float(np.mean(list(recall.values()))),
        recall=recall,
    )
