"""A dataset to a table of sizes: one row per image, in micrometres, with the µm/px used.

What cannot be known is null and its flag says why: an image without µm/px has its area in pixels and nothing
in µm. UVP samples whose facts state Aa and Exp get the calibrated area Aa·px^Exp instead of px²; lengths and
volumes then use the µm/px at which the pixels have that area, so that all columns agree.

Test: tests/downstream/size/test_size_table.py. Timing: bench/data/downstream.py.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.downstream.size.measure import Calibration, calibrated_um_per_px, in_micrometres, measure
from aqqua.downstream.size.segment import Objects
from aqqua.downstream.tables import Column, Table, new_table, schema_of
from aqqua.spread import Engine, spread
from aqqua.store.read import Block, Dataset
from aqqua.store.schema import SAMPLES

FLAGS = ("", "nothing found", "scale unknown", "touches border", "several objects")
METHODS = ("border noise", "fixed threshold", "fixed threshold, Aa·px^Exp", "border noise, Aa·px^Exp")
_WORD = pa.dictionary(pa.int32(), pa.string())

_BlockRows = tuple[int, list[dict[str, Any]]]  # number of a block, its rows
COLUMNS: tuple[Column, ...] = (
    ("image_id", pa.string(), False, "as in the dataset"),
    ("key", pa.uint64(), False, "as in the dataset"),
    ("um_per_px", pa.float64(), True, "micrometres per pixel used for every column in µm; null is unknown"),
    ("area_um2", pa.float64(), True, "area of the outline, µm², holes filled"),
    ("esd_um", pa.float64(), True, "diameter of the circle of this area, µm"),
    ("major_um", pa.float64(), True, "longer axis of the ellipse of equal second moments, µm"),
    ("minor_um", pa.float64(), True, "shorter axis of it, µm"),
    ("perimeter_um", pa.float64(), True, "length of the outline, µm"),
    ("feret_um", pa.float64(), True, "largest distance between two corners of pixels, µm"),
    ("volume_sphere_um3", pa.float64(), True, "π/6·ESD³, µm³"),
    ("volume_prolate_um3", pa.float64(), True, "4/3·π·(major/2)·(minor/2)², µm³"),
    ("volume_moberg_sosik_um3", pa.float64(), True, "after Moberg & Sosik 2012, µm³"),
    ("area_px", pa.int64(), True, "pixels of the outline, holes filled; null where nothing stands out"),
    ("threshold", pa.float64(), True, "grey levels from the ground above which pixels count"),
    ("method", _WORD, False, "how the outline was found, and the area calibrated: " + "; ".join(METHODS)),
    ("flag", _WORD, False, "why not to trust it; '' is none: " + "; ".join(f"'{flag}'" for flag in FLAGS)),
)
# Grey levels from the ground at which the instrument's own software cuts 8-bit images. ZooScan: any
# from 9 to 11 gives exactly ZooProcess' area of each of 400 real images, whose ground is flattened to white.
# UVP6: pixels up to 20 to 22 are ground, by unit (ACQ configuration).
THRESHOLDS: Mapping[str, float] = {"ZooScan": 10.0, "UVP6": 22.0}


@dataclass(frozen=True)
class SizeSettings:
    """How sizes are measured."""

    objects: Objects = "largest"  # or "all": areas, perimeters and volumes summed, axes of the largest
    thresholds: Mapping[str, float] = field(default_factory=lambda: dict(THRESHOLDS))  # instrument -> levels


def write_sizes(
    dataset: Dataset,
    out: Path,
    settings: SizeSettings | None = None,
    command: str = "",
    progress: Callable[[int], None] = lambda _done: None,
    engine: Engine | None = None,
) -> dict[str, int]:
    """Measure every image of a dataset, a block in memory at a time for each worker.

    Args:
        out: new file, named .parquet.
        command: what the user typed, for the table's metadata.
        progress: told the images done so far.
        engine: who measures, and how many at a time; the table is the same.

    Returns:
        How many images have each flag, and under "images" how many there are.

    Raises:
        ValueError: the output exists, or the dataset is damaged.
        RuntimeError: a package is missing, or the disk failed.
    """
    _require_packages()
    settings = settings or SizeSettings()
    facts = {
        "dataset_sha256": dataset.manifest_sha256,
        "command": command,
        "size_settings": json.dumps(asdict(settings), sort_keys=True),
    }
    schema = schema_of(COLUMNS, facts)
    counts = {"images": 0, **dict.fromkeys(FLAGS, 0)}
    found = spread(_Measure(dataset, settings), range(dataset.blocks), engine or Engine())
    with new_table(out, schema, "sizes") as writer:
        for rows in _in_order(found):
            for row in rows:
                counts[row["flag"]] += 1
            counts["images"] += len(rows)
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            progress(counts["images"])
    return counts


def open_sizes(path: Path | str) -> Table:
    """Open a table of sizes.

    Raises:
        ValueError: the file is none.
    """
    return Table.open(path, COLUMNS, "sizes", "aqqua sizes")


def _require_packages() -> None:
    try:
        for name in ("scipy", "skimage"):
            import_module(name)
    except ImportError as error:
        raise RuntimeError(
            f"sizes needs the package {error.name}, got none; pip install 'aqqua[downstream]'"
        ) from error


@dataclass(frozen=True)
class _Measure:
    """Makes, in each worker, what measures a block."""

    dataset: Dataset
    settings: SizeSettings

    def __call__(self) -> Callable[[int], _BlockRows]:
        calibrations = _calibrations(self.dataset)

        def measured(number: int) -> _BlockRows:
            block, known = self.dataset.block_with(number, ["image_id", "instrument", "sample"])
            return number, list(_rows(block, known, self.settings, calibrations))

        return measured


def _in_order(found: Iterator[_BlockRows]) -> Iterator[list[dict[str, Any]]]:
    """Rows block by block; those that are ready early wait, no more than the workers are ahead."""
    early: dict[int, list[dict[str, Any]]] = {}
    following = 0
    for number, rows in found:
        early[number] = rows
        while following in early:
            yield early.pop(following)
            following += 1


def _rows(
    block: Block, known: pa.Table, settings: SizeSettings, calibrations: Mapping[tuple[str, str], Calibration]
) -> Iterator[dict[str, Any]]:
    ids, instruments, samples = (known[name].to_pylist() for name in ("image_id", "instrument", "sample"))
    for i, image_id in enumerate(ids):
        calibration = _of_image(calibrations, image_id, samples[i])
        threshold = _threshold(block, i, instruments[i], settings, calibration)
        measured = measure(block.pixels(i), settings.objects, threshold)
        stated = float(block.sizes.um_per_px[i])
        um_per_px: float | None = None if math.isnan(stated) else stated
        method = METHODS[0] if threshold is None else METHODS[1]
        if calibration is not None and measured.area:
            um_per_px = calibrated_um_per_px(measured.area, calibration)
            method += ", Aa·px^Exp"
        flag = measured.flag
        if um_per_px is None and flag != "nothing found":
            flag = "scale unknown"
        yield {
            "image_id": image_id,
            "key": int(block.sizes.key[i]),
            "um_per_px": um_per_px,
            **in_micrometres(measured, um_per_px),
            "area_px": measured.area or None,
            "threshold": measured.threshold,
            "method": method,
            "flag": flag,
        }


def _threshold(
    block: Block, i: int, instrument: str, settings: SizeSettings, calibration: Calibration | None
) -> float | None:
    """Grey levels from the ground, or None to take it from the border."""
    if block.sizes.bits[i] != 8:
        return None
    if calibration is not None and calibration.threshold is not None:
        return calibration.threshold + 1  # at the threshold a pixel is ground still
    fixed = settings.thresholds.get(instrument)
    ground = int(block.sizes.background[i].max())
    # The software cut pictures on a flat white or black ground; any other ground is not what it saw.
    return fixed if fixed is not None and (ground <= 5 or ground >= 250) else None


def _of_image(
    calibrations: Mapping[tuple[str, str], Calibration], image_id: str, sample: str
) -> Calibration | None:
    return calibrations.get((image_id.split("/", 1)[0], sample)) if calibrations else None


def _calibrations(dataset: Dataset) -> dict[tuple[str, str], Calibration]:
    """(input, sample) -> calibration, of the samples whose facts state Aa and Exp."""
    path = dataset.path / SAMPLES
    if not path.is_file():
        return {}
    found = {}
    for row in pq.read_table(path, columns=["input", "sample", "facts"]).to_pylist():
        facts = dict(row["facts"] or ())
        try:
            aa_um2, exp = float(facts["aa_um2"]), float(facts["exp"])
            cut = float(facts["threshold"]) if facts.get("threshold") else None
        except (KeyError, ValueError):
            continue  # not a UVP, or not calibrated
        if aa_um2 > 0 and exp > 0:
            found[row["input"], row["sample"]] = Calibration(aa_um2, exp, cut)
    return found
