"""Walls of example images for the page of a curation: all of a wall at one scale, so sizes can be compared.

Blocks that hold a chosen image are read one at a time, and its pixels reduced at once. Pictures lie in the
page as data URIs, in all at most MOST_BYTES; an empty box stands for what comes later. Where every image of a
wall has a known µm/px, its scale is by micrometres, else by pixels.

Test: tests/explore/test_curation_walls.py.
"""

import base64
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from aqqua.explore.curation_tables import number
from aqqua.explore.page import plain
from aqqua.explore.picture import ScaleBar, eight_bit
from aqqua.store.content import image_key
from aqqua.store.read import Dataset
from aqqua.store.weights import SamplingWeights

CELL_PX = 104  # CSS pixels of the longer side of an image that is as large as most of its wall
LARGEST_PX = 176  # CSS pixels of the longer side; what would be larger is reduced, and it is said
MOST_MAGNIFIED = 4
EXACT_PX = 64  # longer side of what is kept as it is
MOST_BYTES = 8_000_000  # of all pictures of a page
_TYPICAL = 0.75  # quantile of the sizes on a wall that CELL_PX is for
_DENSITY = 1.5  # pixels kept for a CSS pixel
_KEPT_PX = math.ceil(_DENSITY * LARGEST_PX)


@dataclass(frozen=True)
class Picture:
    """An image of the dataset, to be shown."""

    image_id: str
    label: str | None
    instrument: str
    height: int  # of the image, px
    width: int
    um_per_px: float  # NaN unknown
    pixels: np.ndarray  # uint8, 8 bit a channel, its longer side at most _KEPT_PX
    weight: float | None  # expected uses in an epoch; None: not of the dataset that is curated

    @property
    def side_px(self) -> int:
        return max(self.height, self.width)


def find_rows(dataset: Dataset, ids: Iterable[str]) -> dict[str, int]:
    """Rows of images by id, of those that are in the dataset; one pass over the column of keys."""
    by_key = {image_key(name): name for name in ids}
    wanted = np.array(sorted(by_key), np.uint64)
    found: dict[str, int] = {}
    first = 0
    for block in range(dataset.blocks) if by_key else ():
        key_I = dataset.table(["key"], [block])["key"].to_numpy()
        for i in np.flatnonzero(np.isin(key_I, wanted)).tolist():
            found[by_key[int(key_I[i])]] = first + i
        first += len(key_I)
    return found


def labels_at(dataset: Dataset, rows: Iterable[int]) -> dict[int, str | None]:
    """Label of each row."""
    found: dict[int, str | None] = {}
    for block, within in _by_block(dataset, rows):
        label_I = dataset.table(["label"], [block])["label"]
        found |= {row: label_I[i].as_py() for row, i in within}
    return found


def read_pictures(
    dataset: Dataset, rows: Iterable[int], sampling: SamplingWeights | None
) -> dict[int, Picture]:
    """The images at some rows.

    Args:
        sampling: of the dataset; None: it is another one, such as of an evaluation.

    Raises:
        DamagedError: a part is damaged.
    """
    pictures: dict[int, Picture] = {}
    for at, within in _by_block(dataset, rows):
        block, table = dataset.block_with(at, ["image_id", "label"])
        weight_I = None if sampling is None else sampling.block(at, block.sizes)
        for row, i in within:
            sizes = block.sizes
            pictures[row] = Picture(
                image_id=table["image_id"][i].as_py(),
                label=table["label"][i].as_py(),
                instrument=sizes.instrument_names[sizes.instrument[i]],
                height=int(sizes.height[i]),
                width=int(sizes.width[i]),
                um_per_px=float(sizes.um_per_px[i]),
                pixels=_reduced(eight_bit(block.pixels(i)), _KEPT_PX).copy(),
                weight=None if weight_I is None else float(weight_I[i]),
            )
    return pictures


