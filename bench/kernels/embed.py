"""The cases that embed is timed on: every code of the model, float32 tokens of bfloat16 rows.

Grids of the reference size law's mean view, drawn so that most differ, and 16×16 squares alone (many views
of one grid). Peers: eager, as aqqua.model.embed composes it; a loop over the distinct sizes, as NaFlex does
it, whose resized tables are ready; torch.compile of eager. The resize of the learned table is in none.
Test: tests/kernels/test_embed_bench.py.
"""

from collections.abc import Callable, Iterator

import torch
from case import Case, Function, make_case
from torch import Tensor

from aqqua.kernels.embed import (
    Fractions,
    Grid,
    Packing,
    Position,
    SineCosine,
    embed,
    sums_over_views,
)
from aqqua.kernels.embed.reference import embed_reference

PREFIX = 5  # CLS and four registers
SIDE = 16  # positions of the fractional tables
MASKED = 0.3
KINDS = ("none", "learned", "factorised", "gsd")


def cases(
    device: torch.device | str = "cuda",
    tokens: int = 65_536,
    widths: tuple[int, ...] = (1024, 384),
    rows_dtype: torch.dtype = torch.bfloat16,
    square: tuple[int, int] = (16, 16),
) -> Iterator[Case]:
    """One pack of views of many grids, and one of squares."""
    for width in widths:
        for name, grids in (("native", _native(tokens)), ("squares", _squares(tokens, square))):
            for kind in KINDS:
                yield _case(torch.device(device), grids, width, kind, name, rows_dtype)


def _native(tokens: int) -> Tensor:
    """Log-normal sides about 5.7 × 5.7 patches, as many views as fit; at least one."""
    draws = torch.randn(tokens, 2, generator=torch.Generator().manual_seed(0))
    grids = (5.7 * (0.55 * draws).exp()).round().clamp(1, 32).long()
    ends = (grids.prod(dim=1) + PREFIX).cumsum(0)
    return grids[: max(int((ends <= tokens).sum()), 1)]


def _squares(tokens: int, square: tuple[int, int]) -> Tensor:
    views = max(tokens // (square[0] * square[1] + PREFIX), 1)
    return torch.tensor(square).expand(views, 2).contiguous()


def _packing(grids: Tensor, device: torch.device) -> Packing:
    lengths = grids.prod(dim=1) + PREFIX
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
    view = torch.arange(len(grids)).repeat_interleave(lengths)
    return Packing(offsets.to(device), view.to(device), grids.int().to(device), PREFIX)


def _case(
    device: torch.device, grids: Tensor, width: int, kind: str, name: str, rows_dtype: torch.dtype
) -> Case:
    packing = _packing(grids, device)
    position, codes = _code(kind, grids, width, device)
    mask = torch.rand(packing.patches, device=device) < MASKED
    rows = torch.randn(packing.patches, width, device=device).to(rows_dtype)
    vectors = [torch.randn(width, device=device) for _ in range(3)]  # CLS, bias, mask token
    registers, scale = (torch.randn(count, width, device=device) for count in (PREFIX - 1, packing.views))

    def ours(rows: Tensor, cls: Tensor, bias: Tensor, token: Tensor, *others: Tensor) -> Tensor:
        registers, scale, *codes = others
        return embed(
            rows, packing, cls, registers, bias_D=bias, mask_N=mask, mask_D=token, scale_VD=scale,
            position=position(*codes), backend="triton",
        )  # fmt: skip

    def eager(rows: Tensor, cls: Tensor, bias: Tensor, token: Tensor, *others: Tensor) -> Tensor:
        registers, scale, *codes = others
        return embed_reference(
            rows, packing, cls, registers, bias, mask, token, scale, position(*codes)
        )  # fmt: skip

    functions: dict[str, Function] = {"eager": eager, "triton": ours}
    if kind == "learned":
        functions["loop over sizes"] = _loop_over_sizes(grids, mask)
    inputs = [rows, *vectors, registers, scale, *codes]
    forward, backward = _bytes(packing, rows, kind)
    title = f"embed {kind}, {name}, D {width}, {str(rows_dtype).removeprefix('torch.')} rows"
    return make_case(title, functions, inputs, forward, forward + backward)


def _bytes(packing: Packing, rows: Tensor, kind: str) -> tuple[int, int]:
    """Least traffic forward and backward: tables of codes and prefixes stay in the caches."""
    tokens = len(packing.view_T) * rows.shape[1] * 4
    own = rows.numel() * rows.itemsize
    return tokens + own, tokens + own + (tokens if kind in {"learned", "factorised"} else 0)


def _code(
    kind: str, grids: Tensor, width: int, device: torch.device
) -> tuple[Callable[..., Position | None], list[Tensor]]:
    """The code as a function of its tensors, and these."""
    if kind == "learned":
        distinct, grid_V = grids.unique(dim=0, return_inverse=True)
        area = distinct.prod(dim=1)
        first = (area.cumsum(0) - area)[grid_V].int().to(device)
        sums = sums_over_views(distinct, grid_V, PREFIX, device)
        return lambda table: Grid(table, first, sums), [torch.randn(int(area.sum()), width, device=device)]
    if kind == "factorised":
        return Fractions, [torch.randn(SIDE, width, device=device) for _ in range(2)]
    if kind == "gsd":
        relative = torch.rand(len(grids), device=device).masked_fill(
            torch.arange(len(grids), device=device) % 8 == 0, torch.nan
        )
        frequencies = 10000.0 ** -torch.linspace(0, 1, width // 4, device=device)
        return lambda unknown: SineCosine(relative, frequencies, unknown), [torch.randn(width, device=device)]
    return lambda: None, []


def _loop_over_sizes(grids: Tensor, mask: Tensor) -> Function:
    """The code of each distinct grid is added to the views of that grid, which are cut out and put back."""
    distinct, grid_V = grids.unique(dim=0, return_inverse=True)
    areas, counts = distinct.prod(dim=1).tolist(), (grids.prod(dim=1)).tolist()

    def function(rows: Tensor, cls: Tensor, bias: Tensor, token: Tensor, *others: Tensor) -> Tensor:
        registers, scale, table = others
        x = torch.where(mask[:, None], token, rows.float() + bias)
        views = list(x.split(counts))
        for number, code in enumerate(table.split(areas)):
            chosen = (grid_V == number).nonzero()[:, 0].tolist()
            coded = torch.stack([views[view] for view in chosen]) + code
            for view, patches in zip(chosen, coded, strict=True):
                views[view] = patches
        prefixes = [torch.cat(((cls + own)[None], registers)) for own in scale]
        return torch.cat([part for pair in zip(prefixes, views, strict=True) for part in pair])

    return function
