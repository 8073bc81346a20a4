"""Real images of a dataset and their views, exactly as a training run plans and renders them.

The images are put in the place of a dataset of one block, walked by one lane in windows of one block: then
window number v holds every image once, on its visit v. Packs are filled, masked and rendered as in training.
A view depends on (seed, image, visit) alone, so it is the one a run on the whole dataset makes. Which views
are masked, and how much, also depends on the images that share a pack, as it does there.
Letters: V views of a pack, I images. Test: tests/explore/test_shown.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32

from aqqua.explore.parameters import Parameters, parameters_of
from aqqua.plan.lanes import Lane, LaneConfig, LaneState
from aqqua.plan.pack import Pack, hide_scale
from aqqua.plan.packer import Packer
from aqqua.store.read import Dataset
from aqqua.store.sizes import Sizes
from aqqua.train.backend import choose_renderer
from aqqua.train.data import DataConfig
from aqqua.train.settings import PretrainConfig
from aqqua.train.weighted import planning_weights

MOST_IMAGES = 200  # a page of some tens of MB
LAST_VISIT = 1_000_000 - 1  # far below the 2**24 epochs of a run: packs look into the windows behind it
_NAMES = ("image_id", "label")


@dataclass(frozen=True)
class ShownView:
    """A view: its plan in words, and its pixels as the model gets them."""

    parameters: Parameters
    values_hwC: Float32[np.ndarray, "h w C"]  # normalised
    mask: Bool[np.ndarray, "rows columns"] | None  # patches hidden from the student; None: not masked


@dataclass(frozen=True)
class ShownImage:
    """An image as stored, and its views: global 1, global 2, locals."""

    image_id: str
    label: str | None
    instrument: str
    pixels: np.ndarray  # (H, W) or (H, W, 3), uint8 or uint16
    um_per_px: float  # NaN unknown
    background: tuple[int, ...]  # in the image's own grey levels, one for each of its channels
    box: tuple[int, int, int, int]  # top, left, bottom, right of the organism
    views: tuple[ShownView, ...]
    patch_px: int  # of all its views


@dataclass(frozen=True)
class Shown:
    """What a page shows."""

    images: tuple[ShownImage, ...]
    renderer: str  # who served


@dataclass(frozen=True)
class _Chosen:
    """Images in the place of a dataset: all in one block (aqqua.plan.lanes.Blocks)."""

    all_sizes: Sizes
    pixels_I: list[np.ndarray]
    names_I: list[dict[str, Any]]
    blocks: int = 1

    def sizes(self, _block: int, /) -> Sizes:
        return self.all_sizes


def show(
    dataset: Dataset,
    config: PretrainConfig,
    count: int,
    visit: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Shown:
    """The first `count` training images of a dataset, and the views of their visit `visit`.

    Args:
        dataset: written in random order, so its first images are a fair sample.
        config: of a run; its seed, views, masks, patch size, channels, held-out share and renderer count.
        count: images, 1 to MOST_IMAGES.
        visit: 0 is the first time that a run sees an image, 0 to LAST_VISIT.
        progress: called with the images done.

    Raises:
        ValueError: the count or the visit is out of range, or a block is damaged.
    """
    if not 0 <= visit <= LAST_VISIT:
        raise ValueError(f"plan: --visit must be 0 to {LAST_VISIT}, got {visit}; 0 is the first")
    chosen = _choose_images(dataset, count, config.data)
    on_cuda = config.train.device != "cpu" and torch.cuda.is_available()
    name, render = choose_renderer(config.data.renderer, torch.device("cuda" if on_cuda else "cpu"))
    images: dict[int, ShownImage] = {}
    for pack in _packs(chosen, config, visit):
        pixels = [chosen.pixels_I[row] for row in pack.row_I.tolist()]
        patches_NF = render(pack, pixels, pack.patch_px, config.model.channels).float().cpu().numpy()
        for i in np.flatnonzero(pack.visit_I == visit).tolist():
            images[int(pack.row_I[i])] = _shown_image(chosen, config, pack, patches_NF, i)
        progress(len(images))
        if len(images) == count:
            break
    return Shown(tuple(images[row] for row in range(count)), name)


def _choose_images(dataset: Dataset, count: int, data: DataConfig) -> _Chosen:
    if not 1 <= count <= MOST_IMAGES:
        raise ValueError(f"plan: --show must be 1 to {MOST_IMAGES} images, got {count}; say how many")
    weights = planning_weights(dataset, data.holdout, data.weights)
    sizes: list[Sizes] = []
    pixels: list[np.ndarray] = []
    names: list[dict[str, Any]] = []
    for number in range(dataset.blocks):
        block, table = dataset.block_with(number, (*_NAMES, "instrument"))
        weight_I = np.ones(len(block)) if weights is None else np.asarray(weights(number))
        rows = np.flatnonzero(weight_I)[: count - len(pixels)]
        sizes.append(block.sizes.take(rows))
        pixels += [block.pixels(row).copy() for row in rows.tolist()]
        names += table.select([*_NAMES, "instrument"]).take(rows).to_pylist()
        if len(pixels) == count:
            return _Chosen(Sizes.concatenate(sizes), pixels, names)
    raise ValueError(
        f"plan: --show must be at most the dataset's {len(pixels)} training images, got {count}; show fewer"
    )


def _packs(chosen: _Chosen, config: PretrainConfig, visit: int) -> Iterator[Pack]:
    """Packs of the images from a visit on, without end."""
    lanes = LaneConfig(lanes=1, window_blocks=1, pack_tokens=config.data.pack_tokens)
    packer = Packer(
        Lane(chosen, lanes, 0, config.seed),
        patch_px=config.model.patch_px,
        prefix_tokens=config.model.prefix,
        views=config.views,
        masks=config.hidden,
    )
    state = LaneState(window=visit)
    while True:
        pack, state = packer.next_pack(state)
        yield pack


def _shown_image(
    chosen: _Chosen, config: PretrainConfig, pack: Pack, patches_NF: np.ndarray, i: int
) -> ShownImage:
    row = int(pack.row_I[i])
    pixels, names = chosen.pixels_I[row], chosen.names_I[row]
    channels = 1 if pixels.ndim == 2 else 3
    views = range(i, pack.n_views, pack.n_images)
    hidden_V = hide_scale(pack, config.seed, config.views.hide_scale_odds)
    return ShownImage(
        image_id=names["image_id"],
        label=names["label"],
        instrument=names["instrument"],
        pixels=pixels,
        um_per_px=float(pack.sizes.um_per_px[i]),
        background=tuple(pack.sizes.background[i, :channels].tolist()),
        box=tuple(pack.sizes.box[i].tolist()),
        views=tuple(_shown_view(config, pack, patches_NF, v, bool(hidden_V[v])) for v in views),
        patch_px=pack.patch_px,
    )


def _shown_view(
    config: PretrainConfig, pack: Pack, patches_NF: np.ndarray, v: int, scale_hidden: bool
) -> ShownView:
    rows, columns = pack.grid_V2[v].tolist()
    first = int(pack.patch_offsets_V1[v])
    part = slice(first, first + rows * columns)
    mask = pack.mask_N[part].reshape(rows, columns)
    return ShownView(
        parameters=parameters_of(pack, v, config.views, config.model.channels, scale_hidden),
        values_hwC=joined(patches_NF[part], rows, columns, pack.patch_px, config.model.channels),
        mask=mask if mask.any() else None,
    )


def joined(
    patches_nF: Float32[np.ndarray, "n F"], rows: int, columns: int, patch_px: int, channels: int
) -> Float32[np.ndarray, "h w C"]:
    """A view's patch rows put back together (aqqua.render.reference.patchify, backwards)."""
    grid = patches_nF.reshape(rows, columns, patch_px, patch_px, channels)
    return grid.transpose(0, 2, 1, 3, 4).reshape(rows * patch_px, columns * patch_px, channels)
