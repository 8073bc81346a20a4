"""Serving the explorer: on this machine only, unless a token guards it.

Test: tests/explore/server/test_serve.py.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aqqua.explore.atlas_page.page import served_page
from aqqua.explore.server.app import LOCAL, create_app
from aqqua.explore.server.asked import AskedAtlas
from aqqua.explore.server.originals import Originals

WHO = "explore serve"
PORT = 8047


@dataclass(frozen=True)
class Served:
    """What is served, and where."""

    app: Any
    host: str
    port: int
    address: str  # to open in a browser


def prepare(
    atlas: Path,
    beside: Path | None = None,
    *,
    dataset: Path | None = None,
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
) -> Served:
    """Open an atlas, or two, for `run`.

    Args:
        atlas: from aqqua explore build.
        beside: of another model, shown beside it.
        dataset: of the atlas, whose images are then shown in full size.
        host: to listen on.
        port: to listen on, 1 to 65535.
        token: that a browser must know, 16 letters or more; needed wherever others can reach the host.

    Raises:
        ValueError: the host is not this machine and there is no token, or a file is no atlas.
        RuntimeError: a package is missing.
    """
    local = host in ("127.0.0.1", "localhost", "::1")
    if not local and token is None:
        raise ValueError(
            f"{WHO}: a host that others can reach needs a token, got {host} without; add --token "
            f"{secrets.token_urlsafe(18)}"
        )
    if token is not None and (
        len(token) < 16 or not token.isascii() or not token.isprintable() or set(token) & set(" ;,&#%+")
    ):
        raise ValueError(
            f"{WHO}: a token must be 16 plain letters or more, got {len(token)}; take a longer one"
        )
    if not 1 <= port <= 65535:
        raise ValueError(f"{WHO}: a port must be 1 to 65535, got {port}; choose one")
    atlases = [AskedAtlas(path) for path in (atlas, beside) if path is not None]
    page, policy = served_page([one.about()["name"] for one in atlases])
    originals = None if dataset is None else Originals(dataset)
    app = create_app(atlases, page, policy, token, list(LOCAL) if local else ["*"], originals)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
    return Served(app, host, port, address)


def run(served: Served) -> None:
    """Serve until it is interrupted.

    Raises:
        RuntimeError: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise RuntimeError(
            "aqqua explore serve needs the package uvicorn, got none; pip install 'aqqua[explore]'"
        ) from error
    uvicorn.run(
        served.app,
        host=served.host,
        port=served.port,
        log_level="warning",
        access_log=False,
        h11_max_incomplete_event_size=1 << 20,
    )
