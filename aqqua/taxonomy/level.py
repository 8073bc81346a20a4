"""Classes joined at a rank, so that label sets of several instruments have classes in common.

What joins: equal names up to the rank, and equal qualifier (an egg stays apart from the adult), unless the
qualifier is among those to be passed over. What is no taxon joins by its kind. A class that is coarser than
the rank, such as "Chordata" at `order`, belongs to no joined class.

Test: tests/taxonomy/test_level.py.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from aqqua.config import load_config
from aqqua.taxonomy.classes import KINDS, RANKS, Lineage, TaxonClass, lineage_of

_Key = tuple[str, str | None, str]  # name, kingdom, qualifier

# Phyla with one living class: whoever knows the phylum knows the class.
_ONLY_CLASS = {"Chaetognatha": "Sagittoidea"}


class _Taxon(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    lineage: list[str | None] = Field(min_length=1, max_length=len(RANKS))
    aphia_id: int = Field(gt=0)


class _Higher(BaseModel):
    """Taxa above those of label maps, with the AphiaIDs that published tables give them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    taxa: list[_Taxon]


@lru_cache(1)
def _aphia_ids() -> dict[tuple[str, str, str], int]:
    """(kingdom, rank, name) -> AphiaID."""
    higher = load_config(_Higher, Path(str(files("aqqua.taxonomy") / "higher.yaml")))
    found = {}
    for taxon in higher.taxa:
        kingdom, name = taxon.lineage[0] or "", taxon.lineage[-1] or ""
        found[kingdom, RANKS[len(taxon.lineage) - 1], name] = taxon.aphia_id
    return found


def joined(one: TaxonClass, level: str | None, pass_over: Sequence[str] = ()) -> TaxonClass | None:
    """The class that a class belongs to at a rank; None if it is coarser than that.

    Args:
        level: one of RANKS; None leaves the class as it is.
        pass_over: qualifiers that make no difference, such as "with eggs".

    Raises:
        ValueError: no such rank.
    """
    if level is None:
        return one
    if level not in RANKS:
        raise ValueError(f"level: must be one of {', '.join(RANKS)}, got {level}; or leave it out")
    if one.finest < 0:
        kind = one.qualifier if one.qualifier in KINDS else one.name
        return TaxonClass(kind, None, one.lineage, one.qualifier, one.living, one.plankton)
    rank = RANKS.index(level)
    whole = list(one.lineage)
    whole[2] = whole[2] or _ONLY_CLASS.get(whole[1] or "")
    taxon = whole[rank]
    if taxon is None:
        return None
    qualifier = "" if one.qualifier in pass_over else one.qualifier
    lineage = lineage_of(whole[: rank + 1])
    name = f"{taxon} ({qualifier})" if qualifier else taxon
    aphia = one.aphia_id if one.finest == rank else _aphia_id(lineage, rank)
    return TaxonClass(name, aphia, lineage, qualifier, one.living, one.plankton)


def at_level(
    classes: Sequence[TaxonClass], level: str | None, pass_over: Sequence[str] = ()
) -> tuple[tuple[TaxonClass, ...], list[int]]:
    """Classes joined at a rank, in the order of their names, and the number each given class gets.

    The joined class is living, or plankton, if any that it holds is. Names are unique: where two taxa of
    one name meet, as the diatom and the comb jellies Ctenophora, the kingdom is added.

    Returns:
        The joined classes, and for each given class its number among them, -1 where it is too coarse.

    Raises:
        ValueError: no such rank, or classes of one name that differ.
    """
    found: dict[_Key, TaxonClass] = {}
    keys: list[_Key | None] = []
    for one in classes:
        new = joined(one, level, pass_over)
        if new is None:
            keys.append(None)
            continue
        # Without a level names tell classes apart; with one, the taxon, its kingdom and the qualifier.
        key: _Key = (new.name, None, "") if level is None else (new.name, new.lineage[0], new.qualifier)
        keys.append(key)
        found[key] = _merged(found[key], new, level) if key in found else new
    named = _with_unique_names(found)
    order = sorted(named, key=lambda key: named[key].name)
    number = {key: i for i, key in enumerate(order)}
    return tuple(named[key] for key in order), [-1 if key is None else number[key] for key in keys]


def _merged(a: TaxonClass, b: TaxonClass, level: str | None) -> TaxonClass:
    if level is None:
        if a != b:
            raise ValueError(
                f"classes: those of one name must be the same in every label map, got {a} and {b}; "
                "give one of them another name, or choose a level"
            )
        return a
    lineage = tuple(x if x is not None else y for x, y in zip(a.lineage, b.lineage, strict=True))
    return TaxonClass(
        a.name, a.aphia_id or b.aphia_id, lineage, a.qualifier, a.living or b.living, a.plankton or b.plankton
    )


def _with_unique_names(
    found: dict[_Key, TaxonClass],
) -> dict[_Key, TaxonClass]:
    times: dict[str, int] = {}
    for one in found.values():
        times[one.name] = times.get(one.name, 0) + 1
    return {
        key: one
        if times[one.name] == 1
        else TaxonClass(
            f"{one.name} [{one.lineage[0]}]",
            *(one.aphia_id, one.lineage, one.qualifier, one.living, one.plankton),
        )
        for key, one in found.items()
    }


def _aphia_id(lineage: Lineage, rank: int) -> int | None:
    return _aphia_ids().get((lineage[0] or "", RANKS[rank], lineage[rank] or ""))
