"""Packs for the tests of the renderers, made straight from images in memory or from one written map."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from aqqua.instruments.tree import open_tree
from aqqua.plan.pack import Pack
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import NO_FOLD, Views, plan_views
from aqqua.store.content import describe
from aqqua.store.sizes import Sizes

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def real_images(archive: Path, count: int, largest_side: int = 400) -> list[np.ndarray]:
    """Images evenly spread over an archive of image files, as stored."""
    tree = open_tree(archive)
    names = list(tree.names(".jpg", ".png"))
    images = (np.asarray(Image.open(io.BytesIO(tree.read(n)))) for n in names[:: max(len(names) // count, 1)])
    return [image for image in images if max(image.shape[:2]) <= largest_side][:count]


def made_image(rng: np.random.Generator, height: int, width: int, dtype: type, colour: bool) -> np.ndarray:
    """Noise of full range: the hardest image to agree on."""
    shape = (height, width, 3) if colour else (height, width)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def made_images(seed: int, dtype: type, colour: bool) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    sides = rng.integers(1, 90, (5, 2)).tolist()
    return [made_image(rng, height, width, dtype, colour) for height, width in sides]


def sizes_of(images: list[np.ndarray], background: int | None = None) -> Sizes:
    looks = [describe(image) for image in images]
    levels = [look.background if background is None else (background,) * 3 for look in looks]
    return Sizes(
        key=np.arange(1, len(images) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15),
        height=np.array([image.shape[0] for image in images], np.int32),
        width=np.array([image.shape[1] for image in images], np.int32),
        channels=np.array([1 if image.ndim == 2 else 3 for image in images], np.int8),
        bits=np.array([image.itemsize * 8 for image in images], np.int8),
        um_per_px=np.full(len(images), np.nan, np.float32),
        background=np.array(levels, np.uint16),
        box=np.array([look.box for look in looks], np.int32),
        instrument=np.zeros(len(images), np.int32),
        instrument_names=("made",),
    )


def pack_of(sizes: Sizes, views: Views, visits: np.ndarray) -> Pack:
    """All views of all images, crop by crop, nothing masked."""
    count = views.grid_IS2.shape[1]

    def by_view(values: np.ndarray) -> np.ndarray:
        n_images, n_views, *rest = values.shape
        return np.ascontiguousarray(values.swapaxes(0, 1).reshape(n_views * n_images, *rest))

    grid = by_view(views.grid_IS2)
    tokens = int(grid.prod(axis=1).sum())
    key = np.arange(count, dtype=np.uint64)[:, None] * np.uint64(0xD1B54A32D192ED03) + sizes.key
    return Pack(
        block_I=np.zeros(len(sizes), np.int64),
        row_I=np.arange(len(sizes)),
        visit_I=visits,
        sizes=sizes,
        views_per_image=count,
        grid_V2=grid,
        map_V23=by_view(views.map_IS23),
        um_per_px_V=by_view(views.um_per_px_IS),
        sigma_V=by_view(views.sigma_IS),
        scale_V=by_view(views.scale_IS),
        bias_VC=by_view(views.bias_ISC),
        noise_V=by_view(views.noise_IS),
        speck_VK4=by_view(views.speck_ISK4),
        colour_V33=by_view(views.colour_IS33),
        fold_VC=by_view(views.fold_ISC),
        key_V=key.ravel(),
        mask_N=np.zeros(tokens, bool),
        masked_M=np.zeros(0, np.int64),
        weight_M=np.zeros(0, np.float32),
        patch_px=0,  # that the views were planned for is told to the renderers
        prefix_tokens=0,
        budget_tokens=tokens,
    )


def drawn_pack(images: list[np.ndarray], patch_px: int, seed: int = 0, **view_options: object) -> Pack:
    """The training views of some images, as a run would draw them."""
    sizes = sizes_of(images)
    visits = np.full(len(images), 7 + (3 << 24), np.uint64)  # epoch 7, copy 3
    config = ViewConfig.model_validate(view_options)
    return pack_of(sizes, plan_views(sizes, visits, seed, patch_px, config), visits)


def one_view(
    image: np.ndarray,
    grid: tuple[int, int],
    map_23: object = IDENTITY,
    *,
    background: int | None = 0,
    sigma: float = 0.0,
    scale: float = 1.0,
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0),
    noise: float = 0.0,
    specks: tuple[tuple[float, float, float, float], ...] = (),
    colour: object = ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    fold: tuple[float, float, float] = (NO_FOLD, NO_FOLD, NO_FOLD),
    visit: int = 0,
) -> Pack:
    """One view of one image, every number of it given."""
    views = Views(
        grid_IS2=np.array([[grid]], np.int32),
        map_IS23=np.array(map_23, np.float32).reshape(1, 1, 2, 3),
        um_per_px_IS=np.full((1, 1), np.nan, np.float32),
        sigma_IS=np.full((1, 1), sigma, np.float32),
        scale_IS=np.full((1, 1), scale, np.float32),
        bias_ISC=np.array([[bias]], np.float32),
        noise_IS=np.full((1, 1), noise, np.float32),
        speck_ISK4=np.array(specks, np.float32).reshape(1, 1, len(specks), 4),
        colour_IS33=np.array(colour, np.float32).reshape(1, 1, 3, 3),
        fold_ISC=np.array(fold, np.float32).reshape(1, 1, 3),
    )
    return pack_of(sizes_of([image], background), views, np.array([visit], np.uint64))


def unpatched(patches_NF: np.ndarray, grid: tuple[int, int], patch_px: int, channels: int) -> np.ndarray:
    """Patch rows of one view back to an image [h, w, C], one patch at a time."""
    rows, columns = grid
    image = np.zeros((rows * patch_px, columns * patch_px, channels), np.float32)
    for number, patch in enumerate(patches_NF):
        top, left = number // columns * patch_px, number % columns * patch_px
        image[top : top + patch_px, left : left + patch_px] = patch.reshape(patch_px, patch_px, channels)
    return image
