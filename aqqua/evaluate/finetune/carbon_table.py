"""Measured carbon of organisms: a table of traits that holds carbon alone, and no value of a relation.

A value that was computed from a size by a published relation only tells how well the relation is imitated. To
learn from it or to be judged by it is circular, so it is refused.

Test: tests/evaluate/finetune/test_measured_carbon.py.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from aqqua.evaluate.finetune.trait_table import Measured, Measurement, measured, read_traits
from aqqua.store.read import Dataset

CARBON = "carbon"  # name of the trait, whatever the table calls it
PICOGRAMS = {"pg": 1.0, "ng": 1e3, "ug": 1e6, "µg": 1e6, "mg": 1e9}  # in one unit of carbon


def measured_carbon(table: Path, dataset: Dataset, relations: Collection[str]) -> Measured:
    """The one trait CARBON, in pg.

    Args:
        table: of one trait, in one of PICOGRAMS, of carbon ("ng" or "ng C").
        relations: ids of published relations; a value whose method names one was never measured.

    Raises:
        ValueError: a bad row, a value not above 0 or of a relation, another trait or unit.
    """
    rows = read_traits(table)
    if imitated := next((one for one in rows if comes_from(one.method, relations)), None):
        raise ValueError(
            f"carbon: {table} row {imitated.row}: carbon must be measured, got a value of the relation "
            f"{imitated.method}; whoever imitates a relation can only be as good: give measured values, or "
            "use aqqua carbon"
        )
    require_positive(table, rows, {one.trait_id for one in rows})
    found = measured(table, dataset)
    unit = found.units[0].removesuffix("C").strip()
    if len(found.trait_ids) != 1 or unit not in PICOGRAMS:
        raise ValueError(
            f"carbon: {table} must hold one trait, carbon, in one of {', '.join(PICOGRAMS)}, got "
            f"{', '.join(found.trait_ids)} in {found.units[0]!r}; convert it"
        )
    return replace(found, value_NT=found.value_NT * PICOGRAMS[unit], trait_ids=(CARBON,), units=("pg",))


def comes_from(method: str, relations: Collection[str]) -> bool:
    """Whether a method names one of these relations, alone or among others, as in `diatom/diatom_large`."""
    return not set(relations).isdisjoint(method.replace("/", " ").replace(",", " ").split())


def require_positive(table: Path, rows: Sequence[Measurement], traits: Collection[str]) -> None:
    """
    Raises:
        ValueError: a value of one of these traits, whose logarithm counts, is not above 0.
    """
    for one in rows:
        if one.trait_id in traits and one.value <= 0:
            raise ValueError(
                f"traits: {table} row {one.row}: {one.trait_id} must be above 0 to be taken as its "
                f"logarithm, got {one.value}; correct it, or leave out log10"
            )
