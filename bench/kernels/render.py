"""The cases that rendering is timed on: packs of made images, 2 global and 8 local views of each.

Sides are drawn log-normally about 70 px, as those of ISIIS images are. Ours is timed with the pixels on
the device ('triton') and from the host's arrays on ('triton and copies'). Of 2,048 images the 'reference'
beside it is the C++ renderer on the host and the copy of its rows. Of a sixteenth of them 'eager' is a
loop over views in PyTorch, blur and all. Two peers do less, and so are cases of their own: one
grid_sample of padded images (our maps, no blur, no noise) and torchvision's v2 operators (crop and resize
to our sizes; no rotation either). Rendering has no gradient, so there is no `both`.
Test: tests/kernels/test_render_bench.py.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module

import numpy as np
import torch
import torch.nn.functional as nnf
from case import Case
from torch import Tensor

from aqqua.kernels.render import Scene, render
from aqqua.plan.pack import GLOBALS, Pack
from aqqua.plan.view_config import ViewConfig
from aqqua.plan.views import plan_views
from aqqua.render.native import render_native
from aqqua.render.parcel import upload
from aqqua.render.reference import noise, patchify, prefilter, sample
from aqqua.render.triton import render_triton, scene_of
from aqqua.store.sizes import Sizes

TYPICAL_SIDE, SPREAD = 70.0, 0.5  # px; σ of its logarithm
CHUNK = 512  # views that are padded and sampled at once


def cases(
    device: torch.device | str = "cuda",
    images: int = 2048,
    patches: tuple[int, ...] = (16, 14),
    dtype: torch.dtype = torch.bfloat16,
    views: ViewConfig = ViewConfig(),  # noqa: B008  frozen
) -> Iterator[Case]:
    """One channel, 8 bits."""
    device = torch.device(device)
    for patch_px in patches:
        yield _of_many(images, patch_px, device, dtype, views)
        yield from _of_few(max(images // 16, 1), patch_px, device, dtype, views)


def _of_many(images: int, patch_px: int, device: torch.device, dtype: torch.dtype, views: ViewConfig) -> Case:
    pack, pixels = made_pack(images, patch_px, views)
    scene = scene_of(pack, pixels, patch_px, 1, None, device)
    host = (pack, pixels, patch_px, 1)
    calls: dict[str, Callable[[], object]] = {
        "reference": partial(native_and_copy, *host, dtype, device),
        "triton": partial(render, scene, patch_px, 1, dtype, "triton"),
        "triton and copies": partial(render_triton, *host, dtype=dtype, device=device),
    }
    return _case(f"render {images} images, patch {patch_px}", calls, scene, patch_px, dtype)


def _of_few(
    images: int, patch_px: int, device: torch.device, dtype: torch.dtype, views: ViewConfig
) -> Iterator[Case]:
    pack, pixels = made_pack(images, patch_px, views)
    scene = scene_of(pack, pixels, patch_px, 1, None, device)
    name = f"render {images} images, patch {patch_px}"
    calls: dict[str, Callable[[], object]] = {
        "eager": partial(torch_loop, pack, scene, patch_px, dtype),
        "triton": partial(render, scene, patch_px, 1, dtype, "triton"),
    }
    crops, problem = torchvision_crops(pack, scene, patch_px)
    yield _case(name, calls, scene, patch_px, dtype, problem)
    less: dict[str, Callable[[], object] | None] = {
        "grid_sample": partial(grid_sampled, pack, scene, patch_px),
        "torchvision v2": crops,
    }
    for peer, call in less.items():
        if call is not None:
            yield _case(f"{name}, less by {peer}", {"eager": call}, scene, patch_px, torch.float32)


def _case(
    name: str,
    calls: dict[str, Callable[[], object]],
    scene: Scene,
    patch_px: int,
    dtype: torch.dtype,
    not_run: dict[str, str] | None = None,
) -> Case:
    size = scene.rows * patch_px**2 * dtype.itemsize + len(scene.pixels_B)
    return Case(name, calls, {}, size, 0, not_run=not_run or {})


def made_pack(images: int, patch_px: int, config: ViewConfig) -> tuple[Pack, list[np.ndarray]]:
    """All views of noise images, planned as a run plans them."""
    rng = np.random.default_rng(0)
    sides = np.exp(rng.normal(np.log(TYPICAL_SIDE), SPREAD, (images, 2))).clip(8, 600).astype(np.int32)
    sizes = Sizes(
        key=rng.integers(0, 1 << 63, images).astype(np.uint64),
        height=sides[:, 0],
        width=sides[:, 1],
        channels=np.ones(images, np.int8),
        bits=np.full(images, 8, np.int8),
        um_per_px=np.full(images, np.nan, np.float32),
        background=np.full((images, 3), 230, np.uint16),
        box=np.stack([sides[:, 0] * 0, sides[:, 1] * 0, sides[:, 0], sides[:, 1]], axis=1),
        instrument=np.zeros(images, np.int32),
        instrument_names=("made",),
    )
    visits = np.zeros(images, np.uint64)
    plan = plan_views(sizes, visits, 0, patch_px, config)

    def by_view(values: np.ndarray) -> np.ndarray:
        n_images, n_views, *rest = values.shape
        return np.ascontiguousarray(values.swapaxes(0, 1).reshape(n_views * n_images, *rest))

    grid = by_view(plan.grid_IS2)
    rows = int(grid.prod(axis=1).sum())
    pack = Pack(
        block_I=np.zeros(images, np.int64),
        row_I=np.arange(images),
        visit_I=visits,
        sizes=sizes,
        views_per_image=config.views,
        grid_V2=grid,
        map_V23=by_view(plan.map_IS23),
        um_per_px_V=by_view(plan.um_per_px_IS),
        sigma_V=by_view(plan.sigma_IS),
        scale_V=by_view(plan.scale_IS),
        bias_VC=by_view(plan.bias_ISC),
        noise_V=by_view(plan.noise_IS),
        speck_VK4=by_view(plan.speck_ISK4),
        colour_V33=by_view(plan.colour_IS33),
        fold_VC=by_view(plan.fold_ISC),
        key_V=rng.integers(0, 1 << 63, len(grid)).astype(np.uint64),
        mask_N=np.zeros(rows, bool),
        masked_M=np.zeros(0, np.int64),
        weight_M=np.zeros(0, np.float32),
        patch_px=patch_px,
        prefix_tokens=0,
        budget_tokens=rows,
    )
    return pack, [rng.integers(0, 256, tuple(side), np.uint8) for side in sides.tolist()]


def native_and_copy(
    pack: Pack,
    pixels: list[np.ndarray],
    patch_px: int,
    channels: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """The C++ renderer on all threads of PyTorch, and its rows to the device as the feeder sends them."""
    rows = render_native(pack, pixels, patch_px, channels, dtype=dtype)
    return upload({"rows": rows}, device)["rows"]


def planes_of(pack: Pack, scene: Scene) -> list[Tensor]:
    """Each image as [1, H, W] in [0, 1], on the device; the loop over images that our kernel has not."""
    places = zip(scene.offset_I.tolist(), pack.sizes.height.tolist(), pack.sizes.width.tolist(), strict=True)
    return [scene.pixels_B[at : at + h * w].reshape(1, h, w).float() / 255 for at, h, w in places]


def torch_loop(pack: Pack, scene: Scene, patch_px: int, dtype: torch.dtype) -> Tensor:
    """The specification's own steps, view by view, where the device allows them."""
    device = scene.pixels_B.device
    planes, image_V = planes_of(pack, scene), pack.image_V.tolist()
    background = torch.tensor([230 / 255])  # of one channel, on the CPU: its values are copied into launches
    rows = []
    with torch.device(device):
        for v, i in enumerate(image_V):
            height, width = (int(side) * patch_px for side in pack.grid_V2[v])
            blurred, pad = prefilter(planes[i], background.to(device), float(pack.sigma_V[v]))
            at = torch.from_numpy(pack.map_V23[v])
            values = sample(blurred, background.to(device), pad, at.to(device), height, width)
            values = values * float(pack.scale_V[v]) + float(pack.bias_VC[v] @ (0.299, 0.587, 0.114))
            key = int(pack.key_V[v] ^ pack.visit_I[i])
            values = values + float(pack.noise_V[v]) * noise(key, height, width)
            rows.append(patchify(values, patch_px))
    return torch.cat(rows).to(dtype)


