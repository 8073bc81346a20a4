"""Predictions, sizes and carbon summed by sample and class, one row group of images in memory at a time.

What is held grows with samples x classes x draws, not with images; more than MOST_CELLS of them is refused
before memory is, with what to lower.

Letters: I images, S samples, C classes, K draws. Test: tests/downstream/samples/test_samples_table.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aqqua.downstream.carbon.monte_carlo import CarbonModel, CarbonSizes
from aqqua.downstream.carbon.settings import CarbonSettings
from aqqua.downstream.carbon.table import drawn, model_of
from aqqua.downstream.checked import PredictionsLike, class_numbers, sizes_of
from aqqua.downstream.join import joined
from aqqua.downstream.tables import Table

MOST_CELLS = 100_000_000  # samples x classes x draws: 1.2 GB of counts and carbon
PLACED = ("instrument", "sample")  # together they name a sample
SAME_VOLUME = 1e-4  # relative: volumes are float32
PREDICTED = (
    *("image_id", "key", "class", "scores", "sample", "instrument", "time", "lat", "lon", "depth_m"),
    "volume_l",
)


@dataclass
class Place:
    """When and where a sample is from, as its images say."""

    instrument: str
    sample: str
    volume_l: float
    time: datetime | None = None  # of its first image
    lat: float | None = None
    lon: float | None = None
    depths: tuple[float, int] = (0.0, 0)  # sum [m] and number

    def see(self, images: pa.Table) -> None:
        """Some more images of the sample."""
        first = pc.min(images["time"]).as_py()
        if first is not None:
            self.time = first if self.time is None else min(self.time, first)
        for name in ("lat", "lon"):
            if getattr(self, name) is None:
                setattr(self, name, pc.first(images[name]).as_py())
        depths = images["depth_m"].drop_null()
        if len(depths):
            self.depths = (self.depths[0] + pc.sum(depths).as_py(), self.depths[1] + len(depths))

    @property
    def depth_m(self) -> float | None:
        """Mean over its images."""
        return self.depths[0] / self.depths[1] if self.depths[1] else None


@dataclass
class Sums:
    """By sample and class."""

    classes: int
    draws: int
    places: list[Place] = field(default_factory=list)
    images_SC: np.ndarray = field(init=False)
    sized_SC: np.ndarray = field(init=False)  # images whose volume is known
    volume_SC: np.ndarray = field(init=False)  # µm³, of those
    weighed_SC: np.ndarray = field(init=False)  # images whose carbon is known
    carbon_SC: np.ndarray = field(init=False)  # pg, of those
    images_SCK: np.ndarray = field(init=False)  # as drawn by the scores
    carbon_SCK: np.ndarray = field(init=False)  # pg
    left_out: dict[str, int] = field(default_factory=dict)  # samples without a volume -> images
    known: dict[tuple[str, str], int] = field(default_factory=dict)  # (instrument, sample) -> place
    images: int = 0  # seen so far

    def __post_init__(self) -> None:
        for name in ("images_SC", "sized_SC", "weighed_SC"):
            setattr(self, name, np.zeros((0, self.classes), np.int64))
        self.volume_SC = np.zeros((0, self.classes))
        self.carbon_SC = np.zeros((0, self.classes))
        self.images_SCK = np.zeros((0, self.classes, self.draws), np.int32)
        self.carbon_SCK = np.zeros((0, self.classes, self.draws))

    def place(self, images: pa.Table, leave_out: bool) -> np.ndarray:
        """Number of each image's sample, -1 where it is left out; new samples are added.

        Raises:
            ValueError: a sample has no volume and may not be left out, or it has two; naming it and the row.
        """
        volume_I = _volumes(images)
        missing = np.flatnonzero(np.isnan(volume_I))
        if len(missing) and not leave_out:
            raise ValueError(_no_volume(images, int(missing[0]), self.images))
        for name in images["sample"].take(pa.array(missing)).to_pylist():
            self.left_out[name or "(not named)"] = self.left_out.get(name or "(not named)", 0) + 1
        sample_I = np.full(len(images), -1, np.int64)
        for key, rows in _by_sample(images, np.flatnonzero(~np.isnan(volume_I))):
            if key not in self.known:
                self.known[key] = len(self.places)
                self.places.append(Place(*key, volume_l=float(volume_I[rows[0]])))
            sample_I[rows] = self.known[key]
            place = self.places[self.known[key]]
            other = rows[np.abs(volume_I[rows] / place.volume_l - 1) > SAME_VOLUME]
            if len(other):
                row = int(other[0])
                raise ValueError(
                    f"samples: a sample must have one volume, got {place.volume_l:g} and {volume_I[row]:g} L "
                    f"for {key[1]!r} in row {self.images + row} ({images['image_id'][row].as_py()}); correct "
                    "the metadata and ingest again"
                )
            place.see(images.take(pa.array(rows)))
        return sample_I

    def make_room(self) -> None:
        """Room for all places; doubled, so that it is seldom made."""
        have, need = len(self.images_SC), len(self.places)
        if need <= have:
            return
        cells = need * self.classes * max(self.draws, 1)
        if cells > MOST_CELLS:
            raise ValueError(
                f"samples: samples x classes x draws must be at most {MOST_CELLS:,}, got {need:,} x "
                f"{self.classes} x {self.draws}; lower the draws, or give fewer samples at a time"
            )
        room = min(max(2 * have, need, 16), max(need, MOST_CELLS // (self.classes * max(self.draws, 1))))
        for name in SUMMED:
            old = getattr(self, name)
            new = np.zeros((room, *old.shape[1:]), old.dtype)
            new[:have] = old
            setattr(self, name, new)

    def trim(self) -> "Sums":
        for name in SUMMED:
            setattr(self, name, getattr(self, name)[: len(self.places)])
        return self


SUMMED = ("images_SC", "sized_SC", "volume_SC", "weighed_SC", "carbon_SC", "images_SCK", "carbon_SCK")


def gather(
    predictions: PredictionsLike,
    sizes: Table | None,
    settings: CarbonSettings,
    with_carbon: bool,
    leave_out: bool,
    progress: Callable[[int], None],
) -> Sums:
    """Sum all predictions.

    Args:
        sizes: of the same images; None leaves volume and carbon out.
        with_carbon: carbon as `settings` say, by the same draws as a table of carbon.
        leave_out: leave samples without a volume out, and count them; else they are refused.
        progress: told the images done so far.

    Raises:
        ValueError: a sample has no volume or two, is not named, or a row makes no sense; naming it.
    """
    model = model_of(predictions.classes, settings)
    sums = Sums(len(predictions.classes), settings.uncertainty.draws)
    for images, measured in _pairs(predictions, sizes, settings):
        class_I = class_numbers(images, predictions.classes, sums.images)
        sample_I = sums.place(images, leave_out)
        sums.make_room()
        unknown = np.full(len(images), np.nan)
        found = CarbonSizes(unknown, unknown)
        if measured is not None:
            found = sizes_of(images, measured, settings, sums.images)
        _add(sums, images, sample_I, class_I, found, model, with_carbon)
        sums.images += len(images)
        progress(sums.images)
    return sums.trim()


def _pairs(
    predictions: PredictionsLike, sizes: Table | None, settings: CarbonSettings
) -> Iterator[tuple[pa.Table, pa.Table | None]]:
    images = predictions.batches(PREDICTED)
    if sizes is None:
        yield from ((table, None) for table in images)
    else:
        yield from joined(images, sizes.batches(settings.size_columns), "sizes")


def _volumes(images: pa.Table) -> np.ndarray:
    """Litres, NaN where there is none that makes sense or the sample has no name."""
    volume_I = images["volume_l"].to_numpy().astype(np.float64)
    named_I = pc.not_equal(images["sample"].cast(pa.string()), "").to_numpy()
    return np.where(np.isfinite(volume_I) & (volume_I > 0) & named_I, volume_I, np.nan)


def _by_sample(images: pa.Table, rows: np.ndarray) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """(instrument, sample) and its rows, of these rows."""
    names = [images[name].cast(pa.string()).combine_chunks().dictionary_encode() for name in PLACED]
    codes = [column.indices.to_numpy().astype(np.int64) for column in names]
    code_I = (codes[0] * (len(names[1].dictionary) + 1) + codes[1])[rows]
    order = np.argsort(code_I, kind="stable")
    ends = np.flatnonzero(np.diff(code_I[order])) + 1
    for part in np.split(rows[order], ends):
        if len(part):
            instrument, sample = (column[int(part[0])].as_py() for column in names)
            yield (instrument, sample), part


def _no_volume(images: pa.Table, row: int, first_row: int) -> str:
    values = {name: images[name][row].as_py() for name in ("sample", "volume_l", "image_id")}
    at = f"row {first_row + row} ({values['image_id']})"
    if not values["sample"]:
        return (
            f"samples: every image must belong to a sample, got none in {at}; say of which sample it is, "
            "or leave them out (--leave-out-without-volume)"
        )
    return (
        f"samples: a sample must have a volume above 0 for a concentration, got {values['volume_l']} L "
        f"for {values['sample']!r} in {at}; state its volume and ingest again, or leave such samples "
        "out (--leave-out-without-volume)"
    )


def _add(
    sums: Sums,
    images: pa.Table,
    sample_I: np.ndarray,
    class_I: np.ndarray,
    sizes: CarbonSizes,
    model: CarbonModel,
    with_carbon: bool,
) -> None:
    kept = sample_I >= 0
    cell_I = sample_I * sums.classes + class_I
    carbon_I = model.estimate(class_I, sizes) if with_carbon else np.full(len(class_I), np.nan)
    for values_I, number, total in (
        (sizes.volume_um3_I, sums.sized_SC, sums.volume_SC),
        (carbon_I, sums.weighed_SC, sums.carbon_SC),
    ):
        known = kept & ~np.isnan(values_I)
        np.add.at(number.reshape(-1), cell_I[known], 1)
        np.add.at(total.reshape(-1), cell_I[known], values_I[known])
    np.add.at(sums.images_SC.reshape(-1), cell_I[kept], 1)
    at = 0
    for key_I, class_IK, part in drawn(images, class_I, sizes, model):
        rows = kept[at : at + len(key_I)]
        cell_IK = (sample_I[at : at + len(key_I), None] * sums.classes + class_IK) * sums.draws
        cell_IK = (cell_IK + np.arange(sums.draws))[rows]
        np.add.at(sums.images_SCK.reshape(-1), cell_IK.ravel(), 1)
        if with_carbon:
            carbon_IK = np.nan_to_num(model.draw(key_I, class_IK, part))[rows]
            np.add.at(sums.carbon_SCK.reshape(-1), cell_IK.ravel(), carbon_IK.ravel())
        at += len(key_I)
