"""Does curation balance classes it knows nothing of? Effective number of classes under weights and without.

    python bench/curate_balance.py --data DATA --folder FOLDER [--run RUN ...]

Real image sets are mixed into one dataset, embedded, clustered and weighed by the very functions of
aqqua.curate; labels are looked at afterwards alone. A class is the text of its label, of any instrument.
Two mixes, as the sets DATA holds are training sets that people have levelled by hand:

- `as_is`: all their images. ISIIS's 121 classes have at most 7 % each, so uniform sampling is near the best
  that any weights could do.
- `natural`: within each instrument the five largest classes are whole and the others are thinned, each by the
  same factor, until the five hold 91 %: what five classes hold of WHOI-Plankton as it was taken.

Embeddings are 64 principal components of thumbnails of 32 × 32 pixels, and the teacher's of each RUN; each is
clustered as it is (length one) and whitened. Of each: effective classes, shares of the five most frequent,
their ratio with a bootstrap interval over images, and the ratio of some seeds of the clusters, the middle one
of which is told. Settings were chosen on other mixtures than these (aqqua.curate.clusters.hierarchy).
Appends a JSON line for each mix to bench/results/cpu/curate_balance.jsonl.
"""

import argparse
import json
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent / "data"))
from measure import append_result, machine

from aqqua.curate.balance.census import WeightsConfig
from aqqua.curate.balance.weights import effective, make_weights
from aqqua.curate.clusters.assign import ClustersConfig, cluster_images
from aqqua.evaluate.contenders.pixels import pixel_features
from aqqua.evaluate.models import load_embedder
from aqqua.instruments.detect import find
from aqqua.instruments.record import Found, ReadOptions, Record
from aqqua.instruments.tree import Tree, open_tree
from aqqua.store.columns import Columns, write_columns
from aqqua.store.read import Dataset
from aqqua.store.weights import SamplingWeights
from aqqua.store.write import ingest

SETS = (
    ("isiis-ndsb.zip", "ISIIS"),
    ("pwssc.zip", "PWSSC"),
    ("flowcam-vickot.zip", "FlowCam"),
    ("uvp6/uvpec.zip", "UVP6"),
    ("ifcb/cencoos-roi-jpg.zip", "IFCB"),
    ("ifcb/smhi-ifcb134", "IFCB"),
    ("zooscan/zooimage", "ZooImage"),
    ("planktonimager/2020_10_21-short.zip", "PlanktonImager"),
    ("microscopy/lake.zip", "microscope"),
)
MIXES = ("as_is", "natural")
LARGEST, THEIR_SHARE = 5, 0.91  # classes, and what they hold of WHOI-Plankton
COMPONENTS, BAR, DRAWS = 64, 2.0, 1000
Features = Callable[[Dataset, int], np.ndarray]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of real image sets")
    parser.add_argument("--folder", type=Path, required=True, help="for datasets and embeddings; kept")
    parser.add_argument("--run", type=Path, action="append", default=[], help="of aqqua pretrain")
    parser.add_argument("--weights", default="{}", help="JSON of WeightsConfig")
    parser.add_argument("--clusters", default="{}", help="JSON of ClustersConfig")
    parser.add_argument("--mix", choices=MIXES, action="append", help="only this one")
    parser.add_argument("--seeds", type=int, default=3, help="of the clusters")
    given = parser.parse_args()
    for mix in given.mix or MIXES:
        path = given.folder / mix
        if not path.exists():
            write_mix(given.data, path, natural=mix == "natural")
        dataset = Dataset.open(path)
        found = {}
        for name, embeddings in embedded(dataset, given.folder, mix, given.run):
            for whiten in (False, True):
                kind = f"{name}, {'whitened' if whiten else 'as they are'}"
                found[kind] = judge(dataset, embeddings, whiten, given)
                sys.stderr.write(f"{mix}: {kind}: {json.dumps(found[kind])}\n")
        best = max(found.values(), key=lambda one: one["ratio"])
        row = {"mix": mix, "images": dataset.rows, "bar": BAR, "met": best["ratio"] >= BAR, "of": found}
        row = {**machine("torch", "pyarrow"), **row}
        append_result("curate_balance", row)
        sys.stdout.write(f"{json.dumps(row)}\n")


def embedded(dataset: Dataset, folder: Path, mix: str, runs: list[Path]) -> Iterator[tuple[str, Columns]]:
    """Names and columns of embeddings, made where they are not there yet."""
    makers: dict[str, Callable[[], Features]] = {"pixels": lambda: principal(dataset)}
    makers |= {run.name: partial(load_embedder, run) for run in runs}
    for name, make in makers.items():
        out = folder / f"{mix}-{name}"
        if not out.exists():
            write_embeddings(dataset, out, make())
        yield name, Columns.open(out, dataset, "embeddings")


