"""An image file kept as it is: which files may be, and how one becomes pixels again.

A dataset may hold the file of an image in place of its pixels (`aqqua ingest --keep-encoded`). Kept is
only what any decoder takes for the same image: a whole JPEG, PNG or TIFF in grey or RGB. A palette, an
alpha channel or an orientation tag needs rules of our own (aqqua.instruments.image); such images are
stored as pixels, and so is a file that is much larger than they are.

Letters: H, W rows and columns of an image. Test: tests/instruments/test_original.py.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from aqqua.instruments.file_parts import (
    TILE_HEIGHT,
    TILE_WIDTH,
    PartsError,
    require_png_checksums,
    require_small_tiles,
    tiff_tags,
)
from aqqua.instruments.image import MAX_FILE_BYTES, ORIENTATION, decode
from aqqua.instruments.record import Reason, RejectedInputError

SIGNATURES = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
KEPT_FORMATS = ("JPEG", "PNG", "TIFF")
PLAIN_MODES = ("L", "RGB", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's names of grey, RGB, 16-bit grey
SPARE_BYTES = 64 << 10  # by which a file may pass its pixels: headers, colour profile, EXIF with thumbnail
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # TIFF 6.0, PhotometricInterpretation
# Each scan of a progressive JPEG is a pass over the whole image for a few bytes of file; libjpeg writes 10 of
# a colour image (jcparam.c, jpeg_simple_progression).
MAX_SCANS = 64
_START_OF_SCAN = b"\xff\xda"  # never within compressed data: there 0 follows a 0xff (ITU-T T.81, B.1.1.5)


@dataclass(frozen=True, slots=True)
class Original:
    """The bytes of an image file, and what they are."""

    data: bytes
    format: str  # of KEPT_FORMATS


def original_of(data: bytes, pixels: np.ndarray) -> Original | None:
    """The file of an image as it may be kept; None where only the pixels may.

    Args:
        data: a whole image file.
        pixels: what the image has to be: (H, W) or (H, W, 3), uint8 or uint16.
    """
    found = next((name for start, name in SIGNATURES.items() if data.startswith(start)), None)
    if found is None or len(data) > pixels.nbytes + SPARE_BYTES:
        return None
    original = Original(data, found)
    try:
        again = decode_original(original, pixels.shape, pixels.dtype)
    except (RejectedInputError, MemoryError):
        return None
    return original if np.array_equal(again, pixels) else None


def decode_original(original: Original, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Pixels of a kept file, which must be of the given shape and dtype.

    Format, size and tiles are looked at before a pixel is decoded, so that no file takes more memory than
    its image. A PNG must have the checksums that were written with it.

    Args:
        original: of whatever origin; the bytes may be hostile.
        shape: (H, W) or (H, W, 3).
        dtype: uint8 or uint16.

    Raises:
        RejectedInputError: it is not such an image, whatever else it is.
        MemoryError: the machine has no room for the image.
    """
    if original.format not in KEPT_FORMATS:
        raise RejectedInputError("unsupported_format", f"format {original.format!r:.20}")
    if len(original.data) > MAX_FILE_BYTES:
        raise RejectedInputError("image_too_large", f"{len(original.data)} bytes, at most {MAX_FILE_BYTES}")
    if original.format == "JPEG" and (scans := original.data.count(_START_OF_SCAN)) > MAX_SCANS:
        raise RejectedInputError("unsupported_image", f"{scans} scans, at most {MAX_SCANS}")
    _check_parts(original, shape)
    try:
        pixels = decode(
            original.data, (original.format,), lambda image: _check_header(image, original.format, shape)
        )
    except RejectedInputError as error:
        if isinstance(error.__cause__, MemoryError) or "out of memory" in error.detail:
            raise MemoryError(error.detail) from error  # the machine is at fault, not the file
        raise
    if pixels.shape != shape or pixels.dtype != dtype:
        found = f"{pixels.shape} {pixels.dtype}"
        raise RejectedInputError("unsupported_image", f"pixels of {found} instead of {shape} {dtype}")
    return pixels


def _check_parts(original: Original, shape: tuple[int, ...]) -> None:
    """What Pillow does not look at, or reads otherwise than the decoder below it."""
    try:
        if original.format == "PNG" and original.data:
            require_png_checksums(original.data)
        elif original.format == "TIFF" and original.data:
            # Of a tag that is there twice Pillow takes the last, libtiff the first: refused with the order.
            require_small_tiles(tiff_tags(original.data, (TILE_WIDTH, TILE_HEIGHT)), *shape[:2])
    except PartsError as error:
        truncated = "truncated" in str(error)
        reason: Reason = "truncated_image" if truncated else "unreadable_image"
        raise RejectedInputError(reason, f"not a {original.format} file to rely on: {error}") from error


def _check_header(image: Image.Image, format_: str, shape: tuple[int, ...]) -> None:
    if image.format != format_:  # a JPEG can hold several pictures: MPO
        raise RejectedInputError("unsupported_image", f"a {image.format}, not a plain {format_}")
    if (image.height, image.width) != shape[:2]:
        size = f"{image.height}×{image.width} pixels instead of {shape[0]}×{shape[1]}"
        raise RejectedInputError("unsupported_image", size)
    if image.mode not in PLAIN_MODES or "transparency" in image.info:
        raise RejectedInputError("unsupported_image", f"mode {image.mode}, not plain grey or RGB")
    if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:
        raise RejectedInputError("unsupported_image", "grey that counts from white, not from black")
    if _orientation(image) != 1:
        raise RejectedInputError("unsupported_image", "an orientation tag, which not every decoder ignores")


def _orientation(image: Image.Image) -> int:
    tags = getattr(image, "tag_v2", None)
    if tags is None:  # Pillow would decode a PNG in search of EXIF; what stands before the pixels is in info
        tags = image.getexif() if "exif" in image.info else {}
    return tags.get(ORIENTATION, 1)
