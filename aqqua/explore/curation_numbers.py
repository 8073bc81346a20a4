"""What curation did to a dataset, in numbers: its images before, their expected uses after.

One pass over the columns, a block in memory at a time; pixels are not read. Memory is by the number of
distinct names and strata, and what curation_clusters.py says of clusters; of images, only some are kept, as
examples: the first of their kind in the dataset, whose order is random, so that the pixels of many lie in few
blocks. Sums of weights are float64, added in the dataset's order.

Letters: I images of a block. Test: tests/explore/test_curation_numbers.py.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64

from aqqua.curate.balance.evidence import STAGES, Evidence, Found
from aqqua.curate.balance.strata import STRATUM_COLUMNS, Strata, StrataConfig
from aqqua.explore.curation_clusters import ClusterCounts, effective_number
from aqqua.store.columns import Columns
from aqqua.store.read import Dataset
from aqqua.store.weights import KIND, SamplingWeights

FLAGGED = 18  # images of each flag
LOOKED_INTO = 400  # pairs of each kind of duplicate, and with an evaluation set, that are looked into
# Of weight 0, in the order in which they are looked at; facts do not list all that is capped.
REASONS = ("near an evaluation set", "duplicate", "quality", "capped", "other")
KNOWN_FOLDERS = (KIND, *STAGES, "signatures")
Pair = tuple[int, str | None]  # row of an image, and the id of the one it resembles
_FITTING: dict[str, str] = {
    "cluster_1": "clusters",
    "duplicate_of": "duplicates",
    "flags": "quality",
    "near_evaluation": "contamination",
}


@dataclass
class Tally:
    """Images and expected uses by name."""

    images: Counter[str] = field(default_factory=Counter)
    uses: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, words: pa.DictionaryArray, weight_I: Float64[np.ndarray, " I"]) -> None:
        """Count images by a word each, none of them null."""
        names, code_I = words.dictionary.to_pylist(), words.indices.to_numpy()
        images = np.bincount(code_I, minlength=len(names)).tolist()
        uses = np.bincount(code_I, weight_I, len(names)).tolist()
        for name, count, sum_of_weights in zip(names, images, uses, strict=True):
            if count:
                self.images[name] += count
                self.uses[name] += sum_of_weights

    def effective(self) -> tuple[float, float]:
        """Effective number of names, by images and by uses; 0 of nothing."""
        return effective_number(list(self.images.values())), effective_number(list(self.uses.values()))

    def largest(self) -> list[str]:
        """Names by images, the largest first."""
        return sorted(self.images, key=lambda name: (-self.images[name], name))


@dataclass
class Numbers:
    """All that the page says of the dataset."""

    stages: dict[str, Columns]  # that were given, the weights among them
    levels: int  # of clusters; 0: none are known
    images: int = 0
    used: int = 0  # images of a weight above 0
    uses: float = 0.0  # Σ weights
    most: float = 0.0  # the largest weight
    unused: Counter[str] = field(default_factory=Counter)  # by REASONS
    by: dict[str, Tally] = field(default_factory=dict)  # instrument, class, depth, province, season, stratum
    clusters: ClusterCounts = field(default_factory=ClusterCounts)
    kinds: Counter[str] = field(default_factory=Counter)  # of duplicates
    pairs: defaultdict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))
    flags: Counter[str] = field(default_factory=Counter)
    flagged: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    near: int = 0  # an evaluation set
    near_pairs: list[Pair] = field(default_factory=list)

    @property
    def capped(self) -> set[int]:
        """Clusters that the weights say are capped: they list no more than some."""
        listed = self.fact(KIND, "capped", "clusters")
        return {k for k in listed if isinstance(k, int)} if isinstance(listed, list) else set()

    def fact(self, stage: str, *names: str) -> Any:
        """What a stage's manifest says under some names, one in the other; None where it says nothing."""
        found: Any = self.stages[stage].facts if stage in self.stages else None
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found


def gather(
    dataset: Dataset, folders: dict[str, Path], tell: Callable[[int, int], None] = lambda *_: None
) -> Numbers:
    """Count everything in one pass over the columns.

    Args:
        folders: of the columns by their kind: `weights`, and of KNOWN_FOLDERS whatever there is.
        tell: called with the blocks done and all of them.

    Raises:
        ValueError: no weights, an unknown kind, columns of another dataset, damage.
    """
    unknown = sorted(set(folders) - set(KNOWN_FOLDERS))
    if unknown or KIND not in folders:
        raise ValueError(
            f"report: folders must be {KIND} and maybe {', '.join(KNOWN_FOLDERS[1:])}, got "
            f"{', '.join(unknown) or f'no {KIND}'}; name each folder by the kind of its columns"
        )
    stages = {kind: Columns.open(path, dataset, kind) for kind, path in folders.items()}
    count = _Pass(dataset, stages, SamplingWeights.open(folders[KIND], dataset))
    for block in range(dataset.blocks):
        count.add(block)
        tell(block + 1, dataset.blocks)
    return count.numbers


