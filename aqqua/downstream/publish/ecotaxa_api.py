"""Calls to an EcoTaxa server: tried again when it is busy, never in the clear, and the token never shown.

Source: openapi.json of ecotaxa_back: POST /object_set/{project_id}/query (fields, window_start, window_size;
answers object_ids, details, total_ids) and POST /object_set/classify_auto_multiple (ClassifyAutoReqMult:
target_ids, classifications, scores, keep_log; answers the number of objects changed).
Test: tests/downstream/publish/test_ecotaxa_push.py.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from aqqua.downstream.publish.packages import needed

WHO = "ecotaxa push"
SERVER = "https://ecotaxa.obs-vlfr.fr/api"
TOKEN_VARIABLE = "ECOTAXA_TOKEN"
LOCAL = ("localhost", "127.0.0.1", "::1")
WINDOW = 10_000  # objects of a page of a query
_BUSY = (429, 500, 502, 503, 504)
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for."""

    tries: int = 6
    first_wait_s: float = 1.0  # doubled each time
    timeout_s: float = 120.0


def token_from_environment() -> str:
    """
    Raises:
        ValueError: the variable is not set.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise ValueError(
            f"{WHO}: the variable {TOKEN_VARIABLE} must hold your token of EcoTaxa, got nothing; log in "
            f"there, "
            f"then export {TOKEN_VARIABLE}=..."
        )
    return token


def require_safe(server: str) -> None:
    """
    Raises:
        ValueError: a token would travel in the clear.
    """
    parts = urlsplit(server)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname in LOCAL:
        return
    raise ValueError(f"{WHO}: the server must be an https address, got {server!r}; your token would be seen")


class Server:
    """A server, as a context."""

    def __init__(
        self,
        server: str,
        token: str,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        require_safe(server)
        self._httpx = needed("httpx", WHO)
        self._patience, self._sleep = patience or Patience(), sleep
        self._server = server.rstrip("/")
        # Redirects are not followed: they could lead the token elsewhere.
        self._client = self._httpx.Client(
            headers={"Authorization": f"Bearer {token}"},
            timeout=self._patience.timeout_s,
            follow_redirects=False,
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def object_ids(self, project: int) -> dict[str, int]:
        """The number of every object of a project by its own id (object_id of the imported table)."""
        found: dict[str, int] = {}
        while True:
            answer = self._post(
                f"/object_set/{project}/query",
                {},
                fields="obj.orig_id",
                order_field="obj.objid",
                window_start=len(found),
                window_size=WINDOW,
            )
            numbers, details = _lists(answer, "object_ids"), _lists(answer, "details")
            if len(numbers) != len(details):
                raise RuntimeError(f"{WHO}: the server must name each object, got {len(details)} names")
            before = len(found)
            found |= {str(name[0]): int(number) for number, name in zip(numbers, details, strict=True)}
            if len(found) != before + len(numbers):
                raise ValueError(
                    f"{WHO}: objects of project {project} must have ids of their own, got one twice; "
                    "import the images once"
                )
            if len(numbers) < WINDOW:
                return found

    def classify(
        self, objects: Sequence[int], classes: Sequence[Sequence[int]], scores: Sequence[Sequence[float]]
    ) -> int:
        """Tell the best classes of objects, best first; how many objects the server has changed."""
        body = {"target_ids": objects, "classifications": classes, "scores": scores, "keep_log": True}
        changed = self._post("/object_set/classify_auto_multiple", body)
        if not isinstance(changed, int):
            raise RuntimeError(
                f"{WHO}: the server must tell a number, got {str(changed)[:80]!r}; see its version"
            )
        return changed

    def _post(self, path: str, body: dict[str, Any], **query: Any) -> Any:
        wait_s = self._patience.first_wait_s
        for attempt in range(1, self._patience.tries + 1):
            last = attempt == self._patience.tries
            try:
                answer = self._client.post(self._server + path, json=body, params=query)
            except self._httpx.TransportError as error:  # timeouts, refused and broken connections
                problem, asked_s = f"{type(error).__name__}: {error}", 0.0
            else:
                if answer.status_code == 200:
                    return self._json(answer)
                if answer.status_code not in _BUSY:
                    raise self._refusal(path, answer)
                problem, asked_s = f"status {answer.status_code}", _seconds(answer.headers.get("Retry-After"))
            if not last:
                self._sleep(min(max(wait_s, asked_s), _LONGEST_WAIT_S))
                wait_s *= 2
        raise RuntimeError(
            f"{WHO}: {self._server}{path} must answer, got {problem} {self._patience.tries} times; "
            "try again later: what was taken is in the journal"
        )

    def _json(self, answer: Any) -> Any:
        try:
            return answer.json()
        except ValueError as error:
            raise RuntimeError(
                f"{WHO}: {self._server} must answer in JSON, got {answer.text[:80]!r}; is this its API "
                f"address?"
            ) from error

    def _refusal(self, path: str, answer: Any) -> Exception:
        status, text = answer.status_code, answer.text[:200]
        if status in (401, 403):
            return ValueError(
                f"{WHO}: the token in {TOKEN_VARIABLE} must be allowed to change the project, got status "
                f"{status}; "
                "renew it, or ask the project's manager"
            )
        return RuntimeError(f"{WHO}: {self._server}{path} must take this, got status {status}: {text!r}")


def _lists(answer: Any, name: str) -> list[Any]:
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise RuntimeError(
            f"{WHO}: the server must answer with {name!r}, got {str(answer)[:80]!r}; see its version"
        )
    return found


def _seconds(text: str | None) -> float:
    try:
        return max(float(text or 0), 0.0)
    except ValueError:  # a date: our own waiting serves
        return 0.0
