"""The page of `aqqua plan`: whole, self-contained, the same every time, and deaf to hostile names."""

import base64
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqqua.cli import main
from aqqua.explore.page import page, write_page
from aqqua.explore.shown import Shown, show
from aqqua.plan.view_config import ViewConfig
from aqqua.store.read import Dataset
from aqqua.train.settings import PretrainConfig

HOSTILE = (
    "</title></h2><script>alert(\"µ\")</script><img src=http://x.y/z onerror='a()'>&\x00\x1b\u202e\ufffe"
)


@pytest.fixture(scope="module")
def config(sample_dataset: Path) -> PretrainConfig:
    values = {"run": "none", "data": {"path": sample_dataset}, "train": {"images": 1, "device": "cpu"}}
    return PretrainConfig.model_validate({**values, "views": {"locals": 3}})


@pytest.fixture(scope="module")
def shown(sample_dataset: Path, config: PretrainConfig) -> Shown:
    return show(Dataset.open(sample_dataset), config, 12)


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))


def figures(section: ET.Element, kind: str) -> list[ET.Element]:
    return [figure for figure in section.iter("figure") if figure.get("class") == kind]


def test_every_view_of_every_image_is_there(shown, config):
    document = parsed(page(shown, "ocean", config, 0))
    sections = document.findall("body/section")
    assert len(sections) == 12
    for section, image in zip(sections, shown.images, strict=True):
        drawn = figures(section, "view")
        assert len(drawn) == len(image.views) == 5
        assert [f.find("svg").get("aria-label") for f in drawn] == ["G1", "G2", "L1", "L2", "L3"]
        for figure, view in zip(drawn, image.views, strict=True):
            rows, columns = view.parameters.grid
            pixels = raster(figure)
            assert pixels.shape == (rows * 14, columns * 14)
            levels = np.clip(np.rint(255 * (0.5 + 0.125 * view.values_hwC[..., 0].astype(float))), 0, 255)
            assert np.array_equal(pixels, levels)
        masked = [view for view in image.views if view.mask is not None]
        assert len(figures(section, "mask")) == len(masked)
        assert raster(figures(section, "original")[0]).shape == image.pixels.shape
        assert len(list(figures(section, "outlines")[0].iter("polygon"))) == 5
        assert len(section.findall("div/table/tbody/tr")) == 5
    assert any(view.mask is not None for image in shown.images for view in image.views)


def raster(figure: ET.Element) -> np.ndarray:
    uri = figure.find("svg/image").get("href")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_columns_are_there_for_what_a_view_has(sample_dataset, config):
    """Each heading over its own cells, nothing for what no view of an image has."""
    looks = {"specks": 8, "speck_odds": 1, "solarize_odds": (1, 0), "invert_odds": (0, 0)}
    shown = show(
        Dataset.open(sample_dataset),
        config.model_copy(update={"views": ViewConfig(locals=1, rotate=False, flip=False, **looks)}),
        20,
    )
    kinds = set()
    for section, image in zip(
        parsed(page(shown, "ocean", config, 0)).iter("section"), shown.images, strict=True
    ):
        heads = [cell.text for cell in section.iter("th")]
        rows = [[cell.text for cell in row.findall("td")] for row in section.iter("tr")][1:]
        table = dict(zip(heads, zip(*rows, strict=True), strict=True))
        assert table["specks"] == tuple(str(view.parameters.specks) for view in image.views)
        assert table["solarized"] == ("yes", None, None)
        assert not {"inverted", "stretch", "mirror"} & table.keys()
        has_colour = image.pixels.ndim == 3
        assert ("saturation" in table) == ("hue" in table) == has_colour
        kinds.add(has_colour)
    assert kinds == {False, True}


