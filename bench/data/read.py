"""How fast whole blocks come from disk: the reader of training beside bare pyarrow on the same files.

    python bench/data/read.py --dataset DATASET

Each chain reads every block once, sizes, pixels and what names its group, from files the system has in
memory; all but `iter_batches` in the same random order.

- bare, bare_2: `ParquetFile.read_row_group` of the same columns, page checksums verified, in one thread or in
  two, each with a ParquetFile of its own. The Arrow table is all they make.
- bare_unchecked: the same in one thread without checksums.
- iter_batches: `ParquetFile.iter_batches` of 512 rows, checksums verified, one thread, in file order.
- sizes_then_block: sizes for the plan, then pixels, then the group, three reads of a row group.
- reader_0, reader_1, reader_2: `BlockReader` with so many threads, two windows told in advance; each block
  is asked for its sizes, its further columns and its pixels, as planning and rendering do.

Two clocks, best round of each, chains in turn: processor time of the whole process, which holds on a busy
machine, and time on the wall, which says what threads bring. Appends to bench/results/cpu/read.jsonl.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import append_result, best_by_clocks, machine, print_rates

from aqqua.store.prefetch import BlockReader, ReadConfig
from aqqua.store.read import Dataset
from aqqua.store.schema import SIZE_COLUMNS
from aqqua.store.split import NAMING

COLUMNS = list(dict.fromkeys([*SIZE_COLUMNS, "pixels", *NAMING]))
AHEAD = 8  # blocks told in advance
PEERS = {"reader_0": "bare", "reader_1": "bare", "reader_2": "bare_2"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder made by `aqqua ingest`")
    parser.add_argument("--seconds", type=float, default=40, help="of timing, all chains together")
    arguments = parser.parse_args()
    dataset = Dataset.open(arguments.dataset)
    order = np.random.default_rng(0).permutation(dataset.blocks).tolist()
    chains: dict[str, Callable[[], int]] = {
        "bare": lambda: read_bare(dataset, order),
        "reader_1": lambda: read_ahead(dataset, order, 1),
        "bare_2": lambda: read_bare_in_two(dataset, order),
        "reader_2": lambda: read_ahead(dataset, order, 2),
        "reader_0": lambda: read_ahead(dataset, order, 0),
        "bare_unchecked": lambda: read_bare(dataset, order, checked=False),
        "iter_batches": lambda: read_batches(dataset),
        "sizes_then_block": lambda: read_thrice(dataset, order),
    }
    checked = {name: whole(name, chain, dataset.rows) for name, chain in chains.items()}
    clocks = [time.process_time, time.perf_counter]
    report(dataset, best_by_clocks(checked, arguments.seconds, clocks))


def read_bare(dataset: Dataset, order: Sequence[int], checked: bool = True) -> int:
    """Row groups by pyarrow alone; the images read."""
    files: dict[str, pq.ParquetFile] = {}
    rows = 0
    for block in order:
        name, group = dataset.place(block)
        if name not in files:
            files[name] = pq.ParquetFile(dataset.path / name, page_checksum_verification=checked)
        rows += len(files[name].read_row_group(group, columns=COLUMNS, use_threads=False))
    return rows


def read_bare_in_two(dataset: Dataset, order: Sequence[int]) -> int:
    """The same, every second block in another thread."""
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(lambda part: read_bare(dataset, part), (order[::2], order[1::2])))


def read_batches(dataset: Dataset) -> int:
    """Part after part as batches."""
    rows = 0
    for part in dataset.manifest["parts"]:
        with pq.ParquetFile(dataset.path / part["name"], page_checksum_verification=True) as file:
            rows += sum(len(batch) for batch in file.iter_batches(512, columns=COLUMNS, use_threads=False))
    return rows


def read_thrice(dataset: Dataset, order: Sequence[int]) -> int:
    """Each need of a block for itself."""
    rows = 0
    for block in order:
        dataset.sizes(block)
        dataset.table(NAMING, [block])
        rows += len(dataset.block(block))
    return rows


def read_ahead(dataset: Dataset, order: Sequence[int], threads: int) -> int:
    """Through the reader of training."""
    reader = BlockReader(dataset, ReadConfig(read_threads=threads), NAMING)
    rows = 0
    for i, block in enumerate(order):
        reader.follow(order[i : i + AHEAD])
        reader.sizes(block)
        found: pa.Table = reader.table(block)
        assert len(found) == len(reader.block(block))
        rows += len(found)
    reader.close()
    return rows


def whole(name: str, chain: Callable[[], int], rows: int) -> Callable[[], None]:
    """The chain, which must read so many images."""

    def run() -> None:
        if (read := chain()) != rows:
            raise SystemExit(f"{name}: must read {rows} images, got {read}; no timing")

    return run


def report(dataset: Dataset, seconds: dict[str, tuple[float, ...]]) -> None:
    rows = {}
    for name, (processor, wall) in seconds.items():
        peer = seconds[PEERS.get(name, "bare")]
        rows[name] = {
            "images_per_core_s": round(dataset.rows / processor),
            "images_per_s": round(dataset.rows / wall),
            "share_of_bare_per_core": round(peer[0] / processor, 3),
            "share_of_bare": round(peer[1] / wall, 3),
        }
    print_rates(rows, ("images/core/s", "images/s", "x bare, core", "x bare"))
    facts = {"dataset": dataset.path.name, "images": dataset.rows, "pyarrow": pa.__version__}
    append_result("read", {**machine(), **facts, **rows})


if __name__ == "__main__":
    main()