def _by_block(dataset: Dataset, rows: Iterable[int]) -> list[tuple[int, list[tuple[int, int]]]]:
    """Blocks that hold some of the rows; of each, the rows and where in it they are."""
    full = dataset.rows_of(0)  # every block but the last has as many
    found: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for row in sorted(set(rows)):
        found[row // full].append((row, row % full))
    return sorted(found.items())


@dataclass(frozen=True)
class WallScale:
    """CSS pixels for a micrometre where `by_um`, else for a pixel of the images."""

    css: float
    by_um: bool

    @classmethod
    def of(cls, pictures: Sequence[Picture]) -> "WallScale":
        """So that most images of a wall, at least one, have their longer side in CELL_PX."""
        by_um = all(math.isfinite(p.um_per_px) for p in pictures)
        side = [p.side_px * (p.um_per_px if by_um else 1.0) for p in pictures]
        typical = float(np.quantile(side, _TYPICAL, method="lower"))
        unit = max(p.um_per_px for p in pictures) if by_um else 1.0  # no image is magnified more
        return cls(min(CELL_PX / typical, MOST_MAGNIFIED / unit), by_um)

    def per_px(self, picture: Picture) -> float:
        """CSS pixels for a pixel of an image."""
        return self.css * picture.um_per_px if self.by_um else self.css

    def bar(self) -> str:
        """A scale bar, as HTML."""
        bar = ScaleBar.of(2.0 * CELL_PX, 1 / self.css) if self.by_um else None
        pixels = ScaleBar.of(2 * CELL_PX / self.css, math.nan)
        length, text = (bar.px, bar.text) if bar else (pixels.px * self.css, pixels.text)
        return (
            f'<p class="scale"><svg width="{length:.1f}" height="5" aria-hidden="true">'
            f'<rect class="bar" width="100%" height="5"/></svg> {text}</p>'
        )


class Frames:
    """Pictures as HTML, until the page is full."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.left = most_bytes
        self.left_out = 0

    def wall(self, pictures: Sequence[Picture], scale: WallScale | None = None, classes: str = "wall") -> str:
        """Pictures beside each other, with a scale bar below unless the scale is given."""
        if not pictures:
            return ""
        used = scale or WallScale.of(pictures)
        figures = "".join(self.figure(picture, used) for picture in pictures)
        return f'<div class="{classes}">{figures}</div>' + ("" if scale else used.bar())

    def figure(self, picture: Picture, scale: WallScale, with_id: bool = False) -> str:
        """A picture over its label and weight.

        Args:
            with_id: also its id and size in words, not only in its title.
        """
        per_px = scale.per_px(picture)
        smaller = min(1.0, LARGEST_PX / (picture.side_px * per_px))
        height, width = (max(1, round(side * per_px * smaller)) for side in (picture.height, picture.width))
        name = plain(picture.image_id)
        label = "no label" if picture.label is None else f"<bdi>{plain(picture.label)}</bdi>"
        lines = [label, "" if picture.weight is None else f"used {number(picture.weight)}×"]
        lines += [f"reduced ×{smaller:.2g}"] if smaller < 1 else []
        lines += [f"<bdi>{name}</bdi>", f"{picture.height} × {picture.width} px"] if with_id else []
        title = f"{name}: {plain(picture.instrument)}, {picture.height} × {picture.width} px"
        kind = ' class="unused"' if picture.weight == 0 else ""
        return (
            f'<figure{kind} title="{title}">{self._image(picture, height, width, name)}<figcaption>'
            f"{'<br/>'.join(line for line in lines if line)}</figcaption></figure>"
        )

    def _image(self, picture: Picture, height: int, width: int, name: str) -> str:
        pixels = _reduced(picture.pixels, math.ceil(_DENSITY * max(height, width)))
        uri = _data_uri(pixels)
        if len(uri) > self.left:
            self.left_out += 1
            return f'<div class="left-out" style="width:{width}px;height:{height}px"></div>'
        self.left -= len(uri)
        kind = ' class="magnified"' if max(pixels.shape[:2]) < max(height, width) else ""
        return f'<img{kind} src="{uri}" width="{width}" height="{height}" alt="{name}"/>'


def _reduced(pixels: np.ndarray, most_px: int) -> np.ndarray:
    """With its longer side at most so long."""
    height, width = pixels.shape[:2]
    if max(height, width) <= most_px:
        return pixels
    factor = most_px / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BOX))


def _data_uri(pixels: np.ndarray) -> str:
    """A PNG of what is small, which may be magnified; else a WebP, a fifth of its size."""
    form, options = ("PNG", {}) if max(pixels.shape[:2]) <= EXACT_PX else ("WEBP", {"quality": 85})
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
