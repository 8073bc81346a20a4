"""Sampling weights from all that curation found out: how often training uses an image in an epoch.

The uses of an epoch are dealt out over strata by temperature, and within a stratum by water-filling down the
tree of clusters: every branch gets the same unless all its images are used as often as they may be. The mean
weight over all images of the dataset is 1, so an epoch stays as long, unless caps leave no room for it.

Two passes over the parts, with one block in memory at a time: the first counts cells
(aqqua.curate.balance.census), the second writes. Letters: N cells, S strata, I images of a block.
Test: tests/curate/balance/test_curate_weights.py. Measured: bench/curate_balance.py.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float64, Int64

from aqqua.curate.balance.census import GRAIN, CapConfig, Cells, Judge, Judged, Key, WeightsConfig, factors
from aqqua.curate.balance.evidence import Evidence
from aqqua.curate.balance.strata import Strata, temper
from aqqua.curate.balance.waterfill import fill_tree
from aqqua.store.columns import write_columns
from aqqua.store.read import Dataset
from aqqua.store.weights import KIND, WEIGHT, WEIGHT_SUM

_LISTED = 100  # strata and clusters that the facts list, the largest


@dataclass(frozen=True)
class Dealt:
    """Uses in an epoch of each cell."""

    keys: list[Key]
    uses_N: Float64[np.ndarray, " N"]
    emptied: list[str]  # strata that get none because all their usable images lie in capped clusters
    mass_N: Float64[np.ndarray, " N"]  # usable images of the cell, each counted by its factor
    capped_N: Bool[np.ndarray, " N"]

    def weight_of(self) -> dict[Key, float]:
        """Of an image with factor 1, by its cell."""
        weight_N = np.divide(self.uses_N, self.mass_N, out=np.zeros_like(self.uses_N), where=self.mass_N > 0)
        return dict(zip(self.keys, weight_N.tolist(), strict=True))


def make_weights(
    dataset: Dataset,
    out: Path,
    config: WeightsConfig,
    folders: dict[str, Path],
    progress: Callable[[str, int, int], None] = lambda _stage, _done, _all: None,
) -> dict[str, Any]:
    """Write Columns of kind `weights`; returns their facts.

    Args:
        dataset: of which images.
        out: a new folder.
        config: how.
        folders: of the columns of each stage that was run (aqqua.curate.balance.evidence.STAGES).
        progress: called with the stage, parts done and parts.

    Raises:
        ValueError: columns of another dataset, damage, or not one usable image.
        RuntimeError: the disk is full or failed.
    """
    judge = Judge(Evidence.open(dataset, folders), config, Strata(config.strata))
    cells = Cells()
    for part in range(dataset.parts):
        judge.count(dataset.blocks_of(part), cells)
        progress("count", part + 1, dataset.parts)
    dealt = deal(cells, config, float(dataset.rows))
    facts: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "made_from": judge.evidence.sha256(),
        **_facts(cells, dealt),
    }
    tables = _Tables(judge, dealt.weight_of(), cells.strata)
    with write_columns(out, dataset, KIND, _fields(judge.evidence.levels), facts, "curate") as writer:
        for part in range(dataset.parts):
            writer.write_part(part, tables)
            progress("write", part + 1, dataset.parts)
        facts[WEIGHT_SUM] = tables.total
        facts |= {"mean_weight": tables.total / dataset.rows, "max_weight": tables.most}
    return facts


def deal(cells: Cells, config: WeightsConfig, total: float) -> Dealt:
    """Uses of each cell.

    Args:
        cells: of all images.
        config: temperature, repeats, caps.
        total: uses of an epoch.

    Raises:
        ValueError: no image is usable.
    """
    # By name: the order in which strata were first seen changes nothing.
    names = {number: name for name, number in cells.strata.items()}
    keys = sorted(cells.grains, key=lambda key: (names[key[0]], *key[1:]))
    mass_N = np.array([cells.grains[key] for key in keys], np.float64) / GRAIN
    if not mass_N.any():
        raise ValueError(
            f"curate: some image must be usable, got none of {sum(cells.images.values())}: "
            f"{dict(cells.unused)}; look at the columns of duplicates, quality and contamination"
        )
    path_NL = np.array(keys, np.int64)
    capped_N = _capped(path_NL, cells, config.cap)
    room_N = config.max_repeats * mass_N
    strata = len(names)
    free_S = np.bincount(path_NL[:, 0], room_N * ~capped_N, strata)  # room that no cap bounds
    room_S = np.bincount(path_NL[:, 0], room_N, strata)
    if config.cap.share < 1:
        room_S = np.minimum(room_S, free_S / (1 - config.cap.share))
    target_S = temper(np.bincount(path_NL[:, 0], mass_N, strata), room_S, total, config.strata.alpha)
    uses_N = fill_tree(room_N, path_NL, target_S)
    capped_S = np.bincount(path_NL[:, 0], uses_N * capped_N, strata)
    over_N = (capped_S > config.cap.share * target_S)[path_NL[:, 0]]
    for which_N, share in ((over_N & capped_N, config.cap.share), (over_N & ~capped_N, 1 - config.cap.share)):
        if which_N.any():
            uses_N[which_N] = fill_tree(room_N[which_N], path_NL[which_N], share * target_S)
    if not uses_N.any():
        raise ValueError(
            "curate: some usable image must lie in no capped cluster, got none; name fewer in cap.clusters, "
            "set cap.labels to false, or cap.share to 1"
        )
    used_S, mass_S = (np.bincount(path_NL[:, 0], values, strata) for values in (uses_N, mass_N))
    emptied = sorted(names[s] for s in np.flatnonzero((mass_S > 0) & (free_S == 0) & (used_S == 0)).tolist())
    return Dealt(keys, uses_N, emptied, mass_N, capped_N)


def _capped(path_NL: Int64[np.ndarray, "N L"], cells: Cells, cap: CapConfig) -> Bool[np.ndarray, " N"]:
    """Cells of detritus-like clusters."""
    levels = path_NL.shape[1] - 1
    wrong = [level for level in cap.clusters if level > levels]
    if wrong or (cap.labels and not levels):
        raise ValueError(
            f"curate: capped clusters must be of the {levels} levels there are, got "
            f"{wrong or 'labels'}; "
            "correct cap, or give clusters"
        )
    capped_N = np.zeros(len(path_NL), bool)
    for level, numbers in cap.clusters.items():
        capped_N |= np.isin(path_NL[:, 1 + levels - level], numbers)
    by_label = [
        leaf
        for leaf, labelled in cells.labelled.items()
        if labelled >= cap.least_labelled and cells.worded[leaf] >= cap.label_share * labelled
    ]
    return capped_N | np.isin(path_NL[:, -1], by_label) if by_label else capped_N


class _Tables:
    """The columns of a block, and sums of the weights as they were written."""

    def __init__(self, judge: Judge, weight_of: dict[Key, float], strata: dict[str, int]) -> None:
        self.judge, self.weight_of, self.strata = judge, weight_of, strata
        self.total = self.most = 0.0

    def __call__(self, block: int) -> pa.Table:
        judged = self.judge.judge(block)
        keys = map(tuple, judged.key_IL(self.strata).tolist())
        unit_I = np.array([self.weight_of[key] for key in keys])
        weight_I = (unit_I * factors(judged)).astype(np.float32)
        self.total += float(weight_I.astype(np.float64).sum())
        self.most = max(self.most, float(weight_I.max(initial=0)))
        return self._table(block, judged, weight_I)

    def _table(self, block: int, judged: Judged, weight_I: np.ndarray) -> pa.Table:
        found = judged.found
        image_id = self.judge.evidence.dataset.table(["image_id"], blocks=[block])["image_id"]
        clusters = {f"cluster_{i + 1}": column for i, column in enumerate(found.cluster_IL.T)}
        return pa.table(
            {
                "image_id": image_id,
                WEIGHT: weight_I,
                **clusters,
                "duplicate_of": found.duplicate_of,
                "flags": pa.array(found.flags, pa.list_(pa.string())),
                "near_evaluation": found.near_I,
                "stratum": pa.array(judged.stratum_I, pa.string()).dictionary_encode(),
            }
        )


def _fields(levels: int) -> list[pa.Field]:
    def field(name: str, kind: pa.DataType, nullable: bool, text: str) -> pa.Field:
        return pa.field(name, kind, nullable, {"description": text})

    clusters = [
        field(f"cluster_{level}", pa.int32(), False, f"cluster at level {level}; 1 is the finest")
        for level in range(1, levels + 1)
    ]
    return [
        field("image_id", pa.string(), False, "as in the dataset"),
        field(WEIGHT, pa.float32(), False, "expected uses in an epoch, at least 0"),
        *clusters,
        field("duplicate_of", pa.string(), True, "image_id of the copy that is kept; null: it is none"),
        field("flags", pa.list_(pa.string()), False, "of poor quality"),
        field("near_evaluation", pa.bool_(), False, "too near an evaluation set to be trained on"),
        field("stratum", pa.dictionary(pa.int32(), pa.string()), False, "instrument, place, depth, season"),
    ]


def _facts(cells: Cells, dealt: Dealt) -> dict[str, Any]:
    """What the weights do, for a report."""
    names = {number: name for name, number in cells.strata.items()}
    images_N = np.array([cells.images[key] for key in dealt.keys], np.float64)
    strata = _summed((names[key[0]] for key in dealt.keys), images_N, dealt.uses_N)
    levels = len(dealt.keys[0]) - 1
    clusters = _summed((str(key[-1]) for key in dealt.keys), images_N, dealt.uses_N) if levels else {}
    sums = {"strata": strata, **({"clusters": clusters} if levels else {})}
    capped = sorted({key[-1] for key, is_capped in zip(dealt.keys, dealt.capped_N, strict=True) if is_capped})
    return {
        "cells": len(dealt.keys),
        "unused": dict(cells.unused),
        "flags": dict(cells.flags),
        "effective": {
            name: {
                "images": effective([a for a, _ in of.values()]),
                "uses": effective([b for _, b in of.values()]),
            }
            for name, of in sums.items()
        },
        "capped": {
            "clusters": capped[:_LISTED],
            "number": len(capped),
            "emptied_strata": dealt.emptied[:_LISTED],
            "emptied": len(dealt.emptied),
            "share_of_images": float(images_N[dealt.capped_N].sum() / images_N.sum()),
            "share_of_uses": float(dealt.uses_N[dealt.capped_N].sum() / dealt.uses_N.sum()),
        },
        **{name: _largest(of) for name, of in sums.items()},
    }


def _summed(names: Iterable[str], *columns_N: np.ndarray) -> dict[str, list[float]]:
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * len(columns_N))
    for name, *values in zip(names, *columns_N, strict=True):
        sums[name] = [a + b for a, b in zip(sums[name], values, strict=True)]
    return dict(sums)


def _largest(sums: dict[str, list[float]]) -> list[dict[str, Any]]:
    largest = sorted(sums, key=lambda name: (-sums[name][0], name))[:_LISTED]
    return [{"name": name, "images": int(sums[name][0]), "uses": round(sums[name][1], 3)} for name in largest]


def effective(shares: Sequence[float]) -> float:
    """Effective number of what has these shares: e to their entropy; their number if all are equal."""
    share = np.asarray(shares, np.float64)
    share = share[share > 0] / share.sum()
    return float(np.exp(-np.sum(share * np.log(share))))
