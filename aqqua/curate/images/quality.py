"""Quality: flags on images that may not be worth training on, from the numbers in their signatures.

A threshold that means the same everywhere (px, shares) is a number in the config. Where it does not, as for
focus, which depends on optics and noise, it is relative to the instrument: so many robust standard
deviations (1.4826 times the median absolute deviation) of the logarithm below the median of its images of
like size. The dataset is shuffled, so median and deviation come from a sample of blocks spread over it, at
most SAMPLE images of an instrument. What looks like a bubble is one only where bubbles are in the water:
the same ring of light is a protist under a microscope, so a flag may say which instruments it is for. Flags
are an opinion to weigh images by, not a verdict: nothing is dropped here.

Test: tests/curate/images/test_quality.py. Figures against labels of real images: bench/data/duplicates.py.
"""

from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from aqqua.curate.images.measures import MEASURES
from aqqua.store.columns import Columns, write_columns
from aqqua.store.read import Dataset

KIND = "quality"
FLAGS = ("tiny", "blurred", "saturated", "bubble", "burnt_in")
SAMPLE = 1 << 18  # images that typical values are taken from
LEAST_IMAGES = 50  # fewer of an instrument say nothing of what is typical
FIELDS = [
    *(pa.field(name, pa.float32(), False, {"description": text}) for name, text in MEASURES.items()),
    pa.field(
        "blur",
        pa.float32(),
        False,
        {"description": "robust standard deviations of log edge below what is typical; 0 where unknown"},
    ),
    pa.field("flags", pa.list_(pa.string()), False, {"description": ", ".join(FLAGS)}),
]


