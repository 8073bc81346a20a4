"""Float vectors of images, read in chunks: what k-means runs over.

A chunk is what is in memory at a time, and what one process works on: chunk c belongs to rank c % R. Where
chunks begin does not depend on who reads them, so nothing that is computed from them does.

Letter key: I rows of a chunk, D width. Test: tests/curate/clusters/test_vectors.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from aqqua.plan.permute import permute
from aqqua.store.columns import Columns
from aqqua.store.read import Dataset
from aqqua.train.ranks import Ranks

CPU = torch.device("cpu")
CHUNK_ROWS = 16_384  # 25 MB at D = 384 in float32; large beside the cost of a call, small beside memory
_SHORTEST = 1e-12  # norm below which a vector has no direction


class Vectors(Protocol):
    """Rows of float16 or float32, in chunks."""

    rows: int
    width: int
    chunks: int

    def first_row(self, chunk: int) -> int:
        """Number of a chunk's first row."""

    def chunk(self, chunk: int) -> Float[np.ndarray, "I D"]:
        """Rows of one chunk, in their order."""

    def name_row(self, row: int) -> str:
        """What a person calls a row, for messages."""


class ArrayVectors:
    """Vectors in memory."""

    def __init__(self, rows_ID: Float[np.ndarray, "I D"], chunk_rows: int = CHUNK_ROWS) -> None:
        self.rows, self.width = rows_ID.shape
        self.chunks = -(-self.rows // chunk_rows)
        self._rows_ID, self._chunk_rows = rows_ID, chunk_rows

    def first_row(self, chunk: int) -> int:
        """Number of a chunk's first row."""
        return chunk * self._chunk_rows

    def chunk(self, chunk: int) -> Float[np.ndarray, "I D"]:
        """A view."""
        return self._rows_ID[chunk * self._chunk_rows : (chunk + 1) * self._chunk_rows]

    def name_row(self, row: int) -> str:
        """By its number."""
        return f"vector {row}"


class RawVectors:
    """A file of nothing but the vectors, row after row; read, not mapped, so that memory stays a chunk."""

    def __init__(self, path: Path, width: int, dtype: str = "float16", chunk_rows: int = CHUNK_ROWS) -> None:
        """
        Raises:
            ValueError: the file does not hold whole vectors of this width, or none.
        """
        self._path, self._dtype, self._chunk_rows = path, np.dtype(dtype), chunk_rows
        self.width, self._row_bytes = width, width * self._dtype.itemsize
        size = path.stat().st_size
        if size == 0 or size % self._row_bytes:
            raise ValueError(
                f"vectors: {path} must hold whole vectors of {width} {dtype}, {self._row_bytes} bytes each, "
                f"got {size} bytes; correct width or type"
            )
        self.rows = size // self._row_bytes
        self.chunks = -(-self.rows // chunk_rows)

    def first_row(self, chunk: int) -> int:
        """Number of a chunk's first row."""
        return chunk * self._chunk_rows

    def chunk(self, chunk: int) -> Float[np.ndarray, "I D"]:
        """Read anew at each call."""
        first = self.first_row(chunk)
        rows = min(self._chunk_rows, self.rows - first)
        found = np.fromfile(self._path, self._dtype, rows * self.width, offset=first * self._row_bytes)
        return found.reshape(rows, self.width)

    def name_row(self, row: int) -> str:
        """By its number."""
        return f"vector {row}"


class EmbeddingVectors:
    """The embeddings of a dataset: a chunk is one block of it."""

    def __init__(self, columns: Columns, field: str = "embedding") -> None:
        """
        Raises:
            ValueError: the field is no list of a fixed number of floats.
        """
        kind = columns.schema.field(field).type if field in columns.schema.names else None
        if kind is None or not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
            raise ValueError(
                f"vectors: {columns.path} must have fixed_size_list<float> {field}, got {kind}; make it with "
                "aqqua embed"
            )
        self.dataset: Dataset = columns.dataset
        self.rows, self.width, self.chunks = self.dataset.rows, kind.list_size, self.dataset.blocks
        self._columns, self._field = columns, field

    def first_row(self, chunk: int) -> int:
        """Number of a chunk's first row: all blocks but the last are full."""
        return chunk * self.dataset.rows_of(0)

    def chunk(self, chunk: int) -> Float[np.ndarray, "I D"]:
        """
        Raises:
            ValueError: an embedding is missing.
        """
        table = self._columns.block(chunk, [self._field])
        rows = table[self._field].combine_chunks()
        values = rows.flatten()
        if len(values) != len(table) * self.width or values.null_count:
            raise ValueError(
                f"vectors: every image must have an embedding, got none for one of block {chunk} of "
                f"{self._columns.path}; make them again"
            )
        return values.to_numpy(zero_copy_only=False).reshape(len(table), self.width)

    def name_row(self, row: int) -> str:
        """By the image's key and id."""
        block, i = divmod(row, self.dataset.rows_of(0))
        table = self.dataset.table(["key", "image_id"], [block])
        return f"image {table['image_id'][i]} (key {table['key'][i]})"


def own_chunks(chunks: int, ranks: Ranks) -> range:
    """Those of this process."""
    return range(ranks.rank, chunks, ranks.size)


def sampled_chunks(chunks: int, seed: int, stream: int) -> Iterator[int]:
    """All chunks in a random order that is never stored. A dataset is shuffled: each block is a fair sample.

    Args:
        seed: of the run.
        stream: what the order is for.
    """
    for first in range(0, chunks, 4096):
        index = np.arange(first, min(first + 4096, chunks), dtype=np.uint64)
        yield from permute(index, chunks, seed, stream).tolist()


def floats_of(
    rows_ID: Float[np.ndarray, "I D"],
    name_of: Callable[[int], str],
    *,
    normalise: bool,
    device: torch.device = CPU,
) -> Float32[Tensor, "I D"]:
    """Rows as k-means takes them.

    Args:
        name_of: what to call row i of these, for the message.
        normalise: divide each by its length, so that only directions count; a vector of zeros stays.

    Raises:
        ValueError: a number is not finite.
    """
    contiguous = np.ascontiguousarray(rows_ID)
    x_ID = torch.from_numpy(contiguous if contiguous.flags.writeable else contiguous.copy())
    x_ID = x_ID.to(device).float()
    # One pass tells whether anything is wrong; only then is it looked for.
    if not bool(torch.isfinite(x_ID.sum(dtype=torch.float64))):
        bad = int((~torch.isfinite(x_ID).all(dim=1)).nonzero()[0])
        raise ValueError(
            f"vectors: every number must be finite, got {_first_bad(x_ID[bad])} in {name_of(bad)}; embed it "
            "again or leave it out"
        )
    if normalise:
        x_ID = x_ID / torch.linalg.vector_norm(x_ID, dim=1, keepdim=True).clamp_min(_SHORTEST)
    return x_ID


def _first_bad(x_D: Tensor) -> float:
    return float(x_D[~torch.isfinite(x_D)][0])


@dataclass(frozen=True)
class Prepared:
    """A source whose chunks come as checked float32 tensors, on a device, normalised, then changed."""

    source: Vectors
    normalise: bool = False
    device: torch.device = CPU
    change: Callable[[Float32[Tensor, "I D"]], Float32[Tensor, "I D"]] | None = None  # row by row

    def chunk(self, chunk: int) -> Float32[Tensor, "I D"]:
        """
        Raises:
            ValueError: a number is not finite; the message names the row.
        """
        first = self.source.first_row(chunk)
        x_ID = floats_of(
            self.source.chunk(chunk),
            lambda i: self.source.name_row(first + i),
            normalise=self.normalise,
            device=self.device,
        )
        return self.change(x_ID) if self.change else x_ID

    def own(self, ranks: Ranks) -> Iterator[tuple[int, Float32[Tensor, "I D"]]]:
        """First row and rows of each chunk of this process, one in memory at a time."""
        for chunk in own_chunks(self.source.chunks, ranks):
            yield self.source.first_row(chunk), self.chunk(chunk)

    def take(self, rows: Sequence[int], ranks: Ranks) -> Float32[Tensor, "I D"]:
        """Some rows, on every rank, wherever they lie; each chunk that has some is read once."""
        wanted = np.asarray(rows, np.int64)
        found_ID = torch.zeros(len(wanted), self.source.width, device=self.device)
        order = np.argsort(wanted, kind="stable")
        firsts = np.array([self.source.first_row(c) for c in range(self.source.chunks)], np.int64)
        chunk_of: Int64[np.ndarray, " I"] = np.searchsorted(firsts, wanted[order], side="right") - 1
        for chunk in np.unique(chunk_of):
            if chunk % ranks.size == ranks.rank:
                at = order[chunk_of == chunk]
                inside = torch.from_numpy(wanted[at] - firsts[chunk]).to(self.device)
                found_ID[torch.from_numpy(at).to(self.device)] = self.chunk(int(chunk))[inside]
        return ranks.all_reduce(found_ID)
