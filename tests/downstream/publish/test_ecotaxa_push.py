"""Predictions to a server of EcoTaxa: a stub that answers, refuses, fails and is silent."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa
import pytest

from aqqua.downstream.predictions import Predictions
from aqqua.downstream.publish import ecotaxa_api
from aqqua.downstream.publish.ecotaxa_api import Patience, Server, require_safe, token_from_environment
from aqqua.downstream.publish.ecotaxa_columns import object_id
from aqqua.downstream.publish.ecotaxa_ids import load_ecotaxa_ids
from aqqua.downstream.publish.ecotaxa_push import push

pytest.importorskip("httpx")
IDS = {"Calanoida": 45074, "Copepoda (egg)": 85061}  # detritus has none
TOKEN = "a-secret-token"


class Stub:
    """A server with the objects of one project; `failures` are told first, one a call."""

    def __init__(self, names):
        self.numbers = {name: 1000 + i for i, name in enumerate(names)}
        self.failures, self.calls, self.taken = [], [], {}
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                stub.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/api"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, call):
        body = json.loads(call.rfile.read(int(call.headers["Content-Length"])))
        parts = urlsplit(call.path)
        self.calls.append(parts.path)
        status, found = 200, None
        if call.headers["Authorization"] != f"Bearer {TOKEN}":
            status = 401
        elif self.failures:
            failure = self.failures.pop(0)
            if failure == "silent":
                time.sleep(0.5)
                return
            status = failure
        elif parts.path.endswith("/7/query"):
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            start, size = int(query["window_start"]), int(query["window_size"])
            page = list(self.numbers.items())[start : start + size]
            assert query["fields"] == "obj.orig_id"
            found = {
                "object_ids": [n for _, n in page],
                "details": [[name] for name, _ in page],
                "total_ids": 1,
            }
        elif parts.path.endswith("/classify_auto_multiple"):
            assert set(body) == {"target_ids", "classifications", "scores", "keep_log"}
            rows = zip(body["target_ids"], body["classifications"], body["scores"], strict=True)
            self.taken |= {number: (classes, scores) for number, classes, scores in rows}
            found = len(body["target_ids"])
        else:
            status = 404
        data = json.dumps(found).encode()
        call.send_response(status)
        call.send_header("Content-Length", str(len(data)))
        call.end_headers()
        call.wfile.write(data)


@pytest.fixture
def names(made):
    return [
        object_id(row) for table in Predictions.open(made.predictions).batches() for row in table.to_pylist()
    ]


@pytest.fixture
def stub(names):
    found = Stub(names[:-2])  # two images are not in the project
    yield found
    found.close()


@pytest.fixture
def run(stub, made, tmp_path):
    waits = []

    def go(token=TOKEN, **changes):
        patience = Patience(tries=3, timeout_s=0.2)
        given = {
            "connect": lambda: Server(stub.url, token, patience, waits.append),
            "journal": tmp_path / "journal.jsonl",
            "batch": 3,
        }
        ids = changes.pop("ids", IDS)
        return push(made.predictions, 7, ids, stub.url, **{**given, **changes})

    go.waits = waits
    return go


def test_objects_get_their_best_classes(run, stub, made, names):
    done = run(best=2)
    assert done.told == done.changed == len(stub.taken) > 5
    assert done.told + done.not_in_project + done.without_category == made.dataset.rows
    table = pa.concat_tables(Predictions.open(made.predictions).batches())
    for name, row in zip(names, table.to_pylist(), strict=True):
        if name not in stub.numbers or stub.numbers[name] not in stub.taken:
            continue
        classes, scores = stub.taken[stub.numbers[name]]
        best = sorted(zip(row["scores"], (45074, 85061, None), strict=True), key=lambda pair: -pair[0])[:2]
        assert list(zip(scores, classes, strict=True)) == [(float(s), c) for s, c in best if c is not None]


def test_pages_of_objects(run, stub, monkeypatch):
    monkeypatch.setattr(ecotaxa_api, "WINDOW", 5)
    run()
    assert stub.calls.count("/api/object_set/7/query") == len(stub.numbers) // 5 + 1


@pytest.mark.parametrize("best", [1, 5])
def test_a_loser_is_never_told_where_the_winner_has_no_category(run, stub, made, names, best):
    done = run(ids={"Calanoida": 45074}, best=best)
    table = pa.concat_tables(Predictions.open(made.predictions).batches())
    won = [name for name, row in zip(names, table.to_pylist(), strict=True) if np.argmax(row["scores"]) == 0]
    assert 0 < len(won) < len(names)
    assert stub.taken.keys() == {stub.numbers[name] for name in won if name in stub.numbers}
    assert {tuple(classes) for classes, _ in stub.taken.values()} == {(45074,)}
    assert done.without_category == len(names) - len(won)


def test_a_dry_run_changes_nothing(run, stub, tmp_path):
    done = run(dry_run=True)
    assert not (tmp_path / "journal.jsonl").exists()
    assert done.told > 5
    assert (done.changed, stub.taken) == (0, {})
    assert run().changed == done.told  # nothing was noted as done


def test_busy_servers_are_asked_again(run, stub):
    stub.failures = [500, "silent", 503]
    with pytest.raises(RuntimeError, match="must answer, got status 503 3 times"):
        run()
    assert run.waits == [1.0, 2.0]  # doubled, and none after the last try
    assert run().changed > 5


def test_a_refused_token_ends_at_once(run, stub, tmp_path):
    with pytest.raises(ValueError, match=r"ECOTAXA_TOKEN must be allowed .* got status 401") as error:
        run(token="another")
    assert len(stub.calls) == 1
    assert not (tmp_path / "journal.jsonl").exists()  # it would stand in the way of other categories
    assert "another" not in str(error.value)


def test_other_refusals_say_what_the_server_said(run, stub):
    stub.failures = [422]
    with pytest.raises(RuntimeError, match="got status 422: 'null'"):
        run()


def test_a_push_goes_on_where_it_was(run, stub, tmp_path):
    taken = []
    real = Server.classify

    def breaks(self, objects, *rest):
        if len(taken) == 2:
            raise RuntimeError("the network went away")
        taken.extend([1])
        return real(self, objects, *rest)

    Server.classify = breaks
    try:
        with pytest.raises(RuntimeError, match="went away"):
            run()
    finally:
        Server.classify = real
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"bat')  # cut off while writing
    first, stub.calls = dict(stub.taken), []
    done = run()
    assert done.told_before == len(first)
    assert done.changed == done.told == len(stub.taken) - len(first)
    again = run()
    assert (again.told, again.changed, again.told_before) == (0, 0, len(stub.taken))


def test_a_journal_of_another_push_is_refused(run):
    run()
    for other in ({"best": 2}, {"ids": {**IDS, "Calanoida": 1}}, {"ids": {"Calanoida": 1}, "dry_run": True}):
        with pytest.raises(ValueError, match="journal must be of this push"):
            run(**other)
    again = run(ids=dict(reversed(IDS.items())), batch=5)  # the same push in another order
    assert (again.told, again.changed) == (0, 0)


def test_objects_that_come_later_are_told(run, stub):
    everyone, stub.numbers = stub.numbers, dict(list(stub.numbers.items())[:5])
    first = run(batch=1000)
    stub.numbers = everyone
    second = run(batch=1000)
    assert 0 < first.told <= 5
    assert second.told_before == first.told
    assert first.told + second.told == len(stub.taken) > 5


def test_a_journal_only_grows_past_a_torn_line(run, stub, tmp_path):
    run()
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    torn = "".join(lines[:-1]) + lines[-1][:9]
    journal.write_text(torn)
    lost = len(json.loads(lines[-1])["told"])
    assert run().told == lost
    assert journal.read_text().startswith(torn)
    assert run().told == 0
    journal.write_text(lines[0][:20])  # not even the first line is whole
    assert run().told == len(stub.taken)
    assert run().told == 0
    for strange in ("mine", "mine\n", '["mine"]\n'):
        journal.write_text(strange)
        with pytest.raises(ValueError, match="journal must be of this push"):
            run()
        assert journal.read_text() == strange


@pytest.mark.parametrize(
    "server", ["http://ecotaxa.obs-vlfr.fr/api", "ftp://localhost", "https://", "localhost:80"]
)
def test_the_token_never_travels_in_the_clear(server):
    with pytest.raises(ValueError, match="must be an https address"):
        require_safe(server)


def test_the_token_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("ECOTAXA_TOKEN", raising=False)
    with pytest.raises(ValueError, match="ECOTAXA_TOKEN must hold your token"):
        token_from_environment()
    monkeypatch.setenv("ECOTAXA_TOKEN", " x\n")
    assert token_from_environment() == "x"


def test_categories_from_a_file(tmp_path, made, stub):
    path = tmp_path / "ids.yaml"
    path.write_text("Calanoida: 45074\n")
    assert load_ecotaxa_ids(path) == {"Calanoida": 45074}
    path.write_text("Calanoida: many\n")
    with pytest.raises(ValueError, match="got 'many' at Calanoida"):
        load_ecotaxa_ids(path)
    path.write_text("a: [")
    with pytest.raises(ValueError, match="must be a readable YAML file"):
        load_ecotaxa_ids(path)
    with pytest.raises(ValueError, match="must have a category of EcoTaxa, got none for 'Calanoida'"):
        push(made.predictions, 7, {"x": 1}, stub.url, connect=lambda: None, journal=tmp_path / "j")