def test_scale_bars_are_true_under_scale_jitter(shown, config):
    """The length in the caption, over the µm/px of the view, is the bar's in pixels, to a hundredth."""
    known = 0
    sections = parsed(page(shown, "ocean", config, 0)).iter("section")
    for section, image in zip(sections, shown.images, strict=True):
        for figure, view in zip(figures(section, "view"), image.views, strict=True):
            said = figure.find("figcaption/br").tail
            bar = float(figure.find("svg/rect[@class='bar']").get("width"))
            if np.isnan(image.um_per_px):
                assert said == f"{bar:g} px, scale unknown"
                continue
            number, unit = re.fullmatch(r"([\d.]+) (µm|mm)", said).groups()
            length_um = float(number) * (1000 if unit == "mm" else 1)
            of_view = image.um_per_px / view.parameters.zoom  # not from the plan's own µm/px
            assert bar == pytest.approx(length_um / of_view, abs=0.01)
            known += 1
    assert known > 20


def test_names_from_other_people_s_files_stay_text(shown, config):
    images = tuple(replace(i, image_id=HOSTILE, label=HOSTILE, instrument=HOSTILE) for i in shown.images[:2])
    text = page(replace(shown, images=images), HOSTILE, config, 0)
    document = parsed(text)  # well-formed all the same
    tags = {element.tag for element in document.iter()}
    assert not tags & {"script", "img", "iframe", "object", "embed", "link", "a", "form"}
    assert not any(name.startswith("on") for element in document.iter() for name in element.attrib)
    visible = HOSTILE.translate({0: "\ufffd", 0x1B: "\ufffd", 0x202E: "\ufffd", 0xFFFE: "\ufffd"})
    for section in document.iter("section"):
        assert section.find("h2/bdi").text == visible
        assert [bdi.text for bdi in section.findall("p/bdi")] == [visible, visible]


def test_nothing_is_fetched(shown, config):
    document = parsed(page(shown, "ocean", config, 0))
    linking = ("href", "src", "action", "data")
    links = [value for e in document.iter() for name, value in e.attrib.items() if name in linking]
    assert len(links) > 12 * 7
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    keys = [element.get("id") for element in document.iter() if element.get("id")]
    assert len(keys) == len(set(keys))
    assert {link[1:] for link in links if link[0] == "#"} <= set(keys)
    style = document.find("head/style").text
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    policy = document.find("head/meta[@http-equiv='Content-Security-Policy']").get("content")
    assert policy.startswith("default-src 'none'; ")


def test_the_same_command_makes_the_same_bytes(sample_dataset, tmp_path, capsys):
    for name in ("a.html", "new/b.html"):
        command = ["plan", str(sample_dataset), "--show", "3", "--out", str(tmp_path / name), "--seed", "5"]
        assert main([*command, "--visit", "2", "views.locals=1", "train.device=cpu"]) == 0
    assert "9 views of 3 images" in capsys.readouterr().out
    first = (tmp_path / "a.html").read_bytes()
    assert first == (tmp_path / "new" / "b.html").read_bytes()
    assert b"seed 5, visit 2" in first
    assert str(sample_dataset).encode() not in first


def test_a_config_may_be_given_and_overridden(sample_dataset, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(
        "run: r\nseed: 9\ndata: {path: elsewhere}\nviews: {locals: 1}\nmodel: {patch_px: 8, channels: 3}\n"
        "train: {epochs: 2}\n"
    )
    out, config = str(tmp_path / "a.html"), str(tmp_path / "run.yaml")
    command = ["plan", str(sample_dataset), "--show=2", "--out", out, "--config", config, "views.locals=4"]
    assert main(command) == 0
    assert "12 views of 2 images" in capsys.readouterr().out
    text = (tmp_path / "a.html").read_text()
    assert "seed 9, visit 0" in text
    assert "patches of 8 px, 3 channels" in text
    view = figures(next(parsed(text).iter("section")), "view")[0]
    assert raster(view).shape[2] == 3


def test_a_file_is_never_overwritten(shown, config, tmp_path):
    (tmp_path / "there.html").write_text("mine")
    with pytest.raises(FileExistsError):
        write_page(shown, "ocean", config, 0, tmp_path / "there.html")
    assert (tmp_path / "there.html").read_text() == "mine"
