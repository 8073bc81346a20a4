"""k nearest neighbours on frozen features: is like next to like, with nothing trained."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

TEMPERATURE = 0.07  # of the votes; DINO, DINOv2, DINOv3
CHUNK = 2048  # test rows compared at a time


def knn_predict(
    train_ND: Float[Tensor, "N D"],
    labels_N: Int[Tensor, " N"],
    test_MD: Float[Tensor, "M D"],
    k: int,
    n_classes: int,
) -> Int[Tensor, " M"]:
    """Class of each test row by a vote of its k most similar training rows.

    Similarity is the cosine; a neighbour votes exp(similarity / 0.07). Of classes with equal votes
    the one with the lowest number wins. With k over N all training rows vote.

    Source: dinov2/eval/knn.py.
    """
    train_ND = torch.nn.functional.normalize(train_ND, dim=1)
    k = min(k, len(train_ND))
    found = []
    for rows_RD in torch.nn.functional.normalize(test_MD, dim=1).split(CHUNK):
        similarity_RN = rows_RD @ train_ND.T
        top_Rk, index_Rk = similarity_RN.topk(k, dim=1)
        votes_RC = top_Rk.new_zeros(len(rows_RD), n_classes)
        votes_RC.scatter_add_(1, labels_N[index_Rk], (top_Rk / TEMPERATURE - 1 / TEMPERATURE).exp())
        found.append(votes_RC.argmax(dim=1))
    return torch.cat(found)
