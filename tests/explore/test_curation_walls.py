"""Walls of examples: the right pixels, at one scale, and no more bytes than are allowed."""

import base64
import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from drawn_images import blob
from made_curation import make_dataset, make_folders, rows_of, weight
from PIL import Image

from aqqua.explore.curation_walls import (
    CELL_PX,
    EXACT_PX,
    LARGEST_PX,
    MOST_MAGNIFIED,
    Frames,
    Picture,
    WallScale,
    find_rows,
    labels_at,
    read_pictures,
)
from aqqua.explore.picture import eight_bit
from aqqua.store.weights import SamplingWeights


def picture(side: int, um_per_px: float = math.nan, height: int | None = None) -> Picture:
    pixels = np.full((height or side, side), 90, np.uint8)
    return Picture("a/1", "snow", "UVP6", *pixels.shape, um_per_px, pixels, 1.0)


def shown(html: str) -> list[tuple[int, int]]:
    """Width and height in CSS pixels of each image."""
    return [(int(w), int(h)) for w, h in re.findall(r'<img[^>]* width="(\d+)" height="(\d+)"', html)]


def test_pictures_are_those_of_their_rows(tmp_path):
    dataset = make_dataset(tmp_path / "dataset")
    folders = make_folders(tmp_path / "columns", dataset)
    row = rows_of(dataset)
    ids = [f"made/{i}" for i in (3, 50, 99)]
    assert find_rows(dataset, [*ids, "made/x", "elsewhere/3"]) == {f"made/{i}": row[i] for i in (3, 50, 99)}
    assert find_rows(dataset, []) == {}
    assert labels_at(dataset, [row[1], row[2]]) == {row[1]: "snow", row[2]: None}
    chosen = [0, 1, 11, 12, 98]
    found = read_pictures(
        dataset, [row[i] for i in chosen], SamplingWeights.open(folders["weights"], dataset)
    )
    for i in chosen:
        one = found[row[i]]
        assert (one.image_id, one.weight) == (f"made/{i}", weight(i))
        assert (one.height, one.width) == blob(i).shape[:2]
        assert np.array_equal(one.pixels, eight_bit(blob(i)))
        assert (one.um_per_px == 10) == (one.instrument == "UVP6") == (i % 4 != 0)
    assert read_pictures(dataset, [row[5]], None)[row[5]].weight is None


def test_a_wall_has_one_scale():
    small, middle = picture(20, height=10), picture(40)
    frames = Frames()
    for um in (math.nan, 5.0):
        wall = frames.wall([replace(p, um_per_px=um) for p in (small, middle, middle)])
        (w, h), (w2, h2), _ = shown(wall)
        assert (w, h) == (round(CELL_PX / 2), round(CELL_PX / 4))
        assert w2 == h2 == CELL_PX
    # At equal pixels, twice the µm/px is twice as large; one unknown, and pixels count.
    wall = frames.wall([replace(middle, um_per_px=5.0), replace(middle, um_per_px=10.0)])
    assert shown(wall)[1] == (2 * shown(wall)[0][0], 2 * shown(wall)[0][1])
    wall = frames.wall([replace(middle, um_per_px=5.0), middle])
    assert shown(wall)[0] == shown(wall)[1]
    assert "scale unknown" in wall


@pytest.mark.parametrize("um", [math.nan, 5.0, 0.3, 400.0])
def test_the_bar_is_as_long_as_it_says(um):
    wall = Frames().wall([picture(40, um), picture(60, um)])
    width, length, unit = re.search(r'<svg width="([\d.]+)".*</svg> ([\d.]+) (px|µm|mm)', wall).groups()
    per_px = shown(wall)[1][0] / 60
    of_a_px = {"px": 1, "µm": um, "mm": um / 1000}[unit]
    assert float(width) == pytest.approx(float(length) / of_a_px * per_px, rel=0.02)
    assert 40 < float(width) <= 1.2 * CELL_PX


def test_nothing_is_larger_than_allowed_and_that_is_said():
    wall = Frames().wall([picture(30), picture(30), picture(30), picture(30), picture(3000, height=1000)])
    assert max(side for sides in shown(wall) for side in sides) == LARGEST_PX
    assert wall.count("reduced ×") == 1
    assert shown(Frames().wall([picture(2), picture(3)]))[1] == (3 * MOST_MAGNIFIED, 3 * MOST_MAGNIFIED)
    assert WallScale.of([picture(1)]).css == MOST_MAGNIFIED


def test_pixels_of_small_images_are_exact_and_large_ones_are_close():
    for side, form in ((EXACT_PX, "png"), (EXACT_PX + 8, "webp")):
        y, x = np.mgrid[:side, :side]
        pixels = (120 + 60 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)
        wall = Frames().wall([replace(picture(side), pixels=pixels)])
        found, data = re.search(r'src="data:image/(\w+);base64,([^"]+)"', wall).groups()
        read = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))
        assert found == form
        assert np.abs(read.astype(int) - pixels).mean() <= (0 if form == "png" else 4)


def test_a_full_page_leaves_pictures_out_and_counts_them():
    noise = np.random.default_rng(0).integers(0, 256, (50, 50)).astype(np.uint8)
    one = replace(picture(50), pixels=noise)
    size = len(re.search(r'src="([^"]+)"', Frames().wall([one])).group(1))
    frames = Frames(3 * size)
    wall = frames.wall([one] * 5)
    assert wall.count("<img") == 3
    assert wall.count('class="left-out"') == frames.left_out == 2
    assert wall.count("<figcaption>") == 5
    assert Frames().wall([]) == ""


def test_an_image_that_is_not_used_is_marked():
    used, unused, other = (Frames().wall([replace(picture(9), weight=w)]) for w in (0.5, 0.0, None))
    assert 'class="unused"' in unused
    assert 'class="unused"' not in used + other
    assert ("used 0.5×" in used, "used 0×" in unused, "used" in other) == (True, True, False)
