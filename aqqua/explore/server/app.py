"""The server of the explorer: an atlas, or two side by side, as answers to a page.

What is asked and answered is in aqqua.explore.server.answers; a wrong question gets one sentence, in JSON,
and the status 400. Only names that the server may have are answered (so no site can reach it through a name
of its own), and, where a token is wanted, only those who know it.
Test: tests/explore/server/test_app.py.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aqqua.explore.server.answers import HEADERS, WHO, Answer, answers_of, array_answer
from aqqua.explore.server.asked import AskedAtlas
from aqqua.explore.server.originals import Originals

COOKIE = "aqqua_token"
LOCAL = ("127.0.0.1", "localhost", "[::1]")


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
    except ImportError as error:
        raise RuntimeError(
            "aqqua explore serve needs the package starlette, got none; pip install 'aqqua[explore]'"
        ) from error
    guard = _Guard(token, hosts)
    routes = _page_routes(guard, page, policy) + _atlas_routes(guard, atlases, originals)
    return Starlette(routes=routes, exception_handlers={404: _unknown, 405: _unknown})


@dataclass(frozen=True)
class _Guard:
    """Who is answered, and what a wrong question gets."""

    token: str | None
    hosts: list[str]

    def route(self, address: str, answer: Callable[[Any], Any]) -> Any:
        """Of an answer, only to those who may ask."""
        from starlette.routing import Route

        def ask(request: Any) -> Any:
            if not _allowed(request, self.token, self.hosts):
                said = f"{WHO}: a browser must open the address with its token, got another; copy it whole"
                return _told({"error": said}, 403)
            try:
                return answer(request)
            except ValueError as error:
                return _told({"error": str(error)}, 400)

        return Route(address, ask)


def _told(value: dict[str, Any], status: int = 200) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(value, status, headers=HEADERS)


def _unknown(_request: Any, _error: Exception) -> Any:
    return _told({"error": f"{WHO}: an address must be one the page knows, got another; open /"}, 404)


def _page_routes(guard: _Guard, page: str, policy: str) -> list[Any]:
    """The page itself; who came with the token keeps it as a cookie."""
    from starlette.responses import HTMLResponse

    def home(request: Any) -> Any:
        answer = HTMLResponse(page, headers={**HEADERS, "Content-Security-Policy": policy})
        if guard.token is not None and request.query_params.get("token"):
            answer.set_cookie(COOKIE, guard.token, httponly=True, samesite="strict")
        return answer

    return [guard.route("/", home)]


def _atlas_routes(guard: _Guard, atlases: list[AskedAtlas], originals: Originals | None) -> list[Any]:
    """About all atlases, how two are linked, and every question about one."""

    def about(_request: Any) -> Any:
        return _told({"atlases": [one.about() for one in atlases], "originals": originals is not None})

    def link(_request: Any) -> Any:
        return array_answer(atlases[0].link(atlases[-1]))

    return [
        guard.route("/api/about", about),
        guard.route("/api/link", link),
        *(
            guard.route(f"/api/{{atlas:int}}/{name}", _on_atlas(answer, atlases))
            for name, answer in answers_of(originals).items()
        ),
    ]


def _allowed(request: Any, token: str | None, hosts: list[str]) -> bool:
    host = request.headers.get("host", "")
    host = host if _bare(request) else host.rsplit(":", 1)[0]
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


def _on_atlas(answer: Answer, atlases: list[AskedAtlas]) -> Callable[[Any], Any]:
    def ask(request: Any) -> Any:
        number = request.path_params["atlas"]
        if not 0 <= number < len(atlases):
            raise ValueError(
                f"{WHO}: an atlas must be 0 to {len(atlases) - 1}, got {number}; ask for one of them"
            )
        return answer(atlases[number], request)

    return ask
