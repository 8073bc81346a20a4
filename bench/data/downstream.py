"""Predictions of a million images to carbon and to samples: seconds and memory; and what a size costs.

    python bench/data/downstream.py --rows 1000000 --folder SCRATCH [--dataset DATASET]

The tables are made here: 50 classes, scores that leave some doubt, 500 samples in the order of a shuffled
dataset. Peak memory is of the whole process, NumPy and Arrow included, each verb in a process of its own.
With a dataset, sizes are measured over its first images. Appends a JSON line to
bench/results/cpu/downstream.jsonl.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from measure import append_result, machine

from aqqua.downstream.carbon.monte_carlo import Uncertainty
from aqqua.downstream.carbon.settings import CarbonSettings
from aqqua.downstream.carbon.table import open_carbon, write_carbon
from aqqua.downstream.predictions import KEPT, Predictions, PredictionsWriter
from aqqua.downstream.samples.table import write_samples
from aqqua.downstream.size.measure import measure
from aqqua.downstream.size.table import COLUMNS, open_sizes
from aqqua.downstream.tables import ROW_GROUP, new_table, schema_of
from aqqua.store.read import Dataset
from aqqua.store.schema import SCHEMA
from aqqua.taxonomy.classes import TaxonClass, lineage_of

LINEAGES = (
    ["Chromista", "Heterokontophyta", "Bacillariophyceae"],
    ["Chromista", "Myzozoa", "Dinophyceae"],
    ["Chromista", "Ciliophora"],
    ["Chromista", "Haptophyta"],
    ["Animalia", "Arthropoda", "Copepoda"],
)
CLASSES = tuple(TaxonClass(f"class {i}", i + 1, lineage_of(list(LINEAGES[i % 5]))) for i in range(50))
SAMPLES = 500
FACTS = {"model_sha256": "0", "dataset_sha256": "0", "classifier_name": "made", "command": "made"}


def make(folder: Path, rows: int) -> None:
    """predictions.parquet and sizes.parquet of so many images."""
    draw = np.random.default_rng(0)
    schema = schema_of(COLUMNS, {"dataset_sha256": "0"})
    with (
        PredictionsWriter(folder / "predictions.parquet", CLASSES, FACTS) as predictions,
        new_table(folder / "sizes.parquet", schema, "bench") as sizes,
    ):
        for first in range(0, rows, ROW_GROUP):
            number = min(ROW_GROUP, rows - first)
            images = made_images(draw, first, number)
            logits = draw.normal(0, 1, (number, len(CLASSES))).astype(np.float32)
            logits[np.arange(number), draw.integers(0, len(CLASSES), number)] += 7
            scores = np.exp(logits - logits.max(axis=1, keepdims=True))
            predictions.write(images, scores / scores.sum(axis=1, keepdims=True))
            sizes.write_table(made_sizes(draw, images, schema))


def made_images(draw: np.random.Generator, first: int, number: int) -> pa.Table:
    sample = draw.integers(0, SAMPLES, number)
    names = [f"made/{first + i:09}" for i in range(number)]
    words = pa.array(sample, pa.int32())
    kinds = pa.array(np.zeros(number, np.int32))
    values: dict[str, Any] = {
        "image_id": names,
        "key": pa.array(draw.integers(0, 2**63, number, np.int64).astype(np.uint64)),
        "instrument": pa.DictionaryArray.from_arrays(kinds, ["IFCB"]),
        "sample": pa.DictionaryArray.from_arrays(words, [f"sample {i}" for i in range(SAMPLES)]),
        "group": pa.DictionaryArray.from_arrays(kinds, ["g"]),
        "time": pa.array(1_700_000_000_000 + sample * 1000, SCHEMA.field("time").type),
        **{"lat": sample / 10.0, "lon": sample / 10.0, "depth_m": np.full(number, 5, np.float32)},
        **{"volume_l": np.full(number, 0.005, np.float32), "um_per_px": np.full(number, 0.3, np.float32)},
        **{"source": names, "label": pa.nulls(number, pa.string()), "label_status": ["unlabelled"] * number},
    }
    return pa.table([values[name] for name in KEPT], schema=pa.schema([SCHEMA.field(name) for name in KEPT]))


def made_sizes(draw: np.random.Generator, images: pa.Table, schema: pa.Schema) -> pa.Table:
    number = len(images)
    pixels = draw.integers(50, 20_000, number)
    area = pixels * 0.09
    esd = 2 * np.sqrt(area / np.pi)
    volume = np.pi / 6 * esd**3
    word = pa.DictionaryArray.from_arrays(pa.array(np.zeros(number, np.int32)), ["border noise"])
    flag = pa.DictionaryArray.from_arrays(pa.array(np.zeros(number, np.int32)), [""])
    values = {
        "um_per_px": np.full(number, 0.3),
        "area_um2": area,
        "area_px": pixels,
        "method": word,
        "flag": flag,
    }
    values |= {name: volume for name in schema.names if name.startswith("volume")}
    values |= {"image_id": images["image_id"], "key": images["key"]}
    return pa.table([values.get(name, esd) for name in schema.names], schema=schema)


def in_a_process(work: Callable[[Path, int], None], folder: Path, draws: int) -> dict[str, float]:
    """Seconds and peak memory of the work alone."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, folder, draws))


def _measured(work: Callable[[Path, int], None], folder: Path, draws: int) -> dict[str, float]:
    start = time.process_time()
    work(folder, draws)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_s": round(time.process_time() - start, 1), "peak_mb": round(peak)}


def carbon(folder: Path, draws: int) -> None:
    write_carbon(
        Predictions.open(folder / "predictions.parquet"),
        open_sizes(folder / "sizes.parquet"),
        folder / "carbon.parquet",
        CarbonSettings(uncertainty=Uncertainty(draws=draws)),
    )


def samples(folder: Path, _draws: int) -> None:
    write_samples(
        Predictions.open(folder / "predictions.parquet"),
        folder / "samples.parquet",
        open_sizes(folder / "sizes.parquet"),
        open_carbon(folder / "carbon.parquet"),
    )


def sizes_per_s(dataset: Dataset, most: int = 500) -> dict[str, float]:
    """Images measured in a second of one core, and their mean pixels."""
    block = dataset.block(0)
    images = [block.pixels(i) for i in range(min(most, len(block)))]
    start = time.thread_time()
    for pixels in images:
        measure(pixels)
    spent = time.thread_time() - start
    mean = float(np.mean([image.shape[0] * image.shape[1] for image in images]))
    return {"images_per_s": round(len(images) / spent, 1), "mean_pixels": round(mean)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="for the tables, 300 bytes a row")
    parser.add_argument("--dataset", type=Path, help="folder made by `aqqua ingest`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make(folder, options.rows)
        result: dict[str, object] = {
            "rows": options.rows,
            "classes": len(CLASSES),
            "samples": SAMPLES,
            "draws": options.draws,
            "carbon": in_a_process(carbon, folder, options.draws),
            "samples_table": in_a_process(samples, folder, options.draws),
        }
    if options.dataset:
        result["sizes"] = sizes_per_s(Dataset.open(options.dataset))
    append_result("downstream", {**machine("pyarrow", "scipy", "scikit-image"), **result})


if __name__ == "__main__":
    main()
