"""The cases that pooling, splitting and KoLeo are timed on.

Views of 52 tokens, the mean of global crops in the reference size law. Peers: eager, as aqqua.evaluate and
aqqua.model write them and as KoLeo is specified, and torch.compile of that.
Test: tests/kernels/test_bench_cases.py.
"""

from collections.abc import Iterator
from functools import partial

import torch
from case import Case, make_case
from torch import Tensor

from aqqua.kernels.segment import attentive_pool, koleo, mean_pool, split_prefix
from aqqua.model.sequences import Sequences

PREFIX = 5  # CLS and four registers
GRID = (1, 47)


def cases(
    device: torch.device | str = "cuda",
    tokens: int = 65_536,
    width: int = 1024,
    heads: int = 16,
    images: tuple[int, ...] = (64, 276, 1024),
    dtype: torch.dtype = torch.bfloat16,
) -> Iterator[Case]:
    """Pooling and splitting of one pack; KoLeo of two crops of so many images, in float32."""
    views = max(tokens // (PREFIX + GRID[0] * GRID[1]), 1)
    grids = torch.tensor(GRID).expand(views, 2)
    sequences = Sequences.from_grids(grids, torch.ones(views), 14, PREFIX, device)
    x = torch.randn(sequences.tokens, width, device=device).to(dtype)
    x_bytes, pooled = x.numel() * x.itemsize, views * width * 4
    offsets = sequences.offsets_V1
    yield make_case(
        f"mean_pool D {width}",
        {
            "eager": partial(_eager_mean, sequences),
            "triton": lambda x: mean_pool(x, offsets, PREFIX, "triton"),
        },
        [x], x_bytes + pooled, 2 * (x_bytes + pooled),
    )  # fmt: skip
    yield make_case(
        f"split_prefix D {width}",
        {
            "eager": lambda x: (x[sequences.prefix_rows_VR], x.index_select(0, sequences.patch_rows_N)),
            "triton": lambda x: split_prefix(x, offsets, PREFIX, "triton"),
        },
        [x.clone()], 2 * x_bytes, 4 * x_bytes,
    )  # fmt: skip
    values, scores = x.unflatten(1, (heads, -1)).clone(), torch.randn(len(x), heads, device=device)
    yield make_case(
        f"attentive_pool {heads} heads of {width // heads}",
        {
            "eager": partial(_eager_attentive, sequences),
            "triton": lambda v, s: attentive_pool(v, s, offsets, PREFIX, "triton"),
        },
        [values, scores], x_bytes + pooled, 3 * x_bytes + 3 * pooled,
    )  # fmt: skip
    for count in images:
        features = torch.randn(2, count, width, device=device)
        size = features.numel() * 4
        yield make_case(
            f"koleo {count} images, D {width}",
            {"eager": partial(koleo, backend="reference"), "triton": partial(koleo, backend="triton")},
            [features], size, 3 * size, 4 * count**2 * width,
        )  # fmt: skip


def _eager_mean(sequences: Sequences, x: Tensor) -> Tensor:
    """As aqqua.evaluate.features pools."""
    patches = x.index_select(0, sequences.patch_rows_N).float()
    total = torch.zeros(sequences.views, x.shape[1], device=x.device).index_add(0, sequences.view_N, patches)
    return total / torch.bincount(sequences.view_N, minlength=sequences.views)[:, None]


def _eager_attentive(sequences: Sequences, values: Tensor, scores: Tensor) -> Tensor:
    rows, view = sequences.patch_rows_N, sequences.view_N
    values, scores = values.index_select(0, rows).float(), scores.index_select(0, rows)
    shape = (sequences.views, scores.shape[1])
    top = torch.full(shape, -torch.inf, device=scores.device)
    top = top.scatter_reduce(0, view[:, None].expand_as(scores), scores.detach(), "amax")
    weights = (scores - top[view]).exp()
    total = torch.zeros(shape, device=scores.device).index_add(0, view, weights)
    weights = weights / total[view]
    pooled = torch.zeros(sequences.views, *values.shape[1:], device=values.device)
    return pooled.index_add(0, view, weights[..., None] * values)
