"""The blobs of tests/train/conftest.py as image files of four formats, three of which a dataset may keep."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from aqqua.instruments.image import EncodedImage
from aqqua.instruments.record import Record
from aqqua.instruments.tree import open_tree
from aqqua.store.read import Dataset
from aqqua.store.write import ingest

KINDS = (("PNG", "png"), ("JPEG", "jpg"), ("TIFF", "tif"), ("BMP", "bmp"))
Picture = Callable[[np.ndarray, int], Image.Image]


def as_it_is(pixels: np.ndarray, _number: int) -> Image.Image:
    return Image.fromarray(pixels)


class FiledBlobs:
    """A folder of such files, from which datasets are made."""

    def __init__(self, dataset: Path, folder: Path, picture: Picture = as_it_is) -> None:
        """
        Args:
            dataset: of the blobs.
            folder: new, for the files.
            picture: what file number n shows of its blob.
        """
        folder.mkdir()
        self._folder, self._names = folder, list[str]()
        pixels = [block.pixels(i) for block in Dataset.open(dataset).iter_blocks() for i in range(len(block))]
        for number, image in enumerate(pixels):
            form, suffix = KINDS[number % len(KINDS)]
            self._names.append(f"blob{number}.{suffix}")
            picture(image, number).save(folder / self._names[-1], form)

    def ingest(self, out: Path, keep_encoded: bool) -> Path:
        """A dataset of them."""
        records = (
            Record(
                object_id=name, pixels=EncodedImage(name), instrument="ISIIS", sample="s", um_per_px=68.0,
                group=f"g{i // 10}", source=name,
            )
            for i, name in enumerate(self._names)
        )  # fmt: skip
        found = [(open_tree(self._folder), records)]
        ingest(found, out, block_rows=64, keep_encoded=keep_encoded, workers=1)
        return out
