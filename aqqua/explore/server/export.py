"""An atlas as a folder, or one file, that opens without a server or a network, and can be mailed.

A folder has index.html and its data as scripts beside it, in pieces that are read when they are looked at.
One file has all of it inside, for small atlases.
Test: tests/explore/server/test_export.py, and in a browser tests/explore/atlas_page/test_atlas_page_page.py.
"""

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aqqua.explore.atlas_page.page import folder_page, harmless, single_page
from aqqua.explore.server.asked import AskedAtlas
from aqqua.store.new_folder import new_folder

WHO = "explore export"
CHUNK = 1024  # points of a piece; about 2 MB of thumbnails
MOST_SINGLE = 50_000  # points of one file, about 100 MB


def export_folder(atlas: Path, out: Path, beside: Path | None = None) -> int:
    """Write a new folder with index.html; returns the number of points.

    Raises:
        ValueError: the folder exists, or a file is no atlas.
        RuntimeError: the disk is full or failed.
    """
    atlases = _opened(atlas, beside)
    with new_folder(out, WHO) as folder:
        data = folder / "data"
        data.mkdir()
        for name, value in _pieces(atlases):
            text = f"AQQUA_DATA({harmless(name)},{harmless(value)});\n"
            (data / f"{name.replace('/', '-')}.js").write_text(text, encoding="utf-8")
        (folder / "index.html").write_text(folder_page(_names(atlases)), encoding="utf-8")
    return sum(one.rows for one in atlases)


def export_file(atlas: Path, out: Path, beside: Path | None = None) -> int:
    """Write one new HTML file with everything inside; returns the number of points.

    Raises:
        FileExistsError: the file is there.
        ValueError: there are too many points, or a file is no atlas.
    """
    atlases = _opened(atlas, beside)
    rows = sum(one.rows for one in atlases)
    if rows > MOST_SINGLE:
        raise ValueError(
            f"{WHO}: one file must hold {MOST_SINGLE} points at most, got {rows}; "
            "give a folder as --out, not .html"
        )
    page = single_page(_names(atlases), dict(_pieces(atlases)))
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("x", encoding="utf-8") as file:
        file.write(page)
    return rows


def _opened(atlas: Path, beside: Path | None) -> list[AskedAtlas]:
    return [AskedAtlas(path) for path in (atlas, beside) if path is not None]


def _names(atlases: list[AskedAtlas]) -> list[str]:
    return [one.about()["name"] for one in atlases]


def _pieces(atlases: list[AskedAtlas]) -> Iterator[tuple[str, object]]:
    """Names and values that 3_folder.js asks for."""
    yield "about", {"atlases": [one.about() | {"chunk": CHUNK} for one in atlases]}
    if len(atlases) > 1:
        yield "link", _text(atlases[0].link(atlases[1]))
    for number, one in enumerate(atlases):
        for name, value in _of_one(one):
            yield f"{number}/{name}", value


def _of_one(one: AskedAtlas) -> Iterator[tuple[str, object]]:
    yield "points", _text(np.concatenate(one.points))
    for column in one.about()["columns"]:
        values = one.values(column["name"])
        yield f"column/{column['name']}", values.about() | {"values": _text(values.values)}
    near, cosine, foreign = one.neighbour_table()
    for number, first in enumerate(range(0, one.rows, CHUNK)):
        rows = range(first, min(first + CHUNK, one.rows))
        part = slice(rows.start, rows.stop)
        yield f"ids/{number}", one.ids(rows)
        yield f"thumbnails/{number}", [base64.b64encode(t).decode() for t in one.thumbnails(rows)]
        yield (
            f"neighbours/{number}",
            {
                "near": _text(near[part]),
                "cosine": _text(cosine[part].astype(np.float32)),
                "foreign": _text(foreign[part]),
            },
        )


def _text(values: np.ndarray) -> str:
    """Numbers as base64, little-endian."""
    return base64.b64encode(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()).decode()
