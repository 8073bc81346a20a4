"""What a dataset holds, counted once while it is written: sizes, scale, grey levels per instrument.

All sums are whole numbers, so the manifest does not depend on the order of the images.
Test: tests/store/test_write.py.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

QUANTILES = (0.05, 0.5, 0.95)


@dataclass(slots=True)
class InstrumentStatistics:
    """Running totals of one instrument. Memory grows with the distinct sizes, not with the images."""

    images: int = 0
    um_per_px_known: int = 0
    pixel_bytes: int = 0
    values: Counter[int] = field(default_factory=Counter)  # per bits (8, 16): pixel values counted
    grey_sum: Counter[int] = field(default_factory=Counter)
    grey_squares: Counter[int] = field(default_factory=Counter)
    heights: Counter[int] = field(default_factory=Counter)
    widths: Counter[int] = field(default_factory=Counter)

    def add(self, rows: pa.Table) -> None:
        columns = {name: rows[name].to_numpy() for name in ("height", "width", "channels", "bits")}
        values = columns["height"].astype(np.int64) * columns["width"] * columns["channels"]
        self.images += rows.num_rows
        self.um_per_px_known += rows.num_rows - rows["um_per_px"].null_count
        self.pixel_bytes += int((values * columns["bits"] // 8).sum())
        self.heights.update(columns["height"].tolist())
        self.widths.update(columns["width"].tolist())
        greys = zip(rows["grey_sum"].to_pylist(), rows["grey_squares"].to_pylist(), strict=True)
        for bits, count, (total, squares) in zip(
            columns["bits"].tolist(), values.tolist(), greys, strict=True
        ):
            self.values[bits] += count
            self.grey_sum[bits] += total
            self.grey_squares[bits] += squares

    def merge(self, other: "InstrumentStatistics") -> None:
        """Add what another one counted."""
        self.images += other.images
        self.um_per_px_known += other.um_per_px_known
        self.pixel_bytes += other.pixel_bytes
        for name in ("values", "grey_sum", "grey_squares", "heights", "widths"):
            getattr(self, name).update(getattr(other, name))

    def summary(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "um_per_px_known_share": self.um_per_px_known / self.images,
            "pixel_bytes": self.pixel_bytes,
            "height_px": _quantiles(self.heights),
            "width_px": _quantiles(self.widths),
            "grey": {f"{bits}_bit": self._grey(bits) for bits in sorted(self.values)},
        }

    def _grey(self, bits: int) -> dict[str, float]:
        count = self.values[bits]
        mean = self.grey_sum[bits] / count
        # Whole numbers until the last step: E[x²] − E[x]² in floats would cancel.
        variance = (self.grey_squares[bits] * count - self.grey_sum[bits] ** 2) / count**2
        return {"mean": mean, "std": sqrt(variance)}


class Statistics:
    """Totals per instrument over all rows of a dataset, and per format of the original files it keeps."""

    def __init__(self) -> None:
        self._instruments: dict[str, InstrumentStatistics] = {}
        self._files: Counter[str] = Counter()
        self._file_bytes: Counter[str] = Counter()

    def add(self, rows: pa.Table) -> None:
        for name in pc.unique(rows["instrument"]).to_pylist():
            mine = rows.filter(pc.equal(rows["instrument"], name))
            self._instruments.setdefault(name, InstrumentStatistics()).add(mine)
        self.add_files(rows["format"], rows["encoded"])

    def add_files(self, formats: pa.ChunkedArray, files: pa.ChunkedArray) -> None:
        """Count original files; rows without one have null in both."""
        for name in pc.unique(formats.drop_null()).to_pylist():
            mine = files.filter(pc.equal(formats, name))
            self._files[name] += len(mine)
            self._file_bytes[name] += pc.sum(pc.binary_length(mine)).as_py() or 0

    def merge(self, other: "Statistics") -> None:
        """Add what another one counted, of other rows."""
        for name, theirs in other._instruments.items():
            self._instruments.setdefault(name, InstrumentStatistics()).merge(theirs)
        self._files.update(other._files)
        self._file_bytes.update(other._file_bytes)

    def encoded(self) -> dict[str, dict[str, int]]:
        """Of the original files of each format, how many and how long in all."""
        return {
            name: {"images": self._files[name], "bytes": self._file_bytes[name]}
            for name in sorted(self._files)
        }

    def summary(self) -> dict[str, dict[str, Any]]:
        return {name: self._instruments[name].summary() for name in sorted(self._instruments)}


def _quantiles(counts: Counter[int]) -> dict[str, int]:
    """Smallest, largest and quantiles of counted whole numbers, each a value that occurs."""
    sizes = sorted(counts)
    ends = np.cumsum([counts[size] for size in sizes])
    at = {f"p{round(q * 100)}": sizes[int(np.searchsorted(ends, q * ends[-1]))] for q in QUANTILES}
    return {"min": sizes[0], **at, "max": sizes[-1]}
