"""What the search for near duplicates costs: of a whole dataset, and how time grows in one huge group.

    python bench/data/candidates.py --whole DATASET
    python bench/data/candidates.py --synthetic N... [--threads T]

--whole searches a whole dataset as it is: processor time of candidates and of comparing pixels, by one
thread, and that of the specification in Python on every hundredth pair. --synthetic: candidates among N made
descriptors of one group and like sizes, one in a hundred a copy of another; of the last two N, the exponent
with which processor time grows. The candidates themselves grow with the square of N, as they do among real
images of one kind. Appends a JSON line to bench/results/cpu/duplicates.jsonl.
"""

import argparse
import time
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measure import append_result, machine

from aqqua.curate.copies.cells import CellSpill
from aqqua.curate.copies.leaves import cell_candidates
from aqqua.curate.copies.looks import (
    LOOK,
    SIGNATURE_NAMES,
    can_be_near,
    contents_of,
    first_rows,
    looks_of,
    spill_pixels,
    verified,
)
from aqqua.curate.copies.verify import SamePicture, agreement
from aqqua.curate.images.descriptor import GRID, quantised
from aqqua.curate.images.signatures import write_signatures
from aqqua.store.read import Dataset


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--whole", type=Path, help="dataset made by `aqqua ingest`, searched as it is")
    parser.add_argument("--synthetic", type=int, default=[], nargs="+", help="numbers of descriptors")
    parser.add_argument("--threads", type=int, default=1, help="of a synthetic search")
    arguments = parser.parse_args()
    rows = []
    if arguments.whole:
        with TemporaryDirectory() as scratch:
            found = whole(Dataset.open(arguments.whole), Path(scratch))
        rows.append({"whole": arguments.whole.name, **found})
        print(rows[-1], flush=True)
    before: tuple[int, float] | None = None
    for count in arguments.synthetic:
        found = synthetic(count, arguments.threads)
        spent = float(str(found["s"]))
        if before is not None:
            found["exponent"] = round(log(spent / before[1]) / log(count / before[0]), 2)
        before = count, spent
        rows.append({"synthetic": count, **found})
        print(rows[-1], flush=True)
    append_result("duplicates", {**machine("pyarrow", "pillow"), "rows": rows})


def whole(dataset: Dataset, scratch: Path) -> dict[str, object]:
    start = time.process_time()
    signatures = write_signatures(dataset, scratch / "signatures")
    signed_s = time.process_time() - start
    start = time.process_time()
    looks, first, rule = CellSpill(scratch, "look", LOOK, dataset.rows), first_rows(dataset), SamePicture()
    for block in range(dataset.blocks):
        sizes, signed = dataset.sizes(block), signatures.block(block, SIGNATURE_NAMES)
        content = contents_of(dataset.table(["content"], [block]))
        records = looks_of(signed, sizes, content, first[block] + np.arange(len(sizes)))
        looks.add(records[can_be_near(signed, sizes, rule)])
    pairs = np.concatenate([found for cell in looks.cells() for found in cell_candidates(*cell, rule)])
    candidates_s = time.process_time() - start
    pairs = pairs[np.lexsort((pairs["b"], pairs["a"]))]
    pixels = spill_pixels(dataset, np.unique([pairs["a"], pairs["b"]]), scratch / "pixels.bin")
    start = time.process_time()
    same = verified(pairs, pixels, pixels, rule)
    verified_s = time.process_time() - start
    some = pairs[::100]
    start = time.process_time()
    for a, b, tried in zip(some["a"].tolist(), some["b"].tolist(), some["poses"].tolist(), strict=True):
        agreement(pixels.of(a)[0], pixels.of(b)[0], [pose for pose in tried if pose >= 0], rule)
    python_s = (time.process_time() - start) * len(pairs) / len(some)
    return {
        "images": dataset.rows,
        "signatures_s": round(signed_s, 1),
        "candidates": len(pairs),
        "candidates_s": round(candidates_s, 1),
        "verified_s": round(verified_s, 1),
        "pairs_per_s": round(len(pairs) / verified_s),
        "pairs_per_s_python": round(len(pairs) / python_s),
        "images_per_s": round(dataset.rows / (candidates_s + verified_s)),
        "same": len(same),
    }


def synthetic(count: int, threads: int) -> dict[str, object]:
    looks, rule = made_looks(count), SamePicture()
    start, begun = time.process_time(), time.perf_counter()
    pairs = 0
    copies: set[int] = set()
    for found in cell_candidates(looks, np.arange(count), rule, threads):
        pairs += len(found)
        lesser, greater = np.minimum(found["a"], found["b"]), np.maximum(found["a"], found["b"])
        copies |= set(lesser[greater == lesser + count - count // 100].tolist())
    spent = time.process_time() - start
    return {
        "threads": threads,
        "s": round(spent, 2),
        "wall_s": round(time.perf_counter() - begun, 2),
        "per_s": round(count / spent),
        "candidates": pairs,
        "copies_found": round(len(copies) / (count // 100), 4),
    }


def made_looks(count: int) -> np.ndarray:
    """Smooth pictures as of images of 38 to 42 px; the last hundredth are noisy copies of the first."""
    draw, frequencies = np.random.default_rng(0), 8
    at = np.arange(frequencies)
    cosines = np.cos((np.arange(GRID) + 0.5)[:, None] * np.pi / GRID * at)
    fall = 1 / (1 + np.hypot(at[:, None], at)) ** 1.5
    looks = np.zeros(count, LOOK)
    for begin in range(0, count, 1 << 13):
        some = looks[begin : begin + (1 << 13)]
        spectra = draw.normal(size=(len(some), frequencies, frequencies)) * fall
        some["picture"] = quantised((cosines @ spectra @ cosines.T).astype(np.float32))[0]
    looks["order"], looks["short"] = draw.integers(38, 43, count), draw.integers(34, 39, count)
    looks["mean"], looks["deviation"] = draw.normal(200, 10, count), draw.lognormal(2.5, 0.5, count)
    copies = count // 100
    looks[count - copies :] = looks[:copies]
    noise = draw.integers(-6, 7, (copies, GRID, GRID))
    looks["picture"][count - copies :] = np.clip(looks["picture"][:copies] + noise, 0, 255)
    looks["row"], looks["content"] = np.arange(count), draw.integers(0, 1 << 62, (count, 2))
    return looks


if __name__ == "__main__":
    main()
