"""How many images one core turns into patch rows: 2 global and 8 local views each, native scale.

    python bench/data/render.py --dataset DATASET

Beside the C++ renderer stand its PyTorch specification and peers that do less: our maps, bilinear, by
Pillow and OpenCV (no blur, no noise); ten crops, resized and normalised, by Pillow and by PyTorch's
operator under torchvision (no rotation either), at the sizes of our views and at DINOv2's 224 and 98 px.
Before a number is printed the two renderers must agree within 1e-5.

Images per second of processor time of one thread, best round of each, rounds interleaved: the
ratios of one run hold on a busy machine too. Appends a JSON line to bench/results/cpu/render.jsonl.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from measure import append_result, best_of_rounds, machine, print_rates
from PIL import Image
from torch import Tensor

from aqqua import _core
from aqqua.plan.lanes import Lane, LaneConfig, LaneState
from aqqua.plan.masks import MaskConfig
from aqqua.plan.pack import GLOBALS, Pack
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.render.native import render_native
from aqqua.render.reference import render_reference
from aqqua.store.read import Dataset

TOLERANCE = 1e-5
DINOV2_SIDES = (224, 98)  # global and local, px
VIEWS = ViewConfig()


@dataclass(frozen=True)
class Crop:
    """A part of an image to be resized."""

    image: int
    box: tuple[float, float, float, float]  # left, top, right, bottom, source px
    rows: int  # output px
    columns: int


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
    seconds = best_of_rounds(chains_of(*options), arguments.seconds)
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


def chains_of(
    pack: Pack, pixels: list[np.ndarray], patch_px: int, channels: int
) -> dict[str, Callable[[], object]]:
    """Ours, then the peers, by name; those named 224_98 fill DINOv2's sizes, the others those of the pack."""
    options = (pack, pixels, patch_px, channels)
    ours, dinov2 = list(crops(pack, patch_px)), list(crops(pack, None))
    chains: dict[str, Callable[[], object]] = {
        "native": lambda: render_native(*options, threads=1),
        "native_bfloat16": lambda: render_native(*options, threads=1, dtype=torch.bfloat16),
        "reference": lambda: render_reference(*options),
        "pillow_same_maps": lambda: pillow_warps(pack, pixels, patch_px),
        "pillow_same_sizes": lambda: pillow_crops(pixels, ours),
        "pillow_224_98": lambda: pillow_crops(pixels, dinov2),
        "tensor_same_sizes": lambda: tensor_crops(pixels, ours),
        "tensor_224_98": lambda: tensor_crops(pixels, dinov2),
    }
    if find_spec("cv2") is None:
        print("no row cv2_same_maps: it needs `pip install opencv-python-headless`")
        return chains
    return chains | {"cv2_same_maps": lambda: cv2_warps(pack, pixels, patch_px)}


def crops(pack: Pack, patch_px: int | None) -> Iterator[Crop]:
    """Ten random resized crops of every image, as DINOv2 draws them.

    Args:
        patch_px: of our views, whose sizes are then taken; None takes DINOv2's.
    """
    rng = np.random.default_rng(0)
    for v, i in enumerate(pack.image_V.tolist()):
        is_local = v >= GLOBALS * pack.n_images
        side = DINOV2_SIDES[is_local]
        rows, columns = (side, side) if patch_px is None else (pack.grid_V2[v] * patch_px).tolist()
        low, high = VIEWS.local_area if is_local else VIEWS.global_area
        share = rng.uniform(low, high) ** 0.5
        height, width = int(pack.sizes.height[i]), int(pack.sizes.width[i])
        left, top = rng.uniform(0, 1 - share, 2) * (width, height)
        yield Crop(i, (left, top, left + share * width, top + share * height), rows, columns)


def pillow_crops(pixels: list[np.ndarray], crops: list[Crop]) -> list[np.ndarray]:
    """Every crop resized by Pillow, as normalised float32."""
    images = [Image.fromarray(image) for image in pixels]
    sized = (
        images[crop.image].resize((crop.columns, crop.rows), Image.Resampling.BICUBIC, crop.box)
        for crop in crops
    )
    return [(np.asarray(crop, np.float32) / 255 - 0.5) / 0.25 for crop in sized]


