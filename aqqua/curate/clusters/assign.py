"""Clusters of all images of a dataset, found within each instrument, beside the dataset.

Of each instrument a sample is copied (sample.py), whitened (whiten.py) and a tree of clusters found in it
(hierarchy.py); then every image is given to the nearest cluster of level 1 of its own instrument, and so to
one of each level above. That is done part by part, by any number of ranks. The columns `cluster_1` (finest)
to `cluster_L` and `distance` stand in the parts, the tree in `_tree.parquet` of the same folder (tree.py),
with its checksum in the facts.

Memory of a process: a part (65,536 vectors), the centroids of all instruments three times in float32, and
what sample.py says. Any number of ranks finds the same tree and the same columns.
Letter key: I images, K clusters, D width, L levels. Test: tests/curate/clusters/test_clusters.py.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, Int64
from pydantic import BaseModel, ConfigDict, Field

from aqqua.curate.clusters import nearest
from aqqua.curate.clusters.hierarchy import HierarchyConfig, build_levels
from aqqua.curate.clusters.nearest import Nearest
from aqqua.curate.clusters.sample import SampledVectors, count_instruments, instruments_of, plan_sample
from aqqua.curate.clusters.seeding import stream_of
from aqqua.curate.clusters.tree import TREE, Forest, facts_of, write_tree
from aqqua.curate.clusters.vectors import CHUNK_ROWS, CPU, EmbeddingVectors, Prepared, floats_of
from aqqua.curate.clusters.whiten import fit_whitening
from aqqua.store.columns import KEY, Columns, ColumnsWriter, write_columns
from aqqua.train.ranks import Ranks

KIND = "clusters"
_Find = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # label and squared distance of rows


class ClustersConfig(BaseModel):
    """How the images of each instrument are clustered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0, lt=1 << 64, description="of the samples and of where k-means starts")
    whiten: bool = Field(
        True,
        description="make the embeddings of each instrument equally wide in every direction (whiten.py)",
    )
    normalise: bool = Field(
        False,
        description="divide each embedding by its length, before it is whitened; Vo et al. 2024 do so and do "
        "not whiten",
    )
    sample_per_cluster: int = Field(
        256, ge=1, description="images per cluster of level 1 that its centroids are found from; as faiss"
    )
    most_sampled: int = Field(
        4_000_000, ge=1, description="images of an instrument in its sample: 3 GB of disk at D = 384, float16"
    )
    hierarchy: HierarchyConfig = Field(
        default_factory=lambda: HierarchyConfig.model_validate({}), description="levels of the tree"
    )


def cluster_images(
    embeddings: Columns,
    out: Path,
    config: ClustersConfig,
    ranks: Ranks | None = None,
    device: torch.device = CPU,
    scratch: Path | None = None,
) -> None:
    """Find clusters and write them beside the dataset; every rank of a run calls this.

    Args:
        embeddings: columns of the kind `embeddings`.
        out: new, or an empty folder, that all ranks see.
        device: where the products are computed.
        scratch: folder for the samples, which are removed again; None: the one that `out` lies in.

    Raises:
        ValueError: an embedding is missing or not finite, or there is something at `out`.
        RuntimeError: the disk is full or failed.
    """
    ranks = ranks or Ranks()
    source = EmbeddingVectors(embeddings)
    names, count_BG = count_instruments(source.dataset, ranks)
    sizes_G = sizes_of(count_BG.sum(axis=0, dtype=np.int64).tolist(), config.hierarchy)
    grown = _Grown(Forest(names), sizes_G, count_BG)
    facts: dict[str, Any] = {}
    fields = _fields(len(sizes_G[0]))
    if not ranks.first:
        folder = Path(ranks.share(None))
        _grow(grown, source, config, scratch or out.parent, ranks, device)
        writer = ColumnsWriter(folder, source.dataset, pa.schema([KEY, *fields]))
        _assign_parts(writer, source, grown.forest, config, ranks, device)
        return
    with write_columns(out, source.dataset, KIND, fields, facts, "curate") as writer:
        ranks.share(str(writer.folder))
        _grow(grown, source, config, scratch or out.parent, ranks, device)
        images_K = _assign_parts(writer, source, grown.forest, config, ranks, device)
        write_tree(writer.folder / TREE, grown.forest, images_K, source.width)
        facts |= {
            "made_from": {"embeddings": embeddings.sha256},
            "config": config.model_dump(mode="json"),
            "instruments": grown.found,
            "clusters": [grown.forest.size(level) for level in range(len(sizes_G[0]))],
            "product": nearest.PRODUCT if device.type == "cpu" else device.type,
            "tree": facts_of(writer.folder / TREE),
        }


def sizes_of(images_G: list[int], config: HierarchyConfig) -> list[tuple[int, ...]]:
    """Clusters of each level of each instrument, without levels where all have but one: they balance nothing.

    Args:
        images_G: of each instrument.
    """
    sizes_G = [config.sizes(images) for images in images_G]
    depth = max((sum(size > 1 for size in sizes) for sizes in sizes_G), default=1)
    return [sizes[: max(depth, 1)] for sizes in sizes_G]


def _fields(levels: int) -> list[pa.Field]:
    numbers = [
        pa.field(
            f"cluster_{level}", pa.int32(), False, {"description": f"cluster in level {level} of {TREE}"}
        )
        for level in range(1, levels + 1)
    ]
    distance = "from the embedding, whitened if so, to the centroid of cluster_1"
    return [*numbers, pa.field("distance", pa.float32(), False, {"description": distance})]


