"""Clusters on one core: ours beside faiss and scikit-learn; and a hundred million vectors in little memory.

    python bench/curate.py                                  assignments/s, quality, cost of 3·10⁹ images
    python bench/curate.py --large --folder FOLDER          10⁸ vectors of 64 numbers, 12.8 GB in FOLDER
    python bench/curate.py --large --folder FOLDER --vectors 1000000

faiss is no dependency: without it its columns are null (pip install faiss-cpu). Each chain has one thread;
they take turns, least processor time counts, so ratios hold on a busy machine. Ours gives label and distance
from float32 as the others do; `ours_float16` begins with float16, checked for numbers that are not finite.

--large makes a file from a planted mixture whose sizes differ 1000 times, finds centroids from a sample and
assigns every vector, streamed. Resident memory is that of this process at its highest, all of it; purity is
the share of vectors whose cluster is mostly of their own planted group. The file is removed.

Appends a JSON line to bench/results/cpu/curate.jsonl.
"""

import argparse
import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "data"))
from measure import append_result, best_of_rounds, machine

from aqqua.curate.clusters import nearest
from aqqua.curate.clusters.cost import ClustersCost
from aqqua.curate.clusters.kmeans import KMeansConfig, lloyd
from aqqua.curate.clusters.nearest import Nearest
from aqqua.curate.clusters.seeding import seed_centroids
from aqqua.curate.clusters.vectors import ArrayVectors, Prepared, RawVectors, floats_of, sampled_chunks
from aqqua.train.ranks import Ranks