def tensor_crops(pixels: list[np.ndarray], crops: list[Crop]) -> list[Tensor]:
    """The same on uint8 tensors, by what torchvision's v2.RandomResizedCrop runs on them.

    Called directly, for not every build of torchvision can be imported beside every build of PyTorch.
    Source: torchvision/transforms/v2/functional/_geometry.py, resize_image.
    """
    images = [torch.from_numpy(i.copy()).reshape(*i.shape[:2], -1).permute(2, 0, 1)[None] for i in pixels]
    views = []
    for crop in crops:
        left, top, right, bottom = (round(number) for number in crop.box)
        part = images[crop.image][..., top : max(bottom, top + 1), left : max(right, left + 1)]
        size = (crop.rows, crop.columns)
        sized = nnf.interpolate(part, size, mode="bicubic", antialias=True, align_corners=False)
        views.append((sized.float() / 255 - 0.5) / 0.25)
    return views


def pillow_warps(pack: Pack, pixels: list[np.ndarray], patch_px: int) -> list[np.ndarray]:
    """Our own maps by Pillow, which counts pixels as they do: bilinear on 8 bits, no blur, no noise."""
    images = [Image.fromarray(image) for image in pixels]
    levels = pack.sizes.background.tolist()
    views = []
    for v, i in enumerate(pack.image_V.tolist()):
        rows, columns = (pack.grid_V2[v] * patch_px).tolist()
        warped = images[i].transform(
            (columns, rows),
            Image.Transform.AFFINE,
            pack.map_V23[v].ravel().tolist(),
            Image.Resampling.BILINEAR,
            fillcolor=levels[i][0] if pixels[i].ndim == 2 else tuple(levels[i]),
        )
        views.append(lit(pack, v, np.asarray(warped, np.float32)))
    return views


def cv2_warps(pack: Pack, pixels: list[np.ndarray], patch_px: int) -> list[np.ndarray]:
    """The same by cv2.warpAffine, whose first pixel has its centre at (0, 0), not at (½, ½)."""
    cv2 = import_module("cv2")
    maps_V23 = pack.map_V23.astype(np.float64)
    maps_V23[:, :, 2] += (maps_V23[:, :, 0] + maps_V23[:, :, 1] - 1) / 2
    levels = pack.sizes.background.tolist()
    views = []
    for v, i in enumerate(pack.image_V.tolist()):
        rows, columns = (pack.grid_V2[v] * patch_px).tolist()
        warped = cv2.warpAffine(
            pixels[i],
            maps_V23[v],
            (columns, rows),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=levels[i],
        )
        views.append(lit(pack, v, warped.astype(np.float32)))
    return views


def lit(pack: Pack, v: int, levels: np.ndarray) -> np.ndarray:
    """Levels of 8 bits with the gain and offset of view v."""
    bias = pack.bias_VC[v] if levels.ndim == 3 else pack.bias_VC[v, 0]
    return levels * (pack.scale_V[v] / 255) + bias


def report(arguments: argparse.Namespace, pack: Pack, seconds: dict[str, float], difference: float) -> None:
    ours = int(pack.patches_V.sum()) * arguments.patch_px**2
    dinov2 = pack.n_images * (GLOBALS * DINOV2_SIDES[0] ** 2 + VIEWS.locals * DINOV2_SIDES[1] ** 2)
    rows = {
        name: {
            "images_per_core_s": round(pack.n_images / best, 1),
            "output_mpx_per_core_s": round((dinov2 if name.endswith("224_98") else ours) / best / 1e6, 2),
            "times_reference": round(seconds["reference"] / best, 2),
        }
        for name, best in seconds.items()
    }
    print_rates(rows, ("images/s/core", "output Mpx/s", "x reference"))
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
            "simd": _core.render_simd()[0],
            "largest_difference": difference,
            **rows,
        },
    )


if __name__ == "__main__":
    main()