@dataclass
class _Grown:
    """Trees of the instruments."""

    forest: Forest
    sizes_G: list[tuple[int, ...]]  # clusters wanted of each level of each
    count_BG: np.ndarray  # images of each in each block
    found: dict[str, dict[str, Any]] = field(default_factory=dict)  # of each instrument, for the facts


def _grow(
    grown: _Grown,
    source: EmbeddingVectors,
    config: ClustersConfig,
    scratch: Path,
    ranks: Ranks,
    device: torch.device,
) -> None:
    """The tree of each instrument, one after the other."""
    for g, (name, sizes) in enumerate(zip(grown.forest.names, grown.sizes_G, strict=True)):
        images = int(grown.count_BG[:, g].sum(dtype=np.int64))
        wanted = min(images, sizes[0] * config.sample_per_cluster, max(config.most_sampled, sizes[0]))
        plan = plan_sample(name, grown.count_BG[:, g], wanted, config.seed, stream_of(name, "sample"))
        with tempfile.TemporaryDirectory(prefix=f"sample.partial-{os.getpid()}-", dir=scratch) as folder:
            sample = SampledVectors(plan, source, Path(folder) / "vectors", ranks)
            vectors = Prepared(sample, config.normalise, device)
            if config.whiten:
                grown.forest.whitening.append(fit_whitening(vectors, ranks))
                vectors = replace(vectors, change=grown.forest.whitening[g].on(device))
            levels = build_levels(vectors, sizes, config.hierarchy, config.seed, name, ranks)
        grown.forest.levels.append(levels)
        grown.found[name] = {
            "images": images,
            "sampled": plan.rows,
            "clusters": [len(level.centroids_KD) for level in levels],
            "inertia": [level.inertia for level in levels],
            "converged": [level.converged for level in levels],
        }


def _assign_parts(
    writer: ColumnsWriter,
    source: EmbeddingVectors,
    forest: Forest,
    config: ClustersConfig,
    ranks: Ranks,
    device: torch.device,
) -> Int64[np.ndarray, " K"]:
    """Write this rank's parts; returns the images of each cluster of level 1, of all ranks."""
    number = {name: i for i, name in enumerate(forest.names)}
    nearest_G = [_nearest_of(forest, g, device) for g in range(len(forest.names))]
    first_G = [forest.first(g, 0) for g in range(len(forest.names))]
    parents = [forest.parents(level) for level in range(len(forest.levels[0]) - 1)]
    images_K = torch.zeros(forest.size(0), dtype=torch.int64)
    for part in range(ranks.rank, source.dataset.parts, ranks.size):
        blocks = source.dataset.blocks_of(part)
        code_I = np.array([number[n] for b in blocks for n in instruments_of(source.dataset, b)])
        label_I, distance_I = _assign_part(source, blocks, code_I, nearest_G, config.normalise, device)
        label_I += np.array(first_G)[code_I]
        images_K += torch.bincount(torch.from_numpy(label_I), minlength=len(images_K))
        writer.write_part(part, _tables(source, blocks[0], label_I, distance_I, parents))
    return ranks.all_reduce(images_K).numpy()


def _nearest_of(forest: Forest, g: int, device: torch.device) -> _Find:
    """Finds the nearest cluster of level 1 of an instrument, of embeddings as they are."""
    nearest = Nearest(forest.levels[g][0].centroids_KD.to(device))
    if not forest.whitening:
        return nearest
    whiten = forest.whitening[g].on(device)
    return lambda x_ID: nearest(whiten(x_ID))


def _assign_part(
    source: EmbeddingVectors,
    blocks: range,
    code_I: np.ndarray,
    nearest_G: list[_Find],
    normalise: bool,
    device: torch.device,
) -> tuple[Int64[np.ndarray, " I"], Float32[np.ndarray, " I"]]:
    """Cluster of level 1, counted within the instrument, and distance of each image of some blocks."""
    rows_ID = np.concatenate([source.chunk(block) for block in blocks])
    label_I, distance_I = np.empty(len(rows_ID), np.int64), np.empty(len(rows_ID), np.float32)
    first = source.first_row(blocks[0])
    for code, nearest_of in enumerate(nearest_G):
        mine = np.flatnonzero(code_I == code)
        for start in range(0, len(mine), CHUNK_ROWS):
            at = mine[start : start + CHUNK_ROWS]
            name_of = _namer(source, first, at)
            x_ID = floats_of(rows_ID[at], name_of, normalise=normalise, device=device)
            label, squared = nearest_of(x_ID)
            label_I[at], distance_I[at] = label.cpu().numpy(), squared.sqrt().cpu().numpy()
    return label_I, distance_I


def _namer(source: EmbeddingVectors, first: int, at: np.ndarray) -> Callable[[int], str]:
    return lambda i: source.name_row(first + int(at[i]))


def _tables(
    source: EmbeddingVectors,
    first_block: int,
    label_I: np.ndarray,
    distance_I: np.ndarray,
    parents: list[np.ndarray],
) -> Callable[[int], pa.Table]:
    """Block of a part -> its columns."""

    def table_of(block: int) -> pa.Table:
        first = source.first_row(block) - source.first_row(first_block)
        rows = slice(first, first + source.dataset.rows_of(block))
        label = label_I[rows]
        columns = {"cluster_1": label.astype(np.int32)}
        for level, parent_K in enumerate(parents, 2):
            label = parent_K[label]
            columns[f"cluster_{level}"] = label.astype(np.int32)
        return pa.table({**columns, "distance": distance_I[rows]})

    return table_of
