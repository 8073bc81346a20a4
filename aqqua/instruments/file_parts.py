"""What image files are made of, before any decoder sees them: chunks of a PNG, tags of a TIFF.

Decoders differ in what they make of a part that is there twice, is cut short or fails its checksum; where
that matters, files are looked at by these few lines of ours first. The bytes may be hostile.
Test: tests/instruments/test_original.py, tests/dali_pipelines/test_header.py.
"""

import struct
import zlib
from collections.abc import Collection, Iterator, Mapping

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A PNG of MAX_PIXELS in 8 bits has 8,192 chunks where its writer takes the usual 8 KiB for each (libpng).
MAX_CHUNKS = 10_000
MAX_TAGS = 256  # of a TIFF directory; a microscope writes some forty
# TIFF 6.0, sections 8 and 15
WIDTH, HEIGHT, TILE_WIDTH, TILE_HEIGHT = 256, 257, 322, 323
_TILE_STEP = 16  # px, of which the sides of a tile are multiples
_TYPES = {1: "B", 3: "H", 4: "I"}  # byte, short, long


class PartsError(ValueError):
    """The file is not made of such parts; the message says what it is."""


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, where its content begins, length of that) of each chunk of a PNG, up to its end.

    Raises:
        PartsError: no PNG, one that is cut short, or one of more than MAX_CHUNKS chunks.
    """
    if data[:8] != PNG_SIGNATURE:
        raise PartsError("no PNG")
    at = 8
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            break
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            break
        yield name, at + 8, length
        if name == b"IEND":
            return
        at += 12 + length
    else:
        raise PartsError(f"a PNG of more than {MAX_CHUNKS} chunks")
    raise PartsError(f"a truncated PNG: without its end within {len(data)} bytes")


def require_png_checksums(data: bytes) -> None:
    """Each chunk of a PNG has the checksum that was written with it: Pillow does not look at those of pixels.

    Raises:
        PartsError: one has not, or as png_chunks.
    """
    view = memoryview(data)
    for name, at, length in png_chunks(data):
        if zlib.crc32(view[at - 4 : at + length]) != int.from_bytes(
            data[at + length : at + length + 4], "big"
        ):
            raise PartsError(f"a PNG whose chunk {name!r} at byte {at - 8} has another checksum")


def tiff_tags(data: bytes, wanted: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Some tags of the first directory of a TIFF, or of EXIF, whose tags ascend: so each is there once.

    Args:
        data: from its byte order mark on.
        wanted: numbers of the tags; of at most four whole numbers each.

    Raises:
        PartsError: no TIFF, tags that do not ascend or are no small numbers, or a file cut short.
    """
    try:
        return _tiff_tags(data, wanted)
    except struct.error as error:
        raise PartsError("a TIFF that ends within its header") from error


def _tiff_tags(data: bytes, wanted: Collection[int]) -> dict[int, tuple[int, ...]]:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        raise PartsError("no TIFF")
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    if count > MAX_TAGS:
        raise PartsError(f"a TIFF directory of {count} tags")
    tags: dict[int, tuple[int, ...]] = {}
    last = -1
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", data, entry)
        if tag <= last:
            raise PartsError("a TIFF whose tags are not in order")
        last = tag
        if tag in wanted:
            if kind not in _TYPES or not 1 <= values <= 4:
                raise PartsError(f"a TIFF whose tag {tag} is no small number")
            layout = f"{order}{values}{_TYPES[kind]}"
            place = entry + 8
            if struct.calcsize(layout) > 4:
                (place,) = struct.unpack_from(f"{order}I", data, place)
            tags[tag] = struct.unpack_from(layout, data, place)
    return tags


def require_small_tiles(tags: Mapping[int, tuple[int, ...]], height: int, width: int) -> None:
    """No tile of a TIFF is larger than its image needs: decoders make room for whole tiles.

    Args:
        tags: with TILE_WIDTH and TILE_HEIGHT where the file has them.
        height: px of the image.
        width: px.

    Raises:
        PartsError: one is.
    """
    for tag, side in ((TILE_WIDTH, width), (TILE_HEIGHT, height)):
        tile = tags.get(tag, (0,))[0]
        if tile > -(-side // _TILE_STEP) * _TILE_STEP:
            raise PartsError(f"a TIFF of {height}×{width} pixels in tiles of which a side is {tile}")
