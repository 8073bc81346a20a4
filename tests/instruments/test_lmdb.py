"""LMDB readers: the release round trip, layouts and frames of others, the predecessor's form."""

import dataclasses
import io
import json
import multiprocessing
import pickle
import shutil
import sys
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from aqqua.instruments import lmdb as reader
from aqqua.instruments.image import EncodedImage
from aqqua.instruments.lmdb_frame import MAX_BYTES, pack_frame, unpack_frame
from aqqua.instruments.lmdb_release import METADATA_NAME, RELEASE_NAME, SCHEMA, write_release
from aqqua.instruments.record import Found, ReadOptions, Record, Rejected, RejectedInputError, Sample
from aqqua.instruments.tree import open_tree

blosc2 = pytest.importorskip("blosc2")
lmdb = pytest.importorskip("lmdb")

FULL = Record(
    object_id="B/1 ü.png",
    pixels=EncodedImage("x.png"),
    instrument="CPICS",
    um_per_px=12.5,
    sample="net 1",
    group="frame 1",
    time=datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
    lat=54.3,
    lon=-10.1,
    depth_m=12.0,
    volume_l=3.5,
    label="Calanus finmarchicus",
    label_status="validated",
    aphia_id=104464,
    licence="CC-BY-4.0",
    source="raw/x.png",
)
BARE = Record(
    object_id="A", pixels=EncodedImage("y.png"), instrument="unknown", um_per_px=None, sample="", group=""
)
GREY16 = (np.arange(35, dtype=np.uint16) * 1800).reshape(5, 7)
RGB = np.random.default_rng(0).integers(0, 255, (6, 4, 3), np.uint8)


def read(root: Path, **options) -> list[Found]:
    tree = open_tree(root)
    return list(reader.read(tree, reader.claim(tree), ReadOptions(**options)))


def records(found: list[Found]) -> list[Record]:
    return [f for f in found if isinstance(f, Record)]


def rejected(found: list[Found]) -> list[Rejected]:
    return [f for f in found if isinstance(f, Rejected)]


def reasons(found: list[Found]) -> Counter:
    return Counter(f.reason for f in rejected(found))


