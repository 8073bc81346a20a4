"""Draws the pictures of docs/augmentation.md from procedural plankton: no image of nature is in them.

    python docs/augmentation/draw.py

A sample ocean is written, ingested, planned and rendered as in training. Each picture shows an image as
stored on the left and views of it with one augmentation on, all others off. The same versions of NumPy and
Pillow make the same pictures. Test: tests/test_docs.py.
"""

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aqqua.explore.picture import Greys
from aqqua.explore.shown import show
from aqqua.ingest import ingest_paths
from aqqua.instruments.folder import claim, read
from aqqua.instruments.image import EncodedImage
from aqqua.instruments.record import ReadOptions, Record
from aqqua.instruments.tree import open_tree
from aqqua.plan.augmentation import AUGMENTATIONS
from aqqua.sample import write_sample
from aqqua.store.read import Dataset
from aqqua.train.settings import PretrainConfig

IMAGES, SEED = 300, 1  # of the sample
# Numbers of images: ZooScan and FlowCam; UVP6; IFCB.
COPEPOD, DIATOM = 1, 72
SPINDLE, FLOC = 28, 37
CILIATE, CLUMP = 33, 35
GAP_PX, PAPER, FRAME, INK, BAR_UM = 10, 255, 150, 40, 1000
SMALL_PX = 130  # of a vignette
# Every augmentation off; views of the whole image that keep its own levels.
OFF: Mapping[str, Any] = {
    "locals": 6, "global_area": (1, 1), "local_area": (1, 1), "aspect": (1, 1), "rotate": False,
    "flip": False, "scale_jitter": (1, 1), "min_tokens": (1, 1), "max_tokens": (65536, 65536),
    "gain": (1, 1), "offset": (0, 0), "saturation": (1, 1), "hue": (0, 0), "photometric_odds": 1,
    "invert_odds": (0, 0), "blur_sigma_px": (0, 0), "local_blur_odds": 1, "noise": (0, 0),
    "subtract_background": False,
}  # fmt: skip
ALL: Mapping[str, Any] = {"locals": 6}
COLOURED: Mapping[str, Any] = {"saturation": (0.8, 1.2), "local_area": (0.2, 0.25)}


@dataclass(frozen=True)
class Row:
    """One image as stored, then views of it."""

    image: int
    settings: Mapping[str, Any]  # of `views`
    magnified: float = 1
    views: range = range(2, 8)  # the local ones; 0 and 1 are the global ones
    bars: bool = False  # scale bars below
    patch_px: int = 2