class _Pass:
    """Adds block after block."""

    def __init__(self, dataset: Dataset, stages: dict[str, Columns], sampling: SamplingWeights) -> None:
        self.dataset, self.sampling = dataset, sampling
        # Weights carry the other stages' columns: where a folder is not given, theirs are read.
        there = set(stages[KIND].schema.names)
        usable = {stage: stages[KIND] for name, stage in _FITTING.items() if name in there}
        self.evidence = Evidence(dataset, **{**usable, **{s: c for s, c in stages.items() if s in STAGES}})
        self.numbers = Numbers(stages, self.evidence.levels)
        given = self.numbers.fact(KIND, "config", "strata")
        config = StrataConfig.model_validate(given) if given else StrataConfig()
        axes: tuple[Literal["instrument", "province", "depth", "season"], ...]
        axes = ("instrument", "province", "depth", "season")
        self.axes = {axis: Strata(config.model_copy(update={"by": (axis,)})) for axis in axes}
        self.first = 0

    def add(self, block: int) -> None:
        """Count the images of a block."""
        table = self.dataset.table(["label", *STRATUM_COLUMNS], [block])
        weight_I = self.sampling.block(block, self.dataset.sizes(block))
        found = self.evidence.of(block)
        numbers = self.numbers
        numbers.images += len(weight_I)
        numbers.used += int((weight_I > 0).sum())
        numbers.uses += float(weight_I.sum())
        numbers.most = max(numbers.most, float(weight_I.max(initial=0)))
        for axis, strata in self.axes.items():
            self._tally(axis, strata.of(table), weight_I)
        labelled_I = pc.is_valid(table["label"]).to_numpy()
        label_I = table["label"].combine_chunks()
        self._tally("class", label_I.filter(pa.array(labelled_I)).dictionary_encode(), weight_I[labelled_I])
        stratum = self._column(KIND, "stratum", block)
        if stratum is not None:
            self._tally("stratum", stratum.cast(pa.string()).dictionary_encode(), weight_I)
        self._count_unused(found, weight_I)
        if numbers.levels:
            self._count_clusters(block, found, table, weight_I, label_I)
        self._keep_pairs(block, found)
        for i in (i for i, names in enumerate(found.flags) if names):
            numbers.flags.update(found.flags[i])
            for name in found.flags[i]:
                if len(numbers.flagged[name]) < FLAGGED:
                    numbers.flagged[name].append(self.first + i)
        self.first += len(weight_I)

    def _tally(self, name: str, words: pa.DictionaryArray, weight_I: np.ndarray) -> None:
        self.numbers.by.setdefault(name, Tally()).add(words, weight_I)

    def _column(self, stage: str, name: str, block: int) -> pa.Array | None:
        """A column that is not everywhere."""
        columns = self.numbers.stages.get(stage)
        if columns is None or name not in columns.schema.names:
            return None
        return columns.block(block, [name])[name].combine_chunks()

    def _count_unused(self, found: Found, weight_I: np.ndarray) -> None:
        left_I = weight_I == 0
        copies_I = pc.is_valid(found.duplicate_of).to_numpy(zero_copy_only=False)
        flagged_I = np.array([self._is_dropped(names) for names in found.flags], bool)
        capped_I = np.zeros_like(left_I)
        if self.numbers.levels:
            capped_I = np.isin(found.cluster_IL[:, 0], sorted(self.numbers.capped))
        reasons_I = (found.near_I, copies_I, flagged_I, capped_I, np.ones_like(left_I))
        for reason, holds_I in zip(REASONS, reasons_I, strict=True):
            self.numbers.unused[reason] += int((left_I & holds_I).sum())
            left_I = left_I & ~holds_I

    def _is_dropped(self, flags: list[str]) -> bool:
        """Whether a flag alone makes an image weigh nothing; any may, where factors are not known."""
        factors = self.numbers.fact(KIND, "config", "flags")
        return any(factors.get(flag) == 0 for flag in flags) if isinstance(factors, dict) else bool(flags)

    def _count_clusters(
        self, block: int, found: Found, table: pa.Table, weight_I: np.ndarray, label_I: pa.Array
    ) -> None:
        clusters, finest_I = self.numbers.clusters, found.cluster_IL[:, 0].astype(np.int64)
        clusters.add(finest_I, weight_I, self.first)
        distance = self._column("clusters", "distance", block)
        if distance is not None:
            clusters.add_distances(finest_I, distance.to_numpy(), self.first)
        paths, where = np.unique(found.cluster_IL, axis=0, return_index=True)
        for (finest, *above), i in zip(paths.tolist(), where.tolist(), strict=True):
            if finest not in clusters.parents:
                clusters.parents[finest] = tuple(above)
                clusters.instrument[finest] = table["instrument"][i].as_py()
        for finest, label in zip(finest_I.tolist(), label_I.to_pylist(), strict=True):
            if label is not None:
                clusters.labels[finest][label] += 1

    def _keep_pairs(self, block: int, found: Found) -> None:
        numbers = self.numbers
        copies = np.flatnonzero(pc.is_valid(found.duplicate_of).to_numpy(zero_copy_only=False)).tolist()
        kind_I = self._column("duplicates", "duplicate_kind", block)
        for i in copies:
            kind = (kind_I[i].as_py() if kind_I is not None else None) or "duplicate"
            numbers.kinds[kind] += 1
            if len(numbers.pairs[kind]) < LOOKED_INTO:
                numbers.pairs[kind].append((self.first + i, found.duplicate_of[i].as_py()))
        numbers.near += int(found.near_I.sum())
        wanted = LOOKED_INTO - len(numbers.near_pairs)
        if wanted > 0 and found.near_I.any():
            of_I = self._column("contamination", "evaluation_id", block)
            numbers.near_pairs += [
                (self.first + i, None if of_I is None else of_I[i].as_py())
                for i in np.flatnonzero(found.near_I)[:wanted].tolist()
            ]
