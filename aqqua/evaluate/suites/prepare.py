"""A suite made ready: its images side by side, its splits, and what a model may have seen before.

Test: tests/evaluate/suites/test_prepare.py.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from aqqua.config import did_you_mean
from aqqua.evaluate.suites.contaminated import contaminated
from aqqua.evaluate.suites.images import Images, read_images
from aqqua.evaluate.suites.measured import MeasuredTrait, measured_traits
from aqqua.evaluate.suites.split import NEITHER, TESTED, Split, splits_of
from aqqua.evaluate.suites.suite import PROTOCOL, Suite
from aqqua.store.read import Dataset
from aqqua.taxonomy.classes import TaxonClass


@dataclass(frozen=True)
class Prepared:
    """A suite and its images.

    Args:
        datasets: in the order of the suite; `images.dataset_I` counts them.
        images: of all data sets side by side; `images.classes` are the classes.
        splits: of all tiers, in the order of the suite's.
        skipped: name of a turn that cannot be made -> why.
        known_I: bool [I], images that the model's pretraining set held or was near to; all False if nobody
            looked.
        looked: whether that was looked for.
        measured: traits and carbon of the images, where the suite asks for them.
    """

    suite: Suite
    datasets: tuple[Dataset, ...]
    images: Images
    splits: tuple[Split, ...]
    skipped: dict[str, str]
    known_I: np.ndarray
    looked: bool
    measured: tuple[MeasuredTrait, ...] = ()

    @property
    def classes(self) -> tuple[TaxonClass, ...]:
        """All classes; a split asks for some of them."""
        return self.images.classes

    def tier(self, name: str) -> tuple[Split, ...]:
        """The splits of one tier."""
        return tuple(split for split in self.splits if split.tier == name)

    def tested(self, split: Split) -> np.ndarray:
        """Numbers of the images that a split asks about: of a class, or whose traits were measured."""
        asked = [split.test] if self.suite.asks_classes else []
        for one in self.measured:
            asked.append(one.image_N[split.side_I[one.image_N] == TESTED])
        return np.unique(np.concatenate(asked))

    def rows(self, numbers: np.ndarray) -> list[tuple[Dataset, np.ndarray, np.ndarray]]:
        """Where images lie: for each data set, the rows there and their places in `numbers`."""
        of = self.images.dataset_I[numbers]
        found = []
        for i, dataset in enumerate(self.datasets):
            places = np.flatnonzero(of == i)
            if len(places):
                found.append((dataset, self.images.row_I[numbers[places]], places))
        return found

    def facts(self) -> dict[str, Any]:
        """What was compared, for JSON: two results are of the same test if these are equal."""
        suite = self.suite
        return {
            "suite": suite.name,
            "protocol": PROTOCOL,
            "suite_sha256": suite.sha256,
            "level": suite.level,
            "metrics": list(suite.metrics),
            "datasets": {
                key: {"sha256": dataset.manifest_sha256, "images": dataset.rows, "licence": one.licence}
                for (key, one), dataset in zip(suite.datasets.items(), self.datasets, strict=True)
            },
            "images": len(self.images),
            "left_out": self.images.left_out,
            "contamination": self._contamination(),
            "splits": {split.name: self._split_facts(split) for split in self.splits},
            "skipped": self.skipped,
        }

    def _split_facts(self, split: Split) -> dict[str, Any]:
        tested = self.tested(split)
        return {
            "tier": split.tier,
            "held_out": list(split.held_out),
            "train_images": len(split.train),
            "test_images": len(tested),
            "classes": len(split.classes),
            "classes_tested": len(np.unique(split.test_label)),
            "test_groups": len(np.unique(self.images.group_I[tested])),
            "test_sha256": sha256(tested.astype("<i8").tobytes()).hexdigest(),
            "test_images_known": int(self.known_I[tested].sum()) if self.looked else None,
            "left_out": split.left_out,
        }

    def _contamination(self) -> dict[str, int] | None:
        """Images of each data set that pretraining knew; None if nobody looked."""
        if not self.looked:
            return None
        counts = np.bincount(self.images.dataset_I[self.known_I], minlength=len(self.datasets))
        return {key: int(count) for key, count in zip(self.suite.datasets, counts, strict=True)}


def prepare(
    suite: Suite,
    paths: Mapping[str, Path | str],
    *,
    tiers: Sequence[str] = (),
    duplicates: Mapping[str, Path] | None = None,
    contamination: Mapping[str, Sequence[Path]] | None = None,
    leave_out_known: bool = False,
    relations: Collection[str] | None = None,
) -> Prepared:
    """Open the data sets of a suite, find out what counts, and split it.

    Args:
        paths: key -> data set, for each of the suite.
        tiers: of the suite's; empty: all of them.
        duplicates: key -> folder of duplicates (`aqqua curate` of that data set): near copies of training
            images leave the test, not only exact ones.
        contamination: key -> what of that data set a pretraining set held or was near to: folders of
            contamination (`aqqua curate PRETRAINING --evaluation DATASET`), or text files of image ids.
        leave_out_known: such images leave the test.
        relations: ids of published relations of carbon, by whose values nothing is judged; needed where the
            suite asks for carbon.

    Raises:
        ValueError: a data set is missing or another one than results are compared on, a label is unknown, a
            tier cannot be made; says which and what to do.
    """
    datasets = _opened(suite, paths)
    chosen = _chosen(suite, tiers)
    images = read_images(suite, datasets, duplicates)
    known_I = contaminated(images, suite, datasets, contamination or {})
    splits: list[Split] = []
    skipped: dict[str, str] = {}
    for tier in chosen:
        made, not_made = splits_of(images, suite, tier)
        splits += [_without_known(split, known_I) for split in made] if leave_out_known else made
        skipped |= not_made
    found = images, tuple(splits), skipped, known_I, contamination is not None
    prepared = Prepared(suite, tuple(datasets.values()), *found, measured_traits(suite, datasets, relations))
    if empty := next((split.name for split in splits if not len(prepared.tested(split))), None):
        raise ValueError(
            f"suite: every split must test an image, got none for {empty}; measure images of its test groups"
        )
    return prepared


def _opened(suite: Suite, paths: Mapping[str, Path | str]) -> dict[str, Dataset]:
    unknown = sorted(set(paths) - set(suite.datasets))
    if unknown:
        raise ValueError(
            f"suite: every data set must be one of {', '.join(suite.datasets)} ({suite.name}), got "
            f"{unknown[0]}; leave it out"
        )
    found = {}
    for key, one in suite.datasets.items():
        if key not in paths:
            how = f"; make it with: {one.ingest}" if one.ingest else "; give its folder"
            raise ValueError(f"suite: every data set of {suite.name} must be given, got no {key}{how}")
        found[key] = Dataset.open(paths[key])
        got = found[key].manifest_sha256
        if one.manifest_sha256 is not None and got != one.manifest_sha256:
            raise ValueError(
                f"suite: {key} must be the data set {one.manifest_sha256[:12]}, got {got[:12]} in "
                f"{paths[key]}; ingest it as the suite says ({one.ingest}), or take manifest_sha256 out"
            )
    return found


def _chosen(suite: Suite, tiers: Sequence[str]) -> list[str]:
    names = suite.tiers.names
    unknown = [name for name in tiers if name not in names]
    if unknown:
        hint = did_you_mean(unknown[0], names) or "add it to the suite's file"
        raise ValueError(
            f"suite: tiers must be among {', '.join(names)} ({suite.name}), got {unknown[0]}; {hint}"
        )
    return [name for name in names if not tiers or name in tiers]


def _without_known(split: Split, known_I: np.ndarray) -> Split:
    known = known_I[split.test]
    if len(known) and known.all():
        raise ValueError(
            f"suite: some test images of {split.name} must be unknown to the model, got {len(known)} that "
            "pretraining knew; report them as known instead, or take another suite"
        )
    side_I = np.where(known_I & (split.side_I == TESTED), NEITHER, split.side_I).astype(np.int8)
    if not known.any():
        return replace(split, side_I=side_I)
    left_out = {**split.left_out, "known from pretraining": int(known.sum())}
    sides = {"test": split.test[~known], "test_label": split.test_label[~known], "side_I": side_I}
    return replace(split, **sides, left_out=left_out)
