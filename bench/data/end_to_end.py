"""From the dataset to what the model takes: images per second on two cores, beside DINOv2's loader.

    python bench/data/end_to_end.py --dataset DATASET [--originals ZIP]

- ours_grey, ours_rgb: `Feeder.steps` as training runs it: two reading threads, planning, the renderer with
  two threads; 2 global and 8 local native views of each image become float32 patch rows of 1 or 3 channels,
  with masks. A window of 2,048 images, from seam to seam.
- plain: a DataLoader of two workers over image files: Pillow decodes, RGB, ten RandomResizedCrop (bicubic,
  2 of 224 px from .32 to 1 of the area, 8 of 98 px from .05 to .32), to tensor, normalise, stack.
- dinov2: the same with all of DataAugmentationDINO: flip, colour jitter, grey, blur, solarize.

The loader reads the files of ZIP whose names the dataset knows, as they are, or without ZIP the dataset's
images written as PNG; both lie in a temporary folder.

Two clocks, best round of each, chains in turn: processor time of the process and its workers, which holds on
a busy machine, and time on the wall. Appends a JSON line to bench/results/cpu/end_to_end.jsonl.
"""

import argparse
import importlib
import io
import itertools
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import append_result, machine, print_rates
from PIL import Image
from torch import Tensor

from aqqua.plan.lanes import LaneState
from aqqua.plan.masks import MaskConfig
from aqqua.plan.view_config import ViewConfig
from aqqua.store.read import Dataset
from aqqua.train.batch import Shape
from aqqua.train.data import DataConfig, Feeder

CORES = 2
LANES = 1
NEAR_SEAM = 1900  # of 2,048 images of a window: what comes before the first seam is not timed
BATCH = 32  # images the loader stacks
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as DINOv2 normalises
Clocks = tuple[float, float]  # processor time, time on the wall, s for one image


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder made by `aqqua ingest`")
    parser.add_argument("--originals", type=Path, help="zip of the image files the dataset was made from")
    parser.add_argument("--patch-px", type=int, default=16)
    parser.add_argument("--files", type=int, default=512, help="images in a round of the loader")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as folder:
        write_files(Dataset.open(arguments.dataset), arguments.originals, Path(folder), arguments.files)
        chains: dict[str, Callable[[], Clocks]] = {
            "ours_grey": ours(arguments, channels=1),
            "plain": lambda: of_loader(Path(folder), full=False),
            "ours_rgb": ours(arguments, channels=3),
            "dinov2": lambda: of_loader(Path(folder), full=True),
        }
        best = dict.fromkeys(chains, (float("inf"), float("inf")))
        for _ in range(arguments.rounds):
            for name, chain in chains.items():
                best[name] = tuple(map(min, best[name], chain()))
    report(arguments, best)


def ours(arguments: argparse.Namespace, channels: int) -> Callable[[], Clocks]:
    """A round of one window, from seam to seam, since a window is planned all at once."""
    shape = Shape(
        patch_px=arguments.patch_px, channels=channels, prefix_tokens=5, drop_layers=12, hide_scale_odds=0.1
    )
    config, dataset = DataConfig(path=arguments.dataset, lanes=LANES), Dataset.open(arguments.dataset)
    windows = itertools.count(1, step=2)  # each round has other images

    def go() -> Clocks:
        # A feeder for each round: one that is left open would work on in the rounds of others.
        feeder, first = Feeder(dataset, config, ViewConfig(), MaskConfig(), shape, seed=0), next(windows)
        steps = feeder.steps({lane: LaneState(first - 1, NEAR_SEAM) for lane in range(LANES)}, 0)
        while next(steps).states[0].window < first:
            pass
        before, images = clocks(), 0
        while True:
            data = next(steps)
            images += data.n_images
            if data.states[0].window > first:
                break
        after = clocks()
        steps.close()
        return per_image(before, after, images)

    return go


def of_loader(folder: Path, full: bool) -> Clocks:
    """A round of the loader over all files, its workers' start and end included."""
    loader = torch.utils.data.DataLoader(Files(folder, full), BATCH, num_workers=CORES, collate_fn=stack)
    before = clocks()
    images = sum(len(crops[0]) for crops in loader)
    return per_image(before, clocks(), images)


