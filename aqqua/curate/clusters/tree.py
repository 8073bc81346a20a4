"""The tree of clusters as a table in the folder of their columns.

Test: tests/curate/clusters/test_cluster_tree.py.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from jaxtyping import Float32, Int64

from aqqua.curate.clusters.hierarchy import Level
from aqqua.curate.clusters.whiten import Whitening
from aqqua.store.columns import Columns
from aqqua.store.manifest import file_sha256

TREE = "_tree.parquet"  # Parquet tools that read the folder as one table pass over it
NO_PARENT = -1
WHITENING = 0  # level of the rows that hold it: the mean as cluster 0, then an axis each


@dataclass(frozen=True)
class TreeLevel:
    """All clusters of one level, of all instruments; a cluster's number is its row."""

    centroid_KD: Float32[np.ndarray, "K D"]
    parent_K: Int64[np.ndarray, " K"]  # number in the next level; NO_PARENT at the last one
    images_K: Int64[np.ndarray, " K"]
    instruments: tuple[str, ...]  # of each cluster


@dataclass(frozen=True)
class Forest:
    """The trees of all instruments under numbers that no two clusters of a level share."""

    names: list[str] = field(default_factory=list)  # of the instruments, sorted
    levels: list[list[Level]] = field(default_factory=list)  # of each instrument
    whitening: list[Whitening] = field(default_factory=list)  # of each, or none

    def first(self, name: int, level: int) -> int:
        """Number of an instrument's first cluster in a level."""
        return sum(len(levels[level].centroids_KD) for levels in self.levels[:name])

    def size(self, level: int) -> int:
        """Clusters of a level."""
        return self.first(len(self.names), level)

    def parents(self, level: int) -> Int64[np.ndarray, " K"]:
        """Of all clusters of a level, in the numbers of the next."""
        if level == len(self.levels[0]) - 1:
            return np.full(self.size(level), NO_PARENT)
        parents = [levels[level].parent_K.numpy() for levels in self.levels]
        return np.concatenate([p + self.first(i, level + 1) for i, p in enumerate(parents)])


def read_tree(clusters: Columns) -> list[TreeLevel]:
    """The tree of such columns, from the finest level on.

    Raises:
        ValueError: it is missing or damaged.
    """
    table = _table_of(clusters)
    width = table.schema.field("centroid").type.list_size
    levels = []
    for level, clusters_of_level in enumerate(clusters.facts["clusters"], 1):
        rows = table.filter(pc.equal(table["level"], level))
        assert len(rows) == clusters_of_level
        levels.append(
            TreeLevel(
                _centroids(rows, width),
                rows["parent"].fill_null(NO_PARENT).to_numpy(),
                rows["images"].to_numpy(),
                tuple(rows["instrument"].to_pylist()),
            )
        )
    return levels


def read_whitening(clusters: Columns) -> dict[str, Whitening]:
    """What the embeddings of each instrument went through before its clusters; empty: nothing.

    Raises:
        ValueError: the tree is missing or damaged.
    """
    table = _table_of(clusters)
    width = table.schema.field("centroid").type.list_size
    table = table.filter(pc.equal(table["level"], WHITENING))
    found = {}
    for name in table["instrument"].unique().to_pylist():
        rows_D = _centroids(table.filter(pc.equal(table["instrument"], name)), width)
        found[name] = Whitening(rows_D[0], rows_D[1:].T)
    return found


def _table_of(clusters: Columns) -> pa.Table:
    path, known = clusters.path / TREE, clusters.facts["tree"]
    if not path.is_file() or file_sha256(path) != known["sha256"]:
        raise ValueError(
            f"clusters: {path} must be the file that was written, got another or none; make the clusters "
            "again"
        )
    return pq.read_table(path)


def _centroids(rows: pa.Table, width: int) -> Float32[np.ndarray, "K D"]:
    return rows["centroid"].combine_chunks().flatten().to_numpy().reshape(-1, width)


def write_tree(path: Path, forest: Forest, images_K: np.ndarray, width: int) -> None:
    """One row per cluster, level by level, after the whitening; a row group for each level.

    Args:
        images_K: of each cluster of level 1.
    """
    schema = _schema(width)
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as out:
        for name, whitening in zip(forest.names, forest.whitening, strict=bool(forest.whitening)):
            out.write_table(_whitening_table(name, whitening, schema))
        for level in range(len(forest.levels[0])):
            parent_K = forest.parents(level)
            centroid = torch.cat([levels[level].centroids_KD for levels in forest.levels]).numpy()
            sizes = [len(levels[level].parent_K) for levels in forest.levels]
            table = {
                "level": np.full(len(parent_K), level + 1, np.int8),
                "cluster": np.arange(len(parent_K), dtype=np.int32),
                "parent": pa.array(parent_K, pa.int32(), mask=parent_K == NO_PARENT),
                "instrument": np.repeat(np.array(forest.names, object), sizes),
                "images": images_K,
                "centroid": pa.FixedSizeListArray.from_arrays(centroid.reshape(-1), width),
            }
            out.write_table(pa.table(table, schema=schema), row_group_size=max(len(parent_K), 1))
            if level + 1 < len(forest.levels[0]):
                images_K = np.bincount(parent_K, images_K, forest.size(level + 1)).astype(np.int64)


def _whitening_table(name: str, whitening: Whitening, schema: pa.Schema) -> pa.Table:
    rows = np.concatenate([whitening.mean_D[None], whitening.axes_DR.T]).astype(np.float32)
    table = {
        "level": np.full(len(rows), WHITENING, np.int8),
        "cluster": np.arange(len(rows), dtype=np.int32),
        "parent": pa.nulls(len(rows), pa.int32()),
        "instrument": np.full(len(rows), name, object),
        "images": np.zeros(len(rows), np.int64),
        "centroid": pa.FixedSizeListArray.from_arrays(rows.reshape(-1), rows.shape[1]),
    }
    return pa.table(table, schema=schema)


def facts_of(path: Path) -> dict[str, Any]:
    """What a manifest says of the file."""
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _schema(width: int) -> pa.Schema:
    columns = (
        ("level", pa.int8(), False, "1 is the finest; 0: no cluster, but what embeddings go through"),
        ("cluster", pa.int32(), False, "number in its level, as in cluster_<level>"),
        ("parent", pa.int32(), True, "cluster of the next level; null at the last"),
        ("instrument", pa.string(), False, "whose images are in it"),
        ("images", pa.int64(), False, "of the dataset that are in it"),
        (
            "centroid",
            pa.list_(pa.float32(), width),
            False,
            "mean of the members it was found from; of level "
            "0 the mean of the sample (cluster 0), then each axis that x - mean is multiplied by",
        ),
    )
    return pa.schema([pa.field(n, kind, null, {"description": text}) for n, kind, null, text in columns])
