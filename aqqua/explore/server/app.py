"""The server of the explorer: an atlas, or two side by side, as answers to a page.

Answers are JSON or plain arrays (little-endian); a wrong question gets one sentence, in JSON, and the status
400. Only names that the server may have are answered (so no site can reach it through a name of its own),
and, where a token is wanted, only those who know it.
Test: tests/explore/server/test_app.py.
"""

import hmac
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from aqqua.explore.server.asked import AskedAtlas
from aqqua.explore.server.density import density_png, inside, window_of
from aqqua.explore.server.filters import read_filters
from aqqua.explore.server.originals import Originals

WHO = "explore"
MOST_WALL = 200  # thumbnails of one answer
COOKIE = "aqqua_token"
LOCAL = ("127.0.0.1", "localhost", "[::1]")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create_app(
    atlases: list[AskedAtlas],
    page: str,
    policy: str,
    token: str | None,
    hosts: list[str],
    originals: Originals | None = None,
) -> Any:
    """The application, for a server of ASGI.

    Args:
        atlases: one or two.
        page: HTML.
        policy: of its content.
        token: that a browser must know; None: nobody is asked.
        hosts: names under which it may be called, without ports; "*" any.
        originals: the images as stored, if their dataset is at hand.

    Raises:
        RuntimeError: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.responses import HTMLResponse, JSONResponse
        from starlette.routing import Route
    except ImportError as error:
        raise RuntimeError(
            "aqqua explore serve needs the package starlette, got none; pip install 'aqqua[explore]'"
        ) from error
    headers = {**_HEADERS, "Content-Security-Policy": policy}

    def home(request: Any) -> Any:
        answer = HTMLResponse(page, headers=headers)
        if token is not None and request.query_params.get("token"):
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return answer

    def about(_request: Any) -> Any:
        return JSONResponse(
            {"atlases": [atlas.about() for atlas in atlases], "originals": originals is not None},
            headers=_HEADERS,
        )

    def guarded(answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def ask(request: Any) -> Any:
            if not _allowed(request, token, hosts):
                said = f"{WHO}: a browser must open the address with its token, got another; copy it whole"
                return JSONResponse({"error": said}, 403, headers=_HEADERS)
            try:
                return answer(request)
            except ValueError as error:
                return JSONResponse({"error": str(error)}, 400, headers=_HEADERS)

        return ask

    def wrong(_request: Any, _error: Exception) -> Any:
        said = f"{WHO}: an address must be one the page knows, got another; open /"
        return JSONResponse({"error": said}, 404, headers=_HEADERS)

    routes = [Route("/", guarded(home)), Route("/api/about", guarded(about))]
    routes.append(Route("/api/link", guarded(lambda _r: _array(atlases[0].link(atlases[-1])))))
    answers = ANSWERS if originals is None else ANSWERS | {"original": _original_of(originals)}
    for name, answer in answers.items():
        routes.append(Route(f"/api/{{atlas:int}}/{name}", guarded(_on_atlas(answer, atlases))))
    return Starlette(routes=routes, exception_handlers={404: wrong, 405: wrong})


def _allowed(request: Any, token: str | None, hosts: list[str]) -> bool:
    host = (
        request.headers.get("host", "").rsplit(":", 1)[0] if not _bare(request) else request.headers["host"]
    )
    if "*" not in hosts and host not in hosts:
        return False
    if token is None:
        return True
    given = request.query_params.get("token") or request.cookies.get(COOKIE) or ""
    return hmac.compare_digest(given.encode(), token.encode())


def _bare(request: Any) -> bool:
    """The host has no port."""
    host = request.headers.get("host", "")
    return host.endswith("]") or ":" not in host


def _on_atlas(answer: Callable[[AskedAtlas, Any], Any], atlases: list[AskedAtlas]) -> Callable[[Any], Any]:
    def ask(request: Any) -> Any:
        number = request.path_params["atlas"]
        if not 0 <= number < len(atlases):
            raise ValueError(
                f"{WHO}: an atlas must be 0 to {len(atlases) - 1}, got {number}; ask for one of them"
            )
        return answer(atlases[number], request)

    return ask


def _array(values: np.ndarray) -> Any:
    from starlette.responses import Response

    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return Response(little.tobytes(), media_type="application/octet-stream", headers=_HEADERS)


def _json(value: object) -> Any:
    from starlette.responses import Response

    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return Response(text, media_type="application/json", headers=_HEADERS)


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
    return _array(np.frombuffer(sizes + b"".join(pictures), np.uint8))


def _thumbnail(atlas: AskedAtlas, request: Any) -> Any:
    from starlette.responses import Response

    picture = atlas.thumbnails([_row(request)])[0]
    kind = "image/webp" if picture[:4] == b"RIFF" else "image/png"
    return Response(picture, media_type=kind, headers=_HEADERS)


def _original_of(originals: Originals) -> Callable[[AskedAtlas, Any], Any]:
    def answer(atlas: AskedAtlas, request: Any) -> Any:
        from starlette.responses import Response

        picture = originals.png(atlas.key(_row(request)))
        return Response(picture, media_type="image/png", headers=_HEADERS)

    return answer


def _density(atlas: AskedAtlas, request: Any) -> Any:
    from starlette.responses import Response

    asked = request.query_params
    filters = _filters(request)
    sides = [str(asked.get(side, "")) for side in ("width", "height")]
    if not all(side.isascii() and side.isdigit() and len(side) < 6 for side in sides):
        raise ValueError(f"{WHO}: width and height must be whole numbers, got {sides}; give both")
    rows = atlas.kept(filters) if filters else None
    window = window_of([asked.get(edge, "") for edge in ("left", "right", "bottom", "top")])
    picture = density_png(*atlas.points, rows, window, int(sides[0]), int(sides[1]))
    return Response(picture, media_type="image/png", headers=_HEADERS)


def _lasso(atlas: AskedAtlas, request: Any) -> Any:
    try:
        numbers = [float(part) for part in request.query_params.get("corners", "").split(",")]
    except ValueError as error:
        raise ValueError(f"{WHO}: corners must be x,y,x,y and so on, got other text; draw again") from error
    return _array(
        inside(*atlas.points, list(zip(numbers[::2], numbers[1::2], strict=False))).astype(np.uint32)
    )


def _ids(atlas: AskedAtlas, request: Any) -> Any:
    return _json(atlas.ids(_rows(request, 2000)))


ANSWERS: dict[str, Callable[[AskedAtlas, Any], Any]] = {
    "points": lambda atlas, _request: _array(np.concatenate(atlas.points)),
    "column": lambda atlas, request: _json(atlas.values(_wanted_column(request)).about()),
    "values": lambda atlas, request: _array(atlas.values(_wanted_column(request)).values),
    "filter": lambda atlas, request: _array(atlas.mask(atlas.kept(_filters(request)))),
    "histogram": lambda atlas, request: _json(atlas.histogram(_wanted_column(request), _filters(request))),
    "details": lambda atlas, request: _json(atlas.details(_row(request))),
    "neighbours": lambda atlas, request: _json(atlas.neighbours(_row(request))),
    "search": lambda atlas, request: _json(atlas.search(str(request.query_params.get("text", ""))[:200])),
    "ids": _ids, "thumbnail": _thumbnail, "wall": _wall, "density": _density, "lasso": _lasso,
}  # fmt: skip
