"""Image files of every kind that a dataset keeps, drawn or real, and the sizes of their rows."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from aqqua.instruments.image import decode
from aqqua.instruments.original import SIGNATURES, Original, original_of
from aqqua.instruments.record import RejectedInputError
from aqqua.store.content import describe
from aqqua.store.sizes import Sizes


def encode(pixels: np.ndarray, form: str, **options: object) -> Original:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return Original(stream.getvalue(), form)


def tiff(tags: Mapping[int, Sequence[int]], data: bytes) -> Original:
    """A little-endian TIFF of these tags, as 32-bit numbers, whose pixels begin at byte 8."""
    at = 8 + len(data)
    place, entries, beyond = at + 2 + 12 * len(tags) + 4, b"", b""
    for tag in sorted(tags):
        values = struct.pack(f"<{len(tags[tag])}I", *tags[tag])
        entries += struct.pack("<HHI", tag, 4, len(tags[tag]))
        entries += values if len(values) == 4 else struct.pack("<I", place + len(beyond))
        beyond += values if len(values) > 4 else b""
    head = b"II*\0" + struct.pack("<I", at)
    return Original(head + data + struct.pack("<H", len(tags)) + entries + bytes(4) + beyond, "TIFF")


def tiff_of(pixels: bytes, height: int, width: int, **changed: Sequence[int]) -> Original:
    """Grey of 8 bits in one strip; tags are changed by their numbers: t339=(2,)."""
    plain = {
        256: (width,), 257: (height,), 258: (8,), 259: (1,), 262: (1,), 273: (8,), 277: (1,),
        278: (height,), 279: (len(pixels),),
    }  # fmt: skip
    return tiff({**plain, **{int(name[1:]): values for name, values in changed.items()}}, pixels)


def tile_bomb(height: int = 37, width: int = 53, tile: int = 32768) -> Original:
    """A TIFF of a small image in one tile of Deflate that fills a GB, or whatever its side asks for."""
    packed = zlib.compress(bytes(1 << 20))
    tags = {
        256: (width,),
        257: (height,),
        258: (8,),
        259: (8,),
        262: (1,),
        277: (1,),
        322: (tile,),
        323: (tile,),
    }
    return tiff({**tags, 324: (8,), 325: (len(packed),)}, packed)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of(levels: np.ndarray, bits: int) -> Original:
    """Grey of 1 to 16 bits."""
    height, width = levels.shape
    rows = b""
    for row in levels.tolist():
        word = "".join(f"{level:0{bits}b}" for level in row)
        word += "0" * (-len(word) % 8)
        rows += b"\0" + int(word, 2).to_bytes(len(word) // 8, "big")
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return Original(b"\x89PNG\r\n\x1a\n" + chunks, "PNG")


def drawn_files() -> list[Original]:
    """Grey and colour, 8 and 16 bits, in all formats and the ways of each to store them."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[0:37, 0:53]
    smooth = (127 + 90 * np.sin(x / 7) * np.cos(y / 5) + draw.normal(0, 4, x.shape)).clip(0, 255)
    grey = smooth.astype(np.uint8)
    colour = np.dstack([grey, 255 - grey, np.roll(grey, 9, axis=1)])
    deep = (smooth * 257).astype(np.uint16)
    disguised = np.dstack([grey] * 3)
    kinds = [
        *((form, image, {}) for form in ("PNG", "TIFF", "JPEG") for image in (grey, colour, disguised)),
        *((form, deep, {}) for form in ("PNG", "TIFF")),
        *(("JPEG", image, {"progressive": True}) for image in (grey, colour)),
        *(("JPEG", colour, {"subsampling": way, "quality": 90}) for way in (0, 1, 2)),
        *(("TIFF", image, {"compression": "tiff_lzw"}) for image in (grey, colour, deep)),
        ("TIFF", grey, {"compression": "tiff_adobe_deflate"}),
        ("PNG", grey[:1, :1], {}),
        ("JPEG", colour[:1, :7], {}),
    ]
    return [encode(image, form, **options) for form, image, options in kinds]


def files_in(path: Path, most: int = 1 << 30) -> list[Original]:
    """Files of a folder, or of a zip, that a dataset would keep; evenly spread where there are more."""
    if path.suffix in (".zip", ".zid"):
        with zipfile.ZipFile(path) as archive:
            names = sorted(archive.namelist())
            raw = [archive.read(name) for name in names[:: max(len(names) // most, 1)]]
    else:
        found = sorted(one for one in path.rglob("*") if one.is_file())
        raw = [one.read_bytes() for one in found[:: max(len(found) // most, 1)]]
    kept = []
    for data in raw:
        if data.startswith(tuple(SIGNATURES)):
            try:
                original = original_of(data, decode(data))
            except RejectedInputError:
                continue
            kept += [original] if original is not None else []
    return kept[:most]


def sizes_of_files(files: list[Original]) -> tuple[Sizes, list[np.ndarray]]:
    """The rows of some files, and their pixels."""
    pixels = [decode(one.data) for one in files]
    looks = [describe(image) for image in pixels]
    count = len(files)
    sizes = Sizes(
        key=np.arange(count, dtype=np.uint64),
        height=np.array([image.shape[0] for image in pixels], np.int32),
        width=np.array([image.shape[1] for image in pixels], np.int32),
        channels=np.array([1 if image.ndim == 2 else 3 for image in pixels], np.int8),
        bits=np.array([image.itemsize * 8 for image in pixels], np.int8),
        um_per_px=np.full(count, np.nan, np.float32),
        background=np.array([look.background for look in looks], np.uint16).reshape(count, 3),
        box=np.zeros((count, 4), np.int32),
        instrument=np.zeros(count, np.int32),
        instrument_names=("made",),
    )
    return sizes, pixels


def shape_of(sizes: Sizes, i: int) -> tuple[int, ...]:
    shape = (int(sizes.height[i]), int(sizes.width[i]))
    return shape if sizes.channels[i] == 1 else (*shape, 3)
