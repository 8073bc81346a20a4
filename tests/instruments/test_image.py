"""Pixels as stored from every mode, and hostile bytes that may only end in RejectedInputError."""

import io
import random
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqqua.instruments import image as image_module
from aqqua.instruments.image import EncodedImage, RawRaster, decode
from aqqua.instruments.record import RejectedInputError
from aqqua.instruments.tree import open_tree

GREY = np.random.default_rng(0).integers(0, 256, (7, 11), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (7, 11, 3), dtype=np.uint8)


def encode(pixels: np.ndarray | Image.Image, form: str = "PNG", **options: object) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def load(folder: Path, data: bytes, **options: object) -> np.ndarray:
    (folder / "x.png").write_bytes(data)
    return EncodedImage("x.png", **options).load(open_tree(folder))  # type: ignore[arg-type]


def reason_of(folder: Path, data: bytes, **options: object) -> str:
    with pytest.raises(RejectedInputError) as caught:
        load(folder, data, **options)
    return caught.value.reason


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_lossless_pixels_are_exact(form: str, pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode(pixels, form)), pixels)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_stay_sixteen_bits(form: str) -> None:
    deep = np.random.default_rng(2).integers(0, 65536, (5, 6), dtype=np.uint16)
    decoded = decode(encode(deep, form))
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, deep)


def test_big_endian_sixteen_bits() -> None:
    deep = np.arange(30, dtype=np.uint16).reshape(5, 6) * 2000
    picture = Image.frombytes("I;16B", (6, 5), deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(decode(encode(picture, "TIFF")), deep)


def test_wide_integers_must_fit_sixteen_bits() -> None:
    fits = np.array([[0, 65535]], dtype=np.int32)
    np.testing.assert_array_equal(decode(encode(fits, "TIFF")), fits.astype(np.uint16))
    with pytest.raises(RejectedInputError, match="unsupported_image"):
        decode(encode(fits + 1, "TIFF"))


def test_grey_in_disguise_becomes_grey() -> None:
    np.testing.assert_array_equal(decode(encode(np.stack([GREY] * 3, -1))), GREY)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(GREY).convert("P"))), GREY)
    bits = Image.fromarray(GREY > 99)
    np.testing.assert_array_equal(decode(encode(bits)), (GREY > 99) * np.uint8(255))


def test_palette_and_cmyk_become_their_colours() -> None:
    palette = Image.fromarray(COLOUR).quantize(16)
    np.testing.assert_array_equal(decode(encode(palette)), np.asarray(palette.convert("RGB")))
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    np.testing.assert_array_equal(decode(encode(cmyk, "TIFF")), np.asarray(cmyk.convert("RGB")))


def test_transparency_takes_the_border_colour() -> None:
    rgba = np.full((9, 9, 4), (40, 60, 80, 255), dtype=np.uint8)
    rgba[3:6, 3:6] = (255, 0, 0, 0)
    assert (decode(encode(rgba)) == (40, 60, 80)).all()
    la = np.full((9, 9, 2), (200, 255), dtype=np.uint8)
    la[3:6, 3:6] = (0, 0)
    assert (decode(encode(Image.fromarray(la, "LA"))) == 200).all()


def test_floats_and_deep_colour_are_refused_not_cut() -> None:
    with pytest.raises(RejectedInputError, match="unsupported_image"):
        decode(encode(np.ones((3, 3), dtype=np.float32), "TIFF"))
    # A 16-bit RGB PNG, written by hand since Pillow cannot: it would read it back as 8 bit.
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    body = zlib.compress(b"\0" + bytes(range(12)))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    with pytest.raises(RejectedInputError, match="16-bit colour"):
        decode(png)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
def test_orientation_tags_are_not_applied(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"tiffinfo": {274: orientation}} if form == "TIFF" else {"exif": exif}
    plain = decode(encode(GREY, form))
    np.testing.assert_array_equal(decode(encode(GREY, form, **options)), plain)


def test_first_page_of_many() -> None:
    pages = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for form in ("TIFF", "GIF"):
        np.testing.assert_array_equal(
            decode(encode(pages[0], form, save_all=True, append_images=pages[1:])), GREY
        )


def test_boxes_and_footers(tmp_path: Path) -> None:
    data = encode(COLOUR)
    np.testing.assert_array_equal(load(tmp_path, data, box=(1, 2, 4, 9)), COLOUR[1:4, 2:9])
    np.testing.assert_array_equal(load(tmp_path, data, footer_px=3), COLOUR[:4])
    assert reason_of(tmp_path, data, box=(1, 2, 8, 9)) == "out_of_bounds"
    assert reason_of(tmp_path, data, box=(4, 2, 4, 9)) == "out_of_bounds"
    assert reason_of(tmp_path, data, footer_px=7) == "not_an_organism"


def test_pixels_of_boxes_are_independent_copies(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encode(GREY))
    tree = open_tree(tmp_path)
    whole = EncodedImage("x.png", box=(0, 0, 7, 11))
    whole.load(tree)[:] = 0
    np.testing.assert_array_equal(whole.load(tree), GREY)


