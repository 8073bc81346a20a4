"""Draws the pictures of docs/performance.md: from committed rows of bench/results, and from aqqua/cost.

    python docs/performance/draw.py

SVG, written by hand as bench/plots.py does: the same rows and facts make the same bytes.
Test: tests/test_docs.py.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from gpuhours import work_of
from plots import GOAL, INK, LINES, SOFT, text

from aqqua.cost.facts import load_facts

ROOT = Path(__file__).parents[2]
WIDTH, LEFT, BAR, GAP = 720, 190, 20, 10  # px: of a picture, of its names, of a bar, between two bars
RENDERERS = {
    "native": "aqqua, C++", "cv2_same_maps": "OpenCV, same maps, no blur", "pillow_same_maps":
    "Pillow, same maps, no blur", "pillow_224_98": "Pillow, ten crops, 224/98 px", "reference":
    "our PyTorch specification",
}  # fmt: skip
GPU, DEPTHS, OPERATION_BYTES = (
    "H200",
    (0.1, 1000),
    2,
)  # of the roofline: its span, operations a byte; bfloat16
# Operations and elements moved, of a token and one of D numbers, forward; n tokens of its view.
OPS = {
    "residual, norm": (8, 4),
    "attention, n = 20": (4 * 20, 4),
    "attention, n = 257": (4 * 257, 4),
}
PRODUCTS = {"product of ViT-S, D = 384": 384, "product of ViT-L, D = 1024": 1024}
PACK_TOKENS = 65_536


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the pictures")
    out = parser.parse_args().out
    for name, drawing in {"tokens": tokens(), "render": rendering(), "roofline": roofline()}.items():
        (out / f"{name}.svg").write_text(drawing, encoding="utf-8")


def tokens() -> str:
    """Of an image of ISIIS, in the student: native at two patch sides, and at fixed 224/98."""
    rows = []
    for patch_px in (14, 8):
        native, fixed = (work.tokens for work in work_of("small", "isiis", patch_px, registers=0))
        if patch_px == 14:
            rows.append(("DINOv2's 2 × 224 and 8 × 98", fixed.globals_.tokens + fixed.locals_.tokens))
        rows.append((f"native, patch {patch_px}", native.globals_.tokens + native.locals_.tokens))
    return bars("Tokens an image of ISIIS, 10 views (aqqua/cost/sizes.py)", rows, "tokens")


def rendering() -> str:
    """Images a second of one core, by the newest row of grey images."""
    lines = (ROOT / "bench/results/cpu/render.jsonl").read_text(encoding="utf-8").splitlines()
    row = [found for found in map(json.loads, lines) if found["channels"] == 1][-1]
    rows = [(said, row[name]["images_per_core_s"]) for name, said in RENDERERS.items() if name in row]
    title = (
        f"Ten views of an image rendered, images/s of one core ({row['cpu']}, commit {row['commit'][:10]})"
    )
    return bars(title, rows, "images/s")


def bars(title: str, rows: Sequence[tuple[str, float]], unit: str) -> str:
    """One bar below the other, from 0."""
    most = max(value for _, value in rows)
    parts = [text(8, 20, title, "font-weight='bold'")]
    for i, (name, value) in enumerate(rows):
        y = 36 + i * (BAR + GAP)
        length = (WIDTH - LEFT - 120) * value / most
        parts += [
            text(LEFT - 8, y + 14, name, "text-anchor='end'"),
            f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{LINES[0]}"/>',
            text(LEFT + length + 6, y + 14, f"{value:,.0f} {unit}"),
        ]
    return picture(parts, 36 + len(rows) * (BAR + GAP))


def roofline() -> str:
    """What bounds an operation of a GPU: its memory left of the ridge, its matrix units right of it."""
    gpu, height, foot = load_facts().gpu(GPU), 340, 290
    copy, product = gpu.copy_gb_s.value / 1e3, gpu.product_tflop_s.value  # TB/s, TFLOP/s
    low, high = (math.log10(depth) for depth in DEPTHS)
    bottom, top = math.log10(copy * DEPTHS[0]), math.log10(product * 2)

    def at(depth: float, rate: float) -> tuple[float, float]:
        x = 70 + (WIDTH - 110) * (math.log10(depth) - low) / (high - low)
        return x, foot - (foot - 40) * (math.log10(rate) - bottom) / (top - bottom)

    roof = [at(DEPTHS[0], copy * DEPTHS[0]), at(product / copy, product), at(DEPTHS[1], product)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in roof)
    parts = [
        text(8, 20, f"Roofline of one {GPU}: {copy:g} TB/s, {product:g} TFLOP/s ({gpu.copy_gb_s.known})",
             "font-weight='bold'"),
        f'<path d="M70 40 V{foot} H{WIDTH - 40}" fill="none" stroke="{SOFT}"/>',
        f'<polyline points="{path}" fill="none" stroke="{GOAL}" stroke-width="2"/>',
        text(WIDTH // 2, foot + 36, "operations a byte that is moved", "text-anchor='middle'"),
        text(8, 36, "TFLOP/s", f"fill='{SOFT}'"),
    ]  # fmt: skip
    for depth in (0.1, 1, 10, 100, 1000):
        parts.append(text(at(depth, 1)[0], foot + 16, f"{depth:g}", "text-anchor='middle'"))
    for rate in (1, 10, 100, 1000):
        parts.append(text(62, at(1, rate)[1] + 4, f"{rate:g}", "text-anchor='end'"))
    for name, depth in depths().items():
        x, y = at(depth, min(product, copy * depth))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{LINES[0]}"/>')
        parts.append(text(x + 6, y + 18, name) if depth < product / copy else "")
    for i, name in enumerate(PRODUCTS):  # on the flat part of the roof, where there is room above
        x, y = at(depths()[name], product)
        parts.append(text(x, y - 8 - 16 * i, name, "text-anchor='end'"))
    return picture(parts, height)


def depths() -> dict[str, float]:
    """Operations a byte of some operations of a step, at the least that must be moved."""
    found = {name: operations / (elements * OPERATION_BYTES) for name, (operations, elements) in OPS.items()}
    for name, D in PRODUCTS.items():  # T × D by D × 4D
        moved = (PACK_TOKENS * D + 4 * D * D + PACK_TOKENS * 4 * D) * OPERATION_BYTES
        found[name] = 2 * PACK_TOKENS * 4 * D * D / moved
    return found


def picture(parts: Sequence[str], height: int) -> str:
    """On white, so that it can be read on any page."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="{INK}">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="white"/>', *parts, "</svg>", ""])


if __name__ == "__main__":
    main()
