"""The tables beside the images: what was refused, which samples were seen, what occurs twice.

All in a fixed order, so that one set of inputs always makes the same bytes.
"""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aqqua.instruments.record import Sample
from aqqua.store.decode import Refused
from aqqua.store.rows import clean
from aqqua.store.schema import (
    DUPLICATES,
    DUPLICATES_SCHEMA,
    QUARANTINE,
    QUARANTINE_SCHEMA,
    SAMPLES,
    SAMPLES_SCHEMA,
)
from aqqua.store.shuffle import SpillFile, sorted_tables

MAX_DETAIL = 300  # characters; a decoder's message can quote what it read
GROUP_ROWS = 65_536


def write_quarantine(folder: Path, refused: list[Refused]) -> None:
    rows = sorted((clean(r.input), clean(r.source), r.reason, clean(r.detail)[:MAX_DETAIL]) for r in refused)
    named = [dict(zip(QUARANTINE_SCHEMA.names, row, strict=True)) for row in rows]
    _write(folder / QUARANTINE, pa.Table.from_pylist(named, schema=QUARANTINE_SCHEMA))


def write_samples(folder: Path, samples: list[tuple[str, Sample]]) -> None:
    rows = sorted((_sample_row(label, sample) for label, sample in samples), key=repr)
    _write(folder / SAMPLES, pa.Table.from_pylist(rows, schema=SAMPLES_SCHEMA))


def _sample_row(label: str, sample: Sample) -> dict[str, Any]:
    return {
        "input": clean(label),
        "sample": clean(sample.sample),
        "instrument": clean(sample.instrument),
        "images": sample.images,
        "triggers": sample.triggers,
        "volume_l": sample.volume_l,
        "time": sample.time,
        "lat": sample.lat,
        "lon": sample.lon,
        "source": clean(sample.source),
        "facts": sorted((clean(key), clean(value)) for key, value in sample.facts.items()),
    }


def write_duplicates(folder: Path, contents: list[SpillFile]) -> tuple[int, int]:
    """Write every group of images with equal pixels; returns (groups, groups under two labels)."""
    groups = two_labels = 0
    path = folder / DUPLICATES
    with pq.ParquetWriter(path, DUPLICATES_SCHEMA, compression="zstd", write_page_checksum=True) as out:
        for found in _duplicate_groups(contents):
            groups += len(found)
            two_labels += sum(group[0]["two_labels"] for group in found)
            rows = pa.Table.from_pylist([row for group in found for row in group], schema=DUPLICATES_SCHEMA)
            out.write_table(rows, row_group_size=GROUP_ROWS)
    return groups, two_labels


def _duplicate_groups(contents: list[SpillFile]) -> Iterator[list[list[dict[str, Any]]]]:
    """Groups of rows with equal content, the groups of one bucket at a time."""
    for table in sorted_tables(contents, ["content", "image_id"]):
        counted = table.group_by("content").aggregate([([], "count_all")])
        repeated = counted.filter(pc.greater(counted["count_all"], 1))["content"]
        rows = table.filter(pc.is_in(table["content"], repeated)).select(["content", "image_id", "label"])
        groups = [list(members) for _, members in groupby(rows.to_pylist(), key=itemgetter("content"))]
        if groups:
            yield [_marked(group) for group in groups]


def _marked(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    two_labels = len({row["label"] for row in group} - {None}) > 1  # unlabelled contradicts nothing
    return [{**row, "images": len(group), "two_labels": two_labels} for row in group]


def _write(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, compression="zstd", row_group_size=GROUP_ROWS, write_page_checksum=True)