def write_lmdb(folder: Path, items: dict[bytes, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=1 << 24) as database, database.begin(write=True) as change:
        for key, value in items.items():
            change.put(key, value)


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((3, 5), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def test_release_round_trip(tmp_path):
    rows = [(FULL, GREY16), (BARE, RGB)]
    assert write_release(tmp_path / "release", iter(rows)) == 2
    written = sorted(p.name for p in (tmp_path / "release").iterdir())
    assert written == ["data.mdb", METADATA_NAME, RELEASE_NAME]
    found = read(tmp_path)
    assert not rejected(found)
    tree = pickle.loads(pickle.dumps(open_tree(tmp_path)))
    for (wrote, pixels), got in zip(rows, records(found), strict=True):
        loaded = pickle.loads(pickle.dumps(got.pixels)).load(tree)
        assert loaded.dtype == pixels.dtype
        np.testing.assert_array_equal(loaded, pixels)
        assert dataclasses.replace(got, pixels=wrote.pixels) == wrote
    counts = {(s.sample, s.images, s.volume_l) for s in found if isinstance(s, Sample)}
    assert counts == {("net 1", 1, 3.5), ("", 1, None)}


def test_options_come_before_the_table(tmp_path):
    write_release(tmp_path / "r", [(FULL, RGB)])
    (record,) = records(read(tmp_path, um_per_px=2.0, licence="CC0", instrument="ISIIS"))
    assert (record.um_per_px, record.licence, record.instrument) == (2.0, "CC0", "ISIIS")


def test_a_large_release_grows_its_map(tmp_path, monkeypatch):
    monkeypatch.setattr("aqqua.instruments.lmdb_release.FIRST_MAP_BYTES", 1 << 16)
    monkeypatch.setattr("aqqua.instruments.lmdb_release.WRITE_ROWS", 7)
    noise = np.random.default_rng(0).integers(0, 255, (100, 100), np.uint8)
    rows = [(dataclasses.replace(BARE, object_id=f"{n:03d}"), noise + np.uint8(n)) for n in range(40)]
    assert write_release(tmp_path / "r", rows) == 40
    got = records(read(tmp_path))
    np.testing.assert_array_equal(got[33].pixels.load(open_tree(tmp_path)), noise + np.uint8(33))


def _load(pixels, tree):
    return pixels.load(tree)


def test_loads_in_other_processes(tmp_path):
    write_release(tmp_path / "r", [(BARE, RGB)])
    tree = open_tree(tmp_path)
    (record,) = records(read(tmp_path))
    listing = reader.read(tree, reader.claim(tree), ReadOptions())
    next(listing)  # a listing still open, as when a pool starts in the middle of it
    record.pixels.load(tree)  # open here first: a fork must not use this handle
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(_load, (record.pixels, tree)), RGB)
    assert len([f for f in listing if isinstance(f, Sample)]) == 1
    np.testing.assert_array_equal(record.pixels.load(tree), RGB)


def test_a_release_written_anew_is_read_anew(tmp_path):
    for pixels in (RGB, GREY16):
        write_release(tmp_path / "r", [(BARE, pixels)])
        (record,) = records(read(tmp_path))
        np.testing.assert_array_equal(record.pixels.load(open_tree(tmp_path)), pixels)
        shutil.rmtree(tmp_path / "r")


@pytest.mark.parametrize(
    ("record", "pixels", "message"),
    [
        (BARE, GREY16.astype(np.float32), "uint8 or uint16"),
        (BARE, RGB[..., :2], "shape"),
        (BARE, np.zeros((0, 4), np.uint8), "shape"),
        (dataclasses.replace(BARE, object_id=""), RGB, "1 to 511 bytes"),
        (dataclasses.replace(BARE, object_id="ä" * 300), RGB, "1 to 511 bytes"),
    ],
)
def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, record, pixels, message):
    with pytest.raises(ValueError, match=message):
        write_release(tmp_path / "r", [(FULL, RGB), (record, pixels)])
    assert list(tmp_path.iterdir()) == []


def test_an_id_twice_or_a_folder_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="twice"):
        write_release(tmp_path / "r", [(FULL, RGB), (FULL, RGB)])
    write_release(tmp_path / "r", [(FULL, RGB)])
    with pytest.raises(FileExistsError, match="new folder"):
        write_release(tmp_path / "r", [(FULL, RGB)])


STRANGE = ['{"layout": "aqqua-release", "version": 2}', '{"layout": "x", "version": 1}', "[]", "\xff"]


@pytest.mark.parametrize("text", STRANGE)
def test_unknown_layouts_are_refused_by_name(tmp_path, text):
    write_release(tmp_path / "r", [(FULL, RGB)])
    (tmp_path / "r" / RELEASE_NAME).write_text(text, encoding="latin-1")
    (only,) = read(tmp_path)
    assert isinstance(only, Rejected)
    assert only.reason == "unsupported_format"
    assert "layout" in only.detail


def test_lmdb_of_unknown_form_is_refused(tmp_path):
    write_lmdb(tmp_path / "db", {b"k": b"v"})
    (only,) = rejected(read(tmp_path))
    assert only.reason == "unsupported_format"
    assert "release.json" in only.detail


def test_inside_a_zip_the_advice_is_to_unpack(tmp_path):
    write_release(tmp_path / "r", [(FULL, RGB)])
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        for file in (tmp_path / "r").iterdir():
            archive.write(file, f"r/{file.name}")
    (only,) = read(tmp_path / "r.zip")
    assert isinstance(only, Rejected)
    assert only.reason == "unsupported_format"
    assert "unpack" in only.detail


