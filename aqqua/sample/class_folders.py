"""Class folders, as people share labelled sets: IFCB crops as PNG, ISIIS shadowgraphs as JPEG.

Both hold traps that public sets hold: a truncated file, an empty file, an awkward name, the same
bytes under two labels (ecotaxa/uvpec's training set has 57 such pairs).
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from aqqua.sample.community import IFCB_MIX, ISIIS_MIX
from aqqua.sample.ifcb_bins import later_bins
from aqqua.sample.optics import IFCB, ISIIS, portraits

LABELLED_BINS = 4
AWKWARD_NAME = "large<adult, seen twice (1 of 2).jpg"


def write_ifcb_labelled(
    folder: Path, images: int, rng: np.random.Generator, tick: Callable[[], None]
) -> None:
    """`<class>/<bin>_<5-digit target>.png` of four bins, and one PNG that ends early."""
    shares = [int(n) for n in np.diff(np.linspace(0, images, LABELLED_BINS + 1).round())]
    data, target = b"", 0
    for name, count, own in zip(later_bins(LABELLED_BINS), shares, rng.spawn(LABELLED_BINS), strict=True):
        target = 0
        for portrait in portraits(own, IFCB, IFCB_MIX, count, own.uniform(168, 212)):
            target += int(own.integers(1, 5))  # triggers without an image leave gaps
            data = encode(portrait.pixels, "PNG")
            _put(folder / portrait.label / f"{name}_{target:05d}.png", data)
            tick()
    _put(
        folder / "detritus" / f"{later_bins(LABELLED_BINS)[-1]}_{target + 1:05d}.png", data[: len(data) // 2]
    )


def write_isiis(folder: Path, images: int, rng: np.random.Generator, tick: Callable[[], None]) -> None:
    """`<class>/<number>.jpg`; two of the `images` carry traps that are legal, a further file is empty.

    One picture bears a name with '<', a comma and spaces, and its bytes stand once more under
    another label: neither label can be trusted.
    """
    numbers = 100_001 + rng.permutation(9 * images)[:images]
    drawn = portraits(rng, ISIIS, ISIIS_MIX, images - 1, 255)
    for portrait, number in zip(drawn, numbers[:-1], strict=True):
        _put(folder / portrait.label / f"{number}.jpg", encode(portrait.pixels, "JPEG"))
        tick()
    chosen = sorted(folder.glob("*/*.jpg"))[0]
    chosen = chosen.rename(chosen.with_name(AWKWARD_NAME))
    other_label = "Copepoda" if chosen.parent.name == "detritus" else "detritus"
    _put(folder / other_label / f"{numbers[-1]}.jpg", chosen.read_bytes())
    tick()
    _put(folder / "Copepoda" / "100000_empty.jpg", b"")


def encode(pixels: np.ndarray, kind: str) -> bytes:
    """Bytes of a grey PNG or JPEG."""
    file = io.BytesIO()
    # Level 1: noise hardly compresses, and level 6 takes three times as long.
    options = {"compress_level": 1} if kind == "PNG" else {"quality": 90}
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
