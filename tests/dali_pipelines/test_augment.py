"""Each step of a view by DALI against NumPy, within the tolerance that docs/dali.md states for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install 'aqqua[gpu]'")

from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline

from aqqua.render import reference
from dali_pipelines import augment

# By the names of docs/dali.md, whose table this is.
TOLERANCE = {
    "levels to [0, 1]": 0,
    "colour to luma, grey to RGB": 1e-6,
    "difference to the background": 0,
    "Gaussian": 2e-6,
    "affine sampling": 1e-4,
    "specks": 2e-6,
    "colour matrix": 1e-6,
    "scale and bias": 1e-6,
    "fold": 0,
    "noise": 0,
    "patch rows": 0,
}
DRAW = np.random.default_rng(0)
SIDES = ((1, 1), (1, 9), (30, 7), (25, 64))
TYPES = {
    np.dtype(np.float32): types.FLOAT, np.dtype(np.uint8): types.UINT8, np.dtype(np.uint16): types.UINT16,
    np.dtype(np.uint32): types.UINT32, np.dtype(np.int32): types.INT32,
}  # fmt: skip


def by_dali(step: Callable[..., Any], *inputs: list[np.ndarray]) -> list[np.ndarray]:
    """A graph function over a batch; each input is one array for each sample."""
    pipeline = Pipeline(len(inputs[0]), 1, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        nodes = [
            fn.external_source(
                name=f"i{k}",
                dtype=TYPES[values[0].dtype],
                ndim=values[0].ndim,
                layout="HWC" if values[0].ndim == 3 and k == 0 else None,
            )
            for k, values in enumerate(inputs)
        ]
        pipeline.set_outputs(step(*nodes))
    for k, values in enumerate(inputs):
        pipeline.feed_input(f"i{k}", values)
    (out,) = pipeline.run()
    return [np.array(out.at(i)) for i in range(len(out))]


def images(channels: int, dtype: type = np.float32) -> list[np.ndarray]:
    shapes = [(*sides, channels) for sides in SIDES]
    if dtype is np.float32:
        return [DRAW.random(shape, np.float32) for shape in shapes]
    return [DRAW.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True) for shape in shapes]


def each(shape: tuple[int, ...], low: float = -1, high: float = 1) -> list[np.ndarray]:
    return [DRAW.uniform(low, high, shape).astype(np.float32) for _ in SIDES]


def close(got: list[np.ndarray], want: list[np.ndarray], step: str) -> None:
    for a, b in zip(got, want, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[step])


def as_plane(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).permute(2, 0, 1)


def as_image(plane: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(plane.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16)])
def test_levels_in_unit_range(dtype, bits):
    pages = images(3, dtype)
    want = [page.astype(np.float32) / np.float32(augment.FULL[bits]) for page in pages]
    close(by_dali(lambda page: augment.unit(page, bits), pages), want, "levels to [0, 1]")


@pytest.mark.parametrize(("stored", "channels"), [(1, 1), (3, 3), (1, 3), (3, 1)])
def test_channels(stored, channels):
    values = images(stored)
    want = [as_image(reference._to_channels(as_plane(v), channels)) for v in values]
    got = by_dali(lambda v: augment.to_channels(v, stored, channels), values)
    close(got, want, "colour to luma, grey to RGB")


def test_difference_to_the_background():
    values, background = images(3), each((1, 1, 3))
    want = [v - b for v, b in zip(values, background, strict=True)]
    close(by_dali(augment.difference, values, background), want, "difference to the background")


@pytest.mark.parametrize("sigma", [0.1, 0.2, 0.34, 1.0, 5.5, 17.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_blur_on_an_endless_plane(sigma, channels):
    values = images(channels)
    reach = 0 if sigma < 0.2 else int(np.ceil(3 * np.float32(sigma)))
    grow = reach + 1 if reach else 0
    start = [np.full(2, -grow, np.int32) for _ in values]
    grown = [np.array(v.shape[:2], np.int32) + 2 * grow for v in values]
    window = [np.array([2 * reach + 1], np.int32) for _ in values]
    sigmas = [np.array([sigma], np.float32) for _ in values]
    nothing = torch.zeros(channels)
    want = []
    for v in values:
        blurred, pad = reference.prefilter(as_plane(v), nothing, float(np.float32(sigma)))
        wider = ((grow - pad, grow - pad), (grow - pad, grow - pad), (0, 0))
        want.append(np.pad(as_image(blurred), wider))
    close(by_dali(augment.blur, values, start, grown, window, sigmas), want, "Gaussian")


@pytest.mark.parametrize("channels", [1, 3])
def test_sampling(channels):
    """Half pixels, rounding and the rim are met; what is left is DALI's stepping from pixel to pixel."""
    values = images(channels)
    maps, sizes, want = [], [], []
    for v in values:
        turn, zoom = DRAW.uniform(0, 7), DRAW.uniform(0.3, 3)
        linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / zoom
        shift = np.array(v.shape[1::-1]) / 2 - linear @ (12, 20)
        maps.append(np.column_stack([linear, shift]).astype(np.float32))
        sizes.append(np.array([40, 24], np.float32))
        plane = reference.sample(as_plane(v), torch.zeros(channels), 0, torch.from_numpy(maps[-1]), 40, 24)
        want.append(as_image(plane))
    close(by_dali(augment.sample, values, maps, sizes), want, "affine sampling")


