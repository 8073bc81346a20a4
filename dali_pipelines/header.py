"""What a file says of itself before its pixels, held against its row before DALI sees the file.

DALI makes room for whatever size a file claims, and its decoders may write what they find into room made
for something else; so a file goes to DALI only if its header, read here as DALI reads it, is that of the
row's image and of nothing else. The checks are those that aqqua.instruments.original makes of Pillow's
headers, at a fraction of the time: one size in the file, tiles no larger, the format of the row, grey or RGB
of its bits, no transparency, no orientation, one picture, a bounded number of scans.

A dataset also keeps sound files that DALI 2.4.0 cannot read, or not for certain: a TIFF with LZMA or signed
samples, a PNG of 4 bits. `Header.strange` names what is; such a file is for the strict decoder alone.
Tests: tests/dali_pipelines/test_header.py.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aqqua.instruments.file_parts import (
    HEIGHT,
    TILE_HEIGHT,
    TILE_WIDTH,
    WIDTH,
    PartsError,
    png_chunks,
    require_small_tiles,
    tiff_tags,
)
from aqqua.instruments.image import MAX_FILE_BYTES, MAX_PIXELS, ORIENTATION
from aqqua.instruments.original import MAX_SCANS, Original

_START_OF_FRAME = range(0xC0, 0xD0)  # ITU-T T.81, table B.1; among them the three that are none
_NO_FRAME = {0xC4, 0xC8, 0xCC}  # Huffman tables, reserved, arithmetic conditioning
_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive; Huffman coded, 8 bits
_START_OF_SCAN, _EXIF_SEGMENT, _PICTURES_SEGMENT = 0xDA, 0xE1, 0xE2
_MOST_SEGMENTS = 256  # before the pixels; a camera writes some twenty
_PNG_CHANNELS = {0: 1, 2: 3}  # PNG 11.2.1, colour type: grey, RGB
_PNG_BITS = {(0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16)}  # of colour types: what Pillow takes as pixels
# TIFF 6.0 tags
_BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _SAMPLE_FORMAT = 258, 259, 262, 266, 277, 339
_TIFF_TAGS = {
    *(WIDTH, HEIGHT, TILE_WIDTH, TILE_HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, ORIENTATION),
    *(_SAMPLES, _SAMPLE_FORMAT),
}
# Photometric interpretation and samples -> channels of the pixels. YCbCr and what comes beside the pixels
# (TIFF 6.0, ExtraSamples) Pillow makes RGB and grey of.
_BLACK_IS_ZERO, _RGB, _YCBCR = 1, 2, 6
_TIFF_CHANNELS = {(_BLACK_IS_ZERO, 1): 1, (_RGB, 3): 3}
_STRANGE_CHANNELS = {(_BLACK_IS_ZERO, 2): 1, (_RGB, 4): 3, (_YCBCR, 3): 3}
_STRANGE_BITS = {2: 8, 4: 8, 12: 16}  # of a sample -> of the pixels, as Pillow has them
# None, LZW, JPEG, Deflate, PackBits, Deflate by its old number, Zstandard: what DALI 2.4.0 reads, measured.
_COMPRESSIONS = {1, 5, 7, 8, 32773, 32946, 50000}


class HeaderError(ValueError):
    """The file is not, by its header, the image of its row; the message says what it is."""


@dataclass(frozen=True, slots=True)
class Header:
    """The image that a file says it holds."""

    height: int
    width: int
    channels: int  # of the file; grey may be stored in 3
    bits: int  # of the pixels
    strange: str = ""  # what DALI cannot be relied on to read; nothing is wrong with it


def require_header(original: Original, shape: tuple[int, ...], bits: int) -> Header:
    """The header of a file, known to be that of its row.

    Args:
        original: whatever its bytes are.
        shape: (H, W) or (H, W, 3) of the row.
        bits: 8 or 16 of the row.

    Raises:
        HeaderError: it is not.
    """
    if original.format not in _READERS:
        raise HeaderError(f"format {original.format!r:.20}")
    if len(original.data) > MAX_FILE_BYTES:
        raise HeaderError(f"{len(original.data)} bytes, at most {MAX_FILE_BYTES}")
    try:
        header = _READERS[original.format](original.data)
    except PartsError as error:
        raise HeaderError(str(error)) from error
    except (struct.error, IndexError) as error:
        raise HeaderError(f"a {original.format} that ends within its header") from error
    if (header.height, header.width) != shape[:2] or header.height * header.width > MAX_PIXELS:
        raise HeaderError(f"{header.height}×{header.width} pixels instead of {shape[0]}×{shape[1]}")
    if header.bits != bits or (len(shape) == 3 and header.channels == 1):
        raise HeaderError(
            f"{header.channels} channels of {header.bits} bits instead of {shape[2:]} of {bits}"
        )
    if header.channels == 3 and bits == 16:
        raise HeaderError("colour of 16 bits, which Pillow cuts down to 8")
    return header


def _jpeg(data: bytes) -> Header:
    """From the only frame before the first scan."""
    if data[:2] != b"\xff\xd8":
        raise HeaderError("no JPEG")
    if (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise HeaderError(f"{scans} scans, at most {MAX_SCANS}")
    found: list[Header] = []
    for marker, at, length in _segments(data):
        if marker == _START_OF_SCAN:
            break
        if marker in _START_OF_FRAME and marker not in _NO_FRAME:
            precision, height, width, channels = struct.unpack_from(">BHHB", data, at)
            if marker not in _FRAMES or precision != 8 or channels not in (1, 3):
                raise HeaderError(f"a JPEG of {channels} channels, {precision} bits, frame {marker:#x}")
            found.append(Header(height, width, channels, 8))
        elif marker == _EXIF_SEGMENT and data[at : at + 6] == b"Exif\0\0":
            _require_upright(data[at + 6 : at + length])
        elif marker == _PICTURES_SEGMENT and data[at : at + 4] == b"MPF\0":
            raise HeaderError("a JPEG that may hold several pictures")
    else:
        raise HeaderError("a JPEG without a scan")
    if len(found) != 1:
        raise HeaderError(f"{len(found)} frames instead of one")
    return found[0]


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, where its content begins, length of that) of each segment of a JPEG."""
    at = 2
    for _ in range(_MOST_SEGMENTS):
        while data[at + 1] == 0xFF:  # fill bytes
            at += 1
        start, marker, length = struct.unpack_from(">BBH", data, at)
        if start != 0xFF or length < 2:
            raise HeaderError(f"no marker where one must be, at byte {at}")
        yield marker, at + 4, length - 2
        at += 2 + length


