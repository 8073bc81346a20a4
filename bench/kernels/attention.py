"""The cases that attention is timed on: mixes of lengths, our kernels and their peers, bytes and FLOPs.

    python bench/kernels/attention.py                        what each mix is, without timing anything
    python bench/kernels/attention.py --histogram DATASET    make lengths.json anew

Mixes: G and L, global and local crops of the assumed law of sizes (below); F, 257 tokens (16 × 16
patches and CLS); X, 1,024 tokens, beyond the limit, so that only the choice of backend is timed; isiis8
and isiis14, the views that aqqua plans for 19,656 real ISIIS images (lengths.json: how many views have
how many patches of 8 or 14 px; 2 global and 8 local views an image).

Peers are called as a user would: on the turned slices of the fused projection, with gradients for the
fused projection. A peer that is not installed, or cannot serve, is in `not_run` with the reason.
Test: tests/kernels/test_attention_bench.py.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from case import Case
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from aqqua.kernels.attention import Schedule, available, largest_tile, make_schedule, qkv_attention
from aqqua.kernels.attention.reference import turn_reference

LENGTHS = Path(__file__).with_name("lengths.json")
CLS = 1
PATCHES = (8, 14)  # px, of lengths.json
GLOBAL_AREA, LOCAL_AREA = (0.32, 1.0), (0.05, 0.32)  # DINOv2
# Score matrices of this many values make padding to the longest view pointless (and full of memory).
MOST_PADDED = 1 << 31
Rotary = tuple[Tensor, Tensor]
Attention = Callable[[Tensor, Rotary | None], Tensor]


def draw_law(area: tuple[float, float], tokens: int, seed: int = 0) -> Tensor:
    """Lengths of crops under the assumed law of image sizes, patch 14, until `tokens` are reached.

    Side log-normal, median 80 px, σ 0.55; 3 % Pareto(1.8) tail; aspect σ 0.35; at most 1,024 patches.
    """
    generator = np.random.default_rng(seed)
    count = tokens  # more than enough: every view has a token
    side = 80 * np.exp(0.55 * generator.standard_normal(count))
    side = np.where(generator.random(count) < 0.03, 80 * (1 + generator.pareto(1.8, count)), side)
    stretch = np.exp(0.175 * generator.standard_normal(count)), np.sqrt(generator.uniform(*area, count))
    rows, columns = (np.ceil(side * part * stretch[1] / 14) for part in (stretch[0], 1 / stretch[0]))
    return _first(np.minimum(rows * columns, 1024).astype(np.int64) + CLS, tokens)


def draw_isiis(patch_px: int, tokens: int, seed: int = 0) -> Tensor:
    """Lengths of real views in random order, until `tokens` are reached."""
    kinds = json.loads(LENGTHS.read_text())["views"][f"patch{patch_px}"]
    patches = np.concatenate([np.repeat([int(n) for n in k], [*k.values()]) for k in kinds.values()])
    return _first(np.random.default_rng(seed).permutation(patches) + CLS, tokens)


def _first(lengths_V: np.ndarray, tokens: int) -> Tensor:
    """As many of them as fit."""
    return torch.from_numpy(lengths_V[: max(1, int((lengths_V.cumsum() <= tokens).sum()))])


def mixes(tokens: int) -> dict[str, Tensor]:
    """Lengths of the views of a pack, for each mix."""
    return {
        "G": draw_law(GLOBAL_AREA, tokens),
        "L": draw_law(LOCAL_AREA, tokens),
        "F": torch.full((max(1, tokens // 257),), 257),
        "X": torch.full((max(1, tokens // 1024),), 1024),
        **{f"isiis{patch_px}": draw_isiis(patch_px, tokens) for patch_px in PATCHES},
    }


def cases(
    device: torch.device | str = "cuda",
    tokens: int = 65_536,
    heads: int = 16,
    width: int = 64,
    dtype: torch.dtype = torch.bfloat16,
    chosen: tuple[str, ...] = ("L", "G", "F", "isiis8", "X", "isiis14"),
) -> Iterator[Case]:
    """Every mix with and without rotary position."""
    lengths = mixes(tokens)
    for rotary in (True, False):
        for name in chosen:
            yield _case(name, lengths[name], torch.device(device), heads, width, dtype, rotary)


def _case(
    name: str,
    lengths: Tensor,
    device: torch.device,
    heads: int,
    width: int,
    dtype: torch.dtype,
    turned: bool,
) -> Case:
    torch._dynamo.reset()  # its limit of recompilations counts all cases together
    T = int(lengths.sum())
    qkv = torch.randn(T, 3, heads, width, device=device).to(dtype).requires_grad_()
    dy = torch.randn(T, heads, width, device=device).to(dtype)
    angles = torch.randn(T, width // 2, device=device).tile(2)
    rotary = (angles.cos(), angles.sin()) if turned else None
    found, missing = _attentions(lengths, device, dtype)
    row = T * heads * width * dtype.itemsize
    flops = 4 * heads * width * int(lengths.square().sum())
    return Case(
        name=f"attention {name}{' rotary' * turned}, {heads} heads of {width}, {str(dtype)[6:]}",
        forward={key: partial(_forward, call, qkv, rotary) for key, call in found.items()},
        both={key: partial(_both, call, qkv, rotary, dy) for key, call in found.items()},
        forward_bytes=4 * row,
        both_bytes=(4 + 7) * row,
        forward_flops=flops,
        both_flops=3 * flops,
        not_run=missing,
        untimed=frozenset({"reference"}),  # a call for each view: it says what is right, and takes minutes
    )


def _forward(attention: Attention, qkv: Tensor, rotary: Rotary | None) -> Tensor:
    with torch.no_grad():
        return attention(qkv, rotary)


def _both(attention: Attention, qkv: Tensor, rotary: Rotary | None, dy: Tensor) -> Tensor:
    return torch.autograd.grad(attention(qkv, rotary), qkv, dy)[0]


def _attentions(
    lengths: Tensor, device: torch.device, dtype: torch.dtype
) -> tuple[dict[str, Attention], dict[str, str]]:
    """Every attention that can serve this pack, and why the others cannot."""
    offsets = pad(lengths.cumsum(0), (1, 0)).to(device=device, dtype=torch.int32)
    packing = (offsets, lengths, int(lengths.max()))
    schedule = make_schedule(lengths, device, largest_tile=largest_tile(device, dtype))
    report = available(device, dtype)
    found: dict[str, Attention] = {}
    missing = {name: why for name, why in report.items() if why.startswith("needs ")}
    for name in report:
        if name not in missing:
            found[name] = partial(_packed, packing, schedule, name)
    if "torch_varlen" in found:  # the best that is to be had without a kernel of one's own
        found["torch_varlen, turned by torch.compile"] = torch.compile(found["torch_varlen"], dynamic=True)
    if len(lengths) * packing[2] ** 2 <= MOST_PADDED:
        found["padded"] = padded = partial(_padded, lengths.to(device), packing[2])
        found["padded, torch.compile"] = torch.compile(padded)
    else:
        missing["padded"] = f"{len(lengths)} views of {packing[2]} tokens would take too much memory"
    for name, peer in (("flex", _flex), ("xformers", _xformers)):
        try:
            found[name] = peer(lengths, device)
        except (ImportError, RuntimeError) as error:
            missing[name] = f"{type(error).__name__}: {error}"
    return found, missing


def _packed(packing: tuple, schedule: Schedule, backend: str, qkv: Tensor, rotary: Rotary | None) -> Tensor:
    return qkv_attention(qkv, *packing, rotary=rotary, schedule=schedule, backend=backend)


def _slices(qkv: Tensor, rotary: Rotary | None) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = qkv.unbind(1)
    return (q, k, v) if rotary is None else (turn_reference(q, *rotary), turn_reference(k, *rotary), v)


def _padded(lengths: Tensor, longest: int, qkv: Tensor, rotary: Rotary | None) -> Tensor:
    """What one writes without a varlen kernel: one dense batch, its padding masked."""
    mask = torch.arange(longest, device=qkv.device) < lengths[:, None]
    dense = (mask.cumsum(1).flatten() + (lengths.cumsum(0) - lengths).repeat_interleave(longest) - 1).clamp(
        max=len(qkv) - 1
    )
    q, k, v = (x[dense].unflatten(0, mask.shape).transpose(1, 2) for x in _slices(qkv, rotary))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None]).transpose(1, 2)[mask]


def _flex(lengths: Tensor, device: torch.device) -> Attention:
    """FlexAttention with a document mask."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    if device.type != "cuda":
        raise RuntimeError(f"needs a CUDA device, got {device.type}")
    view_T = torch.repeat_interleave(lengths).to(device)
    T = len(view_T)
    mask = create_block_mask(lambda _b, _h, i, j: view_T[i] == view_T[j], None, None, T, T, device=device)
    compiled = torch.compile(flex_attention)

    def attend(qkv: Tensor, rotary: Rotary | None) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in _slices(qkv, rotary))
        return compiled(q, k, v, block_mask=mask)[0].transpose(0, 1)

    return attend