def test_sampling_of_the_identity_and_of_half_a_pixel_is_exact():
    values = images(1)
    for shift in (0.0, 0.5, -0.5, 1.0):
        maps = [np.array([[1, 0, shift], [0, 1, -shift]], np.float32) for _ in values]
        sizes = [np.array([8, 16], np.float32) for _ in values]
        want = [
            as_image(reference.sample(as_plane(v), torch.zeros(1), 0, torch.from_numpy(m), 8, 16))
            for v, m in zip(values, maps, strict=True)
        ]
        for a, b in zip(by_dali(augment.sample, values, maps, sizes), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-7)


def centres(values: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    x = [(np.arange(v.shape[1], dtype=np.float32) + 0.5).reshape(1, -1, 1) for v in values]
    return x, [(np.arange(v.shape[0], dtype=np.float32) + 0.5).reshape(-1, 1, 1) for v in values]


def test_a_speck_lies_in_front():
    values = images(3)
    specks = [
        np.array([DRAW.uniform(0, v.shape[1]), DRAW.uniform(0, v.shape[0]), radius, 0.3], np.float32)
        for v, radius in zip(values, (2.0, 0.0, 5.5, 0.7), strict=True)
    ]
    specks[1][:2] = 4.5, 0.5  # the centre of a pixel, which a speck of no size would half cover
    x, y = centres(values)
    want = []
    for v, (at, down, radius, level), xs, ys in zip(values, specks, x, y, strict=True):
        distance = np.sqrt((xs - at) ** 2 + (ys - down) ** 2)
        share = np.clip(radius + np.float32(0.5) - distance, 0, 1) * (radius > 0)
        want.append((v + share * (level - v)).astype(np.float32))
    close(by_dali(augment.occlude, values, specks, x, y), want, "specks")
    np.testing.assert_array_equal(want[1], values[1])  # of radius 0


def test_colour_is_a_matrix():
    values, matrices = images(3), each((3, 3))
    want = [(v @ m.T).astype(np.float32) for v, m in zip(values, matrices, strict=True)]
    close(by_dali(augment.colour, values, matrices), want, "colour matrix")


@pytest.mark.parametrize("channels", [1, 3])
def test_light(channels):
    values, scale, bias = images(channels), each((1, 1, 1), -4, 4), each((1, 1, channels))
    want = [v * s + b for v, s, b in zip(values, scale, bias, strict=True)]
    close(by_dali(augment.light, values, scale, bias), want, "scale and bias")


def test_fold():
    values, top = images(3), each((1, 1, 3), 0.5, 2)
    want = [np.minimum(v, t - v) for v, t in zip(values, top, strict=True)]
    close(by_dali(augment.fold, values, top), want, "fold")


def test_noise_has_the_bits_of_the_specification():
    values = [np.zeros((*sides, 1), np.float32) for sides in SIDES]
    keys = [int(key) for key in DRAW.integers(0, 1 << 63, len(SIDES), np.uint64)]
    ones = [np.ones((1, 1, 1), np.float32) for _ in values]
    halves = [[np.full((1, 1, 1), key >> shift & 0xFFFFFFFF, np.uint32) for key in keys] for shift in (0, 32)]
    row = [np.arange(v.shape[0], dtype=np.uint32).reshape(-1, 1, 1) for v in values]
    column = [np.arange(v.shape[1], dtype=np.uint32).reshape(1, -1, 1) for v in values]
    columns = [np.full((1, 1, 1), v.shape[1], np.uint32) for v in values]

    def step(v: Any, sigma: Any, low: Any, high: Any, *place: Any) -> Any:
        return augment.add_noise(v, sigma, (low, high), augment.pixel_number(*place))

    got = by_dali(step, values, ones, *halves, row, column, columns)
    for one, key, (height, width) in zip(got, keys, SIDES, strict=True):
        np.testing.assert_array_equal(one[..., 0], reference.noise(key, height, width).numpy())


@pytest.mark.parametrize("channels", [1, 3])
def test_patch_rows(channels):
    grids, patch_px = ((1, 1), (2, 3), (5, 1), (3, 4)), 4
    values = [DRAW.random((4 * rows, 4 * columns, channels), np.float32) for rows, columns in grids]
    cut = [np.array([rows, 4, columns, 4 * channels], np.int32) for rows, columns in grids]
    rows = [np.array([rows * columns, 16 * channels], np.int32) for rows, columns in grids]
    want = [reference.patchify(as_plane(v), patch_px).numpy() for v in values]
    close(by_dali(augment.patch_rows, values, cut, rows), want, "patch rows")


def test_the_page_states_these_tolerances():
    lines = (Path(__file__).parents[2] / "docs" / "dali.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| step | tolerance | what differs |") + 2
    rows = [line.strip("|").split("|") for line in lines[start : start + len(TOLERANCE) + 1]]
    assert {row[0].strip(): float(row[1]) for row in rows[:-1]} == TOLERANCE
    assert rows[-1] == [""]
