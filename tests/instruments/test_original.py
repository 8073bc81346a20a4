"""Files kept as they are: those any decoder understands, and hostile bytes that end in a clear refusal."""

import io
import random
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqqua.instruments import image as image_module
from aqqua.instruments import original as original_module
from aqqua.instruments.image import decode
from aqqua.instruments.original import MAX_SCANS, SPARE_BYTES, Original, decode_original, original_of
from aqqua.instruments.record import RejectedInputError

DRAW = np.random.default_rng(0)
GREY = DRAW.integers(0, 256, (21, 34), dtype=np.uint8)
DEEP = DRAW.integers(0, 65536, (21, 34), dtype=np.uint16)
COLOUR = DRAW.integers(0, 256, (21, 34, 3), dtype=np.uint8)
KINDS = {"grey": GREY, "deep": DEEP, "colour": COLOUR}
KEPT = [
    *(("PNG", kind, {}) for kind in KINDS),
    *(("TIFF", kind, {}) for kind in KINDS),
    ("TIFF", "grey", {"compression": "tiff_lzw"}),
    ("TIFF", "deep", {"compression": "tiff_adobe_deflate"}),
    ("JPEG", "grey", {}),
    ("JPEG", "grey", {"progressive": True}),
    ("JPEG", "colour", {}),
    ("JPEG", "colour", {"subsampling": 0, "progressive": True}),
]


def encode(pixels: np.ndarray | Image.Image, form: str, **options: object) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def turned(form: str) -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return encode(GREY, form, exif=exif)


def refusal(original: Original, shape: tuple[int, ...], dtype: type = np.uint8) -> str:
    with pytest.raises(RejectedInputError) as caught:
        decode_original(original, shape, np.dtype(dtype))
    return str(caught.value)


@pytest.mark.parametrize(("form", "kind", "options"), KEPT)
def test_grey_and_rgb_files_are_kept_and_become_their_pixels(form, kind, options):
    data = encode(KINDS[kind], form, **options)
    pixels = decode(data)
    assert original_of(data, pixels) == Original(data, form)
    again = decode_original(Original(data, form), pixels.shape, pixels.dtype)
    assert (
        (again.dtype, again.shape) == (pixels.dtype, pixels.shape) == (KINDS[kind].dtype, KINDS[kind].shape)
    )
    np.testing.assert_array_equal(again, pixels)
    if form != "JPEG":
        np.testing.assert_array_equal(again, KINDS[kind])


def test_grey_in_disguise_and_big_endian_are_kept():
    data = encode(np.repeat(GREY[..., None], 3, axis=2), "JPEG", quality=95)
    pixels = decode(data)
    assert pixels.ndim == 2
    assert original_of(data, pixels) == Original(data, "JPEG")
    big = encode(Image.frombytes("I;16B", (34, 21), DEEP.astype(">u2").tobytes()), "TIFF")
    assert big.startswith(b"MM")
    np.testing.assert_array_equal(decode_original(Original(big, "TIFF"), (21, 34), np.dtype(np.uint16)), DEEP)
    assert original_of(big, DEEP) == Original(big, "TIFF")


