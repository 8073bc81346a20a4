"""The rows of a taxonomy table as others publish it.

Two styles are read: a row per data set and raw label with ranks, qualifier and AphiaID (planktonzilla's), and
a row per label with a name and an AphiaID (SMHI's). What they mean together, and their traps: table.py.

Test: tests/taxonomy/test_rows.py.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from aqqua.taxonomy.classes import RANKS, Lineage, lineage_of

_UNKNOWN = frozenset({"", "na", "nan", "none", "null"})
_APHIA = re.compile(r"([1-9]\d*)(\.0*)?")
_OPEN_NAME = re.compile(r"\s+(spp?|cf)\.?(?=\s|$)")
_RANKED = ("dataset", "raw_labels", "proposed_label", "aphia_id", "qualifier", "living", "plankton", *RANKS)
_NAMED = ("clean_names", "name", "aphiaid")


@dataclass(frozen=True)
class Row:
    """A label as a table has it.

    Args:
        number: line of the file, from 2.
        dataset: "" where the table is of one.
        name: of the taxon, as the table writes it; "" for what has none.
        lineage: as the table writes it; all None where the table has no ranks.
        qualifier: as the table writes it.
    """

    number: int
    dataset: str
    label: str
    name: str
    aphia_id: int | None
    lineage: Lineage
    qualifier: str = ""
    living: bool | None = None
    plankton: bool | None = None


def read_rows(path: Path) -> tuple[Row, ...]:
    """The rows of a CSV file of one of the two styles.

    Raises:
        ValueError: no such file, another style, or a value that cannot be; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip().lower() for name in next(reader, [])]
            rows = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"taxonomy: {path} must be a readable CSV file, got {error}") from error
    for number, cells in rows:
        if len(cells) != len(names):
            raise ValueError(
                f"taxonomy: every row must have {len(names)} cells as the header, got {len(cells)} in "
                f"line {number} of {path}; correct it"
            )
    records = [(number, dict(zip(names, cells, strict=True))) for number, cells in rows]
    for needed, read in ((_RANKED, _ranked), (_NAMED, _named)):
        if set(needed) <= set(names):
            return tuple(read(number, record, path) for number, record in records)
    raise ValueError(
        f"taxonomy: {path} must have the columns {', '.join(_RANKED)} or {', '.join(_NAMED)}, got "
        f"{', '.join(names)}; rename its columns"
    )


def aphia_id(text: str) -> int | None:
    """An AphiaID as tables write it: a whole number, also as the text of a float; blank or NA is unknown.

    Raises:
        ValueError: neither.
    """
    text = text.strip()
    if text.lower() in _UNKNOWN:
        return None
    match = _APHIA.fullmatch(text)
    if match is None:
        raise ValueError(f"taxonomy: an AphiaID must be a whole number above 0, got {text}; correct it")
    return int(match[1])


def spelling(name: str) -> str:
    """Spelling variants of one name made equal: case, underscores, "spp.", "cf.", spaces."""
    words = _OPEN_NAME.sub("", name.replace("_", " ").strip().lower())
    return " ".join(words.split())


def _ranked(number: int, record: dict[str, str], path: Path) -> Row:
    names = [record[rank].strip() or None for rank in RANKS]
    return Row(
        number,
        record["dataset"].strip(),
        record["raw_labels"],
        record["proposed_label"].strip(),
        _aphia_of(number, record["aphia_id"], path),
        lineage_of(list(names)),
        record["qualifier"].strip(),
        _truth(record["living"]),
        _truth(record["plankton"]),
    )


def _named(number: int, record: dict[str, str], path: Path) -> Row:
    aphia = _aphia_of(number, record["aphiaid"], path)
    return Row(number, "", record["clean_names"], record["name"].strip(), aphia, lineage_of([]))


def _aphia_of(number: int, text: str, path: Path) -> int | None:
    try:
        return aphia_id(text)
    except ValueError as error:
        raise ValueError(f"{error}: line {number} of {path}") from error


def _truth(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.strip().lower())
