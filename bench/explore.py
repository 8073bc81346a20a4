"""Building an atlas: time and memory, stage by stage, on images and embeddings made for it.

    python bench/explore.py --folder FOLDER                     20,000 points
    python bench/explore.py --folder FOLDER --points 100000
    python bench/explore.py --folder FOLDER --points 1000000 --landmarks 50000

Images are small blobs on their own background, of four instruments, two with a known scale; embeddings are a
mixture of 120 kinds, which are their labels and whose sizes differ a hundred times; each instrument shifts
them by its own amount, as real ones do: most kinds are seen by all four. They are written to
FOLDER/explore, which must not be there yet, and removed. Times are on the wall, from the first word of a
stage to the first of the next; processor time is that of all threads. What UMAP compiles at its first use is
timed apart (`warm_seconds`). Resident memory is the highest of this process up to the end of a stage; it also
made the images.

Appends a JSON line to bench/results/cpu/explore.jsonl.
"""

import argparse
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent / "data"))
from measure import append_result, machine

from aqqua.explore.atlas.build import build_atlas
from aqqua.explore.atlas.inputs import AtlasConfig, AtlasInputs
from aqqua.explore.atlas.landmarks import landmarks_path
from aqqua.explore.atlas.neighbours import Points, Want, nearest
from aqqua.explore.atlas.umap_map import UmapConfig, fit_umap
from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.columns import write_columns
from aqqua.store.read import Dataset
from aqqua.store.write import ingest

KINDS = 120
SHIFT = 0.5  # of an instrument; the centres of kinds vary by 1
INSTRUMENTS = (("A", None), ("B", 10.6), ("C", None), ("D", 73.0))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--landmarks", type=int, default=100_000)
    parser.add_argument("--exact-pairs", type=int, help="force cells beyond so many")
    given = parser.parse_args()
    folder = given.folder / "explore"
    folder.mkdir(parents=True)
    try:
        dataset = make_dataset(folder / "dataset", given.points)
        make_embeddings(folder / "embeddings", dataset, given.width)
        compiled = warm()
        report({"warm_seconds": round(compiled, 1), **measure(folder, dataset, given)}, given)
    finally:
        shutil.rmtree(folder)


class Drawn:
    """A blob of random size, place and grey, drawn when it is asked for."""

    def __init__(self, number: int) -> None:
        self.number = number

    def load(self, _: Tree) -> np.ndarray:
        """Its pixels."""
        random = np.random.default_rng([self.number, 1])
        height, width = random.integers(24, 120, 2)
        y, x = np.mgrid[:height, :width]
        far = ((y - height / 2) / height) ** 2 + ((x - width / 2) / width) ** 2
        grey = 230 - random.integers(60, 200) * np.exp(-far * random.uniform(10, 60))
        return (grey + random.normal(scale=3, size=grey.shape)).clip(0, 255).astype(np.uint8)


def make_dataset(folder: Path, images: int) -> Dataset:
    """Images written by the store itself."""
    records = (record(i, kind) for i, kind in enumerate(kinds_of(images).tolist()))
    ingest([(Tree(root=Path("made"), label="made"), records)], folder, workers=1)
    return Dataset.open(folder)


def kinds_of(images: int) -> np.ndarray:
    """Kind of each image: their sizes fall by Zipf's law."""
    share = np.cumsum(1 / np.arange(1, KINDS + 1))
    place = np.random.default_rng(0).random(images)
    return np.searchsorted(share / share[-1], place).clip(max=KINDS - 1)


def record(number: int, kind: int) -> Record:
    name, scale = INSTRUMENTS[number % len(INSTRUMENTS)]
    return Record(
        object_id=str(number),
        pixels=Drawn(number),
        instrument=name,
        um_per_px=scale,
        sample=f"s{number % 50}",
        group=f"g{number % 500}",
        depth_m=float(number % 300),
        label=f"kind {kind:03}",
        label_status="folder",
        source=f"{number}.png",
    )


