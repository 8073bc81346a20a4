"""Fetch IFCB bins from a dashboard (ifcbdb) into a folder that the IFCB reader reads.

`fetch_dashboard(url, folder)` takes a bin or a whole dataset and writes `folder/<lid>.hdr/.adc/.roi`.
A file appears under its name only when complete, so a second call goes on where the first stopped.
A bin that cannot be fetched never stops the others: it is written to a list of failures, and the
reader quarantines it as missing_file.

Only http and https are spoken, redirects included. Only names of the IFCB form become file names;
what else the server sends as a name is a failure of that line, not a path.

Source: WHOIGit/ifcbdb URLs (/data/<bin>.adc, /api/export_metadata/<dataset>, column `pid`).
Test: tests/instruments/test_ifcb_dashboard.py, against a local server.
"""

import csv
import http.client
import io
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from aqqua.instruments.ifcb import FAILURES_NAME, LID, SUFFIXES

BLOCK_BYTES = 1 << 20
MAX_FILE_BYTES = 2 << 30  # of one .roi; real ones are under 100 MB
RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
PAGES = frozenset({"bin", "timeline", "image", "list", "comments"})  # dashboard pages with a query


@dataclass(frozen=True, slots=True)
class Failure:
    """A bin of which a file could not be fetched."""

    lid: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """Limits of one fetch."""

    timeout_s: float = 30.0  # of silence on the line
    retries: int = 3  # further tries after the first, for errors that may pass
    backoff_s: float = 1.0  # before the first retry, doubled each time
    max_file_bytes: int = MAX_FILE_BYTES


@dataclass(frozen=True, slots=True)
class _Target:
    """What a dashboard URL means: one bin, or the address of a dataset's table."""

    data_root: str  # '<lid>.adc' is appended
    lid: str | None = None
    table_url: str | None = None


class FetchError(Exception):
    """A file could not be fetched; `may_pass` when another try can help."""

    def __init__(self, message: str, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class _SameKindRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http(s) only, and never from https down to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise FetchError(f"a redirect must stay on {req.type}, got {newurl[:200]!r}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch_dashboard(
    url: str,
    folder: Path,
    options: FetchOptions | None = None,
    on_bin: Callable[[int, int], None] | None = None,
) -> Path:
    """Download a bin or a dataset; returns `folder`, ready to ingest.

    Args:
        url: https://host/data/<bin>(.html, .roi, ...), https://host/bin?bin=<bin>,
            https://host/timeline?dataset=<name>, https://host/<name>, or
            https://host/api/export_metadata/<name>, whose query (start_date=..., end_date=...)
            is passed on and so limits what is fetched.
        folder: made if needed; complete files already there are kept.
        on_bin: called with (bins done, bins in all), for a progress bar.

    Raises:
        ValueError: the URL names neither a bin nor a dataset.
        RuntimeError: the list of a dataset's bins could not be fetched.
    """
    options = options or FetchOptions()
    target = _parse_url(url)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    failures: list[Failure] = []
    lids = [target.lid] if target.lid else _dataset_lids(target, options, failures)
    for number, lid in enumerate(lids, start=1):
        failures += _fetch_bin(target.data_root, lid, folder, options)
        if on_bin is not None:
            on_bin(number, len(lids))
    _write_failures(folder, failures)
    return folder


def dashboard_name(url: str) -> str:
    """The bin or the dataset a URL means.

    Raises:
        ValueError: the URL names neither.
    """
    target = _parse_url(url)
    return target.lid or urlsplit(target.table_url or "").path.rpartition("/")[2]


def _parse_url(url: str) -> _Target:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"a dashboard URL must start with https:// or http://, got {url!r}; add it")
    root, _, last = parts.path.rstrip("/").rpartition("/")
    query = parse_qs(parts.query)
    for value in query.get("bin", []):
        if LID.fullmatch(value):
            return _Target(_join(parts, root, "data/"), lid=value)
    lid = LID.match(last)
    if lid and re.fullmatch(r"(_\d{5})?(\.\w+)?", last[lid.end() :], re.ASCII):
        return _Target(_join(parts, root, ""), lid=lid[0])
    name = query.get("dataset", [""])[0] if last in PAGES else last
    if not DATASET.fullmatch(name) or ".." in name or name in PAGES:
        raise ValueError(
            f"a dashboard URL must name a bin or a dataset, got {url!r}; "
            "use https://host/data/<bin> or https://host/timeline?dataset=<name>"
        )
    is_table = root.endswith("/api/export_metadata")
    root = root.removesuffix("/api/export_metadata")
    limits = f"?{parts.query}" if is_table and parts.query else ""
    table_url = _join(parts, root, f"api/export_metadata/{name}{limits}")
    return _Target(_join(parts, root, "data/"), table_url=table_url)