class QualityConfig(BaseModel):
    """From which values on an image gets a flag."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tiny_px: float = Field(10.0, ge=0, description="`tiny`: longer side of the organism's box is shorter, px")
    blurred_deviations: float = Field(
        2.0,
        ge=0,
        description="`blurred`: edges softer than is typical by so many deviations",
    )
    blurred_instruments: tuple[str, ...] = Field(
        ("*", "!CPICS*", "!DSPC*", "!Planktivore*", "!PWSSC*", "!SPC*"),
        description="`blurred`: instruments it is for, as shell patterns; ! takes away, the last that fits "
        "counts. Not dark-field colour, where transparent bodies have soft edges in focus",
    )
    saturated_share: float = Field(
        0.02, gt=0, le=1, description="`saturated`: share of the box at black or white"
    )
    bubble_round: float = Field(
        0.75, gt=0, le=1, description="`bubble`: distance from the centre explains so much of the box"
    )
    bubble_ring: float = Field(
        0.3, gt=0, le=1, description="`bubble`: and the centre is so much weaker than a ring"
    )
    bubble_instruments: tuple[str, ...] = Field(
        ("UVP*",),
        description="`bubble`: instruments it is for, as blurred_instruments. Profilers that take air down; "
        "in a flow cell or on a scanner bright rings are organisms, as FlowCam's round protists",
    )
    glint_round: float = Field(
        0.3, gt=0, le=1, description="`bubble` too: a saturated spot that is round to this degree"
    )
    bubble_px: float = Field(12.0, ge=0, description="`bubble`: longer side of the box at least, px")
    burnt_in_rows: float = Field(
        3.0, ge=1, description="`burnt_in`: rows near an edge of black and white alone, px"
    )


def write_quality(dataset: Dataset, signatures: Columns, out: Path, config: QualityConfig) -> Columns:
    """Flag the images of a dataset.

    Args:
        signatures: of aqqua.curate.images.signatures.
        out: new folder, of Columns `quality`.

    Raises:
        ValueError: files are damaged, or there is something at `out`.
        RuntimeError: the disk is full or failed.
    """
    typical = typical_edges(dataset, signatures)
    counts = dict.fromkeys(FLAGS, 0)
    there = np.array(sorted(dataset.manifest["instruments"]), object)
    asked = {"blurred": config.blurred_instruments, "bubble": config.bubble_instruments}
    facts: dict[str, object] = {
        "not_looked_for": {flag: there[~_among(there, of)].tolist() for flag, of in asked.items()},
        "config": config.model_dump(mode="json"),
        "made_from": {"signatures": signatures.sha256},
        "typical_log_edge": typical,
        "images": counts,
    }

    def table_of(block: int) -> pa.Table:
        table = signatures.block(block, list(MEASURES))
        values = {name: table[name].to_numpy() for name in MEASURES}
        sizes = dataset.sizes(block)
        names = np.array(sizes.instrument_names, object)[sizes.instrument]
        blur = blur_of(values["edge"], names, typical)
        masks = flag_masks(values, blur, names, config)
        for name, mask in masks.items():
            counts[name] += int(mask.sum())
        flags = [[name for name in FLAGS if masks[name][i]] for i in range(len(table))]
        columns = [
            *(table[name] for name in MEASURES),
            pa.array(blur),
            pa.array(flags, pa.list_(pa.string())),
        ]
        return pa.Table.from_arrays(columns, schema=pa.schema(FIELDS))

    with write_columns(out, dataset, KIND, FIELDS, facts, "quality") as writer:
        for part in range(dataset.parts):
            writer.write_part(part, table_of)
    return Columns.open(out, dataset, KIND)


def flag_masks(
    values: dict[str, np.ndarray], blur: np.ndarray, instrument: np.ndarray, config: QualityConfig
) -> dict[str, np.ndarray]:
    """Which images get which flag: name -> [I] bool, in the order of FLAGS.

    Args:
        instrument: name of each image's.
    """
    hollow = (values["round"] >= config.bubble_round) & (values["ring"] >= config.bubble_ring)
    glint = (values["round"] >= config.glint_round) & (values["saturated"] >= config.saturated_share)
    return {
        "tiny": values["box_long_px"] < config.tiny_px,
        "blurred": (blur > config.blurred_deviations) & _among(instrument, config.blurred_instruments),
        "saturated": values["saturated"] >= config.saturated_share,
        "bubble": (values["box_long_px"] >= config.bubble_px)
        & (hollow | glint)
        & _among(instrument, config.bubble_instruments),
        "burnt_in": values["burnt_in"] >= config.burnt_in_rows,
    }


def _among(instrument: np.ndarray, patterns: tuple[str, ...]) -> np.ndarray:
    """Which images are of an instrument that a flag is for: [I] bool."""
    chosen = {}
    for name in set(instrument.tolist()):
        fitting = [one for one in patterns if fnmatchcase(name, one.removeprefix("!"))]
        chosen[name] = bool(fitting) and not fitting[-1].startswith("!")
    return np.array([chosen[name] for name in instrument.tolist()], bool)


Typical = dict[str, tuple[float, float]]  # instrument -> median, deviation of log edge


def typical_edges(dataset: Dataset, signatures: Columns) -> Typical:
    """Median and robust deviation of the logarithm of `edge`, by instrument."""
    wanted = min(dataset.blocks, max(1, SAMPLE // max(dataset.rows_of(0), 1)))
    blocks = np.unique(np.linspace(0, dataset.blocks - 1, wanted).astype(int)).tolist()
    found: dict[str, list[np.ndarray]] = {}
    for block in blocks:
        sizes, edge = dataset.sizes(block), signatures.block(block, ["edge"])["edge"].to_numpy()
        for number, name in enumerate(sizes.instrument_names):
            found.setdefault(name, []).append(edge[(sizes.instrument == number) & (edge > 0)])
    typical: Typical = {}
    for name in sorted(found):
        logs = np.log(np.concatenate(found[name]).astype(np.float64))
        if len(logs) >= LEAST_IMAGES:
            median = float(np.median(logs))
            typical[name] = median, 1.4826 * float(np.median(np.abs(logs - median)))
    return typical


def blur_of(edge: np.ndarray, instrument: np.ndarray, typical: Typical) -> np.ndarray:
    """Robust deviations by which edges are softer than typical: [I] float32; 0 where nothing is typical.

    Args:
        edge: of each image, share of full scale per px.
        instrument: name of each image's.
    """
    blur = np.zeros(len(edge), np.float32)
    for name, (median, deviation) in typical.items():
        rows = (instrument == name) & (edge > 0)
        if deviation > 0:
            blur[rows] = (median - np.log(edge[rows])) / deviation
    return blur