SHAPES = ((64, 1000), (64, 10_000), (384, 1000), (384, 10_000))  # width, clusters
ROWS = 8192  # of an assignment
GROUPS, LARGE_WIDTH, LARGE_CLUSTERS, SAMPLED = 1000, 64, 1000, 512_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8, help="of each shape")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--folder", type=Path, help="of the large file")
    parser.add_argument("--vectors", type=int, default=100_000_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.large:
        if arguments.folder is None:
            parser.error("--large needs --folder, for its file")
        result = large(arguments.folder, arguments.vectors)
        packages = ["torch"]
    else:
        faiss = imported_faiss()
        result = {
            "kind": "beside",
            "product": nearest.PRODUCT,
            "assign": [assignments(faiss, *shape, arguments.seconds) for shape in SHAPES],
            "quality": quality(faiss),
        }
        core = result["assign"][-1]["ours_gflop_s"]  # of the shape most like it
        result["cost_of_3e9"] = list(ClustersCost(core_gflop_s=core).lines())
        packages = ["torch", "scikit-learn", *(["faiss-cpu"] if faiss else [])]
    for name, value in result.items():
        for line in value if isinstance(value, list) else [value]:
            print(f"{name:16} {line}")
    append_result("curate", {**result, **machine(*packages)})


def imported_faiss() -> Any:
    """The module with one thread; None where it is not installed."""
    try:
        import faiss
    except ModuleNotFoundError:
        return None
    faiss.omp_set_num_threads(1)
    return faiss


def assignments(faiss: Any, width: int, clusters: int, seconds: float) -> dict[str, Any]:
    """Vectors assigned per second of one core, to random centroids."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import pairwise_distances_argmin_min

    draw = np.random.default_rng(0)
    x = draw.normal(size=(ROWS, width)).astype(np.float32)
    c = draw.normal(size=(clusters, width)).astype(np.float32)
    half, find = x.astype(np.float16), Nearest(torch.from_numpy(c))
    fitted = KMeans(clusters, init=c, n_init=1, max_iter=1).fit(c)
    fitted.cluster_centers_ = c
    chains: dict[str, Callable[[], object]] = {
        "ours": lambda: find(torch.from_numpy(x)),
        "ours_float16": lambda: find(floats_of(half, str, normalise=False)),
        "sklearn": lambda: pairwise_distances_argmin_min(x, c),
        "sklearn_predict": lambda: fitted.predict(x),
    }
    if faiss is not None:
        index = faiss.IndexFlatL2(width)
        index.add(c)
        chains["faiss"] = lambda: index.search(x, 1)
    label = find(torch.from_numpy(x))[0].numpy()
    best = best_of_rounds(chains, seconds)
    rate = {name: round(ROWS / best[name]) if name in best else None for name in (*chains, "faiss")}
    theirs = {name: agreement(label, chains[name]()) for name in ("sklearn", "faiss") if name in chains}
    return {
        "width": width,
        "clusters": clusters,
        **rate,
        "ours_gflop_s": round(2 * width * clusters * ROWS / best["ours"] / 1e9, 1),
        **{f"of_{name}": round(best[name] / best["ours"], 2) for name in best if name != "ours"},
        **{f"same_as_{name}": share for name, share in theirs.items()},
    }


def agreement(label: np.ndarray, answer: Any) -> float:
    """Share of labels that another one gives too; its answer is labels and distances in some order."""
    labels = next(np.asarray(part).ravel() for part in answer if np.issubdtype(part.dtype, np.integer))
    return round(float((labels == label).mean()), 6)


def quality(faiss: Any, rows: int = 50_000, clusters: int = 200, iterations: int = 10) -> dict[str, Any]:
    """Mean squared distance after as many iterations: from our start, and each from its own."""
    from sklearn.cluster import KMeans

    x = next(mixture(rows, 0))[0].astype(np.float32)
    vectors, ranks = Prepared(ArrayVectors(x)), Ranks()
    own = seed_centroids(vectors, clusters, 0, 0, ranks)
    start = own.numpy()
    config = KMeansConfig(iterations=iterations, tolerance=0)

    def ours(first: torch.Tensor) -> np.ndarray:
        return lloyd(vectors, first, config, ranks).centroids_KD.numpy()

    def sklearn(first: Any) -> np.ndarray:
        return (
            KMeans(clusters, init=first, n_init=1, max_iter=iterations, tol=0, random_state=0)
            .fit(x)
            .cluster_centers_
        )

    found = {
        "ours": ours(own),
        "sklearn_from_our_start": sklearn(start),
        "sklearn": sklearn("k-means++"),
    }
    if faiss is not None:
        for name, first in (("faiss_from_our_start", start), ("faiss", None)):
            fitted = faiss.Kmeans(
                x.shape[1], clusters, niter=iterations, max_points_per_centroid=rows, seed=0
            )
            fitted.train(x, init_centroids=first)
            found[name] = fitted.centroids
    means = {name: mean_squared(x, np.ascontiguousarray(c, np.float32)) for name, c in found.items()}
    return {"rows": rows, "clusters": clusters, "iterations": iterations, **means}


def mean_squared(x: np.ndarray, c: np.ndarray) -> float:
    return round(float(Nearest(torch.from_numpy(c))(torch.from_numpy(x))[1].double().mean()), 5)


def mixture(vectors: int, seed: int, rows: int = 1 << 18) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Vectors float16 of a thousand planted groups whose sizes differ 1000 times, and the group of each."""
    draw = torch.Generator().manual_seed(seed)
    centre = torch.randn(GROUPS, LARGE_WIDTH, generator=draw)
    upto = torch.logspace(0, 3, GROUPS, dtype=torch.float64).cumsum(0)
    for first in range(0, vectors, rows):
        count = min(rows, vectors - first)
        group = torch.searchsorted(upto, torch.rand(count, generator=draw, dtype=torch.float64) * upto[-1])
        x = torch.randn(count, LARGE_WIDTH, generator=draw).mul_(0.25).add_(centre[group])
        yield x.half().numpy(), group.numpy().astype(np.uint16)


def large(folder: Path, vectors: int) -> dict[str, Any]:
    """Sampled training and streamed assignment of a file of vectors."""
    path, groups = folder / "aqqua-bench.vectors", folder / "aqqua-bench.groups"
    seconds: dict[str, float] = {}
    try:
        with timed(seconds, "generate"), path.open("xb") as x_file, groups.open("xb") as group_file:
            for x, group in mixture(vectors, 1):
                x_file.write(x.tobytes())
                group_file.write(group.tobytes())
        source = RawVectors(path, LARGE_WIDTH)
        with timed(seconds, "train"):
            found = train(source)
        with timed(seconds, "assign"):
            table, inertia = assign_all(source, groups, found.centroids_KD)
    finally:
        path.unlink(missing_ok=True)
        groups.unlink(missing_ok=True)
    return {
        "kind": "large",
        "vectors": vectors,
        "width": LARGE_WIDTH,
        "clusters": LARGE_CLUSTERS,
        "sampled": min(SAMPLED, vectors),
        "iterations": len(found.history) - 1,
        "file_gb": round(vectors * LARGE_WIDTH * 2 / 1e9, 3),
        "peak_resident_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **{f"{name}_s": round(value, 1) for name, value in seconds.items()},
        "assign_vectors_s": round(vectors / seconds["assign"]),
        "mean_squared": round(inertia / vectors, 5),
        "mean_squared_planted": LARGE_WIDTH * 0.25**2,
        "purity": round(float(table.max(1).sum() / vectors), 4),
        "groups_found": len(np.unique(table.argmax(1)[table.sum(1) > 0])),
    }


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Notes the wall-clock time of a block."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def train(source: RawVectors) -> Any:
    """k-means of whole chunks in random order, as many as the sample wants."""
    chosen = islice(sampled_chunks(source.chunks, 0, 0), -(-SAMPLED // len(source.chunk(0))))
    sample = Prepared(ArrayVectors(np.concatenate([source.chunk(chunk) for chunk in chosen])))
    start = seed_centroids(sample, LARGE_CLUSTERS, 0, 0, Ranks())
    return lloyd(sample, start, KMeansConfig(), Ranks())


def assign_all(source: RawVectors, groups: Path, centroids: torch.Tensor) -> tuple[np.ndarray, float]:
    """How many vectors of each group are in each cluster [K, groups], and the sum of squared distances."""
    find, vectors, inertia = Nearest(centroids), Prepared(source), 0.0
    table = np.zeros(len(centroids) * GROUPS, np.int64)
    for first, x in vectors.own(Ranks()):
        label, squared = find(x)
        group = np.fromfile(groups, np.uint16, len(x), offset=2 * first)
        table += np.bincount(label.numpy() * GROUPS + group, minlength=len(table))
        inertia += float(squared.sum(dtype=torch.float64))
    return table.reshape(-1, GROUPS), inertia


if __name__ == "__main__":
    main()
