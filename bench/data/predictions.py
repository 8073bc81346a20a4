"""How much memory a table of a million predictions takes, written and read.

    python bench/data/predictions.py

A process of its own writes made-up rows, 512 at a time as `aqqua predict` does, then reads them all. Its
peak memory is what the system saw (VmHWM), all libraries included; beside it stands a process that writes a
tenth of the rows. Appends a JSON line to bench/results/cpu/predictions.jsonl.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from measure import append_result, machine

from aqqua.downstream.predictions import FACTS, KEPT, Predictions, PredictionsWriter
from aqqua.store.schema import BLOCK_ROWS, SCHEMA
from aqqua.taxonomy.classes import TaxonClass


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=121, help="as many as ISIIS has")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)  # the measured process: where to write
    arguments = parser.parse_args()
    if arguments.child is not None:
        sys.stdout.write(json.dumps(stream(arguments.child, arguments.rows, arguments.classes)))
        return
    row = {
        "rows": arguments.rows,
        "classes": arguments.classes,
        **measured(arguments.rows, arguments.classes),
    }
    tenth = measured(arguments.rows // 10, arguments.classes)
    row["peak_mb_of_a_tenth"] = tenth["peak_mb"]
    print(json.dumps(row, indent=1))
    append_result("predictions", {**machine("pyarrow"), **row})


def measured(rows: int, classes: int) -> dict[str, Any]:
    """What a process of its own says of so many rows."""
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--rows={rows}", f"--classes={classes}", f"--child={folder}/predictions.parquet"]
        done = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def stream(path: Path, rows: int, classes: int) -> dict[str, float]:
    """Write and read a table, and say what it took."""
    before = peak_mb()
    names = [TaxonClass(f"class {c}", c + 1, (None,) * 7) for c in range(classes)]
    start = time.thread_time()
    with PredictionsWriter(path, names, dict.fromkeys(FACTS, "made")) as writer:
        for first in range(0, rows, BLOCK_ROWS):
            writer.write(*made_rows(first, min(BLOCK_ROWS, rows - first), classes))
    written = time.thread_time()
    read = sum(len(table) for table in Predictions.open(path).batches())
    if read != rows:
        raise SystemExit(f"predictions: all {rows} rows must come back, got {read}")
    return {
        "peak_mb": peak_mb(),
        "peak_mb_before": before,
        "file_mb": round(path.stat().st_size / 1e6, 1),
        "write_rows_per_s": round(rows / (written - start)),
        "read_rows_per_s": round(rows / (time.thread_time() - written)),
    }


def made_rows(first: int, count: int, classes: int) -> tuple[pa.Table, np.ndarray]:
    """Rows of a dataset that are made up, and scores of them."""
    number = np.arange(first, first + count)
    given = {
        "image_id": pa.array([f"made/image{n:09}" for n in number]),
        "key": pa.array(number.astype(np.uint64)),
        "source": pa.array([f"bin{n // 1000}.roi#{n}" for n in number]),
        "label_status": pa.array(["unlabelled"] * count),
    }
    words = {name: f"{name} {first // 20_000}" for name in ("instrument", "sample", "group")}
    given |= {name: pa.array([word] * count).dictionary_encode() for name, word in words.items()}
    columns = [given.get(name, pa.nulls(count, SCHEMA.field(name).type)) for name in KEPT]
    logits = np.random.default_rng(first).normal(0, 3, (count, classes)).astype(np.float32)
    odds = np.exp(logits)
    return pa.table(columns, names=list(KEPT)), odds / odds.sum(axis=1, keepdims=True)


def peak_mb() -> int:
    """Most memory that this process ever held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1000


if __name__ == "__main__":
    main()
