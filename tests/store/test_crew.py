"""Worker processes: a hostile image costs itself, and no row is lost or doubled when a worker is."""

from collections import Counter

import pyarrow.parquet as pq
import pytest
from made_images import NoiseFile, an_input, record

from aqqua.store import crew
from aqqua.store.decode import Decoder, Decoding
from aqqua.store.read import Dataset
from aqqua.store.verify import verify
from aqqua.store.write import ingest


def ids_of(folder):
    return sorted(Dataset.open(folder).table(["image_id"])["image_id"].to_pylist())


def ingest_with(tmp_path, kinds, count, **options):
    """Ingest `count` images, some of a kind of their own, and check that each comes out once."""
    found = [record(i, pixels=NoiseFile(i, kinds.get(i, "any"))) for i in range(count)]
    report = ingest([an_input(found)], tmp_path / "d", block_rows=64, **options)
    refused = pq.read_table(tmp_path / "d" / "quarantine.parquet").to_pylist()
    assert (report.read, report.accepted) == (count, count - len(refused))
    gone = {int(row["source"].removeprefix("folder/image").removesuffix(".png")) for row in refused}
    assert ids_of(tmp_path / "d") == sorted(f"cruise/image{i}" for i in range(count) if i not in gone)
    assert verify(tmp_path / "d", deep=True) == []
    return refused


def test_only_the_images_that_kill_their_worker_are_refused(tmp_path):
    kinds = {5: "broken", 300: "dies", 301: "dies", 1100: "dies"}
    refused = ingest_with(tmp_path, kinds, 1300, workers=2)
    assert Counter((row["source"], row["reason"], row["detail"]) for row in refused) == {
        ("folder/image5.png", "unreadable_image", "made to fail"): 1,
        ("folder/image300.png", "unreadable_image", "decoder died"): 1,
        ("folder/image301.png", "unreadable_image", "decoder died"): 1,
        ("folder/image1100.png", "unreadable_image", "decoder died"): 1,
    }


def test_an_image_that_hangs_its_decoder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "CHUNK_LIMIT_S", 2.0)
    monkeypatch.setattr(crew, "RECORD_LIMIT_S", 2.0)
    (refused,) = ingest_with(tmp_path, {270: "hangs"}, 300)  # all cores
    assert (refused["source"], refused["detail"]) == ("folder/image270.png", "took over 2 s")


def test_the_bytes_do_not_tell_that_workers_were_lost(tmp_path):
    good = [record(i) for i in range(900) if i != 400]
    ingest([an_input(good)], tmp_path / "good", block_rows=64, workers=1)
    ingest_with(tmp_path, {400: "dies"}, 900, workers=2)
    parts = [(tmp_path / name / "part-00000.parquet").read_bytes() for name in ("good", "d")]
    assert parts[0] == parts[1]


def test_one_small_chunk_is_guarded_too_unless_asked_not_to(tmp_path):
    (refused,) = ingest_with(tmp_path, {3: "dies"}, 10)
    assert refused["detail"] == "decoder died"


def test_files_that_are_kept_are_decoded_under_guard_too(tmp_path):
    refused = ingest_with(tmp_path, {5: "broken", 280: "dies"}, 300, workers=2, keep_encoded=True)
    assert sorted(row["detail"] for row in refused) == ["decoder died", "made to fail"]
    kept = Dataset.open(tmp_path / "d").manifest["encoded"]
    assert {name: facts["images"] for name, facts in kept.items()} == {"PNG": 200, "TIFF": 48}


def test_a_file_is_cut_to_what_its_worker_vouched_for(tmp_path):
    worker = object.__new__(crew._Worker)
    decoder, (tree, _) = Decoder(tmp_path, "w0", Decoding(seed=0)), an_input([])
    decoder.decode(tree, [record(i) for i in range(3)])
    assert decoder.safe_files() is None  # rows are still held
    decoder.flush()
    worker.files = decoder.safe_files()
    assert sum(file.rows for file in worker.files) == 3
    good = {file.path: file.path.read_bytes() for file in worker.files}
    decoder.decode(tree, [record(i) for i in range(3, 300)])
    decoder.flush()
    (tmp_path / "w00-01.arrows").write_bytes(b"another worker's")
    worker._folder, worker._name = tmp_path, "w0"
    assert {file.path for file in worker.cut_files()} == set(good)
    left = {path: path.read_bytes() for path in tmp_path.glob("w0-*")}
    assert left == good
    assert (tmp_path / "w00-01.arrows").exists()


def test_workers_that_die_with_nothing_gained_end_the_ingest(tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "FRUITLESS", 0)
    found = [record(i, "dies" if i == 300 else "any") for i in range(600)]
    with pytest.raises(RuntimeError, match=r"workers must stay alive, got exit code 9 .* try fewer workers"):
        ingest([an_input(found)], tmp_path / "d", workers=2)
    assert list(tmp_path.iterdir()) == []


def _cannot_start(*_args):
    raise SystemExit(3)


def test_a_worker_that_cannot_start_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "_serve", _cannot_start)
    with pytest.raises(RuntimeError, match=r"a worker process must start, got exit code 3 .*__main__"):
        ingest([an_input([record(0)])], tmp_path / "d")
    assert list(tmp_path.iterdir()) == []