def _xformers(lengths: Tensor, _: torch.device) -> Attention:
    """xformers with a block-diagonal mask, as in DINOv2."""
    from xformers.ops import memory_efficient_attention
    from xformers.ops.fmha.attn_bias import BlockDiagonalMask

    mask = BlockDiagonalMask.from_seqlens(lengths.tolist())

    def attend(qkv: Tensor, rotary: Rotary | None) -> Tensor:
        q, k, v = (x[None] for x in _slices(qkv, rotary))
        return memory_efficient_attention(q, k, v, attn_bias=mask)[0]

    return attend


def count_views(dataset: Path) -> dict[str, dict[str, dict[str, int]]]:
    """How many views of a dataset have how many patches, as planned by default."""
    from aqqua.plan.pack import GLOBALS
    from aqqua.plan.view_config import ViewConfig
    from aqqua.plan.views import plan_views
    from aqqua.store.read import Dataset

    data = Dataset.open(dataset)
    found: dict[str, dict[str, dict[str, int]]] = {}
    for patch_px in PATCHES:
        counts = np.zeros((2, 4096), np.int64)
        for block in range(data.blocks):
            sizes = data.sizes(block)
            visits = np.zeros(len(sizes.height), np.uint64)
            patches = plan_views(sizes, visits, block, patch_px, ViewConfig()).patches_IS()
            for kind, part in enumerate((patches[:, :GLOBALS], patches[:, GLOBALS:])):
                counts[kind] += np.bincount(part.ravel(), minlength=4096)
        kinds = zip(("global", "local"), counts, strict=True)
        found[f"patch{patch_px}"] = {
            kind: {str(n): int(row[n]) for n in np.flatnonzero(row)} for kind, row in kinds
        }
    return found