def make_embeddings(folder: Path, dataset: Dataset, width: int) -> None:
    """A mixture: a centre for each kind, a shift for each instrument, and noise of 32 directions besides."""
    random = np.random.default_rng(1)
    centre, mixing = random.normal(size=(KINDS, width)), random.normal(size=(32, width))
    shift = random.normal(scale=SHIFT, size=(len(INSTRUMENTS), width))
    item = pa.list_(pa.field("item", pa.float16(), False), width)
    names = dataset.table(["image_id"])["image_id"].to_pylist()
    number_I = np.array([int(name.removeprefix("made/")) for name in names])
    kind_I, instrument_I = kinds_of(len(number_I))[number_I], number_I % len(INSTRUMENTS)
    full = dataset.rows_of(0)

    def table_of(block: int) -> pa.Table:
        part = slice(block * full, (block + 1) * full)
        kind, drawn = kind_I[part], np.random.default_rng([block, 2])
        rows = centre[kind] + shift[instrument_I[part]]
        rows += drawn.normal(scale=0.6, size=(len(kind), 32)) @ mixing / 3
        rows = (rows + drawn.normal(scale=0.3, size=rows.shape)).astype(np.float16)
        return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), type=item)})

    facts = {"model_sha256": None, "pooling": "cls"}
    with write_columns(
        folder, dataset, "embeddings", [pa.field("embedding", item, False)], facts, "bench"
    ) as w:
        for part in range(dataset.parts):
            w.write_part(part, table_of)


def warm() -> float:
    """Seconds of the import and the first fit of UMAP: what is compiled at its first use."""
    start = time.perf_counter()
    unit = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    points = Points(unit / np.linalg.norm(unit, axis=1, keepdims=True), np.zeros(300, np.int64))
    found = nearest(points, points, [Want(14)], same=np.arange(300))[0]
    fit_umap(points.unit_BR, found, unit[:, :2], UmapConfig.model_validate({"epochs": 20}), 0)
    return time.perf_counter() - start


class Stages:
    """When each stage began, and what the process had used by then."""

    def __init__(self) -> None:
        self.began: list[tuple[str, float, float]] = []
        self.peaks: list[int] = []  # when a stage ended

    def __call__(self, stage: str, _done: int, _total: int) -> None:
        if not self.began or self.began[-1][0] != stage:
            if self.began:
                self.peaks.append(resident_mb())
            self.began.append((stage, time.perf_counter(), time.process_time()))
            sys.stderr.write(f"{stage}\n")  # such a run is long

    def measured(self) -> dict[str, dict[str, float]]:
        """Of each stage: seconds on the wall, of all threads, and the highest resident memory by its end."""
        ends = [(wall, processor) for _, wall, processor in self.began[1:]]
        ends.append((time.perf_counter(), time.process_time()))
        found: dict[str, dict[str, float]] = {}
        all_of = zip(self.began, ends, [*self.peaks, resident_mb()], strict=True)
        for (stage, wall, processor), (wall_end, processor_end), peak in all_of:
            one = found.setdefault(stage, {"seconds": 0.0, "processor_seconds": 0.0, "peak_resident_mb": 0})
            one["seconds"] = round(one["seconds"] + wall_end - wall, 1)
            one["processor_seconds"] = round(one["processor_seconds"] + processor_end - processor, 1)
            one["peak_resident_mb"] = peak
        return found


def resident_mb() -> int:
    """The most that this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure(folder: Path, dataset: Dataset, given: argparse.Namespace) -> dict[str, object]:
    """Build it once."""
    umap = {"landmarks": given.landmarks}
    config = AtlasConfig.model_validate({"umap": umap, "exact_pairs": given.exact_pairs})
    out, stages = folder / "atlas.parquet", Stages()
    wall, processor = time.perf_counter(), time.process_time()
    facts = build_atlas(AtlasInputs(dataset, folder / "embeddings", out), config, stages)
    return {
        "seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "stages": stages.measured(),
        "peak_resident_mb": resident_mb(),
        "atlas_mb": round(out.stat().st_size / 1e6, 1),
        "landmarks_mb": round(landmarks_path(out).stat().st_size / 1e6, 1),
        "searches": facts["searches"],
        "numbers": facts["numbers"],
    }


def report(row: dict[str, Any], given: argparse.Namespace) -> None:
    """A line for each stage, then the rest; and a row of the results."""
    for stage, used in row["stages"].items():
        shown = "   ".join(f"{name} {value}" for name, value in used.items())
        print(f"{given.points:9} points   {stage:12}{shown}")
    for name, value in row.items():
        if name != "stages":
            print(f"{name:20}{value}")
    about = {"points": given.points, "width": given.width, "landmarks": min(given.landmarks, given.points)}
    append_result("explore", {**machine("torch", "umap-learn", "numba"), **about, **row})


if __name__ == "__main__":
    main()
