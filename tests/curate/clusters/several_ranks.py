"""A function run by several processes that meet by gloo, forked from a server that has torch imported."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aqqua.train.ranks import Ranks, join

Work = Callable[..., None]  # of the ranks and what else was given; a function of a module


def run_on_ranks(size: int, work: Work, *given: Any, limit_s: float = 120.0) -> None:
    """Until all have ended well."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["aqqua.curate.clusters.assign"])
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port = some.getsockname()[1]
    processes = [context.Process(target=_one, args=(r, size, port, work, given)) for r in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(limit_s)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    assert codes == [0] * size


def _one(rank: int, size: int, port: int, work: Work, given: tuple[Any, ...]) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    import torch

    torch.set_num_threads(1)
    with join(30.0, 30.0, "cpu") as ranks:
        work(ranks, *given)


def save_clustering(ranks: Ranks, source: Path, start: Path, out: Path) -> None:
    """k-means of each kind over the vectors of a file, what rank 0 found written to another."""
    import numpy as np
    import torch
    from planted import WIDTH

    from aqqua.curate.clusters.hierarchy import HierarchyConfig, build_levels
    from aqqua.curate.clusters.kmeans import KMeansConfig, lloyd, mini_batch
    from aqqua.curate.clusters.vectors import Prepared, RawVectors

    vectors = Prepared(RawVectors(source, WIDTH, chunk_rows=700))
    start_KD = torch.from_numpy(np.fromfile(start, np.float32).reshape(-1, WIDTH))
    full = lloyd(vectors, start_KD, KMeansConfig(iterations=8, tolerance=0), ranks)
    batched = mini_batch(vectors, start_KD, 3, ranks, batch_chunks=4)
    config = HierarchyConfig(clusters=(20, 5), resample=(5, 3), resample_steps=3)
    levels = build_levels(vectors, (20, 5), config, 0, "any", ranks)
    if ranks.first:
        arrays = [full.centroids_KD, full.count_K.double(), torch.tensor(full.history, dtype=torch.float64)]
        arrays += [batched, *(level.centroids_KD for level in levels), levels[0].parent_K]
        np.savez(out, *[x.numpy() for x in arrays])


def cluster_columns(ranks: Ranks, dataset: Path, embeddings: Path, out: Path, config: str) -> None:
    """`cluster_images` of such paths."""
    from aqqua.curate.clusters.assign import ClustersConfig, cluster_images
    from aqqua.store.columns import Columns
    from aqqua.store.read import Dataset

    columns = Columns.open(embeddings, Dataset.open(dataset), "embeddings")
    cluster_images(columns, out, ClustersConfig.model_validate_json(config), ranks)
