"""How wrong is wrong: a copepod called another copepod is nearer the truth than one called a diatom.

M images judged, C classes, R ranks (kingdom to species). A class is known to the tree by `ancestor_CR`,
the node of each rank, -1 where it is unknown or finer than the class, and by `distance_CC`, edges from
class to class through their lowest common ancestor (aqqua.taxonomy.tree).

Test: tests/evaluate/metrics/test_taxon_hierarchy.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from aqqua.evaluate.metrics.inputs import class_numbers, same_length


@dataclass(frozen=True)
class RankAccuracy:
    """Accuracy when only the taxon at a rank is asked for."""

    accuracy_R: Float[np.ndarray, " R"]  # NaN where no image has the rank
    images_R: Int[np.ndarray, " R"]  # images whose class has the rank


def rank_accuracy(
    truth_M: Int[np.ndarray, " M"], predicted_M: Int[np.ndarray, " M"], ancestor_CR: Int[np.ndarray, "C R"]
) -> RankAccuracy:
    """Share of images whose predicted class has the true taxon at each rank.

    An image is asked at the ranks that its true class has; a prediction that lacks the rank is wrong there.

    Raises:
        ValueError: no image, unequal lengths, or classes that the tree does not have.
    """
    truth_M, predicted_M = _checked(truth_M, predicted_M, len(ancestor_CR))
    asked_MR = ancestor_CR[truth_M] >= 0
    right_MR = asked_MR & (ancestor_CR[truth_M] == ancestor_CR[predicted_M])
    images_R = asked_MR.sum(axis=0)
    accuracy_R = np.full(len(images_R), np.nan)
    np.divide(right_MR.sum(axis=0), images_R, out=accuracy_R, where=images_R > 0)
    return RankAccuracy(accuracy_R, images_R)


def lca_distance_M(
    truth_M: Int[np.ndarray, " M"], predicted_M: Int[np.ndarray, " M"], distance_CC: Float[np.ndarray, "C C"]
) -> Float[np.ndarray, " M"]:
    """Edges of the tree between the true and the predicted class of each image; 0 is right.

    The score is its mean over all images; over the wrong ones it says how grave a mistake is
    (Bertinetto et al. 2020, Making Better Mistakes).

    Raises:
        ValueError: as `rank_accuracy`, or distances that are not one for each two classes.
    """
    if distance_CC.ndim != 2 or len(set(distance_CC.shape)) != 1:
        raise ValueError(f"distances must be square, got shape {distance_CC.shape}; one for each two classes")
    truth_M, predicted_M = _checked(truth_M, predicted_M, len(distance_CC))
    return distance_CC[truth_M, predicted_M].astype(np.float64)


@dataclass(frozen=True)
class HierarchicalScores:
    """Precision, recall and F of nodes: a class stands for itself and all its ancestors."""

    precision: float  # share of the predicted nodes that are right
    recall: float  # share of the true nodes that were predicted
    f1: float


def hierarchical_scores(
    truth_M: Int[np.ndarray, " M"], predicted_M: Int[np.ndarray, " M"], ancestor_CR: Int[np.ndarray, "C R"]
) -> HierarchicalScores:
    """Nodes shared by true and predicted classes, against nodes predicted and nodes true, over all images.

    Equals hiclass.metrics with average="micro" on the paths of `membership`.

    Source: Silla & Freitas 2011, A survey of hierarchical classification, section 6.

    Raises:
        ValueError: as `rank_accuracy`.
    """
    shared, predicted, true = node_counts(truth_M, predicted_M, ancestor_CR).sum(axis=0).tolist()
    return HierarchicalScores(shared / predicted, shared / true, 2 * shared / (predicted + true))


def node_counts(
    truth_M: Int[np.ndarray, " M"], predicted_M: Int[np.ndarray, " M"], ancestor_CR: Int[np.ndarray, "C R"]
) -> Float[np.ndarray, "M 3"]:
    """Nodes that the predicted and the true class of each image share, that the predicted one has, and
    that the true one has.

    Raises:
        ValueError: as `rank_accuracy`.
    """
    truth_M, predicted_M = _checked(truth_M, predicted_M, len(ancestor_CR))
    member_CK = membership(ancestor_CR).astype(np.float64)  # doubles: the product is BLAS's, and exact
    shared_CC, size_C = member_CK @ member_CK.T, member_CK.sum(axis=1)
    return np.column_stack([shared_CC[truth_M, predicted_M], size_C[predicted_M], size_C[truth_M]])


def membership(ancestor_CR: Int[np.ndarray, "C R"]) -> Bool[np.ndarray, "C K"]:
    """Which of K nodes each class stands for: its ancestors and, where those are shared by another class
    or there are none, a node of its own.

    So "Copepoda" and "Copepoda (egg)" differ, detritus is something, and the one class of an order is
    that order: to call a copepod's genus where the truth is the order costs precision, not recall.
    """
    nodes, node_CR = np.unique(ancestor_CR, return_inverse=True)
    member_CK = np.zeros((len(ancestor_CR), len(nodes)), bool)
    np.put_along_axis(member_CK, node_CR.reshape(ancestor_CR.shape), True, axis=1)
    member_CK = member_CK[:, nodes >= 0]
    _, same_C, count = np.unique(member_CK, axis=0, return_inverse=True, return_counts=True)
    alone_C = (count[same_C.ravel()] == 1) & member_CK.any(axis=1)
    return np.concatenate([member_CK, np.eye(len(ancestor_CR), dtype=bool)[:, ~alone_C]], axis=1)


def _checked(truth_M: np.ndarray, predicted_M: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    truth_M = class_numbers("truth", truth_M, n_classes)
    predicted_M = class_numbers("predictions", predicted_M, n_classes)
    same_length(truth=truth_M, predictions=predicted_M)
    return truth_M, predicted_M
