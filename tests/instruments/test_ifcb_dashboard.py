"""Dashboard fetch against a local server that fails in the ways real ones do."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from aqqua.instruments import ifcb
from aqqua.instruments.ifcb_dashboard import FetchOptions, _parse_url, dashboard_name, fetch_dashboard
from aqqua.instruments.record import ReadOptions, Record, Rejected
from aqqua.instruments.tree import open_tree

A, B, C = (f"D20200102T03040{n}_IFCB107" for n in (5, 6, 7))
ROW = ",".join(["0"] * 15 + ["2", "2", "0"] + ["0"] * 4 + ["600", "60"]) + "\n"
FILES = {
    ".hdr": b"sampleTime: 2020-01-02T03:04:05Z\nrunTime: 600\ninhibitTime: 60\n",
    ".adc": ROW.encode(),
    ".roi": bytes([1, 2, 3, 4]),
}


def read_failures(folder: Path) -> list[SimpleNamespace]:
    """What the last fetch into this folder could not get, as the IFCB reader finds it."""
    path = folder / ifcb.FAILURES_NAME
    return json.loads(path.read_text(), object_hook=lambda f: SimpleNamespace(**f)) if path.exists() else []


FAST = FetchOptions(timeout_s=5, retries=2, backoff_s=0.001)


class Server(ThreadingHTTPServer):
    """Answers from `pages`; `faults` holds, per path, the faults of its first requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.asked: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_args) -> None:
        """Clients that hang up are part of the tests."""

    def add_bin(self, lid: str) -> None:
        self.pages.update({f"/data/{lid}{suffix}": data for suffix, data in FILES.items()})


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path
        self.server.asked[path] += 1
        faults = self.server.faults.get(path, [])
        fault = faults.pop(0) if faults else ""
        if fault == "500":
            self.send_error(500)
        elif fault.startswith("to "):
            self.send_response(302)
            self.send_header("Location", fault[3:])
            self.end_headers()
        elif path not in self.server.pages:
            self.send_error(404)
        else:
            body = self.server.pages[path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:-1] if fault == "short" else body)

    def log_message(self, *_args) -> None:
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ingest(folder):
    tree = open_tree(folder)
    return list(ifcb.read(tree, ifcb.claim(tree), ReadOptions()))


@pytest.mark.parametrize("page", [f"/data/{A}", f"/data/{A}.html", f"/data/{A}_00001.png", f"/bin?bin={A}"])
def test_one_bin(server, tmp_path, page):
    server.add_bin(A)
    folder = fetch_dashboard(server.url + page, tmp_path / "out", FAST)
    assert {p.name for p in folder.iterdir()} == {f"{A}.hdr", f"{A}.adc", f"{A}.roi"}
    (record,) = [f for f in ingest(folder) if isinstance(f, Record)]
    assert record.pixels.load(open_tree(folder)).tolist() == [[1, 2], [3, 4]]


