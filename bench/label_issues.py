"""How well wrong labels are found: the atlas's score beside others of the same neighbours' votes.

    python bench/label_issues.py --dataset DATASET --embeddings EMB

5 % of the labels of a dataset are changed: to any class, or to that of the nearest image of another class, as
people confuse them. Each score is judged by AUROC and average precision of finding the changed ones among
all (real mistakes of the dataset count as right labels), as the mean of three draws.

- atlas: aqqua.explore.atlas.label_issues.
- self_confidence, normalized_margin, adjusted: cleanlab's `get_label_quality_scores` of the shares of the
  votes, the last with adjust_pred_probs. cleanlab is no dependency: without it these are null.

Appends a JSON line to bench/results/cpu/label_issues.jsonl.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

sys.path.insert(0, str(Path(__file__).parent / "data"))
from measure import append_result, machine

from aqqua.explore.atlas.features import ChosenVectors, Embeddings, unit_features
from aqqua.explore.atlas.known import Known
from aqqua.explore.atlas.label_issues import label_issues
from aqqua.explore.atlas.neighbours import Found, Points, Want, nearest
from aqqua.store.read import Dataset

CHANGED, DRAWS = 0.05, 3
CLEANLAB = {
    "self_confidence": {"method": "self_confidence"},
    "normalized_margin": {"method": "normalized_margin"},
    "adjusted": {"method": "normalized_margin", "adjust_pred_probs": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path, required=True)
    given = parser.parse_args()
    dataset = Dataset.open(given.dataset)
    every = Known.read(dataset, np.arange(dataset.rows), {})
    known = Known.read(dataset, np.flatnonzero(every.label_N >= 0), {})
    source = Embeddings.open(given.embeddings, dataset).vectors
    unit_NR, _ = unit_features(ChosenVectors(source, known.row_N))
    points = Points(unit_NR, known.instrument_N)
    found = nearest(points, points, [Want(20)], same=np.arange(len(known)))[0]
    row = {how: judged(found, known, how) for how in ("any", "near")}
    for how, scores in row.items():
        for name, figures in scores.items():
            print(f"{how:6}{name:20}{figures}")
    about = {"dataset": given.dataset.name, "images": len(known), "changed": CHANGED, "draws": DRAWS}
    append_result("label_issues", {**machine("scikit-learn"), **about, **row})


def judged(found: Found, known: Known, how: str) -> dict[str, dict[str, float] | None]:
    """AUROC and average precision of each score."""
    figures: dict[str, list[tuple[float, float]]] = {}
    for draw in range(DRAWS):
        label_N = changed(found, known.label_N, how, draw)
        wrong_N = label_N != known.label_N
        for name, score_N in scores_of(found, label_N, known.instrument_N).items():
            both = roc_auc_score(wrong_N, score_N), average_precision_score(wrong_N, score_N)
            figures.setdefault(name, []).append(both)
    return {
        name: {"auroc": round(float(mean[0]), 3), "average_precision": round(float(mean[1]), 3)}
        for name, mean in ((name, np.mean(pairs, axis=0)) for name, pairs in figures.items())
    } | {name: None for name in CLEANLAB if name not in figures}


def changed(found: Found, label_N: np.ndarray, how: str, draw: int) -> np.ndarray:
    """Labels, some of them wrong."""
    random = np.random.default_rng(draw)
    chosen = random.random(len(label_N)) < CHANGED
    other_N = random.integers(0, label_N.max() + 1, len(label_N))
    if how == "near":
        differs_NK = label_N[found.row_QK] != label_N[:, None]
        nearest_N = label_N[found.row_QK[np.arange(len(label_N)), differs_NK.argmax(axis=1)]]
        other_N = np.where(differs_NK.any(axis=1), nearest_N, other_N)
    return np.where(chosen, other_N, label_N)


def scores_of(found: Found, label_N: np.ndarray, group_N: np.ndarray) -> dict[str, np.ndarray]:
    """Higher is more suspect."""
    scores = {"atlas": np.nan_to_num(label_issues(found, label_N, group_N))}
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return scores
    share_NC = np.full((len(label_N), int(label_N.max()) + 1), 1e-6)
    votes = found.similarity_QK.clip(0) * (group_N[found.row_QK] == group_N[:, None])
    np.add.at(share_NC, (np.arange(len(label_N))[:, None], label_N[found.row_QK]), votes)
    share_NC /= share_NC.sum(axis=1, keepdims=True)
    for name, how in CLEANLAB.items():
        scores[name] = 1 - get_label_quality_scores(label_N, share_NC, **how)
    return scores


if __name__ == "__main__":
    main()
