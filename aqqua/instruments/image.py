"""Pixels from an encoded file, a box of a collage, or raw bytes; exactly as acquired.

Nothing is stretched: 8 and 16 bit stay what they are. A palette becomes its colours, an RGBA
image is laid on its own border colour, grey stored as RGB (R = G = B everywhere) becomes grey.
Pixels come as stored: an orientation tag (EXIF, TIFF) is not applied, since boxes of collages
count stored rows and plankton has no up. Of a multi-page TIFF or an animated GIF the first page
is the image. Colour of 16 bits is refused: Pillow would drop the lower 8 without a word.
Tests: tests/instruments/test_image.py.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from aqqua.instruments.record import Reason, RejectedInputError
from aqqua.instruments.tree import Tree

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")  # named, so that no exotic decoder meets hostile bytes
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
MAX_PIXELS = 64 << 20  # of one file, collages and frames included; refused by the declared size
MAX_FILE_BYTES = 512 << 20  # of one encoded file: MAX_PIXELS in 16-bit colour, not compressed, and a margin
# What is wrong with a file is said by its reason code, and MAX_PIXELS decides what is too large.
# Set once, not around each image: catch_warnings is not safe in threads.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
ORIENTATION, BITS_PER_SAMPLE = 274, 258  # TIFF 6.0 tags, also used in EXIF

# Height and width of whole camera frames: nobody's organism fills exactly a sensor. PlanktoScope: 2048 px
# class raw frames and the 4056 × 3040 of its Raspberry Pi HQ camera (docs/formats/planktoscope.md).
FRAME_SIZES = frozenset({(2048, 2048), (3040, 4056)})

Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image file of the tree; optionally a box of it (collages), without its burnt-in footer."""

    member: str
    box: Box | None = None
    footer_px: int = 0

    def load(self, tree: Tree) -> np.ndarray:
        return self.load_with_file(tree)[0]

    def load_with_file(self, tree: Tree) -> tuple[np.ndarray, bytes | None]:
        """The pixels, and the file's bytes where its image is all of these and nothing else."""
        data = None
        if self.box is None:
            data = _read_file(tree, self.member)
            pixels = decode(data)
            if pixels.shape[:2] in FRAME_SIZES:
                raise RejectedInputError(
                    "not_an_organism", f"a whole camera frame of {pixels.shape[0]}×{pixels.shape[1]}"
                )
        else:
            pixels = _cut(_decode_collage(tree, self.member), self.box)
        if self.footer_px:
            if len(pixels) <= self.footer_px:
                raise RejectedInputError(
                    "not_an_organism", f"only a footer: {len(pixels)} rows of {self.footer_px}"
                )
            pixels, data = pixels[: -self.footer_px], None
        if pixels.max() == 1 and pixels.min() == 0:
            raise RejectedInputError("not_an_organism", "a mask: its only values are 0 and 1")
        return np.ascontiguousarray(pixels), data


def _cut(pixels: np.ndarray, box: Box) -> np.ndarray:
    """A copy of the box: a view would keep the whole collage in memory."""
    height, width = pixels.shape[:2]
    top, left, bottom, right = box
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise RejectedInputError("out_of_bounds", f"box {box} in an image of {height}×{width}")
    return pixels[top:bottom, left:right].copy()


@dataclass(frozen=True, slots=True)
class RawRaster:
    """Rows of raw bytes inside a file, as IFCB writes them."""

    member: str
    offset: int
    height: int
    width: int

    def load(self, tree: Tree) -> np.ndarray:
        length = self.height * self.width
        data = _read(tree, self.member, self.offset, length)
        if len(data) < length:
            raise RejectedInputError(
                "truncated_image",
                f"{length} bytes from {self.offset} on, of {tree.size(self.member)}",
            )
        return np.frombuffer(data, np.uint8).reshape(self.height, self.width)


def _read_file(tree: Tree, member: str) -> bytes:
    size = tree.size(member) if member in tree.members else 0
    if size > MAX_FILE_BYTES:
        raise RejectedInputError("image_too_large", f"{size} bytes, at most {MAX_FILE_BYTES}")
    return _read(tree, member)


def _read(tree: Tree, member: str, offset: int = 0, length: int | None = None) -> bytes:
    try:
        return tree.read(member, offset, length)
    except Exception as error:  # zipfile raises zlib.error, BadZipFile, EOFError, NotImplementedError
        raise RejectedInputError("io_error", f"{type(error).__name__}: {error}") from error


_last_collage: tuple[Tree, str, np.ndarray] | None = None  # many boxes are cut from one picture


