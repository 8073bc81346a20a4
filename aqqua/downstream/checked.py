"""Columns of predictions and sizes as arrays, checked; a row that makes no sense is named.

Test: tests/downstream/carbon/test_carbon_table.py, samples/test_samples_table.py.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aqqua.downstream.carbon.monte_carlo import CarbonSizes
from aqqua.downstream.carbon.settings import CarbonSettings
from aqqua.downstream.tables import Table
from aqqua.taxonomy.classes import TaxonClass

SAME_AREA = 1e-3  # relative difference of an area and its pixels times µm/px squared
SOLID = (1e-5, 1e2)  # volume / area^1.5: a sphere has 0.75, a hair 0.001; mm beside µm is off by 1e3 and more


class PredictionsLike(Protocol):
    """A table of predictions (aqqua.downstream.predictions)."""

    classes: tuple[TaxonClass, ...]
    facts: dict[str, str]
    rows: int

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]: ...


def require_same_dataset(predictions: PredictionsLike, other: Table) -> None:
    """
    Raises:
        ValueError: the tables say that they are of two datasets.
    """
    ours, theirs = predictions.facts.get("dataset_sha256"), other.facts.get("dataset_sha256")
    if ours != theirs:
        raise ValueError(
            f"downstream: {other.path} must be of the dataset of the predictions ({ours}), got {theirs}; "
            "make both from one dataset"
        )


def class_numbers(images: pa.Table, classes: Sequence[TaxonClass], first_row: int) -> np.ndarray:
    """Number of each image's class in `classes`.

    Raises:
        ValueError: a class is not among them, naming the row.
    """
    column = images["class"].combine_chunks()
    codes = pc.index_in(column.cast(pa.string()), pa.array([one.name for one in classes]))
    if codes.null_count:
        row = codes.is_null().to_numpy(zero_copy_only=False).argmax()
        raise ValueError(
            f"predictions: every class must be one of aqqua.classes, got {column[row].as_py()!r} in row "
            f"{first_row + row} ({images['image_id'][row].as_py()}); predict again"
        )
    return codes.to_numpy(zero_copy_only=False).astype(np.int64)


def score_rows(images: pa.Table, classes: int) -> np.ndarray:
    """Scores as [I, C] float32."""
    values = pa.concat_arrays([chunk.flatten() for chunk in images["scores"].chunks])
    return values.to_numpy(zero_copy_only=False).reshape(len(images), classes).astype(np.float32)


def sizes_of(images: pa.Table, measured: pa.Table, settings: CarbonSettings, first_row: int) -> CarbonSizes:
    """Area and volume of each image, checked.

    Raises:
        ValueError: a size is NaN, infinite or not above 0 (unknown must be null), or the columns of an image
            are in different units; naming the row.
    """
    area, volume, pixels, scale = (
        _values(images, measured, name, first_row) for name in settings.size_columns[1:]
    )
    with np.errstate(invalid="ignore"):
        # NaN, unknown, is never outside.
        mixed = np.abs(area / (pixels * scale**2) - 1) > SAME_AREA
        mixed |= (volume / area**1.5 < SOLID[0]) | (volume / area**1.5 > SOLID[1])
    if mixed.any():
        row = int(np.flatnonzero(mixed)[0])
        raise ValueError(
            f"sizes: area, volume, pixels and scale of an image must be in µm², µm³, px and µm/px, got "
            f"{area[row]:.6g}, {volume[row]:.6g}, {pixels[row]:.6g} and {scale[row]:.6g} in row "
            f"{first_row + row} ({images['image_id'][row].as_py()}), which are of mixed units; measure again"
        )
    return CarbonSizes(volume_um3_I=volume, area_um2_I=area)


def _values(images: pa.Table, measured: pa.Table, name: str, first_row: int) -> np.ndarray:
    column = measured[name].combine_chunks()
    values: np.ndarray = column.to_numpy(zero_copy_only=False).astype(np.float64)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    bad = known & ~(np.isfinite(values) & (values > 0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"sizes: {name} must be above 0, or null where it is unknown, got {values[row]} in row "
            f"{first_row + row} ({images['image_id'][row].as_py()}); measure again"
        )
    return values
