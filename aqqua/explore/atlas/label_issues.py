"""How suspect a label is: what the labels of an image's nearest neighbours say against it.

The neighbours vote, each with its cosine. With the share `own` of votes for the label that the image has and
the largest share `other` of any other label,

    issue = (1 - own + other / 2) / 1.5,    0 all agree, 1 all agree on another label.

Only neighbours of the same instrument vote: sources name the same animal differently. The second term parts
what lies in a mixed neighbourhood from what lies in a pure one of another class. bench/label_issues.py
compares it with the scores of cleanlab on labels changed at random and to near classes: each of those is
better on one kind of error and worse on the other, so cleanlab is no dependency.

Letter key: N points, K neighbours. Test: tests/explore/atlas/test_label_issues.py.
"""

import numpy as np
from jaxtyping import Float32, Int64

from aqqua.explore.atlas.neighbours import NONE, Found

OTHER_WEIGHS = 0.5
_CHUNK = 65_536  # points at a time


def label_issues(
    found: Found, label_N: Int64[np.ndarray, " N"], group_N: Int64[np.ndarray, " N"]
) -> Float32[np.ndarray, " N"]:
    """The score of each point; NaN where it has no label, or no neighbour that could vote.

    Args:
        found: neighbours of each point among all.
        label_N: number of its label; -1 none.
        group_N: its instrument.
    """
    issue_N = np.full(len(label_N), np.nan, np.float32)
    for first in range(0, len(label_N), _CHUNK):
        part = slice(first, first + _CHUNK)
        row_IK, mine_I = found.row_QK[part], label_N[part]
        there_IK = row_IK != NONE
        at_IK = np.where(there_IK, row_IK, 0)
        label_IK = label_N[at_IK]
        votes = there_IK & (label_IK >= 0) & (group_N[at_IK] == group_N[part][:, None])
        weight_IK = np.where(votes, found.similarity_QK[part].clip(1e-6), 0.0).astype(np.float64)
        total_I = weight_IK.sum(axis=1)
        own_I = np.where(label_IK == mine_I[:, None], weight_IK, 0.0).sum(axis=1)
        other_I = _largest_other(label_IK, weight_IK, mine_I)
        score_I = (total_I - own_I + OTHER_WEIGHS * other_I) / (total_I.clip(1e-12) * (1 + OTHER_WEIGHS))
        issue_N[part] = np.where((mine_I >= 0) & (total_I > 0), score_I.clip(0, 1), np.nan)
    return issue_N


def _largest_other(label_IK: np.ndarray, weight_IK: np.ndarray, mine_I: np.ndarray) -> np.ndarray:
    """Most votes for one label that is not the image's own."""
    most_I = np.zeros(len(label_IK))
    for k in range(label_IK.shape[1]):
        same_IK = label_IK == label_IK[:, k : k + 1]
        votes_I = np.where(same_IK, weight_IK, 0.0).sum(axis=1)
        counts = (weight_IK[:, k] > 0) & (label_IK[:, k] != mine_I)
        most_I = np.maximum(most_I, np.where(counts, votes_I, 0.0))
    return most_I
