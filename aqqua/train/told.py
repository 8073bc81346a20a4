"""Facts beside the pixels, as the guides (aqqua.objective.guides) want them told: a row per number or class.

Most are of an image; µm/px is of a view, which may be magnified or reduced. NaN is unknown: no loss.
Letters: I images, B rows (global views, crop by crop), C rows of facts, Q guides.
Test: tests/train/test_told.py.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Float64

from aqqua.config import did_you_mean
from aqqua.objective.guides import SCALES, GuideConfig
from aqqua.objective.ssl import ObjectiveConfig
from aqqua.plan.pack import GLOBALS, Pack
from aqqua.store.read import Dataset

UNKNOWN = "unknown"  # of an instrument: aqqua.store.schema
Tables = Callable[[int], pa.Table]  # further columns of a block's images
LOOKED_AT = 8  # blocks of a dataset, before it is said that a fact is known of no image
_COLUMNS = {"depth_m": ("depth_m",), "region": ("lat", "lon")}  # of the dataset; others are planned with


def columns_of(guides: Sequence[GuideConfig]) -> tuple[str, ...]:
    """Columns that have to be read for these guides, beside what planning needs."""
    return tuple(column for guide in guides for column in _COLUMNS.get(guide.field, ()))


def told_of(pack: Pack, guides: Sequence[GuideConfig], tables: Tables | None) -> Float32[np.ndarray, "C B"]:
    """What is known of a pack's global views: a class, or numbers in [0, 1]."""
    return np.concatenate([_told(pack, guide, tables) for guide in guides]).astype(np.float32)


def known_of(told_CB: Float32[np.ndarray, "C B"], guides: Sequence[GuideConfig]) -> tuple[int, ...]:
    """Of how many global views each guide's fact is known."""
    firsts = np.cumsum([0, *(guide.told_rows for guide in guides[:-1])])
    return tuple((~np.isnan(told_CB[firsts])).sum(axis=1).tolist())


def _told(pack: Pack, guide: GuideConfig, tables: Tables | None) -> Float64[np.ndarray, "R B"]:
    if guide.field == "instrument":
        names = {name: float(number) for number, name in enumerate(guide.names)}
        codes = np.array([names.get(name, np.nan) for name in pack.sizes.instrument_names])
        return np.tile(codes[pack.sizes.instrument], GLOBALS)[None]
    values_RB = _values(pack, guide.field, tables)
    if guide.edges:
        return np.where(np.isnan(values_RB), np.nan, np.digitize(values_RB, guide.edges))
    if guide.field == "um_per_px":
        values_RB = np.log2(values_RB)
    elif guide.field == "depth_m":
        values_RB = np.log2(1 + np.maximum(values_RB, 0.0))
    scale = SCALES[guide.field]
    return ((values_RB - scale.low) / (scale.high - scale.low)).clip(0.0, 1.0)


def _values(pack: Pack, field: str, tables: Tables | None) -> Float64[np.ndarray, "R B"]:
    """µm/px, metres, or a point of the unit sphere."""
    if field == "um_per_px":
        return pack.um_per_px_V[: GLOBALS * pack.n_images].astype(np.float64)[None]
    columns = [np.tile(_column(pack, name, tables), GLOBALS) for name in _COLUMNS[field]]
    if field == "depth_m":
        return columns[0][None]
    lat_B, lon_B = np.radians(columns)
    around_B = np.cos(lat_B)
    point_RB = np.stack([around_B * np.cos(lon_B), around_B * np.sin(lon_B), np.sin(lat_B)])
    return np.where(np.isnan(lon_B), np.nan, point_RB)  # half a place is none


def _column(pack: Pack, name: str, tables: Tables | None) -> Float64[np.ndarray, " I"]:
    assert tables is not None, f"told: tables must be given to read {name}"
    found = np.empty(pack.n_images)
    for block in np.unique(pack.block_I).tolist():
        values = tables(block)[name].to_numpy().astype(np.float64)  # null becomes NaN
        here_I = pack.block_I == block
        found[here_I] = values[pack.row_I[here_I]]
    return found


def _known_of_some(field: str, dataset: Dataset) -> bool:
    """Looks at a few blocks, each of which is a fair sample."""
    blocks = range(min(dataset.blocks, LOOKED_AT))
    if field == "um_per_px":
        return any(np.isfinite(dataset.sizes(block).um_per_px).any() for block in blocks)
    columns = _COLUMNS[field]
    table = dataset.table(list(columns), blocks)
    return all(table[name].null_count < len(table) for name in columns)


def with_names(objective: ObjectiveConfig, dataset: Dataset) -> ObjectiveConfig:
    """The config, its guide of the instrument with the names of the dataset's manifest where it has none.

    Raises:
        ValueError: there are fewer than two instruments to tell apart, or one that the dataset does not have;
            or a fact is known of none of the images looked at.
    """
    known = tuple(sorted(set(dataset.manifest["instruments"]) - {UNKNOWN}))
    named = []
    for guide in objective.guides:
        if guide.field == "instrument":
            guide = guide.model_copy(update={"names": guide.names or known})
            if absent := [name for name in guide.names if name not in known]:
                raise ValueError(
                    f"objective.guides: names of instruments must be among {', '.join(known)}, got "
                    f"{absent[0]}; {did_you_mean(absent[0], known) or 'correct it'}"
                )
            if len(guide.names) < 2:
                raise ValueError(
                    f"objective.guides: a guide of the instrument needs two of them, got "
                    f"{', '.join(guide.names) or 'none'} in {dataset.path}; leave it out"
                )
        elif not _known_of_some(guide.field, dataset):
            raise ValueError(
                f"objective.guides: {guide.field} must be known of some images, got none of the first "
                f"{LOOKED_AT} blocks of {dataset.path}; leave the guide out"
            )
        named.append(guide)
    return objective.model_copy(update={"guides": tuple(named)})
