"""Samples: what a cubic metre of water held, by class, with intervals.

One row for every sample and class, zeros written out: an absence is data. A concentration needs the volume of
water, and is refused without it. Biovolume and carbon of a class are null where one of its images has none,
unless the mean of the others is asked to stand in.

Intervals (95 %) hold the counting error (Poisson: Garwood 1936 where the classes are certain), what else the
images may be by their scores, and for carbon also size and relation; the counting error is multiplied in.

Test: tests/downstream/samples/test_samples_table.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float64

from aqqua.downstream.carbon.monte_carlo import HIGH, LOW
from aqqua.downstream.carbon.settings import CarbonSettings
from aqqua.downstream.checked import PredictionsLike, require_same_dataset
from aqqua.downstream.class_list import classes_to_json
from aqqua.downstream.samples.gather import Sums, gather
from aqqua.downstream.tables import Column, Table, new_table, schema_of
from aqqua.plan.philox import Purpose, uniforms
from aqqua.store.content import image_key
from aqqua.taxonomy.classes import TaxonClass

LITRES_PER_M3 = 1000.0
UM3_PER_MM3 = 1e9
PG_PER_MG = 1e9
COLUMNS: tuple[Column, ...] = (
    ("sample", pa.string(), False, "as in the dataset"),
    ("instrument", pa.string(), False, "as in the dataset; with the sample it names the row's sample"),
    ("time", pa.timestamp("ms", tz="UTC"), True, "of the sample's first image"),
    ("lat", pa.float64(), True, "degrees north"),
    ("lon", pa.float64(), True, "degrees east"),
    ("depth_m", pa.float64(), True, "mean over the images, metres below the surface"),
    ("volume_l", pa.float64(), False, "water volume of the sample, litres"),
    ("class", pa.string(), False, "of aqqua.classes"),
    ("aphia_id", pa.int32(), True, "WoRMS AphiaID of the class"),
    ("living", pa.bool_(), False, "false for detritus, bubble, fibre, artefact"),
    ("images", pa.int64(), False, "images predicted as this class"),
    ("abundance_per_m3", pa.float64(), False, "images per m³"),
    ("abundance_low_per_m3", pa.float64(), False, "2.5 % by counting error and scores, or abundance"),
    ("abundance_high_per_m3", pa.float64(), False, "97.5 %"),
    ("biovolume_mm3_per_m3", pa.float64(), True, "null: a size is not known"),
    ("carbon_mg_per_m3", pa.float64(), True, "null: a size or a relation is not known"),
    ("carbon_low_mg_per_m3", pa.float64(), True, "2.5 % by counting error, scores, size and relation"),
    ("carbon_high_mg_per_m3", pa.float64(), True, "97.5 %; null where the class was not seen"),
)


@dataclass(frozen=True)
class SampleSettings:
    """How samples are summed."""

    leave_out_without_volume: bool = False  # else such a sample is refused
    fill_missing: bool = False  # images without size or carbon count as the mean of their class and sample


@dataclass(frozen=True)
class SampleCounts:
    """What became of the images."""

    images: int
    samples: int
    left_out: dict[str, int]  # samples without a volume -> their images


def write_samples(
    predictions: PredictionsLike,
    out: Path,
    sizes: Table | None = None,
    carbon: Table | None = None,
    settings: SampleSettings | None = None,
    command: str = "",
    progress: Callable[[int], None] = lambda _done: None,
) -> SampleCounts:
    """Sum predictions by sample and class.

    Args:
        out: new file, named .parquet.
        sizes: of the same dataset; None leaves biovolume null.
        carbon: of the same dataset, needs sizes: its settings, relations and draws are used again, so that
            the error of a relation does not average out over the images. None leaves carbon null.
        progress: told the images done so far.

    Raises:
        ValueError: a sample has no volume (naming it), or a row or table makes no sense.
        RuntimeError: a package is missing, or the disk failed.
    """
    settings = settings or SampleSettings()
    _require_tables(predictions, sizes, carbon)
    carbon_settings = _carbon_settings(carbon)
    facts = {**predictions.facts, "command": command, "carbon_settings": carbon_settings.to_json()}
    facts["relations"] = carbon.facts.get("relations", "[]") if carbon else "[]"
    facts["classes"] = classes_to_json(predictions.classes)
    schema = schema_of(COLUMNS, facts)
    with new_table(out, schema, "samples") as writer:
        leave_out = settings.leave_out_without_volume
        sums = gather(predictions, sizes, carbon_settings, carbon is not None, leave_out, progress)
        if not sums.places:
            raise ValueError(
                f"samples: a sample must have a volume, got none in {sums.images} images; state volumes"
            )
        have = (sizes is not None, carbon is not None)
        for rows in _Rows(sums, predictions.classes, settings, carbon_settings, *have).tables():
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return SampleCounts(sums.images, len(sums.places), sums.left_out)


def open_samples(path: Path | str) -> Table:
    """Open a table of samples.

    Raises:
        ValueError: the file is none.
    """
    return Table.open(path, COLUMNS, "samples", "aqqua grid")


def poisson_interval(count: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """Exact 95 % interval of the mean of a Poisson count. Source: Garwood 1936, Biometrika 28, 437-442."""
    from scipy.special import gammaincinv

    count = np.asarray(count, np.float64)
    low = np.where(count > 0, gammaincinv(np.maximum(count, 1), LOW), 0.0)
    return low, gammaincinv(count + 1, HIGH)


def _require_tables(predictions: PredictionsLike, sizes: Table | None, carbon: Table | None) -> None:
    if carbon is not None and sizes is None:
        raise ValueError("samples: carbon must come with the sizes it was made from, got none; give both")
    for table in (sizes, carbon):
        if table is not None:
            require_same_dataset(predictions, table)


def _carbon_settings(carbon: Table | None) -> CarbonSettings:
    if carbon is None:
        return CarbonSettings()
    return CarbonSettings.from_json(carbon.facts.get("carbon_settings", ""))


@dataclass
class _Rows:
    """The rows of the samples, sample by sample."""

    sums: Sums
    classes: tuple[TaxonClass, ...]
    settings: SampleSettings
    carbon_settings: CarbonSettings
    with_sizes: bool
    with_carbon: bool

    def tables(self) -> Iterator[list[dict[str, Any]]]:
        """In order of time, then name; about as many rows at a time as a row group holds."""
        places = self.sums.places
        order = sorted(range(len(places)), key=lambda s: _order(places[s].time, places[s].sample))
        at_once = max(1, 65_536 // len(self.classes))
        for first in range(0, len(order), at_once):
            yield [row for s in order[first : first + at_once] for row in self._of_sample(s)]

    def _of_sample(self, s: int) -> Iterator[dict[str, Any]]:
        place, sums = self.sums.places[s], self.sums
        per_m3 = LITRES_PER_M3 / place.volume_l
        counts_CK = self._counts(s)
        low_C, high_C = self._abundance(s, counts_CK)
        volume_C = self._filled(sums.volume_SC[s], sums.sized_SC[s], sums.images_SC[s], self.with_sizes)
        carbon_C = self._filled(sums.carbon_SC[s], sums.weighed_SC[s], sums.images_SC[s], self.with_carbon)
        carbon_low_C, carbon_high_C = self._carbon(s, counts_CK)
        carbon_low_C[np.isnan(carbon_C)] = carbon_high_C[np.isnan(carbon_C)] = np.nan
        carbon_low_C, carbon_high_C = np.fmin(carbon_low_C, carbon_C), _at_least(carbon_high_C, carbon_C)
        for c, one in enumerate(self.classes):
            yield {
                "sample": place.sample,
                "instrument": place.instrument,
                "time": place.time,
                "lat": place.lat,
                "lon": place.lon,
                "depth_m": place.depth_m,
                "volume_l": place.volume_l,
                "class": one.name,
                "aphia_id": one.aphia_id,
                "living": one.living,
                "images": int(sums.images_SC[s, c]),
                "abundance_per_m3": float(sums.images_SC[s, c] * per_m3),
                "abundance_low_per_m3": float(low_C[c] * per_m3),
                "abundance_high_per_m3": float(high_C[c] * per_m3),
                "biovolume_mm3_per_m3": _or_none(volume_C[c] * per_m3 / UM3_PER_MM3),
                "carbon_mg_per_m3": _or_none(carbon_C[c] * per_m3 / PG_PER_MG),
                "carbon_low_mg_per_m3": _or_none(carbon_low_C[c] * per_m3 / PG_PER_MG),
                "carbon_high_mg_per_m3": _or_none(carbon_high_C[c] * per_m3 / PG_PER_MG),
            }

    def _counts(self, s: int) -> Float64[np.ndarray, "C K"]:
        """Means of the count in every draw: gamma about the drawn number of images (Jeffreys)."""
        from scipy.special import gammaincinv

        drawn_CK = self.sums.images_SCK[s].astype(np.float64)
        place = self.sums.places[s]
        uncertainty = self.carbon_settings.uncertainty
        keys = np.array(
            [image_key(f"{place.instrument}/{place.sample}/{one.name}") for one in self.classes], np.uint64
        )
        u_CK = uniforms(uncertainty.seed, keys, np.zeros_like(keys), Purpose.COUNT, self.sums.draws)
        seen_C = drawn_CK.any(axis=1)
        means_CK = np.zeros_like(drawn_CK)
        means_CK[seen_C] = gammaincinv(drawn_CK[seen_C] + 0.5, u_CK[seen_C] + 2.0**-25)
        return means_CK

    def _abundance(self, s: int, means_CK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Interval of the mean count of each class, by counting and by scores; it holds the images called so.

        Where the scores speak for another number than the most probable classes do, it reaches from one to
        the other.
        """
        low_C, high_C = poisson_interval(self.sums.images_SC[s])
        drawn_CK = self.sums.images_SCK[s]
        unsure_C = (drawn_CK != self.sums.images_SC[s][:, None]).any(axis=1)
        if unsure_C.any():
            low_C[unsure_C], high_C[unsure_C] = np.quantile(means_CK[unsure_C], [LOW, HIGH], axis=1)
        images_C = self.sums.images_SC[s]
        return np.minimum(low_C, images_C), np.maximum(high_C, images_C)

    def _carbon(self, s: int, means_CK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Interval of the carbon of each class, pg; NaN above where a class was drawn in no image."""
        drawn_CK, carbon_CK = self.sums.images_SCK[s], self.sums.carbon_SCK[s]
        share_CK = np.divide(means_CK, drawn_CK, out=np.zeros_like(means_CK), where=drawn_CK > 0)
        weighed_C, images_C = self.sums.weighed_SC[s], self.sums.images_SC[s]
        fill_C = np.divide(images_C, weighed_C, out=np.ones(len(images_C)), where=weighed_C > 0)
        low_C, high_C = np.quantile(carbon_CK * share_CK, [LOW, HIGH], axis=1) * fill_C
        high_C[~drawn_CK.any(axis=1)] = np.nan
        return low_C, high_C

    def _filled(self, sum_C: np.ndarray, known_C: np.ndarray, images_C: np.ndarray, have: bool) -> np.ndarray:
        """The sum over all images of each class; NaN where it is not known."""
        if not have:
            return np.full(len(sum_C), np.nan)
        if self.settings.fill_missing:
            mean_C = np.divide(sum_C, known_C, out=np.full(len(sum_C), np.nan), where=known_C > 0)
            return np.where(images_C == 0, 0.0, mean_C * images_C)
        return np.where(known_C == images_C, sum_C, np.nan)


def _order(time: datetime | None, sample: str) -> tuple[bool, float, str]:
    return time is None, time.timestamp() if time else 0.0, sample


def _at_least(high_C: np.ndarray, value_C: np.ndarray) -> np.ndarray:
    """The upper end, or the value where that is higher; what is not known stays so."""
    return np.where(np.isnan(high_C), high_C, np.fmax(high_C, value_C))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