def _decode_collage(tree: Tree, member: str) -> np.ndarray:
    global _last_collage
    last = _last_collage  # one read of the name: another thread may replace it
    if last is not None and last[0] is tree and last[1] == member:
        return last[2]
    pixels = decode(_read_file(tree, member))
    _last_collage = (tree, member, pixels)
    return pixels


def _any_image(_image: Image.Image) -> None:
    """Nothing more is asked of an image."""


def decode(
    data: bytes,
    formats: tuple[str, ...] = FORMATS,
    check_header: Callable[[Image.Image], None] = _any_image,
) -> np.ndarray:
    """Pixels of an encoded image: (H, W) or (H, W, 3), uint8 or uint16.

    Args:
        data: a whole file.
        formats: those it may have, of FORMATS.
        check_header: sees the image before any pixel is decoded; may raise RejectedInputError.

    Raises:
        RejectedInputError: empty_file, image_too_large, truncated_image, unreadable_image,
            unsupported_image.
    """
    if not data:
        raise RejectedInputError("empty_file", "0 bytes")
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            check_header(image)
            return _decode_opened(image)
    except RejectedInputError:
        raise
    except Image.DecompressionBombError as error:
        raise RejectedInputError("image_too_large", str(error)) from error
    except UnidentifiedImageError as error:
        raise RejectedInputError("unreadable_image", f"not a {', '.join(formats)} file") from error
    except Exception as error:  # decoders meet hostile bytes with SyntaxError, struct.error, KeyError, ...
        reason: Reason = "truncated_image" if "truncated" in str(error).lower() else "unreadable_image"
        raise RejectedInputError(reason, f"{type(error).__name__}: {error}") from error


def _decode_opened(image: Image.Image) -> np.ndarray:
    if image.width * image.height > MAX_PIXELS:
        raise RejectedInputError(
            "image_too_large", f"{image.height}×{image.width} pixels, at most {MAX_PIXELS}"
        )
    tags = getattr(image, "tag_v2", {})
    orientation = tags.get(ORIENTATION, 1)  # read now: Pillow turns TIFF pixels and drops the tag
    if _is_deep_colour(image):
        raise RejectedInputError("unsupported_image", f"16-bit colour ({image.mode}); store 8-bit colour")
    image.load()
    return np.ascontiguousarray(_unturned(_as_pixels(image), orientation))


def _is_deep_colour(image: Image.Image) -> bool:
    """True if Pillow is about to cut more than 8 bits per channel down to 8."""
    if image.mode.startswith("I") or image.mode == "F":
        return False
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,))
    # PNG and raw TIFF tiles name their layout, such as 'RGB;16B', last or inside a tuple.
    return max(bits) > 8 or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _unturned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo what Pillow did for a TIFF orientation tag (PIL.ImageOps.exif_transpose)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    return pixels


def _as_pixels(image: Image.Image) -> np.ndarray:
    if image.mode in ("L", "RGB"):
        pixels = np.asarray(image)
    elif image.mode in ("1", "P"):
        pixels = np.asarray(image.convert("RGBA" if "transparency" in image.info else "RGB"))
    elif image.mode in ("LA", "RGBA", "PA", "La", "RGBa"):
        pixels = np.asarray(image.convert("RGBA"))
    elif image.mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        pixels = np.asarray(image).astype(np.uint16)
    elif image.mode == "I":
        pixels = _as_uint16(np.asarray(image))
    elif image.mode in ("CMYK", "YCbCr"):
        pixels = np.asarray(image.convert("RGB"))
    else:
        raise RejectedInputError("unsupported_image", f"mode {image.mode}")
    if pixels.size == 0:
        raise RejectedInputError("unsupported_image", f"no pixels: shape {pixels.shape}")
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = _lay_on_border_colour(pixels)
    return _grey_if_grey(pixels)


def _as_uint16(values: np.ndarray) -> np.ndarray:
    if values.min() < 0 or values.max() > 0xFFFF:
        raise RejectedInputError("unsupported_image", f"values {values.min()} to {values.max()}, not 16 bit")
    return values.astype(np.uint16)


def _lay_on_border_colour(rgba: np.ndarray) -> np.ndarray:
    """Alpha removed: transparent pixels take the median colour of the opaque border (else of all)."""
    alpha = rgba[..., 3:].astype(np.uint32)
    border = np.concatenate([rgba[0], rgba[-1], rgba[:, 0], rgba[:, -1]])
    opaque = border[border[:, 3] == 255]
    colour = np.median(opaque if len(opaque) else rgba.reshape(-1, 4), axis=0)[:3].astype(np.uint32)
    return ((rgba[..., :3] * alpha + colour * (255 - alpha) + 127) // 255).astype(np.uint8)


def _grey_if_grey(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return red if np.array_equal(red, green) and np.array_equal(red, blue) else pixels