NOT_KEPT = {
    "palette": encode(Image.fromarray(COLOUR).quantize(16), "PNG"),
    "alpha": encode(np.dstack([COLOUR, GREY]), "PNG"),
    "grey and alpha": encode(Image.fromarray(COLOUR).convert("LA"), "PNG"),
    "one bit": encode(Image.fromarray(GREY > 128), "PNG"),
    "cmyk": encode(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"),
    "one colour is clear": encode(COLOUR, "PNG", transparency=(1, 2, 3)),
    "white is zero": encode(GREY, "TIFF", tiffinfo={262: 0}),
    "bmp": encode(GREY, "BMP"),
    "gif": encode(GREY, "GIF"),
    "turned jpeg": turned("JPEG"),
    "turned tiff": turned("TIFF"),
    "several pictures": encode(
        Image.fromarray(GREY), "MPO", save_all=True, append_images=[Image.fromarray(GREY)]
    ),
    "ballast": encode(GREY, "PNG") + bytes(GREY.nbytes + SPARE_BYTES),
}


@pytest.mark.parametrize("kind", NOT_KEPT)
def test_what_needs_rules_of_our_own_or_is_mostly_ballast_stays_pixels(kind):
    pixels = decode(NOT_KEPT[kind])
    assert original_of(NOT_KEPT[kind], pixels) is None


def test_pixels_that_are_not_just_those_of_the_file_are_stored_as_such():
    data = encode(GREY, "PNG")
    changed = GREY.copy()
    changed[3, 5] += 1
    for pixels in (GREY[:-1], changed, GREY.astype(np.uint16), np.dstack([GREY] * 3)):
        assert original_of(data, pixels) is None
    assert original_of(data, GREY) is not None


def test_another_format_size_or_depth_is_refused():
    original = Original(encode(GREY, "PNG"), "PNG")
    assert "21×34 pixels instead of 34×21" in refusal(original, (34, 21))
    assert "pixels of (21, 34) uint8 instead of (21, 34) uint16" in refusal(original, (21, 34), np.uint16)
    assert "instead of (21, 34, 3)" in refusal(original, (21, 34, 3))
    assert "not a TIFF file" in refusal(Original(original.data, "TIFF"), (21, 34))
    assert "unsupported_format: format 'GIF'" in refusal(Original(encode(GREY, "GIF"), "GIF"), (21, 34))
    assert "empty_file" in refusal(Original(b"", "PNG"), (21, 34))
    kinds = {"several pictures": "JPEG", "palette": "PNG", "turned tiff": "TIFF", "white is zero": "TIFF"}
    for kind, form in kinds.items():
        assert "unsupported_image" in refusal(Original(NOT_KEPT[kind], form), (21, 34))


def test_a_bomb_is_refused_by_its_header(monkeypatch):
    """Before anything is decoded."""
    monkeypatch.setattr(image_module, "_decode_opened", lambda _image: pytest.fail("decoded"))
    bomb = Image.new("L", (7000, 9000))
    for form in ("PNG", "JPEG", "TIFF"):
        assert "9000×7000 pixels instead of 21×34" in refusal(Original(encode(bomb, form), form), (21, 34))


def tiles(side: int, *, twice: bool = False) -> bytes:
    """GREY as a TIFF in one tile; `twice`: of 16 px by second tags, which Pillow believes, libtiff not."""
    tags = [(256, 34), (257, 21), (258, 8), (259, 1), (262, 1), (277, 1), (322, side), (323, side)]
    tags += [(322, 16), (323, 16)] if twice else []
    tags += [(324, 8), (325, 48 * 48)]
    page = np.zeros((48, 48), np.uint8)
    page[:21, :34] = GREY
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    end = struct.pack("<I", 8 + page.nbytes)
    return b"II*\0" + end + page.tobytes() + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_tile_larger_than_its_image_is_refused_unread(monkeypatch):
    """32768² of one file of 3 kB would be a GB."""
    monkeypatch.setattr(image_module, "_decode_opened", lambda _image: pytest.fail("decoded"))
    assert "a side is 32768" in refusal(Original(tiles(32768), "TIFF"), GREY.shape)
    assert "not in order" in refusal(Original(tiles(32768, twice=True), "TIFF"), GREY.shape)
    monkeypatch.undo()
    page = np.pad(GREY, ((0, 27), (0, 14)))[:48, :48]
    whole = tiles(48).replace(struct.pack("<HHII", 257, 4, 1, 21), struct.pack("<HHII", 257, 4, 1, 48))
    np.testing.assert_array_equal(
        decode_original(Original(whole, "TIFF"), (48, 34), np.dtype(np.uint8)), page[:, :34]
    )
    assert original_of(tiles(48), GREY) is None  # a side of 48 where 32 would do


def with_chunks(png: bytes, content: bytes, count: int) -> bytes:
    """Behind its header, `count` further ones of this name and content."""
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:33] + chunk * count + png[33:]


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT", b"IEND", b"tEXt"])
def test_a_png_whose_checksum_is_wrong_is_no_image(name):
    """Pillow does not look at those of pixels, and makes other pixels of them."""
    data = with_chunks(encode(GREY, "PNG"), b"tEXtComment\0x", 1)
    np.testing.assert_array_equal(decode_original(Original(data, "PNG"), GREY.shape, GREY.dtype), GREY)
    at = data.index(name)
    wrong = bytearray(data)
    wrong[at + 4 + int.from_bytes(data[at - 4 : at], "big")] ^= 1
    assert "has another checksum" in refusal(Original(bytes(wrong), "PNG"), GREY.shape)
    assert original_of(bytes(wrong), GREY) is None


