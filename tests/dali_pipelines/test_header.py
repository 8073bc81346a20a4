"""What a file says of itself is read as its decoders read it, and a lie is refused before DALI sees it."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import drawn_files, encode, files_in, shape_of, sizes_of_files
from PIL import Image

from aqqua.instruments.original import MAX_SCANS, Original
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


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


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
