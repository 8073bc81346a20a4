"""How many images one core turns into patch rows: 2 global and 8 local views each, native scale.

    python bench/data/render.py --dataset DATASET

Beside the C++ renderer stand its PyTorch specification and two Pillow chains of ten crops, resized
and normalised, nothing more (no rotation, blur or noise): at the sizes of our views, and at 224 and
98 px as in DINOv2. Before a number is printed the two renderers must agree within 1e-4.

Images per second of processor time of one thread, best round of each, rounds interleaved: the
ratios of one run hold on a busy machine too. Appends a JSON line to bench/results/cpu/render.jsonl.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from measure import append_result, best_of_rounds, machine
from PIL import Image

from aqqua.plan.lanes import Lane, LaneConfig, LaneState
from aqqua.plan.masks import MaskConfig
from aqqua.plan.pack import GLOBALS, Pack
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.render.native import render_native
from aqqua.render.reference import render_reference
from aqqua.store.read import Dataset

TOLERANCE = 1e-4
DINOV2_SIDES = (224, 98)  # global and local, px
VIEWS = ViewConfig()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder made by `aqqua ingest`")
    parser.add_argument("--patch-px", type=int, default=16)
    parser.add_argument("--channels", type=int, default=1, choices=[1, 3])
    parser.add_argument("--pack-tokens", type=int, default=16384)
    parser.add_argument("--seconds", type=float, default=15, help="of timing, all chains together")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    pack, pixels = first_pack(arguments.dataset, arguments.patch_px, arguments.pack_tokens)
    options = (pack, pixels, arguments.patch_px, arguments.channels)
    difference = float((render_native(*options, threads=1) - render_reference(*options)).abs().max())
    if not difference <= TOLERANCE:
        raise SystemExit(f"render: native must agree within {TOLERANCE}, got {difference}; no timing")
    seconds = best_of_rounds(
        {
            "native": lambda: render_native(*options, threads=1),
            "reference": lambda: render_reference(*options),
            "pillow_same_sizes": lambda: pillow_chain(pack, pixels, arguments.patch_px),
            "pillow_224_98": lambda: pillow_chain(pack, pixels, None),
        },
        arguments.seconds,
    )
    report(arguments, pack, seconds, difference)


def first_pack(path: Path, patch_px: int, pack_tokens: int) -> tuple[Pack, list[np.ndarray]]:
    """The first pack of a run on this dataset, and its pixels."""
    dataset = Dataset.open(path)
    lane = Lane(dataset, LaneConfig(pack_tokens=pack_tokens), lane=0, seed=0)
    packer = Packer(lane, patch_px=patch_px, prefix_tokens=5, views=VIEWS, masks=MaskConfig())
    pack, _ = packer.next_pack(LaneState())
    blocks = {number: dataset.block(number) for number in set(pack.block_I.tolist())}
    places = zip(pack.block_I.tolist(), pack.row_I.tolist(), strict=True)
    return pack, [blocks[block].pixels(row) for block, row in places]


def pillow_chain(pack: Pack, pixels: list[np.ndarray], patch_px: int | None) -> list[np.ndarray]:
    """Ten random resized crops of every image as normalised float32.

    Args:
        patch_px: of our views, whose sizes are then taken; None takes DINOv2's.
    """
    rng = np.random.default_rng(0)
    images = [Image.fromarray(image) for image in pixels]
    views = []
    for v, i in enumerate(pack.image_V.tolist()):
        is_local = v >= GLOBALS * pack.n_images
        side = DINOV2_SIDES[is_local]
        rows, columns = (side, side) if patch_px is None else (pack.grid_V2[v] * patch_px).tolist()
        low, high = VIEWS.local_area if is_local else VIEWS.global_area
        share = rng.uniform(low, high) ** 0.5
        image = images[i]
        left, top = rng.uniform(0, 1 - share, 2) * image.size
        box = (left, top, left + share * image.width, top + share * image.height)
        crop = image.resize((columns, rows), Image.Resampling.BICUBIC, box)
        views.append((np.asarray(crop, np.float32) / 255 - 0.5) / 0.25)
    return views


def report(arguments: argparse.Namespace, pack: Pack, seconds: dict[str, float], difference: float) -> None:
    ours = int(pack.patches_V.sum()) * arguments.patch_px**2
    dinov2 = pack.n_images * (GLOBALS * DINOV2_SIDES[0] ** 2 + VIEWS.locals * DINOV2_SIDES[1] ** 2)
    rows = {
        name: {
            "images_per_core_s": round(pack.n_images / best, 1),
            "output_mpx_per_core_s": round((dinov2 if name == "pillow_224_98" else ours) / best / 1e6, 2),
            "times_reference": round(seconds["reference"] / best, 2),
        }
        for name, best in seconds.items()
    }
    print(f"{'chain':20}{'images/s/core':>15}{'output Mpx/s':>15}{'x reference':>15}")  # noqa: T201
    for name, row in rows.items():
        print(f"{name:20}" + "".join(f"{value:15}" for value in row.values()))  # noqa: T201
    append_result(
        "render",
        {
            **machine("torch", "pillow"),
            "dataset": arguments.dataset.name,
            "patch_px": arguments.patch_px,
            "channels": arguments.channels,
            "images": pack.n_images,
            "views": pack.n_views,
            "output_px_per_image": ours // pack.n_images,
            "largest_difference": difference,
            **rows,
        },
    )


if __name__ == "__main__":
    main()