def test_a_png_of_endless_chunks_is_refused():
    data = with_chunks(encode(GREY, "PNG"), b"tEXt", 10_001)
    assert "more than 10000 chunks" in refusal(Original(data, "PNG"), GREY.shape)


def test_too_many_scans_or_bytes_are_refused(monkeypatch):
    data = encode(GREY, "JPEG", progressive=True)
    comment = b"\xff\xda" * (MAX_SCANS + 1)
    many = data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]
    assert "scans, at most 64" in refusal(Original(many, "JPEG"), (21, 34))
    monkeypatch.setattr(original_module, "MAX_FILE_BYTES", 100)
    assert "image_too_large" in refusal(Original(data, "JPEG"), (21, 34))


def test_a_machine_without_memory_is_no_fault_of_the_file(monkeypatch):
    data = encode(GREY, "PNG")

    def full(_image: Image.Image) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(image_module, "_decode_opened", full)
    with pytest.raises(MemoryError):
        decode_original(Original(data, "PNG"), GREY.shape, GREY.dtype)
    assert original_of(data, GREY) is None


def mutants(data: bytes, draw: random.Random, count: int) -> Iterator[bytes]:
    """Cut short, bytes changed, pieces doubled, dropped or blanked."""
    for _ in range(count):
        a, b = sorted(draw.sample(range(len(data)), 2))
        changed = bytearray(data)
        match draw.randrange(5):
            case 0:
                changed = changed[:a]
            case 1:
                for _ in range(draw.randint(1, 8)):
                    changed[draw.randrange(len(changed))] = draw.randrange(256)
            case 2:
                changed[a:a] = changed[a:b]
            case 3:
                del changed[a:b]
            case 4:
                changed[a : a + 40] = bytes([draw.choice((0, 0xFF))]) * len(changed[a : a + 40])
        yield bytes(changed)


def outcomes(data: bytes, form: str, seed: int, count: int) -> Counter[str]:
    """What becomes of mutants: 'pixels' of the right shape, or the reason of the refusal; each within 1 s."""
    pixels, found = decode(data), Counter[str]()
    for changed in mutants(data, random.Random(seed), count):
        start = time.thread_time()
        try:
            again = decode_original(Original(changed, form), pixels.shape, pixels.dtype)
        except RejectedInputError as error:
            found[error.reason] += 1
        else:
            assert (again.shape, again.dtype) == (pixels.shape, pixels.dtype)
            found["pixels"] += 1
        assert time.thread_time() - start < 1
    return found


@pytest.mark.parametrize(("form", "kind", "options"), KEPT)
def test_mutants_are_images_of_their_size_or_refused(form, kind, options):
    found = outcomes(encode(KINDS[kind], form, **options), form, seed=len(options), count=60)
    assert found.total() == 60
    assert found["pixels"] < 50
    assert found["truncated_image"] + found["unreadable_image"] + found["unsupported_image"] >= 10


@pytest.mark.parametrize(("form", "kind", "options"), KEPT)
def test_a_file_cut_short_is_refused(form, kind, options):
    data = encode(KINDS[kind], form, **options)
    for end in np.linspace(1, len(data) * 0.9, 12).astype(int).tolist():
        assert refusal(Original(data[:end], form), KINDS[kind].shape, KINDS[kind].dtype)


def test_mutants_of_real_images(real_data: Path):
    files = {"uvp6/uvpec.zip": "PNG", "isiis-ndsb.zip": "JPEG", "planktonimager/2020_10_21-short.zip": "TIFF"}
    for name, form in files.items():
        with zipfile.ZipFile(real_data / name) as archive:
            suffixes = (".png", ".jpg", ".tif")
            inside = [n for n in archive.namelist() if n.endswith(suffixes) and "__MACOSX" not in n]
            data = archive.read(inside[len(inside) // 2])
        assert original_of(data, decode(data)) == Original(data, form)
        found = outcomes(data, form, seed=1, count=40)
        assert found.total() == 40
        assert found["pixels"] < 36
