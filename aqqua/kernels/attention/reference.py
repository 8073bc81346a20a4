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


def turn_reference(
    x_THE: Float[Tensor, "T H E"], cos_TE: Float[Tensor, "T E"], sin_TE: Float[Tensor, "T E"]
) -> Float[Tensor, "T H E"]:
    """Rotary: each pair (e, e + E/2) turned by its token's angle, in the tables' float32, returned in x's
    dtype."""
    first, second = x_THE.to(cos_TE.dtype).chunk(2, dim=-1)
    half = cos_TE.shape[1] // 2  # both halves of a table are equal
    cos, sin = cos_TE[:, None, :half], sin_TE[:, None, :half]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x_THE.dtype)
