"""A label map against a taxonomy table: where the two disagree.

Not every disagreement is a mistake of the map: tables have traps (table.py), and the note of an entry says
why it differs. An entry without a note that disagrees is a mistake of one of the two.

Test: tests/taxonomy/test_check.py; for the maps that come with aqqua, test_maps.py.
"""

from dataclasses import dataclass

from aqqua.taxonomy.classes import RANKS, TaxonClass
from aqqua.taxonomy.label_map import LabelMap
from aqqua.taxonomy.rows import Row, spelling
from aqqua.taxonomy.table import TaxonTable

# What tables write for our qualifiers; other words are compared as they are.
_QUALIFIERS = {"full_body": "", "larvae": "larva", "mix": "several"}


@dataclass(frozen=True)
class Disagreement:
    """One thing that a map and a table say differently.

    Args:
        what: aphia_id, lineage, qualifier, living or plankton.
        noted: the entry of the map says why.
    """

    label: str
    what: str
    ours: str
    theirs: str
    noted: bool

    def __str__(self) -> str:
        return f"{self.label}: {self.what} {self.ours} in the map, {self.theirs} in the table"


def disagreements(mapped: LabelMap, table: TaxonTable) -> list[Disagreement]:
    """Every disagreement of a map with a table, in the order of the map.

    A label is compared with the row of the same label (of `table_dataset`, where the table is of several
    sets); and the AphiaID with what the table says it is. What the table does not know is passed over.
    """
    found = []
    for entry in mapped.file.labels:
        one = entry.taxon_class
        told = _of_id(one, table)
        row = table.label(entry.label, mapped.file.table_dataset)
        if row is not None:
            told += _of_row(one, row, table)
        # What both comparisons find is said once.
        found += [Disagreement(entry.label, *each, bool(entry.note)) for each in dict.fromkeys(told)]
    return found


def _of_id(one: TaxonClass, table: TaxonTable) -> list[tuple[str, str, str]]:
    taxon = None if one.aphia_id is None else table.by_id(one.aphia_id)
    if taxon is None:
        return []
    if not taxon.rank:
        name = spelling(one.taxon or "")
        return [] if taxon.name == name else [("aphia_id", f"{one.aphia_id} of {name}", taxon.name)]
    return _lineages(one, taxon.lineage)


def _of_row(one: TaxonClass, row: Row, table: TaxonTable) -> list[tuple[str, str, str]]:
    found = []
    trusted = row.aphia_id is None or table.by_id(row.aphia_id) is not None
    if trusted and row.aphia_id != one.aphia_id:
        found.append(("aphia_id", str(one.aphia_id), str(row.aphia_id)))
    found += _lineages(one, row.lineage)
    theirs = _QUALIFIERS.get(row.qualifier, "part" if row.qualifier.startswith("part") else row.qualifier)
    if row.living is not None and one.finest >= 0 and theirs != one.qualifier:
        found.append(("qualifier", repr(one.qualifier), repr(theirs)))
    for what in ("living", "plankton"):
        ours, other = getattr(one, what), getattr(row, what)
        if other is not None and ours != other:
            found.append((what, str(ours), str(other)))
    return found


def _lineages(one: TaxonClass, theirs: tuple[str | None, ...]) -> list[tuple[str, str, str]]:
    """Ranks at which both have a name, and not the same one."""
    return [
        ("lineage", f"{rank} {ours}", other)
        for rank, ours, other in zip(RANKS, one.lineage, theirs, strict=True)
        # Some tables write the epithet of a species alone.
        if ours is not None and other is not None and _last(rank, ours) != _last(rank, other)
    ]


def _last(rank: str, name: str) -> str:
    return spelling(name).rpartition(" ")[2] if rank == "species" else spelling(name)