def test_a_dataset_with_every_kind_of_trouble(server, tmp_path):
    for lid in (A, B):
        server.add_bin(lid)
    hostile = "../x"
    table = f"pid,sample_time\n{A},2020\n{hostile},2020\n{B},2020\n{C},2020\n{A},2020\n"
    server.pages["/api/export_metadata/mvco"] = table.encode()
    server.faults[f"/data/{A}.adc"] = ["500"]
    server.faults[f"/data/{A}.roi"] = ["short", "short"]
    server.faults[f"/data/{B}.roi"] = ["short"] * 10
    seen = []
    folder = fetch_dashboard(
        f"{server.url}/timeline?dataset=mvco", tmp_path / "out", FAST, lambda *n: seen.append(n)
    )

    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (folder / f"{A}.roi").read_bytes() == FILES[".roi"]
    assert not (folder / f"{B}.roi").exists()
    assert not list(folder.glob(".part*"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert Counter(f.lid for f in read_failures(folder)) == {hostile: 1, B: 1, C: 3}
    assert server.asked[f"/data/{C}.adc"] == 1  # 404 is not tried again

    found = ingest(folder)
    assert [f.sample for f in found if isinstance(f, Record)] == [A]
    refused = Counter(f.reason for f in found if isinstance(f, Rejected))
    assert refused == {"missing_file": 1 + 1 + 3}  # hostile line, the image of B, three files of C


def test_a_second_call_goes_on_where_the_first_stopped(server, tmp_path):
    server.add_bin(A)
    server.faults[f"/data/{A}.roi"] = ["500"] * 3
    fetch_dashboard(f"{server.url}/data/{A}", tmp_path, FAST)
    assert len(read_failures(tmp_path)) == 1
    fetch_dashboard(f"{server.url}/data/{A}", tmp_path, FAST)
    assert read_failures(tmp_path) == []
    assert (server.asked[f"/data/{A}.adc"], server.asked[f"/data/{A}.roi"]) == (1, 4)


@pytest.mark.parametrize("goal", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_stay_on_http(server, tmp_path, goal):
    server.add_bin(A)
    server.faults[f"/data/{A}.hdr"] = [f"to {goal}"] * 5
    fetch_dashboard(f"{server.url}/data/{A}", tmp_path, FAST)
    (failure,) = read_failures(tmp_path)
    assert "redirect" in failure.detail.lower()
    assert not (tmp_path / f"{A}.hdr").exists()


def test_redirect_to_http_is_followed(server, tmp_path):
    server.add_bin(A)
    server.faults[f"/data/{A}.hdr"] = [f"to {server.url}/data/{A}.hdr"]
    fetch_dashboard(f"{server.url}/data/{A}", tmp_path, FAST)
    assert (tmp_path / f"{A}.hdr").read_bytes() == FILES[".hdr"]


def test_a_file_over_the_cap_is_refused(server, tmp_path):
    server.add_bin(A)
    server.pages[f"/data/{A}.roi"] = bytes(5000)
    fetch_dashboard(f"{server.url}/data/{A}", tmp_path, FetchOptions(max_file_bytes=1000, retries=0))
    (failure,) = read_failures(tmp_path)
    assert "at most 1000 bytes" in failure.detail
    assert server.asked[f"/data/{A}.roi"] == 1


def test_a_silent_server_times_out(server, tmp_path):
    waiting = threading.Event()
    original = Handler.do_GET

    def silent(handler):
        waiting.wait(5)
        original(handler)

    Handler.do_GET = silent
    try:
        fetch_dashboard(f"{server.url}/data/{A}", tmp_path, FetchOptions(timeout_s=0.05, retries=0))
    finally:
        waiting.set()
        Handler.do_GET = original
    assert len(read_failures(tmp_path)) == 3
    assert "imed out" in read_failures(tmp_path)[0].detail


def test_no_list_of_bins_is_an_error(server, tmp_path):
    with pytest.raises(RuntimeError, match="HTTP 404"):
        fetch_dashboard(f"{server.url}/nothing", tmp_path, FAST)
    server.pages["/api/export_metadata/odd"] = b"name,other\n1,2\n"
    with pytest.raises(RuntimeError, match="column 'pid'"):
        fetch_dashboard(f"{server.url}/odd", tmp_path, FAST)


@pytest.mark.parametrize(
    ("url", "root", "lid", "table"),
    [
        (f"https://h/data/{A}.roi", "https://h/data/", A, None),
        (f"https://h/ifcb/data/{A}_00003.png", "https://h/ifcb/data/", A, None),
        (f"https://h/mvco/{A}.html", "https://h/mvco/", A, None),
        (f"https://h/timeline?dataset=x&bin={A}", "https://h/data/", A, None),
        ("https://h/timeline?dataset=mvco", "https://h/data/", None, "https://h/api/export_metadata/mvco"),
        ("https://h/mvco/", "https://h/data/", None, "https://h/api/export_metadata/mvco"),
        (
            "https://h/api/export_metadata/mvco?start_date=2020-01-01",
            "https://h/data/",
            None,
            "https://h/api/export_metadata/mvco?start_date=2020-01-01",
        ),
    ],
)
def test_urls(url, root, lid, table):
    target = _parse_url(url)
    assert (target.data_root, target.lid, target.table_url) == (root, lid, table)


NAMELESS = ["file:///data/x", "h/data/x", "https://h/", "https://h/timeline", "https://h/a b", "http:///x"]


@pytest.mark.parametrize("url", NAMELESS)
def test_urls_that_name_nothing(url, tmp_path):
    with pytest.raises(ValueError, match="a dashboard URL must"):
        fetch_dashboard(url, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"https://host/data/{A}.roi", A),
        (f"https://host/bin?bin={A}&dataset=mvco", A),
        ("https://host/timeline?dataset=mvco", "mvco"),
        ("https://host/sub/api/export_metadata/mvco?start_date=2024-01-01", "mvco"),
    ],
)
def test_the_name_a_url_means(url, name):
    assert dashboard_name(url) == name
