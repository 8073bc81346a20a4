"""How fast an image comes from its original file, and how fast from stored pixels, a core.

    python bench/data/encoded.py --input isiis-ndsb.zip --instrument ISIIS

Ingests the input twice, without and with --keep-encoded; both datasets must hold the same images. Then the
first blocks are taken again and again:

- pixels: whole blocks of the dataset that stores pixels, every image taken out.
- encoded: the same of the dataset that keeps files: read, checked and decoded as in training.
- pillow, cv2, simplejpeg: the files alone, each in memory, by bare calls into arrays; no Parquet, no checks.
  Of each, the share of images with just the pixels of the dataset. What is not installed is 'not run'.

Processor time of one thread, best round of each, chains in turn; page cache warm. Appends to
bench/results/cpu/encoded.jsonl.
"""

import argparse
import importlib
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from measure import append_result, best_of_rounds, machine
from PIL import Image, features

from aqqua.ingest import ingest_paths
from aqqua.instruments.record import ReadOptions
from aqqua.store.read import Dataset
from aqqua.store.write import IngestReport

Decode = Callable[[bytes], np.ndarray]
CODECS = ("pillow", "cv2", "simplejpeg")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, required=True, help="zip or folder of image files")
    parser.add_argument("--instrument", help="of all images, as in the instrument registry")
    parser.add_argument("--blocks", type=int, default=8, help="of 512 images, that are timed")
    parser.add_argument("--seconds", type=float, default=40, help="of timing, all chains together")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reports = ingest_twice(arguments.input, arguments.instrument, Path(folder))
        row = measure(reports, arguments.blocks, arguments.seconds)
    versions = {"libjpeg_turbo": features.version("libjpeg_turbo")}
    result = {**machine("pyarrow", "pillow"), **versions, "input": arguments.input.name, **row}
    print(json.dumps(result, indent=1))
    append_result("encoded", result)


def ingest_twice(source: Path, instrument: str | None, folder: Path) -> list[IngestReport]:
    """The same files with pixels stored, then with the files kept."""
    options = ReadOptions(instrument=instrument)
    return [
        ingest_paths([str(source)], folder / str(keep), options, workers=1, keep_encoded=keep)
        for keep in (False, True)
    ]


def measure(reports: Sequence[IngestReport], blocks: int, seconds: float) -> dict[str, object]:
    """Sizes of the two datasets and the speed of each way to the pixels."""
    plain, kept = (Dataset.open(report.path) for report in reports)
    blocks = min(blocks, plain.blocks)
    pixels = taken(plain, blocks)
    if any(not same(a, b) for a, b in zip(pixels, taken(kept, blocks), strict=True)):
        raise SystemExit("encoded: both datasets must hold the same images; no timing")
    table = kept.table(["encoded", "format"], range(blocks))
    if table["encoded"].null_count:
        raise SystemExit(
            f"encoded: every image must have its file, got {table['encoded'].null_count} without"
        )
    files = table["encoded"].to_pylist()
    chains: dict[str, Callable[[], object]] = {
        "pixels": lambda: taken(plain, blocks),
        "encoded": lambda: taken(kept, blocks),
    }
    shares, not_run = {}, {}
    for name in CODECS:
        try:
            decode = codec(name)
        except ModuleNotFoundError as error:
            not_run[name] = str(error)
            continue
        chains[name] = lambda decode=decode: [decode(file) for file in files]  # type: ignore[misc]
        found = [same(decode(file), want) for file, want in zip(files, pixels, strict=True)]
        shares[name] = sum(found) / len(found)
    best = best_of_rounds(chains, seconds)
    return {
        "images": len(files),
        "formats": sorted(set(table["format"].to_pylist())),
        "raw_bytes_per_image": round(reports[0].pixel_bytes / reports[0].accepted, 1),
        "original_bytes_per_image": round(reports[0].original_bytes / reports[0].accepted, 1),
        "pixels_dataset_bytes_per_image": round(reports[0].dataset_bytes / reports[0].accepted, 1),
        "encoded_dataset_bytes_per_image": round(reports[1].dataset_bytes / reports[1].accepted, 1),
        "images_per_core_s": {name: round(len(files) / time) for name, time in best.items()},
        "times_encoded": {name: round(best["encoded"] / time, 2) for name, time in best.items()},
        "share_of_equal_images": shares,
        "not_run": not_run,
    }


def taken(dataset: Dataset, blocks: int) -> list[np.ndarray]:
    """Every image of the first blocks."""
    return [block.pixels(i) for block in map(dataset.block, range(blocks)) for i in range(len(block))]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b)


def codec(name: str) -> Decode:
    """The bare decoder of a library, to grey or RGB as the file has it.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if name == "pillow":
        return lambda data: np.asarray(Image.open(io.BytesIO(data)))
    module = importlib.import_module(name)
    if name == "cv2":
        module.setNumThreads(1)
        return lambda data: _rgb(module.imdecode(np.frombuffer(data, np.uint8), module.IMREAD_UNCHANGED))

    def simplejpeg(data: bytes) -> np.ndarray:
        colour = "GRAY" if module.decode_jpeg_header(data)[2] == "Gray" else "RGB"
        return np.squeeze(module.decode_jpeg(data, colorspace=colour), axis=-1 if colour == "GRAY" else ())

    return simplejpeg


def _rgb(bgr: np.ndarray) -> np.ndarray:
    return bgr if bgr.ndim == 2 else bgr[..., ::-1]


if __name__ == "__main__":
    main()
