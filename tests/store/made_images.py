"""Images made from a number, in memory; importable, because worker processes load them too."""

import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from aqqua.instruments.record import Found, Record, RejectedInputError
from aqqua.instruments.tree import Tree


@dataclass(frozen=True)
class Noise:
    """Pixels drawn from a number: every kind the store knows, odd sizes included."""

    number: int
    kind: str = "any"

    def load(self, _tree: Tree) -> np.ndarray:
        if self.kind == "broken":
            raise RejectedInputError("unreadable_image", "made to fail")
        if self.kind == "dies":
            os._exit(9)
        if self.kind == "hangs":
            time.sleep(600)
        if self.kind == "crash":
            raise OSError("the disk went away")
        if self.kind == "float":
            return np.zeros((3, 3))
        draw = np.random.default_rng(self.number)
        shape = (int(draw.integers(1, 40)), int(draw.integers(1, 40)))
        dtype = np.uint16 if self.number % 2 else np.uint8
        return draw.integers(0, np.iinfo(dtype).max, shape if self.number % 3 else (*shape, 3), dtype)


@dataclass(frozen=True)
class NoiseFile(Noise):
    """The same in a file: PNG, but TIFF every fifth time; colour of 16 bits, which neither holds, in none."""

    def load_with_file(self, tree: Tree) -> tuple[np.ndarray, bytes | None]:
        pixels = self.load(tree)
        if pixels.ndim == 3 and pixels.dtype == np.uint16:
            return pixels, None
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG" if self.number % 5 else "TIFF")
        return pixels, file.getvalue()


def record(number: int, kind: str = "any", **facts: object) -> Record:
    known: dict[str, object] = {
        "object_id": f"image{number}",
        "pixels": Noise(number, kind),
        "instrument": ("IFCB", "UVP6")[number % 2],
        "um_per_px": None if number % 4 else 3.4,
        "sample": f"s{number // 100}",
        "group": f"g{number // 10}",
        "label": f"label{number // 50}",
        "label_status": "folder",
        "source": f"folder/image{number}.png",
    }
    return Record(**{**known, **facts})  # type: ignore[arg-type]


def an_input(found: list[Found], label: str = "cruise") -> tuple[Tree, Iterator[Found]]:
    return Tree(root=Path(label), label=label), iter(found)
