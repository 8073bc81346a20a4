"""Signatures: one pass over the pixels, and all that duplicates, quality and contamination ask of an image.

Columns `signatures`, a row per image: a hash and a small picture that say what it looks like in whatever
pose (descriptor.py), two moments that flips, turns and small shifts leave as they are, and numbers of
quality (measures.py). About 330 bytes an image before compression. Each part is signed by itself, by any
process of any machine (aqqua/spread.py), and the result does not depend on how many there are; memory is that
of one block of pixels a process.

Test: tests/curate/images/test_signatures.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from aqqua.curate.images.descriptor import GRID, LUMA, centred_picture, difference, perceptual_hash, quantised
from aqqua.curate.images.measures import MEASURES, RING_CELLS, box_picture, measure, roundness
from aqqua.spread import Engine, spread
from aqqua.store.columns import Columns, ColumnsWriter, write_columns
from aqqua.store.read import Block, Dataset

KIND = "signatures"
ALGORITHM = 1  # goes up when the same pixels would get other signatures


def _field(name: str, kind: pa.DataType, text: str) -> pa.Field:
    return pa.field(name, kind, False, {"description": text})


FIELDS = [
    _field("hash", pa.uint64(), "perceptual hash; flips and quarter turns do not change it"),
    _field("picture", pa.binary(GRID * GRID), "16 x 16 bytes: luma, centred, 128 is the background"),
    _field("scale", pa.float32(), "grey levels that 127 steps of `picture` are; 0: the image is flat"),
    _field("mean", pa.float32(), "mean of luma, grey levels"),
    _field("deviation", pa.float32(), "standard deviation of luma, grey levels"),
    *(_field(name, pa.float32(), text) for name, text in MEASURES.items()),
]


def write_signatures(
    dataset: Dataset,
    out: Path,
    engine: Engine | None = None,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Columns:
    """Sign every image of a dataset.

    Args:
        out: new folder, of Columns `signatures`.
        engine: who works; parts are dealt out. None: this process.
        tell: called with the images done and all images, after each part.

    Raises:
        ValueError: the dataset is damaged, or there is something at `out`.
        RuntimeError: the disk is full or failed, Ray is asked for and not installed, or a worker died.
    """
    facts: dict[str, object] = {"algorithm": ALGORITHM, "grid": GRID, "config": {}, "made_from": {}}
    with write_columns(out, dataset, KIND, FIELDS, facts, "signatures") as writer:
        done = 0
        for rows in spread(_SignParts(writer), range(dataset.parts), engine or Engine()):
            done += rows
            tell(done, dataset.rows)
    return Columns.open(out, dataset, KIND)


def sign_block(block: Block) -> pa.Table:
    """The columns of FIELDS for the images of a block, in their order."""
    sizes = block.sizes
    count = len(block)
    pictures = np.empty((count, GRID, GRID), np.float32)
    boxed = np.empty((count, RING_CELLS, RING_CELLS), np.float32)
    moments = np.empty((count, 2), np.float32)
    measures = np.empty((count, len(MEASURES)), np.float32)
    for i in range(count):
        pixels, background, box = block.pixels(i), sizes.background[i], sizes.box[i]
        difference_HW = difference(pixels, background)
        pictures[i] = centred_picture(difference_HW)
        boxed[i] = box_picture(difference_HW, box)
        moments[i] = difference_HW.mean(), difference_HW.std()
        measures[i] = measure(pixels, difference_HW, box, background)
    moments[:, 0] += sizes.background @ LUMA  # which a shift may change, but not the mean itself
    names = list(MEASURES)
    measures[:, names.index("round")], measures[:, names.index("ring")] = roundness(boxed, sizes.box)
    picture_IGG, scale_I = quantised(pictures)
    columns = [
        pa.array(perceptual_hash(picture_IGG)),
        pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(GRID * GRID), count, [None, pa.py_buffer(picture_IGG.tobytes())]
        ),
        pa.array(scale_I),
        *(pa.array(moments[:, k]) for k in range(2)),
        *(pa.array(measures[:, k]) for k in range(len(names))),
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(FIELDS))


def pictures_of(table: pa.Table) -> np.ndarray:
    """Column `picture` as uint8 [I, G, G]."""
    column = table["picture"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    flat = np.frombuffer(column.buffers()[1], np.uint8)
    size = GRID * GRID
    return flat[column.offset * size : (column.offset + len(column)) * size].reshape(-1, GRID, GRID)


@dataclass(frozen=True)
class _SignParts:
    """What travels to a worker."""

    writer: ColumnsWriter

    def __call__(self) -> Callable[[int], int]:
        return lambda part: sign_part(self.writer, part)


def sign_part(writer: ColumnsWriter, part: int) -> int:
    """Write the signatures of one part; returns its images."""
    return writer.write_part(part, lambda block: sign_block(writer.dataset.block(block)))
