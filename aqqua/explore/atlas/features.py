"""Embeddings of some images of a dataset, whitened and of length one: what nearness means in an atlas.

Embeddings come as columns beside a dataset or as one Parquet file (aqqua.evaluate.embeddings). Read in
chunks, thrice: for their range, their covariance, and to be whitened. Only what comes out stays in memory,
in float16, 0.8 GB for a million images of width 384. Rounding so moves a cosine by about 3e-5.

The whitening (aqqua.curate.clusters.whiten) is fitted on the points of the atlas, without labels.
Letter key: I rows of a chunk, N points, D width, R axes. Test: tests/explore/atlas/test_atlas_features.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Float16, Int64
from torch import Tensor

from aqqua.curate.clusters.vectors import EmbeddingVectors, Prepared, Vectors
from aqqua.curate.clusters.whiten import Whitening, fit_whitening
from aqqua.evaluate.embeddings import KIND
from aqqua.store.columns import Columns
from aqqua.store.manifest import file_sha256
from aqqua.store.read import Dataset
from aqqua.train.ranks import Ranks

FIELD = "embedding"


class FileVectors:
    """The embeddings of a dataset in one Parquet file; a chunk is one block of the dataset."""

    def __init__(self, path: Path, dataset: Dataset) -> None:
        """
        Raises:
            ValueError: the file holds no embeddings, or those of another dataset.
        """
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(
                f"embeddings: {path} must be a Parquet file or a folder of columns, got {error}; make it "
                "with aqqua embed"
            ) from error
        schema = self._file.schema_arrow
        kind = schema.field(FIELD).type if FIELD in schema.names else None
        if kind is None or not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
            raise ValueError(
                f"embeddings: {path} must have fixed_size_list<float> {FIELD}, got {kind}; make it with "
                "aqqua embed"
            )
        self.about = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        groups = [self._file.metadata.row_group(g).num_rows for g in range(self._file.num_row_groups)]
        of_blocks = [dataset.rows_of(block) for block in range(dataset.blocks)]
        if self.about.get("aqqua.dataset_sha256") != dataset.manifest_sha256 or groups != of_blocks:
            raise ValueError(
                f"embeddings: {path} must be of the dataset {dataset.path}, got those of another one; make "
                "them from this dataset with aqqua embed"
            )
        self.rows, self.width, self.chunks = dataset.rows, kind.list_size, dataset.blocks
        self._path, self._full = path, dataset.rows_of(0)

    def first_row(self, chunk: int) -> int:
        """Number of a chunk's first row: all blocks but the last are full."""
        return chunk * self._full

    def chunk(self, chunk: int) -> Float[np.ndarray, "I D"]:
        """
        Raises:
            ValueError: an embedding is missing, or the file is damaged.
        """
        try:
            rows = self._file.read_row_group(chunk, columns=[FIELD], use_threads=False)[FIELD]
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(
                f"embeddings: {self._path} must be readable, got {error}; it is damaged: make it again"
            ) from error
        values = rows.combine_chunks().flatten()
        if len(values) != len(rows) * self.width or values.null_count:
            raise ValueError(
                f"embeddings: every image must have one, got none for one of block {chunk} of {self._path}; "
                "make them again"
            )
        return values.to_numpy(zero_copy_only=False).reshape(len(rows), self.width)

    def name_row(self, row: int) -> str:
        """By the image's id."""
        block, i = divmod(row, self._full)
        name = self._file.read_row_group(block, columns=["image_id"], use_threads=False)["image_id"][i]
        return f"image {name}"


class ChosenVectors:
    """Some rows of others, as `Vectors`; a chunk is what is chosen of one of theirs."""

    def __init__(self, source: Vectors, rows_N: Int64[np.ndarray, " N"]) -> None:
        """
        Args:
            rows_N: ascending, at least one.
        """
        firsts = np.array([source.first_row(chunk) for chunk in range(source.chunks)], np.int64)
        chunk_N = np.searchsorted(firsts, rows_N, side="right") - 1
        self._chunk_C, start_C = np.unique(chunk_N, return_index=True)
        self._start_C = np.append(start_C, len(rows_N))
        self._inside_N = rows_N - firsts[chunk_N]
        self.rows, self.width, self.chunks = len(rows_N), source.width, len(self._chunk_C)
        self._source, self._rows_N = source, rows_N

    def first_row(self, chunk: int) -> int:
        """Number of a chunk's first row among the chosen."""
        return int(self._start_C[chunk])

    def chunk(self, chunk: int) -> Float[np.ndarray, "I D"]:
        """Read anew at each call."""
        part = slice(self._start_C[chunk], self._start_C[chunk + 1])
        return self._source.chunk(int(self._chunk_C[chunk]))[self._inside_N[part]]

    def name_row(self, row: int) -> str:
        """As the source has it."""
        return self._source.name_row(int(self._rows_N[row]))


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of every image of a dataset, and where they come from."""

    vectors: Vectors
    facts: dict[str, Any]  # sha256 of the embeddings; of the model, and its pooling, where they say so

    @staticmethod
    def open(path: Path, dataset: Dataset) -> "Embeddings":
        """Columns in a folder, or one Parquet file.

        Raises:
            ValueError: neither, or of another dataset.
        """
        if path.is_dir():
            columns = Columns.open(path, dataset, KIND)
            facts = {
                "sha256": columns.sha256,
                **{k: columns.facts.get(k) for k in ("model_sha256", "pooling")},
            }
            return Embeddings(EmbeddingVectors(columns), facts)
        vectors = FileVectors(path, dataset)
        about = {name: vectors.about.get(f"aqqua.{name}") for name in ("model_sha256", "pooling")}
        return Embeddings(vectors, {"sha256": file_sha256(path), **about})


def directions(whitening: Whitening) -> Callable[[Tensor], Tensor]:
    """From embeddings to whitened ones of length one; one that is the mean becomes zero."""
    whiten = whitening.on(torch.device("cpu"))
    return lambda x_ID: torch.nn.functional.normalize(whiten(x_ID), dim=1)


def unit_features(
    vectors: Vectors, whitening: Whitening | None = None, tell: Callable[[int], None] = lambda _: None
) -> tuple[Float16[np.ndarray, "N R"], Whitening]:
    """Whitened features of length one, and the whitening.

    Args:
        whitening: to be used instead of one fitted on these.
        tell: takes how many rows are done.

    Raises:
        ValueError: a number is not finite; the message names the image.
    """
    if whitening is None:
        whitening = fit_whitening(Prepared(vectors), Ranks())
    elif len(whitening.mean_D) != vectors.width:
        raise ValueError(
            f"atlas: embeddings must be of width {len(whitening.mean_D)} as those of the older map, got "
            f"{vectors.width}; give those of the same model"
        )
    unit_NR = np.empty((vectors.rows, whitening.axes_DR.shape[1]), np.float16)
    for first, x_IR in Prepared(vectors, change=directions(whitening)).own(Ranks()):
        unit_NR[first : first + len(x_IR)] = x_IR.numpy()
        tell(first + len(x_IR))
    return unit_NR, whitening
