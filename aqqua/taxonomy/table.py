"""Taxonomy tables as others publish them, and look-ups in them that do not fall for their traps.

What such tables hold (rows.py reads them), and what is made of it:

- AphiaIDs as the text of a float ("135336.0"), and blanks or NA: a whole number, or unknown.
- One AphiaID on distinct taxa, where a species got that of its genus: it stays with the coarsest of a
  lineage, the others are without one and say why (`doubt`). Of taxa side by side, none keeps it.
- Spelling: case, underscores, "spp." and the like make no difference.
- Homonyms, which a name alone does not decide: Siphonophora is a millipede (the cnidarian order is
  Siphonophorae), Ctenophora is a genus of diatoms and the phylum of comb jellies. Names known for it need a
  kingdom or a class even where the table has only one of them, because it may be the wrong one.

Sources: planktonzilla issues KI-12 and KI-13 (AphiaIDs); gbif/portal-feedback #4361 (Siphonophora),
checklistbank #234 (Appendicularia), iRfcb (Navicula). Test: tests/taxonomy/test_table.py.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from aqqua.taxonomy.classes import RANKS, Lineage, lineage_of
from aqqua.taxonomy.rows import Row, read_rows, spelling

# Names of more than one taxon that occur in plankton labels.
HOMONYMS = frozenset({"siphonophora", "appendicularia", "navicula", "ctenophora"})


@dataclass(frozen=True)
class Taxon:
    """A taxon of a table.

    Args:
        name: normal spelling: lower case, words apart.
        rank: one of RANKS; "" where the table has none.
        aphia_id: None where it is unknown or in doubt.
        doubt: why the AphiaID that the table gives is not believed.
    """

    name: str
    rank: str
    aphia_id: int | None
    lineage: Lineage
    doubt: str = ""

    def __str__(self) -> str:
        place = ", ".join(name for name in self.lineage[:4] if name) or "no lineage"
        return f"{self.rank or 'taxon'} {self.name} ({place}; AphiaID {self.aphia_id or 'unknown'})"


@dataclass(frozen=True)
class TaxonTable:
    """A table, read and made sound."""

    path: Path
    rows: tuple[Row, ...]

    @staticmethod
    def load(path: Path | str) -> "TaxonTable":
        """Read a CSV file of one of the two styles.

        Raises:
            ValueError: no such file, another style, or a value that cannot be; names the line.
        """
        path = Path(path)
        return TaxonTable(path, read_rows(path))

    @cached_property
    def taxa(self) -> tuple[Taxon, ...]:
        """Every taxon that occurs; one that occurs as an ancestor alone has no AphiaID."""
        found: dict[tuple[str, str, str | None], Taxon] = {}
        for row in self.rows:
            lineage = tuple(None if name is None else spelling(name) for name in row.lineage)
            known = [rank for rank, name in enumerate(lineage) if name is not None]
            for rank in known:
                name = lineage[rank]
                assert name is not None, "known ranks have names"
                own = rank == known[-1]
                cut = (*lineage[: rank + 1], *[None] * (len(RANKS) - rank - 1))
                taxon = Taxon(_binomial(lineage, rank), RANKS[rank], row.aphia_id if own else None, cut)
                _keep_better(found, (RANKS[rank], taxon.name, lineage[0]), taxon)
            if not known and row.name:
                name = spelling(row.name)
                _keep_better(found, ("", name, None), Taxon(name, "", row.aphia_id, lineage_of([])))
        return tuple(_without_shared_ids(found.values()))

    def shared_ids(self) -> dict[int, tuple[str, ...]]:
        """AphiaIDs that the table gives to distinct taxa, with the names of these."""
        names: dict[int, set[str]] = {}
        for row in self.rows:
            if row.aphia_id is not None:
                names.setdefault(row.aphia_id, set()).add(_own_name(row))
        return {aphia: tuple(sorted(some)) for aphia, some in sorted(names.items()) if len(some) > 1}

    def by_id(self, aphia_id: int) -> Taxon | None:
        """The taxon that an AphiaID can be trusted to be; None where the table has none."""
        return self._by_id.get(aphia_id)

    def by_name(self, name: str, *, kingdom: str | None = None, class_: str | None = None) -> Taxon:
        """A taxon by its name.

        Args:
            kingdom, class_: decide between homonyms.

        Raises:
            ValueError: no such taxon (names the nearest), or several (names them all).
        """
        wanted = spelling(name)
        named = self._by_name.get(wanted, [])
        if not named:
            near = difflib.get_close_matches(wanted, self._by_name, 1, 0.75)
            hint = f"did you mean {near[0]}?" if near else "give another table"
            raise ValueError(f"taxonomy: the taxon must be in {self.path.name}, got {name}; {hint}")
        told = {0: kingdom, RANKS.index("class"): class_}
        fitting = [
            taxon
            for taxon in named
            if all(taxon.lineage[i] == spelling(t) for i, t in told.items() if t is not None)
        ]
        # A class that a table also writes at finer ranks, for what is not known further, is one taxon.
        fitting = [one for one in fitting if not any(_holds(other, one) for other in fitting)]
        listed = "; ".join(map(str, named))
        if not fitting:
            raise ValueError(
                f"taxonomy: {name} must be in {' and '.join(t for t in told.values() if t)}, got {listed}; "
                "it may be a homonym of what you look for: give another table or the AphiaID"
            )
        if len(fitting) > 1 or (wanted in HOMONYMS and kingdom is None and class_ is None):
            raise ValueError(
                f"taxonomy: {name} is the name of several taxa and must be given with its kingdom or class, "
                f"got candidates {listed}"
            )
        return fitting[0]

    def label(self, label: str, dataset: str = "") -> Row | None:
        """The row of a label as written; None where there is none."""
        return self._by_label.get((dataset, label))

    @cached_property
    def _by_id(self) -> dict[int, Taxon]:
        return {taxon.aphia_id: taxon for taxon in self.taxa if taxon.aphia_id is not None}

    @cached_property
    def _by_name(self) -> dict[str, list[Taxon]]:
        found: dict[str, list[Taxon]] = {}
        for taxon in self.taxa:
            found.setdefault(taxon.name, []).append(taxon)
        return found

    @cached_property
    def _by_label(self) -> dict[tuple[str, str], Row]:
        return {(row.dataset, row.label): row for row in reversed(self.rows)}


def _binomial(lineage: Sequence[str | None], rank: int) -> str:
    """A species is named with its genus, as people write it; its epithet alone names nothing."""
    name, genus = lineage[rank] or "", lineage[RANKS.index("genus")]
    if RANKS[rank] == "species" and genus and not name.startswith(f"{genus} "):
        return f"{genus} {name}"
    return name


def _own_name(row: Row) -> str:
    known = [rank for rank, name in enumerate(row.lineage) if name is not None]
    if not known:
        return spelling(row.name)
    return _binomial([None if n is None else spelling(n) for n in row.lineage], known[-1])


def _keep_better(
    found: dict[tuple[str, str, str | None], Taxon], key: tuple[str, str, str | None], taxon: Taxon
) -> None:
    """Of two mentions of one taxon the one with an AphiaID; two different ones make both doubtful."""
    there = found.get(key)
    if there is None or (there.aphia_id is None and not there.doubt):
        found[key] = taxon
    elif taxon.aphia_id is not None and there.aphia_id not in (None, taxon.aphia_id):
        doubt = f"the table gives both {there.aphia_id} and {taxon.aphia_id}"
        found[key] = replace(there, aphia_id=None, doubt=doubt)


def _without_shared_ids(taxa: Iterable[Taxon]) -> list[Taxon]:
    """An AphiaID on several taxa stays with their common ancestor, if it is one of them."""
    taxa = list(taxa)
    users: dict[int, list[Taxon]] = {}
    for taxon in taxa:
        if taxon.aphia_id is not None:
            users.setdefault(taxon.aphia_id, []).append(taxon)
    kept = []
    for taxon in taxa:
        some = users.get(taxon.aphia_id or 0, [taxon])
        owner = min(some, key=lambda one: RANKS.index(one.rank) if one.rank else 0)
        is_owner = owner is taxon and all(owner is one or _holds(owner, one) for one in some)
        if len(some) == 1 or is_owner:
            kept.append(taxon)
            continue
        others = ", ".join(one.name for one in some if one is not taxon)
        kept.append(replace(taxon, aphia_id=None, doubt=f"AphiaID {taxon.aphia_id} is also on {others}"))
    return kept


def _holds(taxon: Taxon, other: Taxon) -> bool:
    """Whether `other` lies within a taxon."""
    if not taxon.rank:
        return False
    rank = RANKS.index(taxon.rank)
    return taxon.lineage[: rank + 1] == other.lineage[: rank + 1] and taxon.lineage != other.lineage