def grid_sampled(pack: Pack, scene: Scene, patch_px: int) -> list[Tensor]:
    """Our maps by grid_sample, CHUNK views at once, images and views padded to the largest of each chunk."""
    planes, image_V = planes_of(pack, scene), pack.image_V.tolist()
    sides_V2 = pack.grid_V2 * patch_px
    found = []
    for first in range(0, pack.n_views, CHUNK):
        chosen = range(first, min(first + CHUNK, pack.n_views))
        sources = [planes[image_V[v]] for v in chosen]
        height, width = (max(s.shape[k] for s in sources) for k in (1, 2))
        batch = torch.stack(
            [nnf.pad(s, (0, width - s.shape[2], 0, height - s.shape[1]), value=230 / 255) for s in sources]
        )
        size = [len(sources), 1, *sides_V2[list(chosen)].max(axis=0).tolist()]
        theta = scene.map_V23[first : chosen.stop].clone()
        # From [-1, 1] over the padded view to output px, by the map to source px, to [-1, 1] over the image.
        half = theta.new_tensor([size[3] / 2, size[2] / 2])
        theta[:, :, 2] += theta[:, :, :2] @ half
        theta[:, :, :2] *= half
        theta *= theta.new_tensor([2 / width, 2 / height])[:, None]
        theta[:, :, 2] -= 1
        grid = nnf.affine_grid(theta, size, align_corners=False)
        found.append(nnf.grid_sample(batch, grid, padding_mode="border", align_corners=False))
    return found


def torchvision_crops(
    pack: Pack, scene: Scene, patch_px: int
) -> tuple[Callable[[], object] | None, dict[str, str]]:
    """Crops of each image resized to the sizes of our views; None and why where torchvision is not."""
    try:
        functional = import_module("torchvision.transforms.v2.functional")
    except (ImportError, RuntimeError) as error:  # a build for another PyTorch raises RuntimeError
        return None, {"torchvision v2": f"cannot be imported: {error}".splitlines()[0]}
    image_V = pack.image_V.tolist()

    def crops() -> list[Tensor]:
        planes, views = planes_of(pack, scene), []
        for v, i in enumerate(image_V):
            share = 0.81 if v < GLOBALS * pack.n_images else 0.43  # √ of the mean share of the area
            height, width = (max(int(side * share), 1) for side in planes[i].shape[1:])
            size = (pack.grid_V2[v] * patch_px).tolist()
            views.append(functional.resized_crop(planes[i], 0, 0, height, width, size, antialias=True))
        return views

    return crops, {}