def test_table_and_database_must_agree(tmp_path):
    rows = [(dataclasses.replace(FULL, object_id=name), RGB) for name in "abcdef"]
    write_release(tmp_path / "r", rows)
    path = tmp_path / "r" / METADATA_NAME
    table = pq.read_table(path).to_pylist()
    table[0]["lat"] = 95.0
    table[1]["label_status"] = "sure"
    table[2]["object_id"] = "not there"
    table[3]["um_per_px"] = float("nan")
    table[4]["object_id"] = "f"
    pq.write_table(pa.Table.from_pylist(table, schema=SCHEMA), path)
    found = read(tmp_path)
    assert len(records(found)) == 1
    # c and e lost their rows; "f" stands in two.
    assert reasons(found) == {"bad_metadata": 3, "missing_image": 1, "duplicate_id": 1, "unlisted_image": 2}


@pytest.mark.parametrize("damage", ["missing", "bytes", "columns"])
def test_without_its_table_each_image_is_unlisted(tmp_path, damage):
    write_release(tmp_path / "r", [(FULL, RGB), (BARE, RGB)])
    path = tmp_path / "r" / METADATA_NAME
    if damage == "missing":
        path.unlink()
    elif damage == "bytes":
        path.write_bytes(path.read_bytes()[:-50])
    else:
        pq.write_table(pa.table({"object_id": ["A"]}), path)
    found = read(tmp_path)
    assert not records(found)
    assert reasons(found) == {"missing_file" if damage == "missing" else "bad_table": 1, "unlisted_image": 2}


@pytest.mark.parametrize("damage", ["short", "zero", "junk"])
def test_a_database_that_is_not_whole_is_never_opened(tmp_path, damage):
    write_release(tmp_path / "r", [(FULL, RGB)])
    path = tmp_path / "r" / "data.mdb"
    data = path.read_bytes()
    path.write_bytes({"short": data[:-4096], "zero": b"", "junk": b"x" * 9000}[damage])
    (only,) = read(tmp_path)
    assert isinstance(only, Rejected)
    assert only.reason == ("empty_file" if damage == "zero" else "bad_archive")


def frame_with(shape, dtype="|u1", kind="numpy") -> bytes:
    frame = blosc2.schunk_from_cframe(pack_frame(np.zeros((4, 4), np.uint8)), copy=True)
    frame.vlmeta["__pack_tensor__"] = (kind, shape, dtype)
    return frame.to_cframe()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "unreadable_image"),
        (b"\x80\x04N.", "unreadable_image"),
        (pack_frame(RGB)[:-30], "unreadable_image"),
        (blosc2.asarray(RGB).to_cframe(), "unreadable_image"),  # a frame, but without our shape
        (blosc2.pack_array(RGB), "unreadable_image"),  # an older packer: holds a pickle
        (blosc2.pack_array2(RGB.astype(np.float64)), "unsupported_image"),
        (blosc2.pack_array2(np.zeros(9, np.uint8)), "unsupported_image"),
        (blosc2.pack_array2(np.zeros((3, 3, 4), np.uint8)), "unsupported_image"),
        (frame_with((1 << 20, 1 << 20)), "image_too_large"),
        (frame_with((4, 5)), "unreadable_image"),  # more pixels than the frame holds
        (frame_with((-4, -4)), "unsupported_image"),
        (frame_with((4.0, 4.0)), "unsupported_image"),
        (frame_with((4, 4), dtype="|O"), "unsupported_image"),
        (frame_with((4, 4), dtype=[["f", "|u1"]]), "unsupported_image"),
        (frame_with((4, 4), kind="torch"), "unsupported_image"),
        (blosc2.zeros(MAX_BYTES + 1, dtype=np.uint8).to_cframe(), "image_too_large"),  # 400 MB from 200 bytes
    ],
)
def test_hostile_frames(frame, reason):
    with pytest.raises(RejectedInputError) as caught:
        unpack_frame(frame)
    assert caught.value.reason == reason


def test_any_blosc2_opens_our_frames():
    for pixels in (GREY16, RGB):
        np.testing.assert_array_equal(blosc2.unpack_array2(pack_frame(pixels)), pixels)
        np.testing.assert_array_equal(unpack_frame(blosc2.pack_array2(pixels)), pixels)


