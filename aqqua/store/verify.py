"""Is a dataset whole? And what is in it? Behind `aqqua dataset verify` and `aqqua dataset info`.

Test: tests/store/test_verify.py.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.instruments.registry import UM_PER_PX_RANGE
from aqqua.store.content import content_hash, describe, image_key
from aqqua.store.manifest import file_sha256, files_of, read_manifest
from aqqua.store.read import DamagedError, Dataset
from aqqua.store.schema import MANIFEST, QUARANTINE, SCHEMAS
from aqqua.store.sizes import Sizes
from aqqua.store.stats import Statistics

TOP_LABELS = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a file of the dataset."""

    file: str
    detail: str

    def __str__(self) -> str:
        return f"{self.file}: {self.detail}"


def _silent(_done: int, _all: int) -> None:
    """Progress that nobody watches."""


def verify(
    path: Path | str, deep: bool = False, progress: Callable[[int, int], None] = _silent
) -> list[Problem]:
    """All that is wrong with a dataset; an empty list is a good one.

    Sizes and SHA-256 of every file, row and block counts, schema and the sums of the manifest.
    `deep` also decompresses every page against its checksum, decodes every original file, hashes every
    image's pixels again, and checks its key, box, background and scale.

    Args:
        path: the dataset's folder.
        deep: look at every image.
        progress: of the deep part; called with the images done and the images in all.

    Raises:
        ValueError: the folder is no dataset at all.
    """
    path = Path(path)
    manifest = read_manifest(path)
    problems = list(_check_manifest(manifest))
    for entry in files_of(manifest):
        problems += _check_file(path, entry)
    named = {entry["name"] for entry in files_of(manifest)} | {MANIFEST}
    extra = sorted(entry.name for entry in path.iterdir() if entry.name not in named)
    problems += [Problem(name, "is not part of the dataset; move it away") for name in extra]
    damaged = {problem.file for problem in problems}
    for part in manifest["parts"]:
        if part["name"] not in damaged or (deep and (path / part["name"]).exists()):
            problems += _check_part(path, part, manifest)
    if deep and all((path / part["name"]).exists() for part in manifest["parts"]):
        dataset = Dataset.open(path)
        problems += [*_check_images(dataset, progress), *_check_files_kept(dataset)]
    return problems


def _check_manifest(manifest: dict[str, Any]) -> Iterator[Problem]:
    counts, parts = manifest["counts"], manifest["parts"]
    reasons = counts["quarantined_by_reason"]
    sums = {
        "read = accepted + quarantined": (counts["read"], counts["accepted"] + counts["quarantined"]),
        "rows = accepted": (manifest["rows"], counts["accepted"]),
        "quarantined = sum over reasons": (counts["quarantined"], sum(reasons.values())),
        "rows = sum over parts": (manifest["rows"], sum(part["rows"] for part in parts)),
        "blocks = sum over parts": (manifest["blocks"], sum(part["blocks"] for part in parts)),
    }
    for rule, (left, right) in sums.items():
        if left != right:
            yield Problem(MANIFEST, f"{rule} must hold, got {left} and {right}")


def _check_file(path: Path, entry: dict[str, Any]) -> Iterator[Problem]:
    file = path / entry["name"]
    if not file.is_file():
        yield Problem(entry["name"], "is missing")
        return
    size = file.stat().st_size
    if size != entry["bytes"]:
        yield Problem(entry["name"], f"must have {entry['bytes']} bytes, got {size}")
    elif (digest := file_sha256(file)) != entry["sha256"]:
        yield Problem(entry["name"], f"must have SHA-256 {entry['sha256']}, got {digest}")


def _check_part(path: Path, part: dict[str, Any], manifest: dict[str, Any]) -> Iterator[Problem]:
    version, block_rows = manifest["schema_version"], manifest["block_rows"]
    try:
        with pq.ParquetFile(path / part["name"]) as file:
            metadata, schema = file.metadata, file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        yield Problem(part["name"], f"must be a Parquet file, got {error}")
        return
    if not schema.equals(SCHEMAS[version]):
        yield Problem(part["name"], f"must have the columns of schema version {version}, got {schema.names}")
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if (sum(groups), len(groups)) != (part["rows"], part["blocks"]):
        expected = f"{part['rows']} rows in {part['blocks']} row groups"
        yield Problem(part["name"], f"must hold {expected}, got {sum(groups)} in {len(groups)}")
    if any(rows != block_rows for rows in groups[:-1]):
        yield Problem(part["name"], f"must have row groups of {block_rows}, got {sorted(set(groups[:-1]))}")


