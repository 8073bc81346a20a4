"""k nearest neighbours on frozen features: is like next to like, with nothing trained.

Letters: N training rows, M asked rows, R of them at a time, D width, C classes.
Test: tests/evaluate/probes/test_knn.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn.functional import normalize

from aqqua.evaluate.probes.probe import check_rows
from aqqua.evaluate.probes.whiten import Whitening, fit_whitening

TEMPERATURE = 0.07  # of the votes; DINO, DINOv2, DINOv3
NEIGHBOURS = (1, 5, 10, 20, 100, 200)  # dinov2/eval/knn.py has 10, 20, 100, 200; few images want fewer
CHUNK = 1024  # asked rows compared at a time
TRAIN_CHUNK = 65536  # with as many training rows: 268 MB of similarities


@dataclass(frozen=True)
class Knn:
    """The k most similar training rows vote.

    Similarity is the cosine; a neighbour votes exp(similarity / 0.07). With k over N all training rows vote.
    Nothing is drawn or chosen: groups and seed have no part.

    Source: dinov2/eval/knn.py.
    """

    k: int = 20
    whitened: bool = False  # features are whitened first (whiten.py)
    device: str = "cpu"

    def fit(
        self,
        train_ND: Float[np.ndarray, "N D"],
        labels_N: Int[np.ndarray, " N"],
        classes: int,
        groups_N: Int[np.ndarray, " N"],
        seed: int = 0,  # noqa: ARG002 - of all probes
    ) -> "Neighbours":
        """Keep the rows; see Probe.fit."""
        check_rows(train_ND, labels_N, classes, groups_N, "knn")
        if self.k < 1:
            raise ValueError(f"knn: k must be at least 1, got {self.k}; 20 is usual")
        whitening = fit_whitening(train_ND) if self.whitened else None
        device = torch.device(self.device)
        rows_ND = _directions(train_ND, whitening, device)
        labels = torch.from_numpy(labels_N.astype(np.int64)).to(device)
        return Neighbours(rows_ND, labels, classes, self.k, whitening)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Training rows that can be asked."""

    train_ND: Float[Tensor, "N D"]  # of length 1
    labels_N: Int[Tensor, " N"]
    classes: int
    k: int
    whitening: Whitening | None

    def probabilities(self, rows_MD: Float[np.ndarray, "M D"]) -> Float32[np.ndarray, "M C"]:
        """Share of the votes; see Predictor."""
        return self.sweep(rows_MD, (self.k,))[self.k]

    def sweep(
        self, rows_MD: Float[np.ndarray, "M D"], ks: Sequence[int] = NEIGHBOURS
    ) -> dict[int, Float32[np.ndarray, "M C"]]:
        """Probabilities for each k, by one search."""
        asked_MD = _directions(rows_MD, self.whitening, self.train_ND.device)
        found: dict[int, list[np.ndarray]] = {k: [np.zeros((0, self.classes), np.float32)] for k in ks}
        for rows_RD in asked_MD.split(CHUNK):
            top_Rk, index_Rk = self._nearest(rows_RD, min(max(ks), len(self.train_ND)))
            votes_Rk = ((top_Rk - top_Rk[:, :1]) / TEMPERATURE).exp()
            for k in ks:
                votes_RC = votes_Rk.new_zeros(len(rows_RD), self.classes)
                votes_RC.scatter_add_(1, self.labels_N[index_Rk[:, :k]], votes_Rk[:, :k])
                found[k].append((votes_RC / votes_RC.sum(dim=1, keepdim=True)).cpu().numpy())
        return {k: np.concatenate(parts) for k, parts in found.items()}

    def _nearest(self, rows_RD: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Similarity and number of the k most similar training rows, best first."""
        best_Rk, index_Rk, start = None, None, 0
        for train_nD in self.train_ND.split(TRAIN_CHUNK):
            top_Rk, at_Rk = (rows_RD @ train_nD.T).topk(min(k, len(train_nD)), dim=1)
            at_Rk, start = at_Rk + start, start + len(train_nD)
            if best_Rk is None or index_Rk is None:
                best_Rk, index_Rk = top_Rk, at_Rk
                continue
            both, both_at = torch.cat([best_Rk, top_Rk], dim=1), torch.cat([index_Rk, at_Rk], dim=1)
            best_Rk, chosen = both.topk(min(k, both.shape[1]), dim=1)
            index_Rk = both_at.gather(1, chosen)
        assert best_Rk is not None
        assert index_Rk is not None
        return best_Rk, index_Rk


def _directions(rows_ND: np.ndarray, whitening: Whitening | None, device: torch.device) -> Tensor:
    rows_ND = rows_ND if whitening is None else whitening(rows_ND)
    return normalize(torch.from_numpy(np.ascontiguousarray(rows_ND, np.float32)).to(device), dim=1)
