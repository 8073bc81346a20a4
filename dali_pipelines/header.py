"""What a file says of itself before its pixels, held against its row before DALI sees the file.

DALI makes room for whatever size a file claims, and its decoders may write what they find into room made
for something else; so a file goes to DALI only if its header, read here as DALI reads it, is that of the
row's image and of nothing else. The checks are those that aqqua.instruments.original makes of Pillow's
headers, at a fraction of the time: one size in the file, the format of the row, grey or RGB of its bits,
no transparency, no orientation, one picture, a bounded number of scans.
Tests: tests/dali_pipelines/test_header.py.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aqqua.instruments.image import MAX_FILE_BYTES, MAX_PIXELS
from aqqua.instruments.original import MAX_SCANS, Original

_START_OF_FRAME = range(0xC0, 0xD0)  # ITU-T T.81, table B.1; among them the three that are none
_NO_FRAME = {0xC4, 0xC8, 0xCC}  # Huffman tables, reserved, arithmetic conditioning
_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive; Huffman coded, 8 bits
_START_OF_SCAN, _EXIF_SEGMENT, _PICTURES_SEGMENT = 0xDA, 0xE1, 0xE2
_MOST_SEGMENTS = 256  # before the pixels; a camera writes some twenty
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3}  # PNG 11.2.1, colour type: grey, RGB
# TIFF 6.0 tags
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 258, 262, 274, 277
_BLACK_IS_ZERO, _RGB = 1, 2
_TIFF_TYPES = {1: "B", 3: "H", 4: "I"}  # of the tags above: byte, short, long


class HeaderError(ValueError):
    """The file is not, by its header, the image of its row; the message says what it is."""


@dataclass(frozen=True, slots=True)
class Header:
    """The image that a file says it holds."""

    height: int
    width: int
    channels: int  # of the file; grey may be stored in 3
    bits: int


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
    if data[:8] != _PNG_SIGNATURE or data[8:16] != b"\0\0\0\x0dIHDR":
        raise HeaderError("no PNG")
    width, height, bits, colour, compression, filtering, _ = struct.unpack_from(">IIBBBBB", data, 16)
    if colour not in _PNG_CHANNELS or bits not in (8, 16) or compression or filtering:
        raise HeaderError(f"a PNG of colour type {colour}, {bits} bits")
    at, name, pixels = 33, b"IHDR", False
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        if name in (b"IHDR", b"tRNS", b"PLTE", b"acTL"):
            raise HeaderError(f"a PNG with a further {name.decode()}")
        if name == b"eXIf":
            _require_upright(data[at + 8 : at + 8 + length])
        pixels = pixels or name == b"IDAT"
        at += 12 + length
    if not pixels or at > len(data):
        raise HeaderError("a PNG without pixels, or without its end")
    return Header(height, width, _PNG_CHANNELS[colour], bits)


def _tiff(data: bytes) -> Header:
    """From the first directory."""
    tags = _directory(data)
    bits = set(tags.get(_BITS, (1,)))
    channels = tags.get(_SAMPLES, (1,))[0]
    wanted = {1: _BLACK_IS_ZERO, 3: _RGB}.get(channels)
    if len(bits) != 1 or not bits <= {8, 16} or tags.get(_PHOTOMETRIC, (None,))[0] != wanted:
        raise HeaderError(f"a TIFF of {channels} channels of {sorted(bits)} bits, not plain grey or RGB")
    if tags.get(_ORIENTATION, (1,))[0] != 1:
        raise HeaderError("an orientation tag")
    if _HEIGHT not in tags or _WIDTH not in tags:
        raise HeaderError("a TIFF without a size")
    return Header(tags[_HEIGHT][0], tags[_WIDTH][0], channels, bits.pop())


def _directory(data: bytes) -> dict[int, tuple[int, ...]]:
    """The tags of the first directory that are looked at; in ascending order, so that each is there once."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        raise HeaderError("no TIFF")
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    if count > _MOST_SEGMENTS:
        raise HeaderError(f"a TIFF directory of {count} tags")
    tags: dict[int, tuple[int, ...]] = {}
    last = -1
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", data, entry)
        if tag <= last:
            raise HeaderError("a TIFF whose tags are not in order")
        last = tag
        if tag in (_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES):
            if kind not in _TIFF_TYPES or not 1 <= values <= 4:
                raise HeaderError(f"a TIFF whose tag {tag} is no small number")
            layout = f"{order}{values}{_TIFF_TYPES[kind]}"
            place = entry + 8
            if struct.calcsize(layout) > 4:
                (place,) = struct.unpack_from(f"{order}I", data, place)
            tags[tag] = struct.unpack_from(layout, data, place)
    return tags


def _require_upright(exif: bytes) -> None:
    if _directory(exif).get(_ORIENTATION, (1,))[0] != 1:
        raise HeaderError("an orientation tag, which not every decoder ignores")


_READERS: dict[str, Callable[[bytes], Header]] = {"JPEG": _jpeg, "PNG": _png, "TIFF": _tiff}