def clocks() -> Clocks:
    """Processor time of this process and of the workers that have ended, and the time."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used), time.perf_counter()


def per_image(before: Clocks, after: Clocks, images: int) -> Clocks:
    return (after[0] - before[0]) / images, (after[1] - before[1]) / images


def write_files(dataset: Dataset, originals: Path | None, folder: Path, count: int) -> None:
    """The first images of the dataset, which is shuffled, as files: as they were, or as PNG."""
    source = zipfile.ZipFile(originals) if originals else None
    members = set(source.namelist()) if source else set()
    written = 0
    for number in range(dataset.blocks):
        block, table = dataset.block_with(number, ["source"])
        for i, name in enumerate(table["source"].to_pylist()):
            if written == count:
                return
            if source is None:
                Image.fromarray(block.pixels(i)).save(folder / f"{written:06d}.png")
            elif name in members:
                (folder / f"{written:06d}{Path(name).suffix}").write_bytes(source.read(name))
            else:
                raise SystemExit(f"originals: must hold the dataset's files, got no {name} in {originals}")
            written += 1


class Files(torch.utils.data.Dataset[list[Tensor]]):
    """Image files as DINOv2 reads and crops them (dinov2/data/augmentations.py)."""

    def __init__(self, folder: Path, full: bool) -> None:
        self.paths = sorted(folder.iterdir())
        t = torchvision_transforms()
        jitter = t.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
        colour = [t.RandomApply([jitter], p=0.8), t.RandomGrayscale(p=0.2)]
        end = [t.ToTensor(), t.Normalize(MEAN, STD)]

        def crop(side: int, low: float, high: float, blur: float, solarize: float) -> Any:
            resized = t.RandomResizedCrop(side, scale=(low, high), interpolation=t.InterpolationMode.BICUBIC)
            if not full:
                return t.Compose([resized, *end])
            blurred = t.RandomApply([t.GaussianBlur(kernel_size=9, sigma=(0.1, 2.0))], p=blur)
            solarized = [t.RandomSolarize(threshold=128, p=solarize)] if solarize else []
            return t.Compose([resized, t.RandomHorizontalFlip(p=0.5), *colour, blurred, *solarized, *end])

        self.crops = [crop(224, 0.32, 1.0, 1.0, 0.0), crop(224, 0.32, 1.0, 0.1, 0.2)]
        self.crops += [crop(98, 0.05, 0.32, 0.5, 0.0)] * 8

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> list[Tensor]:
        image = Image.open(io.BytesIO(self.paths[index].read_bytes())).convert("RGB")
        return [crop(image) for crop in self.crops]


def stack(images: list[list[Tensor]]) -> list[Tensor]:
    """All images' first crops, all images' second crops, ..."""
    return [torch.stack(crops) for crops in zip(*images, strict=True)]


_KEPT: list[torch.library.Library] = []  # declared schemas live as long as their library


def torchvision_transforms() -> Any:
    """torchvision.transforms, also beside a CPU build of torch, where two detection operators are missing."""
    try:
        return importlib.import_module("torchvision.transforms")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [known for known in sys.modules if known.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    _KEPT.append(torch.library.Library("torchvision", "DEF"))
    for operator in ("nms", "qnms"):
        _KEPT[0].define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision.transforms")


def report(arguments: argparse.Namespace, best: dict[str, Clocks]) -> None:
    rows = {
        name: {
            "images_per_core_s": round(1 / processor, 1),
            "images_per_s": round(1 / wall, 1),
            "times_plain_per_core": round(best["plain"][0] / processor, 2),
            "times_plain": round(best["plain"][1] / wall, 2),
        }
        for name, (processor, wall) in best.items()
    }
    print_rates(rows, ("images/core/s", "images/s", "x plain, core", "x plain"))
    facts = {
        "dataset": arguments.dataset.name,
        "files": "originals" if arguments.originals else "png",
        "patch_px": arguments.patch_px,
        "threads": CORES,
    }
    append_result("end_to_end", {**machine(), **facts, **rows})


if __name__ == "__main__":
    main()
