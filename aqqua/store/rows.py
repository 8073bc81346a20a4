"""One record to one row: load its pixels, check every value, describe it.

The last gate before a dataset: whatever a reader lets through, a row of the store keeps the
ranges that aqqua.store.schema promises, or the record is refused with its reason.
Test: tests/store/test_write.py.
"""

from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa

from aqqua.instruments.original import Original, original_of
from aqqua.instruments.ranges import APHIA_ID, DEPTH_M, LATITUDE, LONGITUDE, VOLUME_L
from aqqua.instruments.record import FileSource, Record, RejectedInputError
from aqqua.instruments.registry import UM_PER_PX_RANGE
from aqqua.instruments.tree import Tree
from aqqua.store.content import describe, image_key, pixel_bytes
from aqqua.store.schema import ENCODED_SCHEMA
from aqqua.store.shuffle import ORDER

# Words travel as plain strings: a dictionary would differ from worker to worker.
_PLAIN = {field.name: pa.string() for field in ENCODED_SCHEMA if pa.types.is_dictionary(field.type)}
SPILL_SCHEMA = pa.schema(
    [
        *(pa.field(f.name, _PLAIN.get(f.name, f.type), f.nullable) for f in ENCODED_SCHEMA),
        pa.field("input", pa.string(), False),
        pa.field("grey_sum", pa.int64(), False),
        pa.field("grey_squares", pa.int64(), False),
    ]
)
ORDERED_SCHEMA = SPILL_SCHEMA.append(pa.field(ORDER, pa.uint64(), False))


def row_of(tree: Tree, record: Record, keep_encoded: bool = False) -> tuple[Any, ...]:
    """The values of SPILL_SCHEMA for one record.

    Args:
        tree: where its file lies.
        record: what is known of the image.
        keep_encoded: hold the image's file instead of its pixels, where one decodes to just these.

    Raises:
        RejectedInputError: the pixels cannot be had, or a value cannot be true.
    """
    image_id = clean(f"{tree.label}/{record.object_id}")
    _check_values(record)
    pixels, original = _pixels(tree, record, keep_encoded)
    look = describe(pixels)
    height, width = pixels.shape[:2]
    return (
        *(image_id, image_key(image_id), look.content),
        *(height, width, 3 if pixels.ndim == 3 else 1, pixels.itemsize * 8, record.um_per_px),
        *(look.background, *look.box),
        *(clean(record.instrument), clean(record.sample), clean(record.group)),
        *(record.time, record.lat, record.lon, record.depth_m, record.volume_l),
        *(_clean_or_none(record.label), record.label_status, record.aphia_id, _clean_or_none(record.licence)),
        *(clean(record.source), *_image(pixels, original), clean(tree.label), *_grey(pixels)),
    )


def _image(pixels: np.ndarray, original: Original | None) -> tuple[bytes | None, bytes | None, str | None]:
    """The columns that hold the image: pixels, or file and format."""
    return (pixel_bytes(pixels), None, None) if original is None else (None, original.data, original.format)


def _pixels(tree: Tree, record: Record, keep_encoded: bool) -> tuple[np.ndarray, Original | None]:
    source, file = record.pixels, None
    try:
        if keep_encoded and isinstance(source, FileSource):
            pixels, file = source.load_with_file(tree)
        else:
            pixels = source.load(tree)
    except RejectedInputError:
        raise
    except OSError as error:
        raise RejectedInputError("io_error", f"{type(error).__name__}: {error}") from error
    except Exception as error:  # whatever a hostile file does to a decoder, the ingest goes on
        raise RejectedInputError("unreadable_image", f"{type(error).__name__}: {error}") from error
    layout = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not layout or pixels.dtype not in (np.uint8, np.uint16) or pixels.size == 0:
        raise RejectedInputError("unsupported_image", f"shape {pixels.shape}, {pixels.dtype}")
    return pixels, None if file is None else original_of(file, pixels)


def _grey(pixels: np.ndarray) -> tuple[int, int]:
    """Exact sum and sum of squares of all values; whole numbers add up the same in any order."""
    if pixels.dtype == np.uint8:
        flat = pixels.ravel().astype(np.float64)  # BLAS; exact below 2⁵³ / 255² = 1.4·10¹¹ values
        return int(flat.sum()), int(flat @ flat)
    wide = pixels.ravel().astype(np.int64)
    return int(wide.sum()), int(wide @ wide)


def _check_values(record: Record) -> None:
    _check("um_per_px", record.um_per_px, *UM_PER_PX_RANGE)
    _check("lat", record.lat, *LATITUDE)
    _check("lon", record.lon, *LONGITUDE)
    _check("depth_m", record.depth_m, *DEPTH_M)
    _check("volume_l", record.volume_l, *VOLUME_L)
    _check("aphia_id", record.aphia_id, *APHIA_ID)
    if record.time is not None and record.time.tzinfo is None:
        raise RejectedInputError("bad_metadata", f"time must name its zone, got {record.time}")


def _check(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not (isfinite(value) and low <= value <= high):
        raise RejectedInputError("bad_metadata", f"{name} must be {low} to {high}, got {value}")


def clean(text: str) -> str:
    """Text that UTF-8 can hold: half surrogates of undecodable names become '?'."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _clean_or_none(text: str | None) -> str | None:
    return None if text is None else clean(text)
