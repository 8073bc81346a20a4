"""Embeddings on disk: one feature row per image, as one Parquet file for people or as columns for curation.

The file has what is known of each image beside its features, in float32. The columns stand beside the
dataset, part by part (aqqua.store.columns), in float16: 768 bytes an image at width 384, 2.3 TB for 3·10⁹;
many processes or machines write them at once.

Test: tests/evaluate/test_embeddings.py.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.evaluate.features import Embedder, Pooling, fingerprint
from aqqua.evaluate.models import load_embedder
from aqqua.progress import silent
from aqqua.spread import Engine, spread
from aqqua.store.columns import ColumnsWriter, write_columns
from aqqua.store.new_file import new_file
from aqqua.store.read import Dataset

KIND = "embeddings"
KEPT = ("image_id", "instrument", "group", "label", "label_status", "aphia_id", "um_per_px")


def write_embeddings(
    embedder: Embedder, dataset: Dataset, out: Path, progress: Callable[[int], None] = silent
) -> int:
    """One Parquet row per image: its id, what is known of it, and `embedding` (float32 list).

    Written block by block to a temporary name, renamed when whole; returns the number of rows.

    Raises:
        ValueError: `out` exists.
    """
    done = 0
    with new_file(out, "embed", ".parquet") as partial, ExitStack() as open_until_end:
        writer = None
        for table in _embedding_tables(embedder, dataset):
            if writer is None:
                writer = open_until_end.enter_context(
                    pq.ParquetWriter(partial, table.schema, compression="zstd")
                )
            writer.write_table(table)
            done += len(table)
            progress(done)
    return done


def _embedding_tables(embedder: Embedder, dataset: Dataset) -> Iterator[pa.Table]:
    about = {
        "aqqua.dataset_sha256": dataset.manifest_sha256,
        "aqqua.model_sha256": fingerprint(embedder.backbone),
        "aqqua.pooling": embedder.pooling,
        "aqqua.patch_px": str(embedder.side),
    }
    for number in range(dataset.blocks):
        features = np.ascontiguousarray(embedder(dataset, number), np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
        table = dataset.table(list(KEPT), blocks=[number]).append_column("embedding", column)
        yield table.replace_schema_metadata(about)


@dataclass(frozen=True)
class EmbedPart:
    """Embeds the images of one part after the other; makes itself ready in each worker."""

    model: Path
    pooling: Pooling
    patch_px: int | None
    writer: ColumnsWriter

    def __call__(self) -> Callable[[int], int]:
        embedder = load_embedder(self.model, self.pooling, patch_px=self.patch_px)
        dataset = self.writer.dataset
        return lambda part: self.writer.write_part(part, lambda block: _half_table(embedder, dataset, block))


def write_embedding_columns(
    model: Path,
    pooling: Pooling,
    dataset: Dataset,
    out: Path,
    engine: Engine | None = None,
    progress: Callable[[int], None] = silent,
    patch_px: int | None = None,
) -> int:
    """Columns `embeddings` beside a dataset: `embedding`, float16; returns the number of rows.

    Args: model, pooling and patch_px as of `load_embedder`.

    Raises:
        ValueError: `out` holds something, or a feature is beyond float16.
        RuntimeError: the disk is full or failed, or the engine cannot serve.
    """
    embedder = load_embedder(model, pooling, patch_px=patch_px)
    facts = {
        "model_sha256": fingerprint(embedder.backbone),
        "pooling": pooling,
        "patch_px": embedder.side,
        "width": embedder.width,
    }
    fields = [pa.field("embedding", pa.list_(pa.field("item", pa.float16(), False), embedder.width), False)]
    done = 0
    with write_columns(out, dataset, KIND, fields, facts, "embed") as writer:
        work = EmbedPart(model, pooling, patch_px, writer)
        for rows in spread(work, range(dataset.parts), engine or Engine()):
            done += rows
            progress(done)
    return done


def _half_table(embedder: Embedder, dataset: Dataset, block: int) -> pa.Table:
    with np.errstate(over="ignore"):  # told below, with what to do
        features_ID = np.ascontiguousarray(embedder(dataset, block)).astype(np.float16)
    if not np.isfinite(features_ID).all():
        raise ValueError(
            f"embed: features must be finite and within float16 (65504), got others in block {block}; "
            "look at the model, or write a .parquet file, in float32"
        )
    item = pa.field("item", pa.float16(), False)
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(features_ID.ravel()), type=pa.list_(item, features_ID.shape[1])
    )
    return pa.table({"embedding": column})