def test_frames_with_flipped_bytes_never_crash():
    rng = np.random.default_rng(1)
    good = pack_frame((np.arange(6000) // 9).astype(np.uint16).reshape(60, 100))
    for _ in range(500):
        frame = bytearray(good)
        for _ in range(rng.integers(1, 6)):
            frame[rng.integers(len(frame))] = rng.integers(256)
        try:
            assert unpack_frame(bytes(frame)).nbytes <= MAX_BYTES
        except RejectedInputError:
            continue


def test_predecessor_pairs_by_key_and_reads_labels_as_text(tmp_path):
    write_lmdb(tmp_path / "train_imgs", {b"a": png(1), b"b": png(2), b"c": png(3)})
    write_lmdb(tmp_path / "train_labels", {b"b": b"12", b"a": b"Copepoda\n", b"z": b"7"})
    write_lmdb(tmp_path / "train_metadata", {b"a": b"?"})
    found = read(tmp_path, um_per_px=5.0)
    tree = open_tree(tmp_path)
    got = {r.object_id: (r.label, r.label_status, int(r.pixels.load(tree)[0, 0])) for r in records(found)}
    assert got == {"a": ("Copepoda", "folder", 1), "b": ("12", "folder", 2), "c": (None, "unlabelled", 3)}
    assert {r.um_per_px for r in records(found)} == {5.0}
    (left,) = rejected(found)  # a label whose image is not there
    assert (left.reason, left.source) == ("missing_image", "train_labels/data.mdb#z")


def test_predecessor_given_as_the_folder_itself(tmp_path):
    write_lmdb(tmp_path / "images", {b"a": png(1)})
    assert len(records(read(tmp_path / "images"))) == 1


def test_predecessor_with_an_uncommitted_writer(tmp_path):
    write_lmdb(tmp_path / "x_images", {})
    (only,) = read(tmp_path)
    assert isinstance(only, Rejected)
    assert only.reason == "empty_file"
    assert "0 entries" in only.detail


def test_predecessor_oddities(tmp_path):
    write_lmdb(tmp_path / "a_imgs", {b"a": png(1), b"\xff\xfe": png(2), b"n": png(3)})
    write_lmdb(tmp_path / "a_labels", {b"a": b"\x0c\x00\x00\x00"})  # an integer, not text
    write_lmdb(tmp_path / "b_labels", {b"a": b"1"})
    found = read(tmp_path)
    assert [r.object_id for r in records(found)] == ["n"]
    assert reasons(found) == {"bad_metadata": 2, "missing_file": 1}


def test_predecessor_keeps_images_when_its_labels_are_broken(tmp_path):
    write_lmdb(tmp_path / "a_imgs", {b"a": png(1)})
    write_lmdb(tmp_path / "a_labels", {b"a": b"1"})
    (tmp_path / "a_labels" / "data.mdb").write_bytes(b"junk")
    found = read(tmp_path)
    assert [r.label for r in records(found)] == [None]
    assert reasons(found) == {"bad_archive": 1}


def test_predecessor_image_that_is_no_image(tmp_path):
    write_lmdb(tmp_path / "a_imgs", {b"a": b"not an image"})
    (record,) = records(read(tmp_path))
    with pytest.raises(RejectedInputError, match="unreadable_image"):
        record.pixels.load(open_tree(tmp_path))


def test_without_the_extra_the_message_says_what_to_install(tmp_path, monkeypatch):
    write_release(tmp_path / "r", [(BARE, RGB)])
    monkeypatch.setitem(sys.modules, "lmdb", None)
    (only,) = read(tmp_path)
    assert isinstance(only, Rejected)
    assert "pip install 'aqqua[release]'" in only.detail
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'aqqua\[release\]'"):
        write_release(tmp_path / "s", [(BARE, RGB)])


def test_release_json_counts(tmp_path):
    write_release(tmp_path / "r", [(FULL, RGB)])
    said = json.loads((tmp_path / "r" / RELEASE_NAME).read_text())
    assert said == {"layout": "aqqua-release", "version": 1, "images": 1}