def describe(tokens: int = 65_536) -> None:
    """Each mix in numbers: lengths, and what our kernels make of it."""
    for name, lengths in mixes(tokens).items():
        n = lengths.double()
        schedule = make_schedule(lengths, "cpu")
        held = sum(int((table[:, 0] >= 0).sum()) for table in (schedule.narrow_B2R, schedule.wide_B2R))
        rows = 64 * len(schedule.narrow_B2R) + 128 * len(schedule.wide_B2R)
        rest = 0 if schedule.rest is None else len(schedule.rest.rows_U)
        scores = 64**2 * len(schedule.narrow_B2R) + 128**2 * len(schedule.wide_B2R)
        scores += int((schedule.blocks_B4[:, 1].long() + 63).div(64, rounding_mode="floor").sum()) * 64**2
        served = int(lengths[lengths <= 320].square().sum()) if scores else 0
        facts = {
            "views": len(lengths),
            "mean": round(float(n.mean()), 1),
            "median": float(n.median()),
            "square mean over mean": round(float(n.square().mean() / n.mean()), 1),
            "tiles of 64": len(schedule.narrow_B2R),
            "tiles of 128": len(schedule.wide_B2R),
            "tile rows filled": round(held / rows, 4) if rows else 1.0,
            "blocks": len(schedule.blocks_B4),
            "tokens beyond the limit": rest,
            "useful scores": round(served / scores, 3) if scores else 1.0,
        }
        print(name, json.dumps(facts))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--histogram", type=Path, help="dataset to make lengths.json from")
    arguments = parser.parse_args()
    if arguments.histogram is None:
        describe()
        return
    made = {
        "what": "views of the 19,656 ISIIS images of PlanktonSet 1.0 by patches, planned by aqqua's defaults",
        "command": "python bench/kernels/attention.py --histogram DATASET",
        "views": count_views(arguments.histogram),
    }
    LENGTHS.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
