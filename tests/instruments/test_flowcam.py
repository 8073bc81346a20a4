"""FlowCam runs: boxes of collages, scale, volume, times, and rows that cannot be images."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from aqqua.instruments import flowcam
from aqqua.instruments.image import EncodedImage
from aqqua.instruments.record import ReadOptions, Record, Rejected, RejectedInputError, Sample
from aqqua.instruments.tree import open_tree

COLUMNS = ["id", "image_x", "image_y", "image_w", "image_h", "cal_const", "timestamp", "collage_file"]
CONTEXT = """[General]
LocationLatitude= 
RunStartTime=2024-04-08 08:14:01
[Vertex]
ListDir=C:\\VisualSpreadsheet
[Fluid]
CalibrationConstant=0.5544
"""
SUMMARY = """Run:
	Sample Volume Aspirated: 0.0829 ml
	Fluid Volume Imaged: 0.0174 ml
Date/Time:
	Start:  2024-04-08 10:14:01
"""


def lst(rows: list[str], version="017", columns=COLUMNS) -> bytes:
    head = [version, f"num-fields|{len(columns)}", *(f"{name}|double" for name in columns)]
    return "\n".join(head + rows).encode() + b"\n"


def row(at, x=0, y=0, w=3, h=2, cal="0.5544", collage="run_000001.tif") -> str:
    return f"{at}|{x}|{y}|{w}|{h}|{cal}|2024-04-08T10:14:11.131|{collage}"


def tif(height=10, width=20) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(height * width, dtype=np.uint8).reshape(height, width)).save(stream, "TIFF")
    return stream.getvalue()


def write(folder, files: dict[str, bytes]):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return open_tree(folder)


def run(rows, **files) -> dict[str, bytes]:
    base = {"run.lst": lst(rows), "run.ctx": CONTEXT.encode(), "run_000001.tif": tif()}
    return base | {"run_run_summary.txt": SUMMARY.encode()} | files


def read(tree, options=ReadOptions()):  # noqa: B008  (frozen)
    found = list(flowcam.read(tree, flowcam.claim(tree), options))
    kinds = [[f for f in found if isinstance(f, kind)] for kind in (Record, Sample, Rejected)]
    return kinds[0], kinds[1], kinds[2]


def test_a_row_is_a_box_of_its_collage(tmp_path):
    tree = write(tmp_path, run([row(7, x=4, y=5, w=3, h=2)]))
    records, samples, rejected = read(tree)
    assert rejected == []
    record = records[0]
    assert (record.object_id, record.sample, record.group) == ("run_7", "run", "run")
    assert record.um_per_px == 0.5544
    expected = np.arange(200, dtype=np.uint8).reshape(10, 20)[5:7, 4:7]
    np.testing.assert_array_equal(record.pixels.load(tree), expected)
    assert (samples[0].images, samples[0].triggers) == (1, 1)
    assert samples[0].volume_l == pytest.approx(0.0174e-3)


def test_local_times_become_utc_when_two_files_prove_the_offset(tmp_path):
    records, samples, _ = read(write(tmp_path / "a", run([row(1)])))
    assert records[0].time == datetime(2024, 4, 8, 8, 14, 11, 131000, tzinfo=UTC)
    assert samples[0].time == datetime(2024, 4, 8, 8, 14, 1, tzinfo=UTC)
    same = SUMMARY.replace("10:14:01", "08:14:01").encode()
    records, samples, _ = read(write(tmp_path / "b", run([row(1)], **{"run_run_summary.txt": same})))
    assert records[0].time is None
    assert samples[0].time is None


def test_masks_and_calibration_pictures_are_not_organisms(tmp_path):
    extra = {"run_000001_bin.tif": tif(), "cal_image_000001.tif": tif(), "run_000002.tif": tif()}
    records, _, rejected = read(write(tmp_path, run([row(1)], **extra)))
    assert len(records) == 1
    assert {r.source: r.reason for r in rejected} == {
        "run_000001_bin.tif": "not_an_organism",
        "cal_image_000001.tif": "not_an_organism",
        "run_000002.tif": "unlisted_image",
    }


def test_every_row_ends_once(tmp_path):
    rows = [
        row(1),
        row(1),  # the same id
        row(2, collage="run_000009.tif"),
        row(3, w=0),
        row(4, x=-1),
        row(5, x="a"),
        "6|0|0",
        "",
        row("", x=1),
        row(8, x=18),  # leaves the collage: known when it is opened
        row(9, collage="C:\\data\\RUN_000001.TIF"),
    ]
    tree = write(tmp_path, run(rows))
    records, samples, rejected = read(tree)
    assert [r.object_id for r in records] == ["run_1", "run_8", "run_9"]
    assert sorted(r.reason for r in rejected) == sorted(
        ["duplicate_id", "missing_image", "out_of_bounds", "out_of_bounds", *["bad_table"] * 3]
    )
    assert len(records) + len(rejected) == samples[0].triggers == 10
    assert samples[0].images == 3
    with pytest.raises(RejectedInputError) as refused:
        records[1].pixels.load(tree)
    assert refused.value.reason == "out_of_bounds"


def test_huge_numbers_do_no_harm(tmp_path):
    _, _, rejected = read(write(tmp_path, run([row(1, x="9" * 5000), row(2, w=999999999)])))
    assert [r.reason for r in rejected] == ["bad_table"]


@pytest.mark.parametrize(
    "table",
    [
        lst([row(1)], version="016"),
        b"015\n1|0|0|25|29|a.tif\n",
        lst([row(1)], columns=COLUMNS[:-1]),
        b"017\nnum-fields|65\nid|int32\n",
        b"017\nnum-fields|\xb2\n",
        b"017",
    ],
    ids=["version", "no_head", "no_collage", "cut_off", "superscript", "one_line"],
)
def test_older_or_broken_heads_are_bad_tables(tmp_path, table):
    records, samples, rejected = read(write(tmp_path, run([], **{"run.lst": table})))
    assert (records, samples) == ([], [])
    assert sorted(r.reason for r in rejected) == ["bad_table", "unlisted_image"]


def test_scale_is_of_the_context_then_of_the_row(tmp_path):
    records, samples, _ = read(write(tmp_path / "a", run([row(1, cal="0.9")])))
    assert records[0].um_per_px == 0.5544
    assert samples[0].facts["cal_const_differs"] == "0.9"
    without = run([row(1, cal="0.9")])
    del without["run.ctx"]
    records, _, rejected = read(write(tmp_path / "b", without))
    assert records[0].um_per_px == 0.9
    assert [r.reason for r in rejected] == ["missing_file"]


def test_scale_that_cannot_be_is_unknown(tmp_path):
    wrong = CONTEXT.replace("0.5544", "-1").encode()
    records, _, rejected = read(write(tmp_path, run([row(1, cal="0")], **{"run.ctx": wrong})))
    assert records[0].um_per_px is None
    assert [r.reason for r in rejected] == ["bad_metadata"]


@pytest.mark.parametrize(
    ("summary", "litres"),
    [
        ("Fluid Volume Imaged: 289.6065 ml", 0.2896065),
        ("Fluid Volume Imaged: 289.6065", None),  # no unit: unknown
        ("Fluid Volume Imaged: 0.0 ml", None),
        ("Sample Volume Processed: 0.0785 ml", None),  # not the volume the counts stand for
    ],
)
def test_volume_needs_its_unit(tmp_path, summary, litres):
    _, samples, _ = read(write(tmp_path, run([row(1)], **{"run_run_summary.txt": summary.encode()})))
    assert samples[0].volume_l == (None if litres is None else pytest.approx(litres))


def test_copies_of_a_run_have_the_same_ids_so_that_the_store_keeps_one(tmp_path):
    files = {f"{folder}/{name}": data for folder in "ab" for name, data in run([row(1)]).items()}
    records, _, rejected = read(write(tmp_path, files))
    assert [r.object_id for r in records] == [records[0].object_id] * 2
    assert not rejected


def test_lists_of_other_programs_are_not_claimed(tmp_path):
    assert flowcam.claim(write(tmp_path, {"files.lst": b"a.png\nb.png\n", "a.tif": tif()})) == frozenset()


def test_real_run(real_data):
    """872 and 128 particles in two collages; all there; 1000 / 0.01737 ml = 57,555 per ml (summary)."""
    tree = open_tree(real_data / "flowcam-vickot.zip")
    records, samples, rejected = read(tree)
    assert len(records) == len({r.object_id for r in records}) == 1000
    collages = [r.pixels.member[-10:] for r in records]
    assert (collages.count("000001.tif"), collages.count("000002.tif")) == (872, 128)
    assert {r.um_per_px for r in records} == {0.5544}
    assert [r.reason for r in rejected] == ["not_an_organism"] * 3
    assert len(samples) == 1
    assert samples[0].volume_l == pytest.approx(0.01737e-3)
    assert samples[0].images / (samples[0].volume_l * 1e3) == pytest.approx(57555, rel=1e-3)
    assert all("classes/" not in name for name in flowcam.claim(tree))
    for record in records:
        top, left, bottom, right = record.pixels.box
        pixels = record.pixels.load(tree)
        assert pixels.shape == (bottom - top, right - left, 3)
        assert pixels.dtype == np.uint8
    sizes = np.array(
        [(r.pixels.box[3] - r.pixels.box[1], r.pixels.box[2] - r.pixels.box[0]) for r in records]
    )
    assert sizes.min(axis=0).tolist() == [12, 14]  # Image Width and Height, Min and Max, of summary.csv
    assert sizes.max(axis=0).tolist() == [117, 105]


def test_damaged_list_never_raises_and_loses_no_picture(tmp_path):
    """Cut anywhere, the collage still comes out: in a record, or as an unlisted image."""
    whole = lst([row(1), row(2, x=4)])
    tree = write(tmp_path, run([row(1)]))
    for at in range(4, len(whole)):
        (tmp_path / "run.lst").write_bytes(whole[:at])
        found = list(flowcam.read(open_tree(tmp_path), frozenset(tree.members), ReadOptions()))
        pixels = [f.pixels for f in found if isinstance(f, Record)]
        named = {source.member for source in pixels if isinstance(source, EncodedImage)}
        named |= {f.source for f in found if isinstance(f, Rejected) and f.reason == "unlisted_image"}
        assert "run_000001.tif" in named
