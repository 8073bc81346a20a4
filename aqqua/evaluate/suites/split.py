"""Which images are trained on and which are tested, in three tiers of honesty.

- `sample`: groups (bins, frames, casts) held out of the same sources; the split of `aqqua pretrain`'s
  `data.holdout`, so that a model that held them out has not seen them.
- `region`: whole cruises, cells of latitude and longitude, months or seasons held out.
- `instrument`: trained on all other instruments, tested on one, in turn.

All are functions of names alone, by hash: no seed. No group is on both sides. A test image whose picture
training has seen, labelled or not, leaves the test: equal pixels, or near ones where duplicates were looked
for. A class that has too few images is not asked for.

Letter key: I images, K classes of a split. Test: tests/evaluate/suites/test_suite_split.py.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from aqqua.evaluate.suites.images import Images
from aqqua.evaluate.suites.suite import InstrumentTier, RegionTier, SampleTier, Suite
from aqqua.store.split import draw, held_out_rows

LEARNT_FROM, TESTED, NEITHER = 0, 1, 2  # sides of an image in a split


@dataclass(frozen=True)
class Split:
    """Images divided into what is learnt from and what is tested.

    Args:
        tier: sample, region or instrument.
        name: unique among the splits of a suite: "sample", "region 2016-07", "instrument UVP6".
        held_out: regions or instruments that are tested; empty where groups are.
        train, test: int64, numbers of images, ascending.
        classes: int32 [K], numbers of the classes asked for, ascending.
        train_label, test_label: int64, numbers 0 to K-1, into `classes`.
        left_out: why images of a class are on neither side, and how many.
        side_I: int8 [I], of every image, with a class or without: TESTED, LEARNT_FROM or NEITHER.
    """

    tier: str
    name: str
    held_out: tuple[str, ...]
    train: np.ndarray
    test: np.ndarray
    classes: np.ndarray
    train_label: np.ndarray
    test_label: np.ndarray
    left_out: dict[str, int]
    side_I: np.ndarray


@dataclass(frozen=True)
class _Sides:
    """What a split tests on, and which images it can place; both bool [I]."""

    name: str
    held_out: tuple[str, ...]
    tested_I: np.ndarray
    usable_I: np.ndarray


class _CannotError(ValueError):
    """A split has an empty side; said by whoever knows what else to try."""


def splits_of(images: Images, suite: Suite, tier: str) -> tuple[tuple[Split, ...], dict[str, str]]:
    """The splits of one tier, and which turns of it cannot be made, with the reason.

    Raises:
        ValueError: the tier cannot be made from these images.
    """
    make: dict[str, Callable[[Images, Suite], Iterator[_Sides]]] = {
        "sample": _sample_sides,
        "region": _region_sides,
        "instrument": _instrument_sides,
    }
    made, skipped = [], {}
    for sides in make[tier](images, suite):
        try:
            made.append(_split(images, suite, tier, sides))
        except _CannotError as error:
            skipped[sides.name] = str(error)
    if not made:
        name, reason = next(iter(skipped.items()))
        raise ValueError(
            f"split: the tier {tier} must have labelled images on both sides, got {reason} for {name}"
            f"{_hint(tier)}"
        )
    return tuple(made), skipped


def _hint(tier: str) -> str:
    return {
        "sample": "; choose another holdout, or a data set with more groups",
        "region": "; choose another holdout, name the regions (test: [...]), or take in_turn: true",
        "instrument": "; choose a coarser level, so that instruments share classes",
    }[tier]


def _sample_sides(images: Images, suite: Suite) -> Iterator[_Sides]:
    tier = suite.tiers.sample
    assert isinstance(tier, SampleTier), "asked for only where the suite has it"
    yield _Sides("sample", (), held_out_rows(images.naming, tier.holdout), np.ones(len(images), bool))


def _region_sides(images: Images, suite: Suite) -> Iterator[_Sides]:
    tier = suite.tiers.region
    assert isinstance(tier, RegionTier), "asked for only where the suite has it"
    region_I = regions_of(images, tier)
    known_I = np.array([name is not None for name in region_I], bool)
    names = sorted({name for name in region_I if name is not None})
    if not names:
        if tier.pattern is not None and (
            written := next(filter(None, images.table[tier.by].to_pylist()), None)
        ):
            raise ValueError(
                f"split: the pattern of the tier region must match a {tier.by}, got no match of "
                f"{tier.pattern!r} in any of {len(images)}, such as {written!r}; correct it"
            )
        needs = {"cell": "lat and lon", "month": "a time", "season": "a time"}.get(tier.by, f"a {tier.by}")
        raise ValueError(
            f"split: the tier region by {tier.by} needs images with {needs}, got none of {len(images)}; "
            "choose another `by`, or take the tier out"
        )
    if len(names) < 2:
        raise ValueError(
            f"split: the tier region by {tier.by} must have at least 2 regions, got {names[0]} alone; "
            "choose another `by` or pattern, or take the tier out"
        )
    unknown = sorted(set(tier.test) - set(names))
    if unknown:
        some = ", ".join(names[:8])
        raise ValueError(
            f"split: regions tested on must be among {some}, ..., got {unknown[0]}; correct test"
        )
    if tier.in_turn:
        for name in names:
            yield _Sides(f"region {name}", (name,), region_I == name, known_I)
        return
    drawn = [name for name in names if draw(name.encode()) < tier.holdout]
    tested = frozenset(tier.test or drawn)
    tested_I = np.array([name in tested for name in region_I], bool)
    yield _Sides("region", tuple(sorted(tested)), tested_I, known_I)


def _instrument_sides(images: Images, suite: Suite) -> Iterator[_Sides]:
    tier = suite.tiers.instrument
    assert isinstance(tier, InstrumentTier), "asked for only where the suite has it"
    labelled = sorted({images.instruments[i] for i in np.unique(images.instrument_I[images.class_I >= 0])})
    if len(labelled) < 2:
        raise ValueError(
            f"split: the tier instrument needs labelled images of at least 2 instruments, got "
            f"{', '.join(labelled) or 'none'}; add a data set, or take the tier out"
        )
    unknown = sorted(set(tier.test) - set(labelled))
    if unknown:
        raise ValueError(
            f"split: instruments tested on must be among {', '.join(labelled)}, got "
            f"{unknown[0]}; correct test"
        )
    for name in tier.test or labelled:
        tested_I = images.instrument_I == images.instruments.index(name)
        yield _Sides(f"instrument {name}", (name,), tested_I, np.ones(len(images), bool))


def regions_of(images: Images, tier: RegionTier) -> np.ndarray:
    """Region of each image, object [I]: one for the whole of a group, the first by name; None unknown."""
    written = _written_regions(images, tier)
    first: dict[int, str] = {}
    for group, name in zip(images.group_I.tolist(), written, strict=True):
        if name is not None and (group not in first or name < first[group]):
            first[group] = name
    return np.array([first.get(group) for group in images.group_I.tolist()], object)


def _written_regions(images: Images, tier: RegionTier) -> list[str | None]:
    table = images.table
    if tier.by == "cell":
        pairs = zip(table["lat"].to_pylist(), table["lon"].to_pylist(), strict=True)
        return [_cell(lat, lon, tier.cell_degrees) for lat, lon in pairs]
    if tier.by in ("month", "season"):
        times = table["time"].to_pylist()
        if tier.by == "month":
            return [None if time is None else f"{time.year}-{time.month:02}" for time in times]
        return [None if time is None else f"{time.year}-Q{(time.month + 2) // 3}" for time in times]
    texts = table[tier.by].to_pylist()
    if tier.pattern is None:
        return [text or None for text in texts]
    pattern = re.compile(tier.pattern)
    found = [pattern.search(text) for text in texts]
    return [None if match is None else match[1] or None for match in found]


def _cell(lat: float | None, lon: float | None, side: float) -> str | None:
    if lat is None or lon is None:
        return None
    south, west = np.floor(lat / side) * side, np.floor(lon / side) * side
    return f"lat {south:g}, lon {west:g}"


def _split(images: Images, suite: Suite, tier: str, sides: _Sides) -> Split:
    tested_I, usable_I = sides.tested_I, sides.usable_I
    class_I = images.class_I
    used_I = (class_I >= 0) & usable_I
    count = len(images.classes)
    # Training sees every image that is not held out, labelled or not.
    seen = np.unique(images.picture_I[~tested_I])
    seen_I = tested_I & np.isin(images.picture_I, seen)
    copy_I = used_I & seen_I
    train_I, test_I = used_I & ~tested_I, used_I & tested_I & ~copy_I
    in_train = np.bincount(class_I[train_I], minlength=count)
    in_test = np.bincount(class_I[test_I], minlength=count)
    # On another instrument a class is asked for only where both sides have it.
    least = max(suite.min_test_images, 1 if tier == "instrument" else 0)
    asked = (in_train >= suite.min_train_images) & (in_test >= least)
    asked_I = np.zeros(len(images), bool)
    asked_I[class_I >= 0] = asked[class_I[class_I >= 0]]
    train, test = np.flatnonzero(train_I & asked_I), np.flatnonzero(test_I & asked_I)
    if suite.asks_classes and not (len(train) and len(test)):
        raise _CannotError(f"{len(train)} images to learn from and {len(test)} to test on")
    classes = np.flatnonzero(asked).astype(np.int32)
    place = np.full(count, -1, np.int64)
    place[classes] = np.arange(len(classes))
    left_out = {
        f"{tier} unknown": int(((class_I >= 0) & ~usable_I).sum()),
        "copy of a training image": int(copy_I.sum()),
        "class with too few images": int(((train_I | test_I) & ~asked_I).sum()),
    }
    return Split(
        *(tier, sides.name, sides.held_out, train, test, classes),
        *(
            place[class_I[train]],
            place[class_I[test]],
            {why: count for why, count in left_out.items() if count},
            np.where(usable_I & ~seen_I, tested_I, NEITHER).astype(np.int8),
        ),
    )
