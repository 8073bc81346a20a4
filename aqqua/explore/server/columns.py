"""The columns of an atlas that a person looks at: which they are, of what kind, and their values as numbers.

Words become codes into a list of names, the commonest first; times become days since 1970. So a page gets one
array for each column, and the same one whether a server or a folder gives it.
Test: tests/explore/server/test_server_columns.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Int32

from aqqua.explore.atlas.table import Atlas

NAMES, NUMBERS, TIME = "names", "numbers", "time"  # kinds of columns
UNKNOWN = -1  # code of what is null
MS_PER_DAY = 86_400_000.0
BINS = 32  # of a histogram of numbers
# Shown elsewhere than among the columns, or not for people.
HIDDEN = frozenset(
    ("image_id", "key", "x", "y", "neighbours", "neighbour_similarity", "foreign", "thumbnail", "thumb_width")
) | {"thumb_height"}
UNITS = {
    **{"depth_m": "m", "um_per_px": "µm/px", "height": "px", "width": "px", "lat": "° N", "lon": "° E"},
    **{"esd_um": "µm", "area_um2": "µm²", "volume_sphere_um3": "µm³", "carbon_pg": "pg", "time": "UTC"},
}


@dataclass(frozen=True)
class Values:
    """A column of all points."""

    kind: str
    values: Int32[np.ndarray, " N"] | Float32[np.ndarray, " N"]  # codes, -1 unknown; or numbers, NaN unknown
    names: tuple[str, ...] = ()  # of the codes, the commonest first
    low: float = 0.0  # least and largest known number
    high: float = 0.0

    def about(self) -> dict[str, Any]:
        """What a page must know beside the values; JSON."""
        if self.kind == NAMES:
            counts = np.bincount(self.values[self.values >= 0], minlength=len(self.names))
            return {"kind": NAMES, "names": list(self.names), "counts": counts.tolist()}
        return {"kind": self.kind, "low": self.low, "high": self.high}


def kind_of(field: pa.Field) -> str:
    """Names, numbers or a time."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_timestamp(kind):
        return TIME
    # The number of a cluster is a name: the clusters 3 and 4 are no nearer than 3 and 9.
    return (
        NUMBERS
        if field.name != "cluster" and (pa.types.is_floating(kind) or pa.types.is_integer(kind))
        else NAMES
    )


def shown_columns(atlas: Atlas, kinds: dict[str, str]) -> list[dict[str, str]]:
    """Name, kind and unit of each column that a page may offer, as the atlas orders them."""
    return [
        {"name": name, "kind": kinds[name], "unit": UNITS.get(name, "")}
        for name in atlas.columns
        if name not in HIDDEN and name in kinds
    ]


def values_of(column: pa.ChunkedArray, kind: str) -> Values:
    """The values of a column."""
    if kind == NAMES:
        return _codes(column)
    if kind == TIME:
        days = pc.divide(pc.cast(pc.cast(column, pa.int64()), pa.float64()), MS_PER_DAY)
        numbers = days.to_numpy(zero_copy_only=False).astype(np.float32)
    else:
        numbers = pc.cast(column, pa.float32()).to_numpy(zero_copy_only=False).astype(np.float32)
    known = numbers[np.isfinite(numbers)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    return Values(kind, np.where(np.isfinite(numbers), numbers, np.float32(np.nan)), low=low, high=high)


def _codes(column: pa.ChunkedArray) -> Values:
    if pa.types.is_integer(column.type):
        column = pc.cast(pc.if_else(pc.less(column, 0), pa.scalar(None, column.type), column), pa.string())
    encoded = pc.dictionary_encode(pc.cast(column, pa.string())).combine_chunks()
    names = encoded.dictionary.to_pylist()
    codes = pc.fill_null(encoded.indices, UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int32)
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    order = sorted(range(len(names)), key=lambda i: (-counts[i], names[i]))
    new = np.full(len(names) + 1, UNKNOWN, np.int32)  # the last one is of the code -1
    new[order] = np.arange(len(names), dtype=np.int32)
    return Values(NAMES, new[codes], tuple(names[i] for i in order))


def histogram(values: Values, kept: np.ndarray | None) -> dict[str, Any]:
    """How many points have each name, or fall into each bin: of all and of those kept; JSON."""
    cells = _cells(values)
    length = len(values.names) if values.kind == NAMES else BINS
    count = np.bincount(cells[cells >= 0], minlength=length)
    part = cells if kept is None else cells[kept]
    return {"all": count.tolist(), "kept": np.bincount(part[part >= 0], minlength=length).tolist()}


def _cells(values: Values) -> Int32[np.ndarray, " N"]:
    if values.kind == NAMES:
        return values.values
    span = np.float64(values.high) - values.low or 1.0
    place = np.floor((values.values.astype(np.float64) - values.low) / span * BINS)
    return np.nan_to_num(np.minimum(place, BINS - 1), nan=UNKNOWN).astype(np.int32)


def require_column(name: object, kinds: dict[str, str], who: str) -> str:
    """A column that a page offers.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(name, str) or name not in kinds or name in HIDDEN:
        there: Sequence[str] = [one for one in kinds if one not in HIDDEN]
        raise ValueError(
            f"{who}: a column must be one of {', '.join(there)}, got {str(name)[:60]!r}; choose one"
        )
    return name
