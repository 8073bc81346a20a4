"""A class of a label set: its WoRMS taxon and what of it is seen.

Two classes may share a taxon: an egg and an adult (told apart by `qualifier`), or two poses of one animal
(told apart by `name` alone). What is no taxon (detritus, bubble) has no lineage, and its kind as qualifier.
Ranks and qualifiers follow what published tables of plankton labels use; AphiaIDs are WoRMS's.

Test: tests/taxonomy/test_taxon_classes.py.
"""

from dataclasses import asdict, dataclass
from typing import Any

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")

# What of a taxon is seen, or in which state; "" is a whole organism.
STATES = (
    *("", "part", "larva", "egg", "juvenile", "with eggs", "chain", "colony", "several", "cyst", "dead"),
    *("parasite", "like"),
)
# What is no taxon.
KINDS = ("detritus", "faecal pellet", "fibre", "bubble", "artefact", "bad focus", "unknown")
QUALIFIERS = (*STATES, *KINDS)

Lineage = tuple[str | None, ...]


@dataclass(frozen=True)
class TaxonClass:
    """One class.

    Args:
        name: unique within a set: "Calanoida", "Copepoda (egg)", "detritus".
        aphia_id: WoRMS AphiaID of the taxon, above 0; None where it is not known, or for what is no taxon.
        lineage: a name for each of RANKS; None is unknown, or finer than the class.
        qualifier: one of QUALIFIERS.
        living: False for detritus, bubble, fibre, artefact.
        plankton: counts in plankton-only scores.

    Raises:
        ValueError: a lineage of another length, an unknown qualifier, an AphiaID below 1, no name.
    """

    name: str
    aphia_id: int | None
    lineage: Lineage
    qualifier: str = ""
    living: bool = True
    plankton: bool = True

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError(f"class: name must not be empty, got {self.name!r}; name the taxon or the kind")
        if len(self.lineage) != len(RANKS):
            raise ValueError(
                f"class: lineage must have a name or None for each of {', '.join(RANKS)}, got "
                f"{len(self.lineage)} entries for {self.name}; fill it with None"
            )
        if self.qualifier not in QUALIFIERS:
            raise ValueError(
                f"class: qualifier must be one of {', '.join(map(repr, QUALIFIERS))}, got "
                f"{self.qualifier!r} for {self.name}; choose the nearest and say the rest in the name"
            )
        if self.aphia_id is not None and self.aphia_id < 1:
            raise ValueError(
                f"class: aphia_id must be above 0 or None, got {self.aphia_id} for {self.name}; "
                "leave out what is not known"
            )

    @property
    def finest(self) -> int:
        """Number of the finest known rank in RANKS; -1 for what is no taxon."""
        return max((rank for rank, name in enumerate(self.lineage) if name is not None), default=-1)

    @property
    def taxon(self) -> str | None:
        """Name of the taxon, without what of it is seen; None for what is no taxon."""
        return self.lineage[self.finest] if self.finest >= 0 else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "lineage": list(self.lineage)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "TaxonClass":
        """What `as_dict` gave.

        Raises:
            ValueError: a missing or unknown key, or a value that no class may have.
        """
        try:
            return TaxonClass(**{**values, "lineage": tuple(values["lineage"])})
        except (TypeError, KeyError) as error:
            keys = ", ".join(TaxonClass.__dataclass_fields__)
            raise ValueError(
                f"class: the keys must be {keys}, got {', '.join(values)}; write it with as_dict"
            ) from error


def lineage_of(names: list[str | None]) -> Lineage:
    """A whole lineage from the names of the first ranks.

    Raises:
        ValueError: more names than ranks.
    """
    if len(names) > len(RANKS):
        raise ValueError(
            f"class: a lineage must have at most {len(RANKS)} names ({', '.join(RANKS)}), got {len(names)}; "
            "leave out what lies between these ranks"
        )
    return (*names, *[None] * (len(RANKS) - len(names)))
