"""Columns of a block to the pixels of its images: views where pixels are stored, decoded where files are.

The one place where a kept file (`aqqua ingest --keep-encoded`) becomes pixels again. All of a block are
decoded while it is read, in the reading thread, so that whoever gets a block gets pixels, and a file that
fails is found with its block: damage like any other (aqqua.store.substitute). For a decoder that works
elsewhere (dali_pipelines) `unpack_files` leaves the files as they are. Letters: I images.
Test: tests/store/test_unpack.py, test_files.py. Timing: bench/data/encoded.py.
"""

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt8

from aqqua.instruments.image import MAX_PIXELS
from aqqua.instruments.original import Original, decode_original
from aqqua.instruments.record import RejectedInputError
from aqqua.store.sizes import Sizes

Unpacked = tuple[Int64[np.ndarray, " I1"], UInt8[np.ndarray, " bytes"]]
UnpackedFiles = tuple[np.ndarray, np.ndarray, tuple[str | None, ...]]


class BadRowError(ValueError):
    """A row whose image is not what its other columns say; the message begins with 'row <number> must'."""


def unpack(table: pa.Table, sizes: Sizes, most_bytes: int) -> Unpacked:
    """Where the pixels of each image start [I + 1], and the pixels of all, read-only.

    Args:
        table: the column `pixels` of a block, of a dataset with original files `encoded` and `format` too.
        sizes: of the same rows.
        most_bytes: of pixels, that a block may decode to.

    Raises:
        BadRowError: pixels do not fit the declared size, or a file is not the image that is declared.
        MemoryError: there is no room for the block.
    """
    declared = _declared_bytes(sizes)
    offsets, data = _binary(table["pixels"])
    lengths = np.diff(offsets)
    if "encoded" not in table.column_names:
        _check_lengths(sizes, declared, lengths)
        return offsets, data
    files = one_piece(table["encoded"])
    kept = files.is_valid().to_numpy(zero_copy_only=False)
    _check_lengths(sizes, declared, np.where(kept, declared, lengths))
    _check_one_image(table, kept)
    _check_sum(declared, most_bytes)
    ends = np.concatenate([[0], declared.cumsum()])
    room = np.empty(ends[-1], np.uint8)
    for i in np.flatnonzero(~kept).tolist():
        room[ends[i] : ends[i + 1]] = data[offsets[i] : offsets[i + 1]]
    formats = table["format"].to_pylist()
    for i in np.flatnonzero(kept).tolist():
        pixels = _decoded(Original(files[i].as_py(), formats[i]), sizes, i)
        little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
        room[ends[i] : ends[i + 1]] = np.ascontiguousarray(little).reshape(-1).view(np.uint8)
    room.flags.writeable = False
    return ends, room


def unpack_files(table: pa.Table, sizes: Sizes, most_bytes: int) -> UnpackedFiles:
    """Where the bytes of each image start [I + 1], the bytes of all, read-only, and the format of each file.

    No file is looked into. The format is None where an image is stored as pixels; () where all are.

    Args, Raises: as `unpack`.
    """
    declared = _declared_bytes(sizes)
    offsets, data = _binary(table["pixels"])
    lengths = np.diff(offsets)
    if "encoded" not in table.column_names:
        _check_lengths(sizes, declared, lengths)
        return offsets, data, ()
    kept = one_piece(table["encoded"]).is_valid().to_numpy(zero_copy_only=False)
    _check_lengths(sizes, declared, np.where(kept, declared, lengths))
    _check_one_image(table, kept)
    _check_sum(declared, most_bytes)
    _check_sides(sizes, kept)
    formats = tuple(table["format"].to_pylist())
    file_offsets, files = _binary(table["encoded"])
    if kept.all():
        return file_offsets, files, formats
    ends = np.concatenate([[0], np.where(kept, np.diff(file_offsets), lengths).cumsum()])
    room = np.empty(ends[-1], np.uint8)
    for i, is_file in enumerate(kept.tolist()):
        starts, source = (file_offsets, files) if is_file else (offsets, data)
        room[ends[i] : ends[i + 1]] = source[starts[i] : starts[i + 1]]
    room.flags.writeable = False
    return ends, room, formats