def judge(dataset: Dataset, embeddings: Columns, whiten: bool, given: argparse.Namespace) -> dict[str, Any]:
    """Clusters, weights and what the labels say of them; with each seed of the clusters."""
    clusters = ClustersConfig.model_validate_json(given.clusters)
    weights = WeightsConfig.model_validate_json(given.weights)
    found, facts = [], {}
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            out = Path(folder)
            # Without whitening as Vo et al. 2024: vectors of length one.
            config = clusters.model_copy(update={"seed": seed, "whiten": whiten, "normalise": not whiten})
            cluster_images(embeddings, out / "clusters", config)
            facts = make_weights(dataset, out / "weights", weights, {"clusters": out / "clusters"})
            found.append(balance(dataset, SamplingWeights.open(out / "weights", dataset)))
    ratios = [one["ratio"] for one in found]
    middle = found[int(np.argsort(ratios)[len(ratios) // 2])]
    return {**middle, "ratio_of_seeds": ratios, "max_weight": facts["max_weight"]}


def write_mix(data: Path, out: Path, natural: bool) -> None:
    """Ingest the sets, thinned to natural frequencies or whole."""
    listed: list[tuple[Tree, list[Found]]] = []
    for name, instrument in SETS:
        tree = open_tree(data / name)
        listed.append((tree, list(find(tree, ReadOptions(instrument=instrument), None))))
    kept = thinned(listed) if natural else None

    def wanted(tree: Tree, found: list[Found]) -> Iterator[Found]:
        for one in found:
            if kept is None or not isinstance(one, Record) or (tree.label, one.object_id) in kept:
                yield one

    ingest([(tree, wanted(tree, found)) for tree, found in listed], out, workers=1)


def thinned(listed: list[tuple[Tree, list[Found]]]) -> set[tuple[str, str]]:
    """(label of the tree, object id) of the images that stay; unlabelled ones do not."""
    classes: defaultdict[str, defaultdict[str, list[tuple[str, str]]]]
    classes = defaultdict(lambda: defaultdict(list))
    for tree, found in listed:
        for record in found:
            if isinstance(record, Record) and record.label:
                classes[record.instrument][class_of(record.label)].append((tree.label, record.object_id))
    kept: set[tuple[str, str]] = set()
    for of_class in classes.values():
        by_size = sorted(of_class, key=lambda name: (-len(of_class[name]), name))
        large = sum(len(of_class[name]) for name in by_size[:LARGEST])
        small = sum(len(of_class[name]) for name in by_size[LARGEST:])
        factor = min(1.0, large * (1 - THEIR_SHARE) / THEIR_SHARE / small) if small else 1.0
        for rank, name in enumerate(by_size):
            drawn = sorted(of_class[name], key=lambda image: blake2b("/".join(image).encode()).digest())
            kept.update(drawn if rank < LARGEST else drawn[: max(1, round(factor * len(drawn)))])
    return kept


def class_of(label: str) -> str:
    """The text of a label: no EcoTaxa number, no case, underscores as spaces."""
    return re.sub(r"__\d+$", "", label).lower().replace("_", " ")


def principal(dataset: Dataset) -> Features:
    """Principal components of thumbnails, found from the whole dataset."""
    pixels = np.concatenate([pixel_features(dataset, block) for block in range(dataset.blocks)])
    mean = pixels.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((pixels - mean).T))
    axes = vectors[:, ::-1][:, :COMPONENTS]
    return lambda of, block: (pixel_features(of, block) - mean) @ axes


def write_embeddings(dataset: Dataset, out: Path, features: Features) -> Columns:
    """Columns of kind `embeddings`."""
    width = features(dataset, 0).shape[1]

    def table(block: int) -> pa.Table:
        values = np.ascontiguousarray(features(dataset, block), np.float16)
        return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)})

    fields = [pa.field("embedding", pa.list_(pa.float16(), width), False)]
    with write_columns(out, dataset, "embeddings", fields, {}, "bench") as writer:
        for part in range(dataset.parts):
            writer.write_part(part, table)
    return Columns.open(out, dataset, "embeddings")


def balance(dataset: Dataset, sampling: SamplingWeights) -> dict[str, Any]:
    """Effective number of classes of uniform sampling, and of weighted, over the labelled images."""
    names: list[str] = []
    weights: list[float] = []
    for block in range(dataset.blocks):
        labels = dataset.table(["label"], blocks=[block])["label"].to_pylist()
        weight_I = sampling.block(block, dataset.sizes(block)).tolist()
        pairs = [(class_of(label), w) for label, w in zip(labels, weight_I, strict=True) if label]
        names += [name for name, _ in pairs]
        weights += [w for _, w in pairs]
    classes, class_I = np.unique(names, return_inverse=True)
    weight_I = np.array(weights)
    images_C, uses_C = np.bincount(class_I), np.bincount(class_I, weight_I)
    largest = np.argsort(-images_C, kind="stable")[:LARGEST]
    before, after = effective(images_C.tolist()), effective(uses_C.tolist())
    return {
        "classes": len(classes),
        "labelled": len(class_I),
        "five_largest_uniform": round(float(images_C[largest].sum() / images_C.sum()), 3),
        "five_largest_weighted": round(float(uses_C[largest].sum() / uses_C.sum()), 3),
        "uniform": round(before, 2),
        "weighted": round(after, 2),
        "ratio": round(after / before, 3),
        "ratio_95": interval(class_I, weight_I),
    }


def interval(class_I: np.ndarray, weight_I: np.ndarray) -> list[float]:
    """Of the ratio, by drawing the labelled images again, as many with repeats; 95 %."""
    draw, ratios = np.random.default_rng(0), []
    for _ in range(DRAWS):
        times_I = np.bincount(draw.integers(0, len(class_I), len(class_I)), minlength=len(class_I))
        before, after = (np.bincount(class_I, times_I * w_I) for w_I in (1.0, weight_I))
        ratios.append(effective(after.tolist()) / effective(before.tolist()))
    return [round(float(q), 3) for q in np.quantile(ratios, [0.025, 0.975])]


if __name__ == "__main__":
    main()
