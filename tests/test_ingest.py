"""From paths and URLs to one dataset: separate downloads, notes before the work, ids kept once."""

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from aqqua.ingest import ingest_paths
from aqqua.instruments.record import ReadOptions

A, B, C = (f"D20200102T03040{n}_IFCB107" for n in (5, 6, 7))
ROW = ",".join(["0"] * 15 + ["2", "2", "0"] + ["0"] * 4 + ["600", "60"]) + "\n"


def files(lid: str, value: int) -> dict[str, bytes]:
    header = b"sampleTime: 2020-01-02T03:04:05Z\nrunTime: 600\ninhibitTime: 60\n"
    texts = {".hdr": header, ".adc": ROW.encode(), ".roi": bytes([value, 2, 3, 4])}
    return {f"/data/{lid}{suffix}": data for suffix, data in texts.items()}


@pytest.fixture
def dashboard() -> Iterator[str]:
    """A dashboard with dataset `mvco` of bins A and B, where B's images are lost, and bin C."""
    pages = {"/api/export_metadata/mvco": f"pid\n{A}\n{B}\n".encode()}
    pages |= files(A, 1) | files(B, 20) | files(C, 30)
    del pages[f"/data/{B}.roi"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def rows(dataset: Path) -> list[dict[str, object]]:
    parts = sorted(dataset.glob("part-*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def quarantine(dataset: Path) -> list[tuple[str, str, str]]:
    table = pq.read_table(dataset / "quarantine.parquet").to_pylist()
    return sorted((row["input"], row["source"], row["reason"]) for row in table)


def test_two_dashboards_keep_their_bins_and_failures_apart(dashboard: str, tmp_path: Path) -> None:
    urls = [f"{dashboard}/timeline?dataset=mvco", f"{dashboard}/bin?bin={C}"]
    seen: list[tuple[str, int, int | None]] = []
    report = ingest_paths(
        urls, tmp_path / "d", ReadOptions(), workers=1, progress=lambda *at: seen.append(at)
    )

    assert (report.read, report.accepted, report.quarantined) == (3, 2, 1)
    assert {row["image_id"] for row in rows(tmp_path / "d")} == {f"mvco/{A}_00001", f"{C}/{C}_00001"}
    # The row of the .adc whose .roi did not come, and nothing of it under the other URL.
    assert {(where, reason) for where, _, reason in quarantine(tmp_path / "d")} == {("mvco", "missing_file")}
    assert [at for at in seen if at[0] == "download"] == [
        ("download", 1, 2), ("download", 2, 2), ("download", 1, 1),
    ]  # fmt: skip
    names = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "d.download").iterdir())
    assert names == [C, "mvco"]


def test_a_retry_with_another_url_has_no_bins_of_the_first(dashboard: str, tmp_path: Path) -> None:
    out = tmp_path / "d"
    ingest_paths([f"{dashboard}/timeline?dataset=mvco"], out, ReadOptions(), workers=1)
    out.rename(tmp_path / "first")
    ingest_paths([f"{dashboard}/data/{C}"], out, ReadOptions(), workers=1)
    assert {row["image_id"] for row in rows(out)} == {f"{C}/{C}_00001"}
    assert quarantine(out) == []


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5), value, np.uint8)).save(path)


def ingest_one(tmp_path: Path, name: str) -> tuple[str, list[str]]:
    """The instrument stored for a name the user gives, and the notes, which must come before all work."""
    picture(tmp_path / "in" / "a.png", 7)
    events: list[str] = []
    ingest_paths(
        [str(tmp_path / "in")], tmp_path / "d", ReadOptions(instrument=name), workers=1, note=events.append,
        progress=lambda *_: events.append("work"),
    )  # fmt: skip
    notes = [event for event in events if event != "work"]
    assert events[: len(notes)] == notes
    return str(rows(tmp_path / "d")[0]["instrument"]), notes


@pytest.mark.parametrize(("given", "stored"), [("ifcb", "IFCB"), ("zoocam", "ZooCAM"), ("UVP6", "UVP6")])
def test_an_instrument_is_known_in_any_case(tmp_path: Path, given: str, stored: str) -> None:
    assert ingest_one(tmp_path, given) == (stored, [])


def test_the_scale_of_an_instrument_in_the_wrong_case_is_kept(tmp_path: Path) -> None:
    ingest_one(tmp_path, "ifcb")
    assert rows(tmp_path / "d")[0]["um_per_px"] == pytest.approx(1 / 3.4)


@pytest.mark.parametrize(("given", "said"), [("UPV6", "did you mean UVP"), ("xq", "known are CPICS")])
def test_an_unlisted_instrument_is_kept_and_spoken_of(tmp_path: Path, given: str, said: str) -> None:
    stored, (note,) = ingest_one(tmp_path, given)
    assert stored == given
    assert given in note
    assert said in note


def test_an_image_id_is_taken_once_in_a_whole_input(tmp_path: Path) -> None:
    for folder, value in (("a", 1), ("b", 2)):
        for suffix, data in files(A, value).items():
            path = tmp_path / "in" / folder / Path(suffix).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    table = "object_id\timg_file_name\n" + "".join(f"{A}_00001\t{n}.png\n" for n in "c")
    picture(tmp_path / "in" / "c" / "c.png", 3)
    (tmp_path / "in" / "c" / "ecotaxa.tsv").write_text(table)
    report = ingest_paths([str(tmp_path / "in")], tmp_path / "d", ReadOptions(), workers=1)
    assert report.accepted == 1
    assert Counter(reason for _, _, reason in quarantine(tmp_path / "d")) == {"duplicate_id": 2}


def test_inputs_of_one_name_get_different_labels(tmp_path: Path) -> None:
    names = ("x/in", "y/in", "z/in~2")
    for value, name in enumerate(names):
        picture(tmp_path / name / "a.png", value + 10)
    ingest_paths([str(tmp_path / name) for name in names], tmp_path / "d", ReadOptions(), workers=1)
    ids = {str(row["image_id"]) for row in rows(tmp_path / "d")}
    assert ids == {"in/a.png", "in~2/a.png", "in~2~2/a.png"}


def test_mistakes_are_told_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must name a bin or a dataset"):
        ingest_paths(["https://host.invalid/../x y"], tmp_path / "d", ReadOptions())
    with pytest.raises(FileNotFoundError, match="must exist"):
        ingest_paths(["https://host.invalid/mvco", str(tmp_path / "gone")], tmp_path / "d", ReadOptions())
    assert not (tmp_path / "d.download").exists()
