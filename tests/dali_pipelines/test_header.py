"""What a file says of itself is read as its decoders read it, and a lie is refused before DALI sees it."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import (
    drawn_files,
    encode,
    files_in,
    png_chunk,
    png_of,
    shape_of,
    sizes_of_files,
    tiff_of,
    tile_bomb,
)
from PIL import Image

from aqqua.instruments.original import MAX_SCANS, Original
from dali_pipelines import header as module
from dali_pipelines.header import HeaderError, require_header

GREY = np.random.default_rng(0).integers(0, 256, (21, 34), dtype=np.uint8)
FILES = drawn_files()
SIZES, _ = sizes_of_files(FILES)


def refusal(original: Original, shape: tuple[int, ...] = (21, 34), bits: int = 8) -> str:
    with pytest.raises(HeaderError) as caught:
        require_header(original, shape, bits)
    return str(caught.value)


@pytest.mark.parametrize("i", range(len(FILES)))
def test_drawn_files_are_what_they_say(i):
    header = require_header(FILES[i], shape_of(SIZES, i), int(SIZES.bits[i]))
    with Image.open(io.BytesIO(FILES[i].data)) as image:
        assert (header.height, header.width) == (image.height, image.width)
        assert header.channels == len(image.getbands())


@pytest.mark.parametrize(
    "name",
    ["isiis-ndsb.zip", "pwssc.zip", "flowcam-vickot.zip", "uvp6/uvpec.zip", "microscopy/lake.zip", "spc",
     "zooscan/ecotaxa_ml_template/images.zip", "planktonimager", "ifcb/cencoos-roi-jpg.zip", "ecotaxa"],
)  # fmt: skip
def test_real_files_are_what_they_say(real_data, name):
    files = files_in(real_data / name, 200)
    sizes, _ = sizes_of_files(files)
    assert files
    for i, one in enumerate(files):
        require_header(one, shape_of(sizes, i), int(sizes.bits[i]))


def test_another_size_depth_or_kind_is_refused():
    for form in ("PNG", "JPEG", "TIFF"):
        one = encode(GREY, form)
        assert "21×34 pixels instead of 34×21" in refusal(one, (34, 21))
        assert "bits instead of" in refusal(one, (21, 34), 16)
        assert "1 channels of 8 bits instead of (3,) of 8" in refusal(one, (21, 34, 3))
        assert refusal(Original(b"", form))
        for end in range(0, 60, 7):
            assert refusal(Original(one.data[:end], form))
    assert "format 'GIF'" in refusal(Original(b"GIF", "GIF"))
    assert "no PNG" in refusal(Original(encode(GREY, "JPEG").data, "PNG"))
    assert "no JPEG" in refusal(Original(encode(GREY, "PNG").data, "JPEG"))
    assert "no TIFF" in refusal(Original(encode(GREY, "PNG").data, "TIFF"))


def test_a_second_size_is_refused():
    """DALI believes the first, libjpeg the last; a decoder writes the one into room for the other."""
    data = encode(GREY, "JPEG").data
    frame = data.index(b"\xff\xc0")
    second = b"\xff\xc0\0\x0b\x08\xff\xff\xff\xff\1\1\x11\0"
    for place in (frame, frame + 13):
        assert "2 frames instead of one" in refusal(Original(data[:place] + second + data[place:], "JPEG"))
    png = encode(GREY, "PNG").data
    second = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0))
    assert "a further IHDR" in refusal(Original(png[:33] + second + png[33:], "PNG"))
    tiff = bytearray(encode(GREY, "TIFF").data)
    (at,) = struct.unpack_from("<I", tiff, 4)
    tiff[at + 14 : at + 16] = tiff[at + 2 : at + 4]  # the second tag is the first again
    assert "tags are not in order" in refusal(Original(bytes(tiff), "TIFF"))


def test_a_tile_larger_than_its_image_is_refused():
    """Decoders make room for whole tiles; those at the rim reach to the next multiple of 16."""
    assert "in tiles of which a side is 32768" in refusal(tile_bomb(21, 34))
    assert "in tiles of which a side is 64" in refusal(tile_bomb(21, 34, 64))
    assert require_header(tile_bomb(33, 34, 48), (33, 34), 8).strange == ""
    for tag in (322, 323):
        assert "a side is 4096" in refusal(tiff_of(GREY.tobytes(), 21, 34, **{f"t{tag}": (4096,)}))
    assert "tag 322 is no small number" in refusal(tiff_of(GREY.tobytes(), 21, 34, t322=(16,) * 5))


def test_what_costs_much_for_little_is_refused(monkeypatch):
    png, tiff = encode(GREY, "PNG"), encode(GREY, "TIFF")
    many = png.data[:33] + png_chunk(b"tEXt", b"") * 10_001 + png.data[33:]
    assert "more than 10000 chunks" in refusal(Original(many, "PNG"))
    few = png.data[:33] + png_chunk(b"tEXt", b"") * 9_000 + png.data[33:]
    assert require_header(Original(few, "PNG"), (21, 34), 8).width == 34
    (at,) = struct.unpack_from("<I", tiff.data, 4)
    wide = bytearray(tiff.data)
    wide[at : at + 2] = struct.pack("<H", 257)
    assert "directory of 257 tags" in refusal(Original(bytes(wide), "TIFF"))
    monkeypatch.setattr(module, "MAX_PIXELS", 21 * 34 - 1)
    assert "21×34 pixels" in refusal(png)
    monkeypatch.setattr(module, "MAX_FILE_BYTES", len(png.data) - 1)
    assert f"{len(png.data)} bytes, at most {len(png.data) - 1}" in refusal(png)


def test_what_no_png_may_be_is_refused():
    data = encode(GREY, "PNG").data
    for place, what in ((26, "compression 1"), (27, "filter 1")):
        changed = bytearray(data)
        changed[place] = 1
        assert what in refusal(Original(bytes(changed), "PNG"))
    for end in (len(data) - 1, len(data) - 12):
        assert "without its end" in refusal(Original(data[:end], "PNG"))
    beyond = data[:-12] + struct.pack(">I", 1) + data[-8:]  # an end that ends behind the file
    assert "without its end" in refusal(Original(beyond, "PNG"))
    for form in ("PNG", "TIFF"):
        one = deep_colour(form)
        assert "colour of 16 bits" in refusal(one, (21, 34, 3), 16)
    empty = data[:33] + png_chunk(b"IEND", b"")
    assert "without pixels" in refusal(Original(empty, "PNG"))


def deep_colour(form: str) -> Original:
    if form == "TIFF":
        return tiff_of(bytes(21 * 34 * 6), 21, 34, t258=(16,) * 3, t262=(2,), t277=(3,))
    head = struct.pack(">IIBBBBB", 34, 21, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", b""), (b"IEND", b"")]
    return Original(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*one) for one in chunks), "PNG")


STRANGE = {
    "2 bits": png_of(GREY >> 6, 2),
    "4 bits": png_of(GREY >> 4, 4),
    "TIFF of 4 bits": tiff_of(GREY.tobytes(), 21, 34, t258=(4,)),
    "compression 34925": encode(GREY, "TIFF", compression="lzma"),
    "fill order 2": tiff_of(GREY.tobytes(), 21, 34, t266=(2,)),
    "no whole numbers from 0 on": tiff_of(GREY.tobytes(), 21, 34, t339=(2,)),
    "interpretation 1, 2 samples": tiff_of(GREY.tobytes() * 2, 21, 34, t277=(2,), t258=(8, 8), t338=(0,)),
}


@pytest.mark.parametrize("what", STRANGE)
def test_sound_files_that_dali_may_not_read_are_told_apart(what):
    assert what in require_header(STRANGE[what], (21, 34), 8).strange
    assert "pixels instead of 20×34" in refusal(STRANGE[what], (20, 34))


def test_what_decoders_do_not_agree_on_is_refused():
    exif = Image.Exif()
    exif[274] = 6
    for form in ("JPEG", "TIFF", "PNG"):
        assert "orientation" in refusal(encode(GREY, form, exif=exif))
    png, jpeg = encode(GREY, "PNG").data, encode(GREY, "JPEG").data
    for name in (b"tRNS", b"PLTE", b"acTL"):
        changed = png[:33] + png_chunk(name, b"\0\0") + png[33:]
        assert f"a further {name.decode()}" in refusal(Original(changed, "PNG"))
    pictures = jpeg[:2] + b"\xff\xe2\0\x06MPF\0" + jpeg[2:]
    assert "several pictures" in refusal(Original(pictures, "JPEG"))
    scans = jpeg + b"\xff\xda" * MAX_SCANS
    assert f"{MAX_SCANS + 1} scans" in refusal(Original(scans, "JPEG"))
    lossless = jpeg.replace(b"\xff\xc0", b"\xff\xc3")
    assert "frame 0xc3" in refusal(Original(lossless, "JPEG"))
    assert "of 4 channels" in refusal(Original(cmyk(), "JPEG"))
    white = encode(GREY, "TIFF", tiffinfo={262: 0})
    assert "not plain grey or RGB" in refusal(white)
    assert "colour type 3" in refusal(Original(palette(), "PNG"))


def cmyk() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.dstack([GREY] * 3)).convert("CMYK").save(stream, "JPEG")
    return stream.getvalue()


def palette() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(GREY).quantize(8).save(stream, "PNG")
    return stream.getvalue()


@settings(max_examples=400, deadline=None)
@given(which=st.integers(0, len(FILES) - 1), place=st.integers(0, 200), value=st.integers(0, 255))
def test_any_byte_of_a_header_may_be_anything(which, place, value):
    """A changed header is refused, or still of just this image."""
    one, shape = FILES[which], shape_of(SIZES, which)
    data = bytearray(one.data)
    data[place % len(data)] = value
    try:
        header = require_header(Original(bytes(data), one.format), shape, int(SIZES.bits[which]))
    except HeaderError:
        return
    assert (header.height, header.width) == shape[:2]
    assert header.bits == SIZES.bits[which]
    assert header.channels == 3 or len(shape) == 2
