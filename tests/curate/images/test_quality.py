"""Quality: each flag where it belongs and nowhere else."""

import numpy as np
import pytest
from held_pictures import column, hold, organism, real_uvp6

from aqqua.curate.images.measures import MEASURES, roundness
from aqqua.curate.images.quality import FLAGS, QualityConfig, blur_of, write_quality
from aqqua.curate.images.signatures import write_signatures
from aqqua.store.read import Dataset


def flags(dataset: Dataset, **config: object) -> dict[str, object]:
    scratch = dataset.path.with_name("made")
    signed = write_signatures(dataset, scratch / "signatures")
    return column(write_quality(dataset, signed, scratch / "quality", QualityConfig(**config)), "flags")


def softened(pixels: np.ndarray, times: int) -> np.ndarray:
    soft = np.pad(pixels.astype(np.float32), 12)
    for _ in range(times):
        soft = (soft + np.roll(soft, 1, 0) + np.roll(soft, -1, 0)) / 3
        soft = (soft + np.roll(soft, 1, 1) + np.roll(soft, -1, 1)) / 3
    return np.rint(soft).astype(np.uint8)


def disc(side: int, radius: float, hole: float = 0.0, value: int = 200) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    r = np.hypot(y, x)
    return np.where((r <= radius) & (r >= hole), value, 0).astype(np.uint8)


def test_each_flag_is_given_where_it_belongs_and_nowhere_else(tmp_path):
    scaled = np.pad(organism(200), ((0, 24), (0, 0)))
    scaled[-12:-8, 5:30] = 255  # a scale bar, white on black
    burnt_out = organism(201)
    burnt_out[burnt_out > 60] = 255
    special = {
        "tiny": np.pad(np.full((4, 5), 180, np.uint8), 10),
        "blurred": softened(organism(202), 60),
        "saturated": burnt_out,
        "bubble": disc(60, 24, 17),
        "burnt_in": scaled,
    }
    pictures = [*special.values(), *(softened(organism(n), 1) for n in range(100))]
    given = flags(hold(tmp_path / "data", pictures))
    for i, name in enumerate(special):
        assert name in given[f"image{i}"], name
    ordinary = [given[f"image{i}"] for i in range(len(special), len(pictures))]
    assert sum(bool(one) for one in ordinary) <= 8  # softer than most by chance
    assert set(special) == set(FLAGS)


@pytest.mark.parametrize(
    ("instrument", "bubble", "blurred"),
    [("UVP5hd", True, True), ("FlowCam", False, True), ("PWSSC", False, False), ("SPC", False, False)],
)
def test_bubbles_and_blur_are_flagged_only_where_that_is_what_they_are(tmp_path, instrument, bubble, blurred):
    pictures = [disc(60, 24, 17), softened(organism(202), 60), *(softened(organism(n), 1) for n in range(60))]
    dataset = hold(tmp_path / "data", pictures, [{"instrument": instrument}] * len(pictures))
    given = flags(dataset)
    assert ("bubble" in given["image0"]) == bubble
    assert ("blurred" in given["image1"]) == blurred
    assert any("blurred" in one for one in given.values()) == blurred


def test_instruments_of_a_flag_are_patterns_of_which_the_last_counts(tmp_path):
    facts = [{"instrument": name} for name in ("FlowCam", "ZooScan")]
    dataset = hold(tmp_path / "data", [disc(60, 24, 17), disc(60, 24, 16)], facts)
    given = flags(dataset, bubble_instruments=("*", "!Zoo*"))
    assert [given[f"image{i}"].count("bubble") for i in range(2)] == [1, 0]


def test_the_columns_say_how_they_were_made(tmp_path):
    dataset = hold(tmp_path / "data", [organism(1)])
    signed = write_signatures(dataset, tmp_path / "signed")
    facts = write_quality(dataset, signed, tmp_path / "quality", QualityConfig()).facts
    assert facts["made_from"] == {"signatures": signed.sha256}
    assert QualityConfig.model_validate(facts["config"]) == QualityConfig()


def test_a_white_background_is_not_saturation(tmp_path):
    dataset = hold(tmp_path / "data", [255 - organism(n) for n in range(3)])
    assert all("saturated" not in one for one in flags(dataset).values())


def test_polarity_does_not_matter(tmp_path):
    pictures = [organism(n) // 2 + 20 for n in range(5)]
    dataset = hold(tmp_path / "data", pictures + [255 - p for p in pictures])
    signed = write_signatures(dataset, tmp_path / "signed")
    for name in MEASURES:
        values = column(signed, name)
        for i in range(5):
            assert values[f"image{i}"] == pytest.approx(values[f"image{i + 5}"], rel=1e-3, abs=1e-3), name


def test_a_ring_is_round_and_hollow_a_disc_is_not_hollow():
    at = np.arange(16) - 7.5
    radius = np.hypot(at[:, None], at)
    pictures = np.stack([(radius < 7) & (radius > 4.5), radius < 6, np.tile(at > 0, (16, 1))]).astype(
        np.float32
    )
    boxes = np.array([[0, 0, 16, 16]] * 3)
    round_, ring = roundness(pictures, boxes)
    assert round_[0] > 0.7
    assert ring[0] > 0.9
    assert ring[1] == 0
    assert round_[2] < 0.2


def test_blur_is_relative_to_the_instrument():
    typical = {"A": (np.log(0.1), 0.5), "B": (np.log(0.4), 0.5)}
    names = np.array(["A", "B", "C", "A"], object)
    blur = blur_of(np.array([0.1, 0.1, 0.1, 0.0]), names, typical)
    assert blur.tolist() == pytest.approx([0, np.log(4) / 0.5, 0, 0], abs=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_images_without_a_picture_have_no_blur(tmp_path, count):
    given = flags(hold(tmp_path / "data", [np.full((20, 20), 9, np.uint8)] * count))
    assert all("blurred" not in one for one in given.values())


def test_bad_focus_and_bubbles_of_uvp6(real_data, tmp_path):
    dataset = real_uvp6(real_data, tmp_path / "uvp6")
    given = flags(dataset)
    of = {"badfocus": "blurred", "bubble": "bubble"}
    for label, flag in of.items():
        true = [flag in one for name, one in given.items() if name.startswith(label)]
        false = [flag in one for name, one in given.items() if not name.startswith(label)]
        assert np.mean(true) > 0.5, label
        assert np.mean(false) < 0.1, label
