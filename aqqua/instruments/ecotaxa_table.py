"""Rows of an EcoTaxa table: a tab-separated file whose quirks would lose or shift rows if read naively.

Met in real files: latin-1, UTF-8 with and without BOM, CR-only line ends, every text cell quoted,
a second row of types ([t], [f]) that may be absent, rows with trailing cells left out, quotes that
never close. Files are streamed: a table of a million objects is never held in memory.

Source: ecotaxa_back py/BO/TSVFile.py (tab, quote '"', latin-1 then utf-8-sig); its test imports.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from aqqua.instruments.record import RejectedInputError
from aqqua.instruments.text_encoding import bom_encoding, text_encoding
from aqqua.instruments.tree import Tree

HEAD_BYTES = 1 << 16  # the header row of the widest table EcoTaxa accepts (620 columns) fits well
MAX_LINE = 1 << 20  # characters; a longer line is not a table
MAX_CELL_LINES = 20  # a quoted cell may hold line ends; one that stays open for longer never closes
IDENTITY = ("object_id", "img_file_name")  # columns without which a table lists no images
_TYPE_CELL = re.compile(r"\[\w*\]")


@dataclass(frozen=True, slots=True)
class Row:
    """One data row: its line in the file (the header is line 1) and the wanted cells by column."""

    line: int
    cells: dict[str, str] = field(default_factory=dict)
    problem: str = ""  # why the cells cannot be trusted, if so

    def get(self, column: str) -> str:
        """The cell, stripped; '' where the table or the row has none."""
        return self.cells.get(column, "")


def header(tree: Tree, member: str) -> list[str]:
    """Column names, stripped and in lower case; [] if the member is no text table."""
    try:
        head = tree.read(member, 0, HEAD_BYTES)
        text = head.decode(bom_encoding(head) or "latin-1", errors="replace")
    except Exception:  # a broken archive member; whoever reads the rows says why
        return []
    if "\0" in text:
        return []
    return _names(_plain(re.split(r"[\r\n]", text, maxsplit=1)[0]))


def names_images(columns: list[str]) -> bool:
    return all(name in columns for name in IDENTITY)


def read_rows(tree: Tree, member: str, wanted: frozenset[str], optional: frozenset[str]) -> Iterator[Row]:
    """Data rows in file order; a row of the wrong shape comes with its problem.

    A row may leave out trailing cells (EcoTaxa imports such rows) unless a wanted one that is not
    optional is among them; a row with filled cells beyond the header is refused.

    Raises:
        RejectedInputError: empty_file, bad_table, io_error; the whole table is unusable from here on.
    """
    if tree.size(member) == 0:
        raise RejectedInputError("empty_file", "a table of 0 bytes")
    try:
        encoding = text_encoding(tree, member)
        with tree.open(member) as raw, io.TextIOWrapper(raw, encoding=encoding, newline=None) as text:
            yield from _rows(text, wanted, optional)
    except RejectedInputError:
        raise
    except (UnicodeError, csv.Error) as error:
        raise RejectedInputError("bad_table", f"not a text table: {error}") from error
    except Exception as error:  # zipfile raises zlib.error, BadZipFile, EOFError, NotImplementedError
        raise RejectedInputError("io_error", f"{type(error).__name__}: {error}") from error


def _rows(text: io.TextIOWrapper, wanted: frozenset[str], optional: frozenset[str]) -> Iterator[Row]:
    columns = _names(_plain(text.readline(MAX_LINE).rstrip("\n")))
    if not names_images(columns):
        missing = [name for name in IDENTITY if name not in columns]
        raise RejectedInputError(
            "bad_table", f"a table of images must have the columns {missing}; export with images"
        )
    twice = sorted(name for name in wanted if columns.count(name) > 1)
    if twice:
        raise RejectedInputError("bad_table", f"a column must be named once, got {twice} twice")
    where = {name: columns.index(name) for name in wanted if name in columns}
    needed = max(index for name, index in where.items() if name not in optional) + 1
    types_may_follow = True
    for line, cells in _logical_lines(_physical_lines(text), len(columns)):
        if not any(cells) or (types_may_follow and _is_type_row(cells)):
            continue
        types_may_follow = False
        found = {name: cells[index] for name, index in where.items() if index < len(cells)}
        fits = len(cells) >= needed and not any(cells[len(columns) :])
        yield Row(line, found, "" if fits else f"{len(cells)} cells for {len(columns)} columns")


def _physical_lines(text: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    number = 1
    while line := text.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE:
            raise RejectedInputError("bad_table", f"line {number} is longer than {MAX_LINE} characters")
        yield number, line


def _logical_lines(lines: Iterator[tuple[int, str]], width: int) -> Iterator[tuple[int, list[str]]]:
    """Cells of each row. Lines are joined while a quote is open, and parted again if it never closes."""
    pending: list[tuple[int, str]] = []
    for number, line in lines:
        pending.append((number, line))
        cells = _quoted("".join(part for _, part in pending))
        if cells is not None and (len(pending) == 1 or len(cells) == width):
            yield pending[0][0], cells
        elif len(pending) < MAX_CELL_LINES and cells is None:
            continue
        else:
            yield from ((first, _plain(part.rstrip("\n"))) for first, part in pending)
        pending = []
    yield from ((first, _plain(part.rstrip("\n"))) for first, part in pending)


def _quoted(line: str) -> list[str] | None:
    """Cells of a line by the rules of quoting, or None where it breaks them."""
    try:
        cells = next(csv.reader([line.rstrip("\n")], delimiter="\t", strict=True), [])
    except csv.Error:
        return None
    return [cell.strip() for cell in cells]


def _plain(line: str) -> list[str]:
    """Cells of a line split at tabs alone; quotes around a whole cell are taken off."""
    cells = (cell.strip() for cell in line.split("\t"))
    return [cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell for cell in cells]


def _names(cells: list[str]) -> list[str]:
    return [cell.strip().lower() for cell in cells]


def _is_type_row(cells: list[str]) -> bool:
    return all(_TYPE_CELL.fullmatch(cell) for cell in cells if cell)
