"""How fast raw images become a dataset, how small it is, and how fast it is read back.

    python bench/data/ingest.py --input isiis-ndsb.zip --instrument ISIIS --workers 1 2

Reads the input as `aqqua ingest` does. Prints one JSON line per number of workers and appends it to
bench/results/cpu/ingest.jsonl; the commit of a tree with changes ends in "-dirty". Before anything is
written down, every pixel of the dataset is compared with a direct decode of its file, and the
datasets of all numbers of workers must have the same bytes.

Bars: 3,000 images/s on 2 cores; a dataset no larger than the same pixels as PNG.
"""

import argparse
import io
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import append_result, machine
from PIL import Image

from aqqua.instruments.detect import find
from aqqua.instruments.image import EncodedImage
from aqqua.instruments.record import ReadOptions
from aqqua.instruments.tree import Tree, open_tree
from aqqua.store.read import Dataset
from aqqua.store.write import ingest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, required=True, help="zip or folder of <class>/<image>")
    parser.add_argument("--instrument", help="of all images, as in the instrument registry")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--png-images", type=int, default=4096, help="images also stored as PNG, for its size"
    )
    arguments = parser.parse_args()

    rows, checksums = [], set()
    for workers in arguments.workers:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(arguments.input, arguments.instrument, workers, Path(folder) / "dataset")
            dataset = Dataset.open(Path(folder) / "dataset")
            checksums.add(tuple(part["sha256"] for part in dataset.manifest["parts"]))
            row |= read_back(dataset)
            check_pixels(dataset, open_tree(arguments.input))
            row |= png_bytes(dataset, arguments.png_images)
        rows.append(row)
    if len(checksums) != 1:
        raise SystemExit(f"ingest: workers {arguments.workers} must make the same bytes, got {checksums}")
    for row in rows:
        result = {**machine("pyarrow", "pillow"), "input": arguments.input.name, **row}
        print(json.dumps(result))
        append_result("ingest", result)


def measure(path: Path, instrument: str | None, workers: int, out: Path) -> dict[str, object]:
    """One ingest as a user runs it: looking for readers, listing and the start of the workers included.

    images_per_core_s counts processor time of all processes: it holds on a busy machine too.
    """
    first_write: list[float] = []

    def watch(stage: str, _done: int, _total: int | None) -> None:
        if stage == "write" and not first_write:
            first_write.append(time.perf_counter())

    start, used = time.perf_counter(), sum(os.times()[:4])
    tree = open_tree(path)
    found = find(tree, ReadOptions(instrument=instrument))
    report = ingest([(tree, found)], out, workers=workers, progress=watch)
    seconds, used = time.perf_counter() - start, sum(os.times()[:4]) - used
    return {
        "workers": workers,
        "images": report.accepted,
        "quarantined": report.quarantined,
        "seconds": round(seconds, 3),
        "seconds_pass_1": round(first_write[0] - start, 3),
        "images_per_s": round(report.accepted / seconds),
        "images_per_core_s": round(report.accepted / used),
        "bytes_per_image": round(report.dataset_bytes / report.accepted, 1),
        "original_bytes_per_image": round(report.original_bytes / report.read, 1),
        "raw_bytes_per_image": round(report.pixel_bytes / report.accepted, 1),
    }


def read_back(dataset: Dataset) -> dict[str, int]:
    """Images per second of one thread, page cache warm: whole blocks, and every image taken out."""
    start = time.perf_counter()
    for number in range(dataset.blocks):
        dataset.block(number)
    blocks = time.perf_counter()
    for block in dataset.iter_blocks():
        for i in range(len(block)):
            block.pixels(i)
    images = time.perf_counter()
    return {
        "read_blocks_images_per_s": round(dataset.rows / (blocks - start)),
        "read_images_per_s": round(dataset.rows / (images - blocks)),
    }


def check_pixels(dataset: Dataset, tree: Tree) -> None:
    for number, block in enumerate(dataset.iter_blocks()):
        sources = dataset.table(["source"], [number])["source"].to_pylist()
        for i, source in enumerate(sources):
            if not np.array_equal(block.pixels(i), EncodedImage(source).load(tree)):
                raise SystemExit(f"ingest: pixels must be those of the file, got others for {source}")


def png_bytes(dataset: Dataset, images: int) -> dict[str, float]:
    """Mean PNG size of the first images beside the mean bytes of their own blocks in the dataset."""
    pixels = [
        block.pixels(i)
        for block in (dataset.block(b) for b in range(min(dataset.blocks, -(-images // 512))))
        for i in range(len(block))
    ][:images]
    sizes = {False: 0, True: 0}
    for optimize in sizes:
        for image in pixels:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG", optimize=optimize)
            sizes[optimize] += file.tell()
    raw = sum(image.nbytes for image in pixels) / len(pixels)
    return {
        "png_images": len(pixels),
        "png_raw_bytes_per_image": round(raw, 1),
        "png_bytes_per_image": round(sizes[False] / len(pixels), 1),
        "png_optimized_bytes_per_image": round(sizes[True] / len(pixels), 1),
    }


if __name__ == "__main__":
    main()