def _join(parts: SplitResult, root: str, rest: str) -> str:
    return f"{parts.scheme}://{parts.netloc}{root}/{rest}"


def _dataset_lids(target: _Target, options: FetchOptions, failures: list[Failure]) -> list[str]:
    """Bins of a dataset in the order of its table, each once; bad names go to `failures`."""
    assert target.table_url is not None
    buffer = io.BytesIO()
    try:
        _with_retries(target.table_url, buffer, options)
    except FetchError as error:
        message = f"the list of bins must be at {target.table_url}, got {error}; check the URL"
        raise RuntimeError(message) from error
    table = csv.DictReader(io.StringIO(buffer.getvalue().decode("utf-8-sig", errors="replace")))
    if "pid" not in (table.fieldnames or []):
        raise RuntimeError(
            f"the list of bins must be a CSV with a column 'pid', got {table.fieldnames} "
            f"from {target.table_url}; check the name of the dataset"
        )
    lids: dict[str, None] = {}
    for row in table:
        name = (row["pid"] or "").strip()
        if LID.fullmatch(name):
            lids[name] = None
        else:
            failures.append(Failure(lid=name[:100], detail=f"not the name of an IFCB bin: {name[:100]!r}"))
    return list(lids)


def _fetch_bin(data_root: str, lid: str, folder: Path, options: FetchOptions) -> list[Failure]:
    assert LID.fullmatch(lid), lid  # becomes a file name
    failures = []
    for suffix in SUFFIXES:
        path = folder / f"{lid}{suffix}"
        if path.exists():
            continue
        try:
            _fetch_file(f"{data_root}{lid}{suffix}", path, options)
        except FetchError as error:
            failures.append(Failure(lid=lid, detail=f"{lid}{suffix}: {error}"))
    return failures


def _fetch_file(url: str, path: Path, options: FetchOptions) -> None:
    """Download beside the goal, then rename: a name always stands for a whole file."""
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        with part.open("w+b") as file:
            _with_retries(url, file, options)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _with_retries(url: str, file: io.BufferedRandom | io.BytesIO, options: FetchOptions) -> None:
    for attempt in range(options.retries + 1):
        try:
            file.seek(0)
            file.truncate()
            return _download(url, file, options)
        except FetchError as error:
            if not error.may_pass or attempt == options.retries:
                raise
            time.sleep(options.backoff_s * 2**attempt)
    raise AssertionError("range is never empty")


def _download(url: str, file: io.BufferedRandom | io.BytesIO, options: FetchOptions) -> None:
    """One try. Raises only FetchError."""
    opener = urllib.request.build_opener(_SameKindRedirects)
    try:
        with opener.open(url, timeout=options.timeout_s) as response:
            promised = response.headers.get("Content-Length")
            length = 0
            while block := response.read(BLOCK_BYTES):
                length += len(block)
                if length > options.max_file_bytes:
                    raise FetchError(f"a file must hold at most {options.max_file_bytes} bytes")
                file.write(block)
    except urllib.error.HTTPError as error:
        error.close()
        raise FetchError(f"HTTP {error.code} {error.reason}", error.code in RETRIED_STATUS) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError, timeouts, broken lines
        raise FetchError(f"{type(error).__name__}: {error}", may_pass=True) from error
    if promised is not None and promised.isdigit() and length != int(promised):
        raise FetchError(f"{promised} bytes were promised, {length} came", may_pass=True)


def _write_failures(folder: Path, failures: list[Failure]) -> None:
    path = folder / FAILURES_NAME
    if failures:
        part = path.with_name(f".part-{FAILURES_NAME}")
        part.write_text(json.dumps([asdict(f) for f in failures], indent=1), encoding="utf-8")
        part.replace(path)
    else:
        path.unlink(missing_ok=True)