def _check_images(dataset: Dataset, progress: Callable[[int, int], None]) -> Iterator[Problem]:
    done = 0
    for number in range(dataset.blocks):
        progress(done, dataset.rows)
        done += dataset.rows_of(number)
        name, group = dataset.place(number)
        try:
            block = dataset.block(number)
            table = dataset.table(["image_id", "content"], [number])
        except (ValueError, OSError) as error:
            yield Problem(name, str(error))
            continue
        names, contents = table["image_id"].to_pylist(), table["content"].to_pylist()
        for i in range(len(block)):
            sizes, pixels = block.sizes, block.pixels(i)
            found = None
            if content_hash(pixels) != contents[i]:
                found = "pixels must have the content hash of their row"
            elif image_key(names[i]) != int(sizes.key[i]):
                found = "key must be the hash of image_id"
            else:
                found = _value_problem(sizes, i, pixels)
            if found:
                yield Problem(name, f"row group {group} row {i} ({names[i]}): {found}")
    progress(done, dataset.rows)


def _check_files_kept(dataset: Dataset) -> Iterator[Problem]:
    """The manifest's counts of original files; that each decodes to its image is seen with its block."""
    if "encoded" not in dataset.schema.names:
        return
    statistics = Statistics()
    for number in range(dataset.blocks):
        try:
            table = dataset.table(["format", "encoded"], [number])
        except (DamagedError, OSError):
            return  # named by now, and there is nothing to compare
        statistics.add_files(table["format"], table["encoded"])
    if (found := statistics.encoded()) != (said := dataset.manifest.get("encoded", {})):
        yield Problem(MANIFEST, f"encoded must be {found}, got {said}")


def _value_problem(sizes: Sizes, i: int, pixels: np.ndarray) -> str | None:
    look, box, background = (
        describe(pixels),
        tuple(sizes.box[i].tolist()),
        tuple(sizes.background[i].tolist()),
    )
    if box != look.box:
        return f"box must be {look.box}, got {box}"
    if background != look.background:
        return f"background must be {look.background}, got {background}"
    low, high = (np.float32(end) for end in UM_PER_PX_RANGE)  # stored as float32
    if not (np.isnan(sizes.um_per_px[i]) or low <= sizes.um_per_px[i] <= high):
        return f"um_per_px must be {low} to {high} or unknown, got {sizes.um_per_px[i]}"
    return None


def info(path: Path | str) -> dict[str, Any]:
    """What a dataset holds, for `aqqua dataset info`: counts, instruments, labels, sizes, bytes.

    Raises:
        ValueError: the folder is no dataset, or a part is missing.
    """
    dataset = Dataset.open(path)
    manifest, instruments = dataset.manifest, dataset.manifest["instruments"]
    labels: Counter[str | None] = Counter()
    for block in range(dataset.blocks):
        labels.update(dataset.table(["label"], [block])["label"].to_pylist())
    unlabelled = labels.pop(None, 0)
    total = sum(entry["bytes"] for entry in files_of(manifest))
    known = sum(facts["um_per_px_known_share"] * facts["images"] for facts in instruments.values())
    return {
        "path": str(dataset.path),
        "schema_version": manifest["schema_version"],
        "made_by": manifest["made_by"],
        "inputs": manifest["inputs"],
        "images": dataset.rows,
        "blocks": dataset.blocks,
        "block_rows": manifest["block_rows"],
        "parts": len(manifest["parts"]),
        "counts": manifest["counts"],
        "quarantine": QUARANTINE,
        "duplicates": manifest["duplicates"],
        "instruments": instruments,
        "um_per_px_known_share": known / dataset.rows,
        "labels": len(labels),
        "unlabelled": unlabelled,
        "top_labels": dict(labels.most_common(TOP_LABELS)),
        "bytes": total,
        "bytes_per_image": total / dataset.rows,
        "original_bytes": manifest["original_bytes"],
        "pixel_bytes": manifest["pixel_bytes"],
        "encoded": manifest.get("encoded", {}),
    }
