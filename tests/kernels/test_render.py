"""render: the Triton kernel against its specification, on scenes of a few small views.

As a renderer of packs, and against aqqua/render/reference.py: tests/render/test_triton.py.
"""

import dataclasses

import numpy as np
import pytest
import torch
from mutation import mutated

from aqqua.kernels.render import Scene, op, reach, render, tiles
from aqqua.kernels.render import scene as scenes

TOLERANCE = 1e-5
P = 4
CALM = {"noise": 0.0, "specks": 0, "plain": True}
PADDING = 256  # bytes after each image, so that a seeded bug reads nothing that is not there

# Of three images: a grey one whose background is coloured, a colour one, and one of 16 bits and one pixel.
SHAPES = ((9, 14), (7, 5, 3), (1, 1))
# Views: image, grid, map, sigma.
VIEWS = (
    (0, (2, 2), (0.9, -0.3, 2.0, 0.3, 0.9, -1.5), 0.0),
    (0, (1, 2), (-0.8, 0.2, 12.0, 0.1, 1.2, -1.0), 0.6),
    (1, (2, 1), (0.0, 0.7, 1.0, -0.8, 0.0, 6.0), 0.3),
    (2, (1, 1), (0.4, 0.0, -0.3, 0.0, 0.4, -0.3), 0.5),
)


@pytest.fixture(autouse=True)
def several_programs_a_view(monkeypatch):
    monkeypatch.setattr(scenes, "BLOCK_E", 32)
    monkeypatch.setattr(op, "BLOCK_E", 32)


def made_looks(rng, count, specks, channels, plain):
    """Specks (every third of radius 0), colours of all views but each fourth, folds of every second view."""
    speck_VK4 = rng.uniform(0, (12, 12, 4, 1), (count, specks, 4)).astype(np.float32)
    speck_VK4[:, 2::3, :3] = 1.5, 2.5, 0  # on the centre of a pixel, where half of one would be seen
    colour_V33 = np.eye(3, dtype=np.float32) + rng.uniform(-0.5, 0.5, (count, 3, 3)).astype(np.float32)
    fold_V3 = rng.uniform(-0.5, 1.5, (count, 3)).astype(np.float32)
    colour_V33[3::4], fold_V3[1::2] = np.eye(3), 1e30
    if plain:
        colour_V33[:], fold_V3[:] = np.eye(3), 1e30
    return {
        "speck_VK4": speck_VK4,
        "colour_Z33": colour_V33[: count * (channels == 3)],
        "coloured_V": (colour_V33 != np.eye(3)).any(axis=(1, 2)).astype(np.int32),
        "fold_V3": fold_V3,
    }


def made_scene(channels, device, views=VIEWS, noise=0.1, specks=4, plain=False):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in SHAPES[:2]]
    images.append(rng.integers(0, 65536, SHAPES[2], np.uint16))
    flat, offsets = [], []
    for image in images:
        offsets.append(sum(map(len, flat)))
        flat.append(image.tobytes() + bytes(rng.integers(0, 256, PADDING + image.nbytes % 2, np.uint8)))
    image_V, grid_V2, map_V, sigma_V = (np.array(part) for part in zip(*views, strict=True))
    grid_V2, reach_V = grid_V2.astype(np.int32), reach(sigma_V.astype(np.float32))
    tile_U, first_V = tiles(grid_V2, reach_V, P, channels)
    ends_V = grid_V2.prod(axis=1).cumsum()
    count = len(views)
    arrays = {
        "pixels_B": np.frombuffer(b"".join(flat), np.uint8).copy(),
        "offset_I": np.array(offsets, np.int64),
        "height_I": np.array([shape[0] for shape in SHAPES], np.int32),
        "width_I": np.array([shape[1] for shape in SHAPES], np.int32),
        "channels_I": np.array([1, 3, 1], np.int32),
        "bits_I": np.array([8, 8, 16], np.int32),
        "background_I3": np.array([[10, 220, 90], [200, 30, 60], [40000] * 3], np.float32),
        "image_V": image_V.astype(np.int32),
        "grid_V2": grid_V2,
        "map_V23": map_V.reshape(-1, 2, 3).astype(np.float32),
        "sigma_V": sigma_V.astype(np.float32),
        "reach_V": reach_V,
        "scale_V": rng.uniform(-2, 2, count).astype(np.float32),
        "bias_V3": rng.uniform(-1, 1, (count, 3)).astype(np.float32),
        "noise_V": np.full(count, noise, np.float32),
        "key_V": rng.integers(-(2**63), 2**63, count),
        **made_looks(rng, count, specks, channels, plain),
        "row_V": ends_V - grid_V2.prod(axis=1),
        "tile_U": tile_U,
        "first_V": first_V,
    }
    tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    return Scene(**tensors, rows=int(ends_V[-1]))


