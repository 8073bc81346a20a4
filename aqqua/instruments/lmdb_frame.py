"""One image as one blosc2 frame, as `blosc2.pack_array2` writes it: any blosc2 opens it.

The frame holds the pixels row-major and, under "__pack_tensor__", kind, shape and dtype in
msgpack. It is read by hand: `blosc2.unpack_array2` would believe shape and dtype as written, and
older packers (`pack_array`, `pack`) hold a pickle, which is never loaded.
"""

import math
from typing import Any

import numpy as np

from aqqua.instruments.image import MAX_PIXELS
from aqqua.instruments.record import RejectedInputError

DTYPES = ("|u1", "<u2")  # as numpy writes uint8 and uint16
MAX_BYTES = MAX_PIXELS * 3 * 2
MAX_CHUNKS = 4096  # blosc2 itself makes one of an image
SHAPE_KEY = "__pack_tensor__"
BUILT_IN_FILTERS = 32  # filters and codecs from here on are plug-ins, which blosc2 loads by name
UDCODEC_FORMAT = 6
LEVEL = 3  # zstd; higher levels take longer and gain nothing on noisy images


def pack_frame(pixels: np.ndarray) -> bytes:
    """A blosc2 frame of (H, W) or (H, W, 3) pixels, uint8 or uint16.

    Raises:
        ValueError: another shape or dtype.
    """
    import blosc2

    pixels = np.ascontiguousarray(pixels)
    if pixels.dtype.str not in DTYPES or not _is_image_shape(pixels.shape):
        raise ValueError(
            f"pixels must be uint8 or uint16 of shape (H, W) or (H, W, 3), got {pixels.dtype} {pixels.shape}"
        )
    settings = {"codec": blosc2.Codec.ZSTD, "clevel": LEVEL, "typesize": pixels.dtype.itemsize, "nthreads": 1}
    # The bytes of pack_array2, without its repr() of the whole array, which takes longer than zstd.
    frame = blosc2.SChunk(data=pixels, cparams=settings)
    frame.vlmeta[SHAPE_KEY] = ("numpy", pixels.shape, pixels.dtype.str)
    return frame.to_cframe()


def unpack_frame(value: bytes) -> np.ndarray:
    """The pixels of a frame; sizes, dtype and codec are checked before anything is decompressed.

    Raises:
        RejectedInputError: unreadable_image, image_too_large, unsupported_image.
    """
    import blosc2

    try:
        frame = blosc2.schunk_from_cframe(value)
        _check_size(frame)
        shape, dtype = _shape(frame)
        expected = math.prod(shape) * dtype.itemsize
        if frame.nbytes != expected:
            detail = f"{shape} {dtype} needs {expected} bytes, got {frame.nbytes}"
            raise RejectedInputError("unreadable_image", detail)
        for number in range(frame.nchunks):
            _check_codec(frame.get_chunk(number))
        pixels = np.empty(shape, dtype)
        frame.get_slice(out=pixels)
    except RejectedInputError:
        raise
    except Exception as error:  # RuntimeError, KeyError, msgpack errors: a frame of somebody else
        detail = f"not a blosc2 frame of ours: {type(error).__name__} {error}"
        raise RejectedInputError("unreadable_image", detail) from error
    return pixels


def _check_size(frame: Any) -> None:
    if not 0 < frame.nbytes <= MAX_BYTES or not 0 < frame.chunksize <= MAX_BYTES:
        raise RejectedInputError("image_too_large", f"{frame.nbytes} bytes declared, at most {MAX_BYTES}")
    if frame.nchunks > MAX_CHUNKS:
        raise RejectedInputError("unsupported_image", f"at most {MAX_CHUNKS} chunks, got {frame.nchunks}")
    if frame.nchunks != -(-frame.nbytes // frame.chunksize):
        raise RejectedInputError("unreadable_image", f"{frame.nchunks} chunks for {frame.nbytes} bytes")


def _shape(frame: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype as written, when they are an image's."""
    import msgpack  # type: ignore[import-untyped]  # a dependency of blosc2

    # The raw layer, not frame.vlmeta[...]: that one may build blosc2 objects out of the bytes.
    kind, sides, dtype = msgpack.unpackb(frame.vlmeta.get_vlmeta(SHAPE_KEY))[1:]
    shape = tuple(sides[1:])
    if kind != "numpy" or not isinstance(dtype, str) or dtype not in DTYPES:
        detail = f"dtype must be one of {DTYPES}, got {kind!r:.20} {dtype!r:.80}"
        raise RejectedInputError("unsupported_image", detail)
    if not all(type(side) is int for side in shape) or not _is_image_shape(shape):
        raise RejectedInputError("unsupported_image", f"shape must be (H, W) or (H, W, 3), got {shape!r:.80}")
    if shape[0] * shape[1] > MAX_PIXELS:
        raise RejectedInputError("image_too_large", f"{shape[0]}×{shape[1]} pixels, at most {MAX_PIXELS}")
    return shape, np.dtype(dtype)


def _is_image_shape(shape: tuple[int, ...]) -> bool:
    return len(shape) in (2, 3) and min(shape) > 0 and shape[2:] in ((), (3,))


def _check_codec(chunk: bytes) -> None:
    """Only codecs and filters that live inside blosc2 (header of a chunk: README_CHUNK_FORMAT)."""
    if chunk[2] >> 5 >= UDCODEC_FORMAT or any(filter_id >= BUILT_IN_FILTERS for filter_id in chunk[16:22]):
        raise RejectedInputError("unsupported_image", "it needs a blosc2 plug-in, which is never loaded")
