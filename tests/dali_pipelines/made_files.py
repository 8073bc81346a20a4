"""Image files of every kind that a dataset keeps, drawn or real, and the sizes of their rows."""

import io
import zipfile
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
