"""First pass of weighing: how many usable images lie in each cell, a stratum and a path down the clusters.

Images that must not be used weigh nothing: those near an evaluation set, and all but one of a set of
duplicates. (A weight shared among the copies would show the picture as often; but one of them may be held out
where another is not, and what is held out must not be seen.) Flags of poor quality take a part of the others.

Memory holds the cells, about 300 bytes each: at most strata × finest clusters, never more than images. Sums
are whole numbers, so they depend neither on the order of the blocks nor on who counts which.

Letters: I images of a block, L levels of clusters. Test: tests/curate/balance/test_curate_weights.py.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Float64, Int64
from pydantic import BaseModel, ConfigDict, Field

from aqqua.curate.balance.evidence import Evidence, Found
from aqqua.curate.balance.strata import STRATUM_COLUMNS, Strata, StrataConfig
from aqqua.plan.order import MOST_COPIES

GRAIN = 1024  # factors are multiples of 1 / this: their sums are exact
_FLAGS = {"tiny": 0.0, "burnt_in": 0.0, "bubble": 0.25, "blurred": 0.5, "saturated": 0.5}
_WORDS = (
    *("detritus", "detrital", "marine snow", "aggregate", "fiber", "fibre", "bubble", "faecal", "fecal"),
    *("artefact", "artifact", "badfocus", "junk", "reflection", "turbid"),
)
Key = tuple[int, ...]  # number of the stratum, then of the cluster at each level, the coarsest first


class CapConfig(BaseModel):
    """Clusters of what nobody wants to see most of the time: marine snow, fibres, bubbles."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="of the uses of a stratum, that all such clusters get together at most; a stratum of "
        "nothing else gets none, and is told of",
    )
    clusters: dict[Annotated[int, Field(ge=1)], tuple[int, ...]] = Field(
        default={},
        description="level (1 is the finest): numbers of clusters, by what the report shows",
    )
    labels: bool = Field(
        default=False,
        description="also find them by the labels of their images, where there are any; labels then have a "
        "say in what is trained on",
    )
    words: tuple[str, ...] = Field(
        default=_WORDS, description="what such a label contains, in lower case, underscores as spaces"
    )
    label_share: float = Field(
        default=0.5, gt=0, le=1, description="of a finest cluster's labelled images that must be so labelled"
    )
    least_labelled: int = Field(
        default=5, ge=1, description="labelled images that a finest cluster must have to be judged"
    )


class WeightsConfig(BaseModel):
    """How weights follow from what was found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strata: StrataConfig = StrataConfig()
    max_repeats: float = Field(
        default=16.0,
        ge=1,
        le=MOST_COPIES,
        description="uses of an image in an epoch, at most; what a repeat of text is worth has fallen to 1/e "
        "after about 15 (Muennighoff et al. 2023, arXiv 2305.16264)",
    )
    flags: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default=_FLAGS,
        description="factor of an image's weight for a flag of quality, rounded to 1/1024; of several, the "
        "least; a flag that is not named costs nothing",
    )
    cap: CapConfig = CapConfig()


@dataclass
class Cells:
    """What is counted."""

    grains: Counter[Key] = field(default_factory=Counter)  # Σ factors · GRAIN of the usable images of a cell
    images: Counter[Key] = field(default_factory=Counter)  # all images of a cell
    labelled: Counter[int] = field(default_factory=Counter)  # images of a finest cluster that have a label
    worded: Counter[int] = field(default_factory=Counter)  # and one with a word of the cap's
    strata: dict[str, int] = field(default_factory=dict)  # numbered as they came
    unused: Counter[str] = field(default_factory=Counter)  # images of weight 0, by the first reason
    flags: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Judged:
    """The I images of a block: where each counts, and how much."""

    found: Found
    stratum_I: list[str]
    grain_I: Int64[np.ndarray, " I"]  # factor of its weight · GRAIN, 0 to GRAIN

    def key_IL(self, strata: dict[str, int]) -> Int64[np.ndarray, "I L1"]:
        """The cell of each image; new strata are numbered."""
        number_I = [strata.setdefault(stratum, len(strata)) for stratum in self.stratum_I]
        return np.column_stack(
            [np.array(number_I, np.int64), self.found.cluster_IL[:, ::-1].astype(np.int64)]
        )


@dataclass(frozen=True)
class Judge:
    """Reads and judges blocks. Picklable."""

    evidence: Evidence
    config: WeightsConfig
    strata: Strata

    def judge(self, block: int) -> Judged:
        """What a block's images are worth.

        Raises:
            ValueError: a file is damaged.
        """
        found = self.evidence.of(block)
        table = self.evidence.dataset.table(STRATUM_COLUMNS, blocks=[block])
        flags = {name: round(factor * GRAIN) for name, factor in self.config.flags.items()}
        grain_I = np.array(
            [min((flags.get(name, GRAIN) for name in names), default=GRAIN) for names in found.flags],
            np.int64,
        )
        grain_I[_copies(found) | found.near_I] = 0
        return Judged(found, self.strata.of(table).to_pylist(), grain_I)

    def count(self, blocks: Iterable[int], cells: Cells) -> None:
        """Add the images of some blocks."""
        for block in blocks:
            judged = self.judge(block)
            keys, of_I = np.unique(judged.key_IL(cells.strata), axis=0, return_inverse=True)
            grains = np.zeros(len(keys), np.int64)
            np.add.at(grains, of_I.ravel(), judged.grain_I)
            images = np.bincount(of_I.ravel(), minlength=len(keys))
            for key, grain, count in zip(
                map(tuple, keys.tolist()), grains.tolist(), images.tolist(), strict=True
            ):
                cells.grains[key] += grain
                cells.images[key] += count
            _count_unused(judged, cells)
            if self.config.cap.labels:
                self._count_labels(block, judged.found, cells)

    def _count_labels(self, block: int, found: Found, cells: Cells) -> None:
        label_I = self.evidence.dataset.table(["label"], blocks=[block])["label"].to_pylist()
        for label, leaf in zip(label_I, finest(found), strict=True):
            if label is not None:
                text = label.lower().replace("_", " ")
                cells.labelled[leaf] += 1
                cells.worded[leaf] += any(word in text for word in self.config.cap.words)


def finest(found: Found) -> list[int]:
    """Finest cluster of each image; 0 where there are none."""
    return found.cluster_IL[:, 0].tolist() if found.cluster_IL.shape[1] else [0] * len(found.cluster_IL)


def factors(judged: Judged) -> Float64[np.ndarray, " I"]:
    """Of each image's weight, 0 to 1."""
    return judged.grain_I / GRAIN


def _copies(found: Found) -> np.ndarray:
    return pc.is_valid(found.duplicate_of).to_numpy(zero_copy_only=False)


def _count_unused(judged: Judged, cells: Cells) -> None:
    near_I, copy_I = judged.found.near_I, _copies(judged.found)
    cells.unused["near an evaluation set"] += int(near_I.sum())
    cells.unused["duplicate"] += int((copy_I & ~near_I).sum())
    cells.unused["quality"] += int(((judged.grain_I == 0) & ~near_I & ~copy_I).sum())
    for names in judged.found.flags:
        cells.flags.update(names)