def assert_as_specified(channels, device, **options):
    scene = made_scene(channels, device, **options)
    got, want = (render(scene, P, channels, backend=backend) for backend in ("triton", "reference"))
    torch.testing.assert_close(got, want, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("specks", [0, 1, 4])
def test_every_kind_of_image_and_view(specks, channels, device):
    assert_as_specified(channels, device, specks=specks)
    assert_as_specified(channels, device, specks=specks, plain=True)


def test_the_whole_unblurred_image_comes_out_as_it_went_in(device):
    """An identity map of the grey image, worked out by hand."""
    scene = made_scene(3, device, views=((0, (1, 2), (1, 0, 3, 0, 1, 2), 0.0),), **CALM)
    image = scene.pixels_B[: 9 * 14].cpu().reshape(9, 14)[2:6, 3:11].float() / 255
    values = image[..., None] * scene.scale_V.cpu() + scene.bias_V3[0].cpu()
    want = values.reshape(P, 2, P, 3).transpose(0, 1).reshape(2, -1)
    torch.testing.assert_close(render(scene, P, 3, backend="triton").cpu(), want)


def test_a_blur_of_a_far_point_is_its_background_and_weights_sum_to_1(device):
    views = ((2, (1, 1), (50, 0, 100, 0, 50, 100), 2.0),)
    scene = made_scene(1, device, views=views, **CALM)
    want = scene.scale_V * (40000 / 65535) + scene.bias_V3[0] @ scene.bias_V3.new_tensor(
        [0.299, 0.587, 0.114]
    )
    torch.testing.assert_close(render(scene, P, 1, backend="triton"), want.expand(1, P * P))


def test_bfloat16_is_float32_rounded(device):
    scene = made_scene(1, device)
    single = render(scene, P, 1, backend="triton")
    assert torch.equal(render(scene, P, 1, torch.bfloat16, "triton"), single.bfloat16())


def test_same_bits_every_time_and_whatever_the_programs(device, monkeypatch):
    once = render(made_scene(3, device), P, 3, backend="triton")
    assert torch.equal(once, render(made_scene(3, device), P, 3, backend="triton"))
    for module in (scenes, op):
        monkeypatch.setattr(module, "BLOCK_E", 256)
    assert torch.equal(once, render(made_scene(3, device), P, 3, backend="triton"))


def test_programs_cover_every_value_once_the_longest_first():
    grid = np.array([[1, 1], [3, 5], [2, 2]], np.int32)
    tile_U, first_V = tiles(grid, np.array([0, 2, 9], np.int32), P, 1)
    assert tile_U.tolist() == [2] * 2 + [1] * 8 + [0]  # 64, 240 and 16 values by 32
    assert first_V.tolist() == [10, 2, 0]


def test_reach_is_that_of_the_specification():
    sigma = np.array([0, 0.19, 0.2, 1, 1.0000001, 16.5], np.float32)
    assert reach(sigma).tolist() == [0, 0, 1, 3, 4, 50]


def test_no_view_gives_no_row(device):
    scene = dataclasses.replace(made_scene(1, device), rows=0)
    assert render(scene, P, 1, torch.bfloat16, "triton").shape == (0, P * P)


# Seeded bugs: channels of the model, text of kernel.py and what it becomes. None reaches outside a tensor.
MUTATIONS = {
    "a column too many": (1, "< width.to(tl.uint32)", "< (width + 1).to(tl.uint32)"),
    "a row too many": (1, "< height.to(tl.uint32)", "< (height + 1).to(tl.uint32)"),
    "black beyond": (1, "tl.where(m_px, b_level, b_background)", "tl.where(m_px, b_level, 0.0)"),
    "not between columns": (1, "(g + b_across * (g_before - g))", "g"),
    "not between rows": (1, "(g_row + b_down * (g_row_before - g_row))", "g_row"),
    "columns forgotten": (1, "            g_before = g\n", "            g_before = 0.0 * g\n"),
    "rows forgotten": (1, "        g_row_before = g_row\n", "        g_row_before = 0.0 * g_row\n"),
    "a tap too few": (1, "taps = 2 * reach + 2", "taps = 2 * reach + 1"),
    "bell not cut": (1, "tl.where(tl.abs(k) <= reach, ", "tl.where(tl.abs(k) <= reach + 1, "),
    "half a pixel off": (1, "(reach.to(tl.float32) - 0.5)", "reach.to(tl.float32)"),
    "transposed": (1, "+ 3, b_column, b_row, reach, height)", "+ 3, b_row, b_column, reach, height)"),
    "not normalised": (1, "* mass * mass)", "* mass)"),
    "16 bits as 8": (1, "tl.where(wide, 65535.0, 255.0)", "255.0"),
    "luma of red": (1, "tl.where(c == 0, RED, tl.where(c == 1, GREEN, BLUE))", "RED"),
    "grey background": (
        1,
        "tl.where(stored == 1, luma_of(rgb_ptr), tl.load(rgb_ptr + c))",
        "tl.load(rgb_ptr)",
    ),
    "red alone": (3, "tl.where(stored == 1, 0, b_from)", "0"),
    "grey not repeated": (3, "tl.where(stored == 1, 0, b_from)", "b_from"),
    "one background": (3, "background_ptr + b_from", "background_ptr"),
    "one bias": (3, "bias_ptr + 3 * i_v + channel", "bias_ptr + 3 * i_v"),
    "noise of another pixel": (1, "(row * (columns * P) + column)", "(row * P + column)"),
    "half a key": (1, "(key >> 32 & 0xFFFFFFFF)", "(key & 0xFFFFFFFF)"),
    "patches in columns": (1, "patch // columns * P + pixel // P", "patch % columns * P + pixel // P"),
    "specks of radius 0": (1, "tl.where(radius > 0.0, b_share, 0.0)", "b_share"),
    "a smaller speck": (1, "radius + 0.5 - b_distance", "radius - b_distance"),
    "specks of another view": (1, "speck_ptr + 4 * specks * i_v", "speck_ptr"),
    "a speck added": (1, "(level * b_grey - b_value)", "level * b_grey"),
    "a speck of another grey": (3, "(level * b_grey - b_value)", "(level - b_value)"),
    "specks transposed": (
        1,
        "b_column - tl.load(speck_ptr + 4 * s), b_row - ",
        "b_row - tl.load(speck_ptr + 4 * s), b_column - ",
    ),
    "colour transposed": (3, "3 * channel + c)", "3 * c + channel)"),
    "colour of another view": (3, "colour_ptr + 9 * i_v", "colour_ptr"),
    "colour of one channel": (3, "tl.where(mixed, c, channel)", "channel"),
    "mixed when it is not": (3, "tl.where(mixed, 3, 1)", "3"),
    "never solarized": (1, "tl.minimum(b_value, b_fold - b_value)", "b_value"),
    "solarized from below": (
        1,
        "tl.minimum(b_value, b_fold - b_value)",
        "tl.maximum(b_value, b_fold - b_value)",
    ),
    "one fold": (3, "fold_ptr + 3 * i_v + channel", "fold_ptr + 3 * i_v"),
    "one program a view": (1, "(i_u - tl.load(first_ptr + i_v)) * BLOCK_E, ", "0 * i_u, "),
}


@pytest.mark.parametrize("bug", MUTATIONS)
def test_a_seeded_bug_is_noticed(bug, device, monkeypatch):
    channels, old, new = MUTATIONS[bug]
    monkeypatch.setattr(op, "kernel", mutated("aqqua.kernels.render.kernel", old, new))
    with pytest.raises(AssertionError, match="not close"):
        assert_as_specified(channels, device)


def test_the_operator_is_registered_soundly(device):
    scene = made_scene(1, device, views=VIEWS[3:])
    tensors = [value for value in vars(scene).values() if isinstance(value, torch.Tensor)]
    torch.library.opcheck(op._render, (*tensors, scene.rows, P, 1, torch.float32))


def test_contract_names_the_fix(device):
    scene = made_scene(1, device)
    with pytest.raises(ValueError, match=r"1 or 3 channels of float32 or bfloat16, got 2 of torch"):
        render(scene, P, 2)
    with pytest.raises(ValueError, match=r"got 1 of torch.float16; .*convert afterwards"):
        render(scene, P, 1, torch.float16)
    odd = dataclasses.replace(scene, pixels_B=scene.pixels_B[1:])
    with pytest.raises(ValueError, match=r"contiguous and an even number of bytes, got \d+, .*; pad them"):
        render(odd, P, 1)
    with pytest.raises(ValueError, match=r"render backend must be one of auto, triton, reference, got 'gpu'"):
        render(scene, P, 1, backend="gpu")