def _check_sum(declared: np.ndarray, most_bytes: int) -> None:
    if (found := int(declared.sum())) > most_bytes:
        raise BadRowError(f"row 0 must begin a block of at most {most_bytes} bytes of pixels, got {found}")


def _check_sides(sizes: Sizes, kept: np.ndarray) -> None:
    wrong = np.flatnonzero(kept & (sizes.height.astype(np.int64) * sizes.width > MAX_PIXELS))
    if len(wrong):
        i = int(wrong[0])
        found = int(sizes.height[i]) * int(sizes.width[i])
        raise BadRowError(f"row {i} must hold a file of at most {MAX_PIXELS} pixels, got {found}")


def _decoded(original: Original, sizes: Sizes, i: int) -> np.ndarray:
    height, width, channels, bits = (
        int(column[i]) for column in (sizes.height, sizes.width, sizes.channels, sizes.bits)
    )
    shape = (height, width) if channels == 1 else (height, width, channels)
    must = f"row {i} must hold a {original.format} of {height}×{width}×{channels}, {bits} bits"
    if height * width > MAX_PIXELS:
        raise BadRowError(f"{must}, at most {MAX_PIXELS} pixels, got {height * width}")
    try:
        return decode_original(original, shape, np.dtype(np.uint16 if bits == 16 else np.uint8))
    except RejectedInputError as error:
        raise BadRowError(f"{must}, got {' '.join(str(error).split())}") from error


def _declared_bytes(sizes: Sizes) -> Int64[np.ndarray, " I"]:
    """Bytes of the pixels of each image; -1 for a size that no image has."""
    declared = sizes.height.astype(np.int64) * sizes.width * sizes.channels * (sizes.bits // 8)
    legal = (
        (sizes.height > 0)
        & (sizes.width > 0)
        & ((sizes.channels == 1) | (sizes.channels == 3))
        & ((sizes.bits == 8) | (sizes.bits == 16))
    )
    return np.where(legal, declared, -1)


def _check_lengths(sizes: Sizes, declared: np.ndarray, lengths: np.ndarray) -> None:
    wrong = np.flatnonzero((declared != lengths) | (declared < 0))
    if len(wrong):
        i = int(wrong[0])
        raise BadRowError(
            f"row {i} must be height × width × channels × bits / 8 = {sizes.height[i]}×{sizes.width[i]}×"
            f"{sizes.channels[i]}×{sizes.bits[i]}/8 bytes, got {lengths[i]}"
        )


def _check_one_image(table: pa.Table, kept: np.ndarray) -> None:
    """Each row has pixels, or a file and its format."""
    pixels, formats = (
        one_piece(table[name]).is_valid().to_numpy(zero_copy_only=False) for name in ("pixels", "format")
    )
    wrong = np.flatnonzero((pixels == kept) | (formats != kept))
    if len(wrong):
        i = int(wrong[0])
        found = {"pixels": pixels[i], "encoded": kept[i], "format": formats[i]}
        there = " and ".join(name for name, is_there in found.items() if is_there) or "none of them"
        raise BadRowError(f"row {i} must hold pixels, or encoded and format, got {there}")


def _binary(column: pa.ChunkedArray) -> Unpacked:
    """Where each value starts [I + 1], and the bytes, read-only."""
    values = one_piece(column)
    _, offsets, data = values.buffers()
    bytes_ = np.frombuffer(data if data is not None else b"", np.uint8)  # no buffer where all are null
    bytes_.flags.writeable = False  # views share it, from image to image
    return np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1], bytes_


def one_piece(column: pa.ChunkedArray) -> pa.Array:
    """The column itself where it is in one piece, as a row group nearly always is; combining copies."""
    joined = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined
