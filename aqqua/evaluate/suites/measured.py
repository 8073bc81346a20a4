"""What was measured of a suite's images: traits and carbon, by which answers are judged.

Letters: N measured images. Test: tests/evaluate/suites/test_measured.py.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from aqqua.evaluate.finetune.carbon_table import CARBON, measured_carbon, require_positive
from aqqua.evaluate.finetune.trait_table import measured, read_traits
from aqqua.evaluate.finetune.traits import Kind, guess_kind
from aqqua.evaluate.suites.suite import Suite, TraitTable
from aqqua.store.read import Dataset


@dataclass(frozen=True)
class MeasuredTrait:
    """One trait and the images whose value is known."""

    metric: Literal["traits", "carbon"]  # of the suite, that it belongs to
    trait_id: str
    unit: str
    kind: Kind
    log10: bool  # judged and learnt by its logarithm
    image_N: Int64[np.ndarray, " N"]  # number among the suite's images, rising
    value_N: Float64[np.ndarray, " N"]  # in the unit


def measured_traits(
    suite: Suite, datasets: Mapping[str, Dataset], relations: Collection[str] | None
) -> tuple[MeasuredTrait, ...]:
    """Every trait of the suite's tables.

    Args:
        relations: ids of the published relations of carbon, whose values are no measurements; must be given
            where the suite asks for carbon.

    Raises:
        ValueError: a table is not as it must be, or holds values of a relation; a kind or log10 of a trait
            that the table does not have.
    """
    found = []
    if suite.traits is not None:
        found += list(_traits(suite.traits, *_place(suite, datasets, suite.traits.dataset)))
    if suite.carbon is not None:
        if relations is None:
            raise ValueError(
                "suite: published relations must be known to judge carbon, got none; give the ids of the "
                "registry (aqqua.downstream.carbon.registry) as relations"
            )
        dataset, first = _place(suite, datasets, suite.carbon.dataset)
        known = measured_carbon(Path(suite.carbon.table), dataset, relations)
        values = first + known.row_N, known.value_NT[:, 0]
        found.append(MeasuredTrait("carbon", CARBON, known.units[0], "continuous", True, *values))
    return tuple(found)


def _place(suite: Suite, datasets: Mapping[str, Dataset], key: str | None) -> tuple[Dataset, int]:
    """The data set of a table, and the number of its first image in the suite."""
    keys = list(suite.datasets)
    key = key or keys[0]
    return datasets[key], sum(datasets[one].rows for one in keys[: keys.index(key)])


def _traits(part: TraitTable, dataset: Dataset, first: int) -> Iterator[MeasuredTrait]:
    table = Path(part.table)
    require_positive(table, read_traits(table), part.log10)
    known = measured(table, dataset)
    unknown = [name for name in (*part.kinds, *part.log10) if name not in known.trait_ids]
    if unknown:
        raise ValueError(
            f"suite: traits of {table} must be among {', '.join(known.trait_ids)}, got {unknown[0]}; "
            "correct kinds or log10"
        )
    for t, (name, unit) in enumerate(zip(known.trait_ids, known.units, strict=True)):
        there = ~np.isnan(known.value_NT[:, t])
        value_N, log10 = known.value_NT[there, t], name in part.log10
        kind = part.kinds.get(name) or ("continuous" if log10 else guess_kind(value_N, unit))
        if kind == "binary" and not np.isin(value_N, (0, 1)).all():
            raise ValueError(
                f"suite: values of the binary trait {name} must be 0 or 1, got {value_N.max():g}; correct "
                f"{table}, or traits.kinds"
            )
        yield MeasuredTrait("traits", name, unit, kind, log10, first + known.row_N[there], value_N)