def test_masks_are_not_organisms_but_black_images_are_images(tmp_path: Path) -> None:
    assert reason_of(tmp_path, encode((GREY > 99).astype(np.uint8))) == "not_an_organism"
    assert load(tmp_path, encode(np.zeros((4, 4), np.uint8))).max() == 0


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "BMP", "GIF"])
def test_empty_tiny_and_cut_files(tmp_path: Path, form: str) -> None:
    data = encode(np.random.default_rng(5).integers(0, 256, (64, 64), dtype=np.uint8), form)
    assert reason_of(tmp_path, b"") == "empty_file"
    assert reason_of(tmp_path, data[:1]) == "unreadable_image"
    assert reason_of(tmp_path, data[: len(data) // 2]) in ("truncated_image", "unreadable_image")


@pytest.mark.filterwarnings("ignore")
def test_declared_size_is_refused_before_decoding() -> None:
    data = bytearray(encode(GREY, "GIF"))
    data[6:10] = (24_514).to_bytes(2, "little") + (14_992).to_bytes(2, "little")
    start = time.perf_counter()
    with pytest.raises(RejectedInputError, match="image_too_large"):
        decode(bytes(data))
    assert time.perf_counter() - start < 0.5


def test_a_png_between_the_cap_and_pillows_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "MAX_PIXELS", 76)
    with pytest.raises(RejectedInputError, match="7×11 pixels"):
        decode(encode(GREY))


def test_other_formats_and_text_are_refused() -> None:
    for data in (b"object_id\tlabel\n", encode(COLOUR, "PPM"), b"\x80\x04cos\nsystem\n."):
        with pytest.raises(RejectedInputError, match="unreadable_image: not a PNG"):
            decode(data)


def test_a_vanished_or_broken_member_is_an_io_error(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encode(GREY))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("y.bin", b"y" * 50)
    (tmp_path / "z.zip").write_bytes((tmp_path / "z.zip").read_bytes().replace(b"y" * 50, b"z" * 50))
    tree = open_tree(tmp_path)
    (tmp_path / "x.png").unlink()
    for source in (EncodedImage("x.png"), RawRaster("x.png", 0, 2, 2), EncodedImage("z.zip/y.bin")):
        with pytest.raises(RejectedInputError) as caught:
            source.load(tree)
        assert caught.value.reason == "io_error"


def test_raw_rasters(tmp_path: Path) -> None:
    (tmp_path / "a.roi").write_bytes(b"\0" + GREY.tobytes())
    tree = open_tree(tmp_path)
    np.testing.assert_array_equal(RawRaster("a.roi", 1, 7, 11).load(tree), GREY)
    with pytest.raises(RejectedInputError, match="truncated_image"):
        RawRaster("a.roi", 2, 7, 11).load(tree)


@pytest.mark.filterwarnings("ignore")  # Pillow remarks on broken tags; pytest resets our own filter
def test_mutated_images_only_raise_rejections() -> None:
    rng = random.Random(11)
    picture = np.random.default_rng(6).integers(0, 256, (12, 13, 3), dtype=np.uint8)
    seeds = [encode(picture, form) for form in ("PNG", "JPEG", "TIFF", "BMP", "GIF")]
    seeds.append(encode(picture, "TIFF", compression="tiff_lzw"))
    outcomes = {"decoded": 0, "refused": 0}
    for _ in range(1500):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 3, 20))):
            data[rng.randrange(min(len(data), rng.choice((40, len(data)))))] = rng.randrange(256)
        try:
            end = rng.choice((len(data), len(data), rng.randrange(1, len(data))))
            decode(bytes(data[:end]))
            outcomes["decoded"] += 1
        except RejectedInputError as error:
            outcomes["refused"] += bool(error.detail)
    assert min(outcomes.values()) > 100


def test_real_oddities(real_data: Path) -> None:
    tree = open_tree(real_data / "zooscan" / "zooprocess-lib")
    start = time.perf_counter()
    found = {}
    for name in tree.names(".gif", ".tif"):
        with pytest.raises(RejectedInputError) as caught:
            EncodedImage(name).load(tree)
        found[name.rsplit(".", 1)[1], caught.value.reason] = True
    assert set(found) == {("gif", "image_too_large"), ("tif", "unreadable_image")}
    assert time.perf_counter() - start < 1
    bayer = EncodedImage("case_1_blob.tif").load(open_tree(real_data / "spc"))
    assert bayer.dtype == np.uint16


@pytest.mark.parametrize("size", [(2048, 2048), (3040, 4056)])
def test_a_whole_camera_frame_is_no_organism(tmp_path, size):
    Image.new("L", size[::-1], 90).save(tmp_path / "frame.png")
    tree = open_tree(tmp_path)
    with pytest.raises(RejectedInputError, match="a whole camera frame") as caught:
        EncodedImage("frame.png").load(tree)
    assert caught.value.reason == "not_an_organism"
    assert EncodedImage("frame.png", box=(0, 0, 9, 9)).load(tree).shape == (9, 9)  # a particle on a collage


def test_the_real_planktoscope_frame_is_no_organism(real_data):
    with pytest.raises(RejectedInputError, match="a whole camera frame"):
        EncodedImage("DiatomaceousEarth-10x-10.jpg").load(open_tree(real_data / "planktoscope"))
