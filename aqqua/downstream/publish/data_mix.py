"""What a dataset holds, for the card of a model: instruments, licences, known scales.

Test: tests/downstream/publish/test_model_card.py.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from aqqua.downstream.publish.markdown import plain, table
from aqqua.store.read import Dataset


@dataclass
class DataMix:
    """What a dataset holds: images by instrument, and of them the licences and those of known scale."""

    images: Counter[str] = field(default_factory=Counter)
    scaled: Counter[str] = field(default_factory=Counter)
    licences: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, rows: pa.Table) -> None:
        """Count some rows of a dataset."""
        names, sizes = rows["instrument"].to_pylist(), rows["um_per_px"].to_pylist()
        self.images.update(names)
        self.scaled.update(name for name, size in zip(names, sizes, strict=True) if size is not None)
        told = (licence or "not stated" for licence in rows["licence"].to_pylist())
        self.licences.update(zip(names, told, strict=True))


def data_mix(path: Path, progress: Callable[[int], None] | None) -> DataMix | None:
    """None where the dataset is not there any more."""
    try:
        dataset = Dataset.open(path)
    except (ValueError, OSError):
        return None
    mix, done = DataMix(), 0
    for number in range(dataset.blocks):
        mix.add(dataset.table(("instrument", "licence", "um_per_px"), [number]))
        done += dataset.rows_of(number)
        if progress is not None:
            progress(done)
    return mix


def data_lines(mix: DataMix | None, sha: str) -> list[str]:
    """The section of a card; `sha` is of the dataset's manifest."""
    lines = ["## Data", ""]
    if mix is None:
        return [
            *lines,
            f"The dataset was not there when this card was made. SHA-256 of its manifest: {plain(sha)}.",
        ]
    total = mix.images.total()
    rows = []
    for name, count in mix.images.most_common():
        licences = sorted(licence for instrument, licence in mix.licences if instrument == name)
        told = ", ".join(f"{licence} ({mix.licences[name, licence]:,})" for licence in licences)
        rows.append((name, f"{count:,}", f"{count / total:.1%}", f"{mix.scaled[name] / count:.0%}", told))
    heads = ("instrument", "images", "share", "with µm/px", "licences (images)")
    silent = sum(count for (_, licence), count in mix.licences.items() if licence == "not stated")
    note = [
        "",
        f"Of {silent:,} images no licence is stated: ask their owners before you share anything of them.",
    ]
    return [
        *lines, f"{total:,} images. SHA-256 of the manifest: {plain(sha)}.", "", *table(heads, rows),
        *(note if silent else []),
    ]  # fmt: skip
