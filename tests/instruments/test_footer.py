"""The burnt-in footer: cut where it is, and nowhere else."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqqua.instruments import folder
from aqqua.instruments.footer import FOOTER_PX, FooterImage, footer_rows
from aqqua.instruments.image import decode
from aqqua.instruments.record import ReadOptions, RejectedInputError
from aqqua.instruments.tree import open_tree


def picture(height: int = 60, width: int = 114, paper: int = 255, ink: int = 0) -> np.ndarray:
    """An object on paper with ZooProcess's footer below it: text, then a bar of two rows."""
    pixels = np.full((height + FOOTER_PX, width), paper, np.uint8)
    pixels[10 : height - 10, 30:80] = 120
    pixels[-17:-10, 12:40:2] = ink
    pixels[-6:-4, 10:106] = ink
    return pixels


@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (254, 20), (0, 255)])
def test_finds_black_and_white_footers(paper, ink):
    assert footer_rows(picture(paper=paper, ink=ink)) == FOOTER_PX


def test_finds_the_footer_of_a_colour_picture():
    assert footer_rows(np.stack([picture()] * 3, axis=2)) == FOOTER_PX


def test_finds_the_one_row_bar_with_ticks_of_uvpapp():
    pixels = picture()
    pixels[-6:-4] = 255
    pixels[-4, 9:37] = 0
    pixels[-3:-1, [9, 36]] = 0
    assert footer_rows(pixels) == FOOTER_PX


def test_text_written_over_the_picture_costs_no_organism():
    pixels = picture()
    pixels[-31:-19, 30:80] = 120
    assert footer_rows(pixels) == 18  # from one row above the text down


@pytest.mark.parametrize(
    "damage",
    [
        (slice(-6, -4), slice(None), 255),  # no bar
        (slice(-17, -10), slice(None), 255),  # no text
        (slice(-6, -4), slice(0, 10), 0),  # the bar starts at the edge
        (slice(-6, -4), slice(40, 50), 255),  # the bar is broken
        (slice(-31, None), slice(0, 5), 0),  # something dark at the left edge
        (slice(-10, -6), slice(12, 14), 0),  # text and bar touch
        (slice(-31, None), slice(60, None), 120),  # no paper
    ],
)
def test_what_only_resembles_a_footer_is_kept(damage):
    rows, columns, value = damage
    pixels = picture()
    pixels[rows, columns] = value
    assert footer_rows(pixels) == 0


@pytest.mark.parametrize("shape", [(1, 1), (5, 114), (31, 10), (200, 19), (40, 40, 3)])
@pytest.mark.parametrize("value", [0, 130, 255])
def test_plain_and_tiny_pictures_have_none(shape, value):
    assert footer_rows(np.full(shape, value, np.uint8)) == 0


def test_sixteen_bit_has_none():
    assert footer_rows(picture().astype(np.uint16)) == 0


def load(where: Path, pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    (where / "a.png").write_bytes(buffer.getvalue())
    return FooterImage("a.png").load(open_tree(where))


def test_loads_without_the_footer_and_untouched_without_one(tmp_path):
    pixels = picture()
    np.testing.assert_array_equal(load(tmp_path, pixels), pixels[:-FOOTER_PX])
    np.testing.assert_array_equal(load(tmp_path, pixels[:-20]), pixels[:-20])


@pytest.mark.parametrize("instrument", ["UVP6", "UVP5hd", "ZooScan"])
def test_a_folder_of_copies_loses_its_footers_if_the_instrument_is_named(tmp_path, instrument):
    """What UVPapp exports, without its table."""
    for name, pixels in (("copy", picture()), ("raw", picture()[:-FOOTER_PX])):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    tree = open_tree(tmp_path)
    found = folder.read(tree, folder.claim(tree), ReadOptions(instrument=instrument))
    for record in found:
        np.testing.assert_array_equal(record.pixels.load(tree), picture()[:-FOOTER_PX])


@pytest.mark.parametrize("instrument", [None, "MyScanner"])
def test_a_folder_of_an_unknown_instrument_loses_its_footers_too(tmp_path, instrument):
    """Drawn strips, black and white; a picture without one stays whole, and its file with it."""
    for name, pixels in (("dark", picture()), ("white", picture(paper=0, ink=255)), ("raw", picture()[:-31])):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    tree = open_tree(tmp_path)
    records = {
        r.object_id: r for r in folder.read(tree, folder.claim(tree), ReadOptions(instrument=instrument))
    }
    for name in ("dark.png", "white.png", "raw.png"):
        pixels, file = records[name].pixels.load_with_file(tree)
        assert len(pixels) == 60
        assert (file is None) == (name != "raw.png")  # encoded bytes are kept only where nothing is cut


@pytest.mark.parametrize("instrument", ["ISIIS", "IFCB", "PWSSC", "FlowCam"])
def test_of_an_instrument_that_burns_none_nothing_is_ever_cut(tmp_path, instrument):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    tree = open_tree(tmp_path)
    (record,) = folder.read(tree, folder.claim(tree), ReadOptions(instrument=instrument))
    np.testing.assert_array_equal(record.pixels.load(tree), picture())


def test_nothing_but_a_footer_is_not_an_organism(tmp_path):
    with pytest.raises(RejectedInputError, match="not_an_organism"):
        load(tmp_path, picture()[-FOOTER_PX:])


def members(archive: Path, every: int = 1) -> list[np.ndarray]:
    with zipfile.ZipFile(archive) as zipped:
        names = [name for name in sorted(zipped.namelist()) if name.lower().endswith((".png", ".jpg"))]
        return [decode(zipped.read(name)) for name in names[::every]]


def test_every_real_zooscan_vignette_loses_its_31_rows(real_data):
    where = real_data / "zooscan" / "ecotaxa_ml_template"
    stated = int((where / "crop.txt").read_text())
    vignettes = members(where / "images.zip")
    assert len(vignettes) == 400
    assert {footer_rows(pixels) for pixels in vignettes} == {stated} == {FOOTER_PX}


def test_real_zooscan_vignettes_in_a_plain_folder_lose_theirs(real_data):
    tree = open_tree(real_data / "zooscan" / "ecotaxa_ml_template" / "images.zip")
    records = list(folder.read(tree, folder.claim(tree), ReadOptions()))[::20]
    assert {record.instrument for record in records} == {"unknown"}
    for record in records:
        whole = decode(tree.read(record.source))
        np.testing.assert_array_equal(record.pixels.load(tree), whole[:-FOOTER_PX])


@pytest.mark.parametrize(
    ("archive", "every"),
    [
        ("uvp6/uvpec.zip", 1), ("isiis-ndsb.zip", 5), ("pwssc.zip", 8), ("flowcam-vickot.zip", 3),
        ("ifcb/cencoos-roi-jpg.zip", 1), ("microscopy/lake.zip", 1),
        ("zooscan/zooimage/BIO.2000-05-05.p72.zid", 1),
    ],
)  # fmt: skip
def test_no_real_picture_without_a_footer_is_cut(real_data, archive, every):
    pictures = members(real_data / archive, every)
    assert len(pictures) > 50
    assert not any(footer_rows(pixels) for pixels in pictures)
