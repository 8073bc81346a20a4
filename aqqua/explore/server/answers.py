"""What the server answers about one atlas: a function for each question, from the query to bytes.

Answers are JSON or plain arrays (little-endian); a wrong question is a ValueError of one sentence. `ANSWERS`
is the list, `answers_of` adds what only a dataset at hand can answer.
Test: tests/explore/server/test_app.py.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from aqqua.explore.server.asked import AskedAtlas
from aqqua.explore.server.columns import NAMES
from aqqua.explore.server.density import Colour, cell_about, density, inside, window_of
from aqqua.explore.server.filters import read_filters
from aqqua.explore.server.originals import Originals

WHO = "explore"
MOST_WALL = 200  # thumbnails of one answer
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Answer = Callable[[AskedAtlas, Any], Any]


def array_answer(values: np.ndarray) -> Any:
    """Its bytes."""
    from starlette.responses import Response

    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return Response(little.tobytes(), media_type="application/octet-stream", headers=HEADERS)


def _json(value: object) -> Any:
    from starlette.responses import Response

    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return Response(text, media_type="application/json", headers=HEADERS)


def _wanted_column(request: Any) -> str:
    return str(request.query_params.get("column", ""))


def _filters(request: Any) -> list[dict[str, Any]]:
    return read_filters(request.query_params.get("filters", ""))


def _rows(request: Any, most: int = MOST_WALL) -> list[int]:
    text = request.query_params.get("rows", "")
    parts = text.split(",") if text else []
    if len(parts) > most or not all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts):
        raise ValueError(
            f"{WHO}: rows must be at most {most} whole numbers, got {text[:60]!r}; ask for fewer"
        )
    return [int(part) for part in parts]


def _row(request: Any) -> int:
    rows = _rows(request, 1)
    if not rows:
        raise ValueError(f"{WHO}: rows must name a point, got none; add rows=0")
    return rows[0]


def _wall(atlas: AskedAtlas, request: Any) -> Any:
    """Pictures end to end; their sizes in bytes before them, as uint32."""
    pictures = atlas.thumbnails(_rows(request))
    sizes = np.array([len(pictures), *map(len, pictures)], "<u4").tobytes()
    return array_answer(np.frombuffer(sizes + b"".join(pictures), np.uint8))


def _thumbnail(atlas: AskedAtlas, request: Any) -> Any:
    from starlette.responses import Response

    picture = atlas.thumbnails([_row(request)])[0]
    kind = "image/webp" if picture[:4] == b"RIFF" else "image/png"
    return Response(picture, media_type=kind, headers=HEADERS)


def _original_of(originals: Originals) -> Answer:
    def answer(atlas: AskedAtlas, request: Any) -> Any:
        from starlette.responses import Response

        picture = originals.png(atlas.key(_row(request)))
        return Response(picture, media_type="image/png", headers=HEADERS)

    return answer


def _density(atlas: AskedAtlas, request: Any) -> Any:
    asked = request.query_params
    sides = [str(asked.get(side, "")) for side in ("width", "height")]
    if not all(side.isascii() and side.isdigit() and len(side) < 6 for side in sides):
        raise ValueError(f"{WHO}: width and height must be whole numbers, got {sides}; give both")
    kept, window, colour = _kept(atlas, request), _window(request), _colour(atlas, request)
    return array_answer(density(*atlas.points, kept, window, int(sides[0]), int(sides[1]), colour))


def _colour(atlas: AskedAtlas, request: Any) -> Colour | None:
    """How cells are coloured: by names that have a colour, or by steps between two numbers."""
    if not _wanted_column(request):
        return None
    values, asked = atlas.values(_wanted_column(request)), request.query_params
    try:
        if values.kind == NAMES:
            return Colour.of_names(values, json.loads(asked.get("names", "")))
        low, high = float(asked.get("low", "")), float(asked.get("high", ""))
        steps = int(asked.get("steps", ""))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{WHO}: a colour must have names, or low, high and steps, got others; give them"
        ) from error
    return Colour.of_numbers(values, low, high, steps)


def _kept(atlas: AskedAtlas, request: Any) -> np.ndarray | None:
    """Rows that filters keep; None: all."""
    filters = _filters(request)
    return atlas.kept(filters) if filters else None


def _window(request: Any) -> tuple[float, float, float, float]:
    return window_of([request.query_params.get(edge, "") for edge in ("left", "right", "bottom", "top")])


def _cell(atlas: AskedAtlas, request: Any) -> Any:
    column = _wanted_column(request)
    values = atlas.values(column) if column else None
    return _json(cell_about(*atlas.points, _kept(atlas, request), _window(request), values))


def _lasso(atlas: AskedAtlas, request: Any) -> Any:
    try:
        numbers = [float(part) for part in request.query_params.get("corners", "").split(",")]
    except ValueError as error:
        raise ValueError(f"{WHO}: corners must be x,y,x,y and so on, got other text; draw again") from error
    return array_answer(
        inside(*atlas.points, list(zip(numbers[::2], numbers[1::2], strict=False))).astype(np.uint32)
    )


def _ids(atlas: AskedAtlas, request: Any) -> Any:
    return _json(atlas.ids(_rows(request, 2000)))


ANSWERS: dict[str, Answer] = {
    "points": lambda atlas, _request: array_answer(np.concatenate(atlas.points)),
    "column": lambda atlas, request: _json(atlas.values(_wanted_column(request)).about()),
    "values": lambda atlas, request: array_answer(atlas.values(_wanted_column(request)).values),
    "filter": lambda atlas, request: array_answer(atlas.mask(atlas.kept(_filters(request)))),
    "histogram": lambda atlas, request: _json(atlas.histogram(_wanted_column(request), _filters(request))),
    "details": lambda atlas, request: _json(atlas.details(_row(request))),
    "neighbours": lambda atlas, request: _json(atlas.neighbours(_row(request))),
    "search": lambda atlas, request: _json(atlas.search(str(request.query_params.get("text", ""))[:200])),
    "ids": _ids, "thumbnail": _thumbnail, "wall": _wall, "density": _density, "cell": _cell,
    "lasso": _lasso,
}  # fmt: skip


def answers_of(originals: Originals | None) -> dict[str, Answer]:
    """All questions, by the last word of their addresses.

    Args:
        originals: the images as stored, if their dataset is at hand.
    """
    return ANSWERS if originals is None else ANSWERS | {"original": _original_of(originals)}