PICTURES: dict[str, list[Row]] = {
    "turn": [Row(COPEPOD, {**OFF, "rotate": True, "flip": True}, 0.4)],
    "organism": [
        Row(SPINDLE, {**OFF, "organism_aware": aware, "local_area": (0.08, 0.2)}, 2)
        for aware in (False, True)
    ],
    "scale": [Row(COPEPOD, {**OFF, "scale_jitter": (0.8, 1.25)}, 0.4, bars=True)],
    "defocus": [Row(CILIATE, {**OFF, "blur_sigma_px": (0.1, 2), "local_area": (0.2, 0.25)})],
    "light": [
        Row(image, {**OFF, "gain": (0.6, 1.4), "offset": (-0.1, 0.1)}, size)
        for image, size in ((COPEPOD, 0.4), (FLOC, 1.5))
    ],
    "polarity": [
        Row(image, {**OFF, "invert_odds": (0, 1), "subtract_background": True}, size, range(2))
        for image, size in ((COPEPOD, 0.4), (FLOC, 1.5), (CILIATE, 0.5))
    ],
    "background": [
        Row(image, {**OFF, "rotate": True, "subtract_background": subtract}, size, range(2, 6))
        for image, size in ((FLOC, 1.3), (CILIATE, 0.5))
        for subtract in (False, True)
    ],
    "noise": [Row(CLUMP, {**OFF, "noise": (0, 0.02), "local_area": (0.3, 0.5)}, 2)],
    "specks": [
        Row(image, {**OFF, "specks": 6, "speck_odds": 1}, size)
        for image, size in ((COPEPOD, 0.4), (FLOC, 1.5))
    ],
    "colour": [
        Row(DIATOM, {**OFF, **COLOURED, "hue": hue, "grey_odds": grey}, 2, range(2, 6))
        for hue, grey in (((-0.02, 0.02), 0.0), ((-0.1, 0.1), 0.2))
    ],
    "sets": [
        Row(COPEPOD, {**ALL, "augmentation": name}, 0.5, range(8), patch_px=14) for name in AUGMENTATIONS
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the pictures")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        inputs = write_sample(Path(folder, "ocean"), IMAGES, seed=SEED)
        ingest_paths([str(Path(folder, "ocean"))], Path(folder, "dataset"), ReadOptions(), workers=1)
        dataset = Dataset.open(Path(folder, "dataset"))
        for name, rows in PICTURES.items():
            save(stacked([drawn(dataset, row) for row in rows]), out / f"{name}.png")
        save(stripped(inputs["ecotaxa_zooscan"]), out / "strip.png")


def drawn(dataset: Dataset, row: Row) -> np.ndarray:
    """One row: the image as stored, a wider gap, its views; all magnified alike, in the middle of the row."""
    values = {
        "run": "none", "seed": 3, "data": {"path": dataset.path, "pack_tokens": 1 << 20},
        "views": row.settings, "model": {"channels": 3, "patch_px": row.patch_px},
        "train": {"images": 1, "device": "cpu"},
    }  # fmt: skip
    config = PretrainConfig.model_validate(values)
    image = show(dataset, config, row.image + 1).images[row.image]
    greys = Greys.of(config.views)
    original = panel(colour(image.pixels), image.um_per_px, row)
    panels = [original, np.full((1, GAP_PX, 3), PAPER, np.uint8)]
    for view in (image.views[k] for k in row.views):
        panels.append(panel(greys.bytes_of(view.values_hwC), view.parameters.um_per_px, row))
    return beside(panels)


def panel(pixels: np.ndarray, um_per_px: float, row: Row) -> np.ndarray:
    """Magnified, framed, for some with a bar of BAR_UM below; whole magnifications repeat pixels."""
    height, width = (round(side * row.magnified) for side in pixels.shape[:2])
    whole = row.magnified == int(row.magnified)
    method = Image.Resampling.NEAREST if whole else Image.Resampling.BICUBIC
    image = framed(np.asarray(Image.fromarray(pixels).resize((width, height), method)))
    if not row.bars:
        return image
    below = np.full((10, image.shape[1], 3), PAPER, np.uint8)
    below[5:8, : round(BAR_UM / um_per_px * row.magnified)] = INK
    return np.concatenate([image, below])


def framed(pixels: np.ndarray) -> np.ndarray:
    return np.pad(pixels, ((1, 1), (1, 1), (0, 0)), constant_values=FRAME)


def colour(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def beside(panels: list[np.ndarray]) -> np.ndarray:
    height = max(len(panel) for panel in panels)
    parts = []
    for panel in panels:
        above = (height - len(panel)) // 2
        room = ((above, height - len(panel) - above), (0, GAP_PX), (0, 0))
        parts.append(np.pad(panel, room, constant_values=PAPER))
    return np.concatenate(parts, axis=1)


def stacked(rows: list[np.ndarray]) -> np.ndarray:
    width = max(row.shape[1] for row in rows)
    room = [((0, GAP_PX), (0, width - row.shape[1]), (0, 0)) for row in rows]
    return np.concatenate(
        [np.pad(row, pad, constant_values=PAPER) for row, pad in zip(rows, room, strict=True)]
    )


def stripped(export: Path) -> np.ndarray:
    """Vignettes as exported, then as ingested from a plain folder: without instrument or table."""
    tree = open_tree(export)
    found = [record for record in read(tree, claim(tree), ReadOptions()) if isinstance(record, Record)]
    small = [record for record in found if max(record.pixels.load(tree).shape) < SMALL_PX][:4]
    sources = [*(EncodedImage(record.source) for record in small), *(record.pixels for record in small)]
    return beside([framed(colour(source.load(tree))) for source in sources])


def save(picture: np.ndarray, path: Path) -> None:
    grey = bool((picture == picture[..., :1]).all())
    Image.fromarray(picture[..., 0] if grey else picture).save(path, optimize=True)


if __name__ == "__main__":
    main()