def _png(data: bytes) -> Header:
    """From the first chunk. All are walked to the last, as DALI does in search of a tag."""
    chunks = png_chunks(data)
    if next(chunks)[::2] != (b"IHDR", 13):
        raise HeaderError("a PNG without its header")
    width, height, bits, colour, compression, filtering, _ = struct.unpack_from(">IIBBBBB", data, 16)
    if (colour, bits) not in _PNG_BITS or compression or filtering:
        methods = f"compression {compression}, filter {filtering}"
        raise HeaderError(f"a PNG of colour type {colour}, {bits} bits, {methods}")
    pixels = False
    for name, at, length in chunks:
        if name in (b"IHDR", b"tRNS", b"PLTE", b"acTL"):
            raise HeaderError(f"a PNG with a further {name.decode()}")
        if name == b"eXIf":
            _require_upright(data[at : at + length])
        pixels = pixels or name == b"IDAT"
    if not pixels:
        raise HeaderError("a PNG without pixels")
    strange = f"a PNG of {bits} bits" if bits < 8 else ""
    return Header(height, width, _PNG_CHANNELS[colour], max(bits, 8), strange)


def _tiff(data: bytes) -> Header:
    """From the first directory."""
    tags = tiff_tags(data, _TIFF_TAGS)
    if tags.get(ORIENTATION, (1,))[0] != 1:
        raise HeaderError("an orientation tag")
    if HEIGHT not in tags or WIDTH not in tags:
        raise HeaderError("a TIFF without a size")
    height, width = tags[HEIGHT][0], tags[WIDTH][0]
    require_small_tiles(tags, height, width)
    bits, samples = set(tags.get(_BITS, (1,))), tags.get(_SAMPLES, (1,))[0]
    look = (tags.get(_PHOTOMETRIC, (-1,))[0], samples)
    channels = {**_TIFF_CHANNELS, **_STRANGE_CHANNELS}.get(look)
    if len(bits) != 1 or not bits <= {8, 16, *_STRANGE_BITS} or channels is None:
        raise HeaderError(f"a TIFF of {samples} channels of {sorted(bits)} bits, not plain grey or RGB")
    depth = bits.pop()
    return Header(height, width, channels, _STRANGE_BITS.get(depth, depth), _strange(tags, look, depth))


def _strange(tags: dict[int, tuple[int, ...]], look: tuple[int, int], depth: int) -> str:
    """What of a TIFF DALI does not read, or reads as something else, in words; "" where there is nothing."""
    compression, order = tags.get(_COMPRESSION, (1,))[0], tags.get(_FILL_ORDER, (1,))[0]
    found = {
        f"compression {compression}": compression not in _COMPRESSIONS,
        f"fill order {order}": order != 1,
        "samples that are no whole numbers from 0 on": set(tags.get(_SAMPLE_FORMAT, (1,))) != {1},
        f"photometric interpretation {look[0]}, {look[1]} samples": look not in _TIFF_CHANNELS,
        f"{depth} bits": depth in _STRANGE_BITS,
    }
    odd = ", ".join(words for words, there in found.items() if there)
    return f"a TIFF of {odd}" if odd else ""


def _require_upright(exif: bytes) -> None:
    if tiff_tags(exif, (ORIENTATION,)).get(ORIENTATION, (1,))[0] != 1:
        raise HeaderError("an orientation tag, which not every decoder ignores")


_READERS: dict[str, Callable[[bytes], Header]] = {"JPEG": _jpeg, "PNG": _png, "TIFF": _tiff}
