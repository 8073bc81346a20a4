"""Attention inside each view of a packed batch: the specification, one SDPA call per view."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def varlen_attention_reference(
    q_THE: Float[Tensor, "T H E"],
    k_THE: Float[Tensor, "T H E"],
    v_THE: Float[Tensor, "T H E"],
    lengths_V: Int[Tensor, " V"],
) -> Float[Tensor, "T H E"]:
    """o[view] = softmax(q kᵀ / √E) v, with q, k, v the rows of that view alone."""
    sizes = lengths_V.tolist()
    views = zip(q_THE.split(sizes), k_THE.split(sizes), v_THE.split(sizes), strict=True)
    out = [scaled_dot_product_attention(*(x.transpose(0, 1) for x in view)).transpose(0, 1) for view in views]
    return torch.cat(out)
