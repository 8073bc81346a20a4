"""IFCB reader: real bins of both styles, and synthetic bins for what goes wrong in the field."""

import pickle
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from aqqua.instruments import ifcb
from aqqua.instruments.ifcb_header import parse_header
from aqqua.instruments.image import RawRaster
from aqqua.instruments.record import Found, ReadOptions, Record, Rejected, Sample
from aqqua.instruments.tree import open_tree

NEW = "D20200102T030405_IFCB107"
OLD = "IFCB1_2010_032_040506"
HEADER = "sampleTime: 2020-01-02T03:04:05Z\nrunTime: 600.0\t\ninhibitTime: 60.0\nrunType: NORMAL\n"


def new_row(width=0, height=0, start=0, run=600.0, inhibit=60.0) -> str:
    fields = ["0"] * 24
    fields[15:18] = str(width), str(height), str(start)
    fields[22:24] = str(run), str(inhibit)
    return ",".join(fields)


def old_row(width, height, start, trigger=1) -> str:
    return f"{trigger},.31,.06,-.61,-.17,-3.6,-.29,0,.25,202,673,{width},{height},{start},-.27,"


def write_bin(
    folder: Path, lid: str, rows: list[str], roi: bytes | None, header: str | None = HEADER
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{lid}.adc").write_text("".join(f"{row}\n" for row in rows))
    if roi is not None:
        (folder / f"{lid}.roi").write_bytes(roi)
    if header is not None:
        (folder / f"{lid}.hdr").write_text(header)


def read(root: Path, **options) -> list[Found]:
    tree = open_tree(root)
    return list(ifcb.read(tree, ifcb.claim(tree), ReadOptions(**options)))


def records(found: list[Found]) -> list[Record]:
    return [f for f in found if isinstance(f, Record)]


def samples(found: list[Found]) -> list[Sample]:
    return [f for f in found if isinstance(f, Sample)]


def reasons(found: list[Found]) -> Counter:
    return Counter(f.reason for f in found if isinstance(f, Rejected))


@pytest.mark.parametrize(
    ("folder", "lid", "rows", "images", "target"),
    [
        ("pyifcb-testdata/white", "D20130526T095207_IFCB013", 118, 19, 7),
        ("pyifcb-testdata/data/2012", "IFCB5_2012_028_081515", 7, 6, 2),
        ("smhi-ifcb134/bins", "D20220519T124533_IFCB134", 18, 17, 2),
    ],
)
def test_real_bin(real_data, folder, lid, rows, images, target):
    root = real_data / "ifcb" / folder
    found = read(root)
    tree = open_tree(root)
    assert not reasons(found)
    (sample,) = samples(found)
    assert (sample.sample, sample.images, sample.triggers) == (lid, images, rows)
    assert len(records(found)) == images

    record = next(r for r in records(found) if r.object_id == f"{lid}_{target:05d}")
    path = next(root.rglob(f"{lid}.roi"))
    fields = path.with_suffix(".adc").read_text().splitlines()[target - 1].split(",")
    at = 11 if lid.startswith("I") else 15
    width, height, start = (int(f) for f in fields[at : at + 3])
    by_hand = np.frombuffer(path.read_bytes()[start : start + width * height], np.uint8).reshape(
        height, width
    )
    np.testing.assert_array_equal(record.pixels.load(tree), by_hand)
    assert record.group == record.sample == lid
    assert record.um_per_px == pytest.approx(1 / 3.4)
    # ROIs end to end: the last ends where the .roi does (old style: one byte later).
    last = records(found)[-1].pixels
    assert isinstance(last, RawRaster)
    assert path.stat().st_size - (last.offset + last.height * last.width) == (1 if at == 11 else 0)


def test_old_bin_is_not_shifted_by_its_pad_byte(real_data):
    root = real_data / "ifcb" / "pyifcb-testdata" / "data" / "2012"
    first = records(read(root))[0]
    assert isinstance(first.pixels, RawRaster)
    assert first.pixels.offset == 1
    pixels = first.pixels.load(open_tree(root)).astype(int)
    # A row shifted by one pixel would put its first column beside the last of the row above.
    assert np.abs(np.diff(pixels, axis=0)).mean() < 10


def test_real_volumes(real_data):
    found = {s.sample: s for s in samples(read(real_data / "ifcb"))}
    smhi = found["D20220519T124533_IFCB134"]
    assert smhi.volume_l == pytest.approx(0.25 * (1003.4138888888889 - 1.4629383680555557) / 60 / 1000)
    assert smhi.facts["run_time_from"] == "header"
    # The header's run time is 4 % over the last row's: over the 2 % tolerance, the rows are taken.
    white = found["D20130526T095207_IFCB013"]
    assert white.volume_l == pytest.approx(0.25 * (1184.037103 - 11.622980) / 60 / 1000)
    assert white.facts["run_time_from"] == "adc"
    assert found["IFCB5_2012_028_081515"].volume_l is None


def test_real_folder_of_oddities_is_fully_accounted_for(real_data):
    found = read(real_data / "ifcb" / "pyifcb-testdata")
    assert len(records(found)) == 25
    # partial/ lists 6 images without a .roi; invalid/ and data/skip/ are all zero: .hdr and .adc each.
    assert reasons(found) == {"missing_file": 6, "empty_file": 4}
    empty = {s.sample: s.images for s in samples(found) if s.triggers == 0}
    assert empty == {"D20150411T205456_IFCB012": 0, "IFCB5_2017_001_033645": 0}


def test_a_bin_copied_elsewhere_is_a_duplicate(real_data):
    found = read(real_data / "ifcb")
    assert len(records(found)) == 25 + 17
    assert reasons(found)["duplicate_id"] == 6
    assert reasons(found)["not_an_organism"] == 5  # the masks of ifcb-features-golden
    assert len({r.object_id for r in records(found)}) == 42
    assert Counter(s.sample for s in samples(found)).most_common(1)[0][1] == 1


def test_zip_reads_as_the_folder_does(tmp_path):
    write_bin(tmp_path / "a", NEW, [new_row(3, 2, 0), new_row(), new_row(2, 2, 6)], bytes(range(10)))
    with zipfile.ZipFile(tmp_path / "bin.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (tmp_path / "a").iterdir():
            archive.write(file, f"D2020/{file.name}")
    found = read(tmp_path / "bin.zip")
    assert [r.object_id for r in records(found)] == [f"{NEW}_00001", f"{NEW}_00003"]
    tree = pickle.loads(pickle.dumps(open_tree(tmp_path / "bin.zip")))
    np.testing.assert_array_equal(records(found)[1].pixels.load(tree), [[6, 7], [8, 9]])


def test_record_says_what_header_and_options_say(tmp_path):
    header = HEADER + "gpsLatitude: 57.5\ngpsLongitude: 11.25\n"
    write_bin(tmp_path, NEW, [new_row(1, 1, 0)], b"\x07", header)
    (record,) = records(read(tmp_path, um_per_px=0.36, licence="CC0"))
    assert (record.lat, record.lon, record.um_per_px, record.licence) == (57.5, 11.25, 0.36, "CC0")
    assert record.time == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert record.volume_l == pytest.approx(0.25 * 9 / 1000)
    assert record.instrument == "IFCB"
    assert record.source == f"{NEW}.adc#1"


def test_rows_that_cannot_be_images(tmp_path):
    rows = [
        new_row(2, 2, 0),
        "a,b,c",
        new_row(-5, 4, 0),
        new_row(2, 2, 2),  # the last two bytes are not there
        new_row(2, 2, 99),
        new_row(2, 2, -1),
        new_row(100_000, 100_000, 0),
        new_row("nan", 2, 0),
        new_row("inf", 2, 0),
        new_row(1.5, 2, 0),
        "\0" * 40,
        new_row(0, 7, 3),
    ]
    write_bin(tmp_path, NEW, rows, bytes(4))
    found = read(tmp_path)
    assert [r.object_id for r in records(found)] == [f"{NEW}_00001"]
    assert reasons(found) == {
        "bad_table": 5,
        "bad_metadata": 1,
        "truncated_image": 1,
        "out_of_bounds": 2,
        "image_too_large": 1,
    }
    (sample,) = samples(found)
    assert (sample.images, sample.triggers) == (6, 12)


def test_truncated_roi_keeps_what_is_whole(tmp_path):
    write_bin(tmp_path, NEW, [new_row(2, 2, 0), new_row(2, 2, 4), new_row(2, 2, 8)], bytes(6))
    found = read(tmp_path)
    assert len(records(found)) == 1
    assert reasons(found) == {"truncated_image": 1, "out_of_bounds": 1}


def test_missing_companions(tmp_path):
    rows = [new_row(1, 1, 0, run=600, inhibit=0), new_row()]
    write_bin(tmp_path / "no_hdr", NEW, rows, b"x", header=None)
    found = read(tmp_path / "no_hdr")
    assert reasons(found) == {"missing_file": 1}
    (record,) = records(found)  # time from the name, volume from the rows
    assert record.time == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert record.volume_l == pytest.approx(0.25 * 9 / 1000)

    write_bin(tmp_path / "no_roi", NEW, rows, None)
    found = read(tmp_path / "no_roi")
    assert (records(found), reasons(found)) == ([], {"missing_file": 1})

    write_bin(tmp_path / "no_adc", NEW, rows, b"x")
    (tmp_path / "no_adc" / f"{NEW}.adc").unlink()
    found = read(tmp_path / "no_adc")
    assert reasons(found) == {"missing_file": 1}
    assert not samples(found)


def test_empty_bins(tmp_path):
    write_bin(tmp_path / "legal", NEW, [], b"")
    assert [(s.images, s.triggers) for s in samples(read(tmp_path / "legal"))] == [(0, 0)]
    write_bin(tmp_path / "lost", NEW, [], bytes(50))  # pixels, but no table says where
    assert reasons(read(tmp_path / "lost")) == {"empty_file": 1}
    write_bin(tmp_path / "zero", NEW, [], b"", header="")
    found = read(tmp_path / "zero")
    assert reasons(found) == {"empty_file": 2}
    assert not samples(found)


def test_two_images_of_one_old_trigger_stay_two(tmp_path):
    write_bin(
        tmp_path, OLD, [old_row(2, 1, 1, trigger=3), old_row(2, 1, 3, trigger=3)], bytes([0, 1, 2, 3, 4, 0])
    )
    found = records(read(tmp_path))
    tree = open_tree(tmp_path)
    assert [r.object_id for r in found] == [f"{OLD}_00001", f"{OLD}_00002"]
    assert [r.pixels.load(tree).tolist() for r in found] == [[[1, 2]], [[3, 4]]]
    assert ifcb.lid_time(OLD) == datetime(2010, 2, 1, 4, 5, 6, tzinfo=UTC)


def test_a_copy_that_gives_nothing_does_not_hide_a_good_one(tmp_path):
    write_bin(tmp_path / "a", NEW, [], b"", header="")
    write_bin(tmp_path / "bad", NEW, [new_row(1, 1, 0)], b"x")
    write_bin(tmp_path / "c", NEW, [new_row(1, 1, 0)], b"x")
    found = read(tmp_path)
    assert [r.source for r in records(found)] == [f"c/{NEW}.adc#1"]
    assert reasons(found) == {"empty_file": 2, "not_an_organism": 1}


@pytest.mark.parametrize("folder", ["skip", "beads/2020", "Bad"])
def test_bins_set_aside_are_quarantined(tmp_path, folder):
    write_bin(tmp_path / folder, NEW, [new_row(1, 1, 0)], b"x")
    found = read(tmp_path)
    assert reasons(found) == {"not_an_organism": 1}
    assert not samples(found)


def test_bead_runs_are_quarantined(tmp_path):
    write_bin(tmp_path, NEW, [new_row(1, 1, 0)], b"x", HEADER.replace("NORMAL", "BEADS"))
    assert reasons(read(tmp_path)) == {"not_an_organism": 1}


def test_the_most_complete_copy_wins(tmp_path):
    write_bin(tmp_path / "a", NEW, [new_row(1, 1, 0)], None)
    write_bin(tmp_path / "b", NEW, [new_row(1, 1, 0)], b"x")
    write_bin(tmp_path / "c", NEW, [new_row(1, 1, 0)], b"x")
    found = read(tmp_path)
    assert [r.source for r in records(found)] == [f"b/{NEW}.adc#1"]
    assert reasons(found) == {"missing_file": 1, "duplicate_id": 1}
    assert len(samples(found)) == 1


def test_columns_go_by_the_names_of_the_header(tmp_path):
    header = HEADER + "ADCFileFormat: trigger#, start_byte, ROI height, ROIwidth, runTime, inhibitTime\n"
    write_bin(tmp_path, NEW, ["1,2,1,3,600,60"], bytes(range(5)), header)
    (record,) = records(read(tmp_path))
    assert record.pixels.load(open_tree(tmp_path)).tolist() == [[2, 3, 4]]


@pytest.mark.parametrize(
    ("header", "row", "minutes"),
    [
        ((600, 60), (600, 60), 9),
        ((600, 60), (590, 60), 9),  # within 2 %
        ((6000, 60), (600, 60), 9),  # header wrong: rows
        ((600, 600), (600, 60), 9),
        ((None, None), (600, 60), 9),
        ((600, 60), (0, 0), 9),  # rows without clocks
        ((None, None), (0, 0), None),
        (("nan", "-5"), (0, 0), None),
    ],
)
def test_volume(tmp_path, header, row, minutes):
    lines = [f"{k}: {v}" for k, v in zip(("runTime", "inhibitTime"), header, strict=True) if v is not None]
    write_bin(tmp_path, NEW, [new_row(run=row[0], inhibit=row[1])], b"", "\n".join(["a: b", *lines]))
    (sample,) = samples(read(tmp_path))
    expected = None if minutes is None else pytest.approx(0.25 * minutes / 1000)
    assert sample.volume_l == expected


def test_positions_that_cannot_be_true_are_unknown():
    for lat, lon in [("95", "10"), ("10", "nan"), ("0", "0"), ("north", "10")]:
        header = parse_header(f"latitude: {lat}\nlongitude: {lon}")
        assert (header.lat, header.lon) == (None, None)
    assert parse_header("latitude: -10\nlongitude: 170.5").lat == -10


def test_hostile_bytes_never_raise(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(20):
        lid = f"D20200102T0304{number:02d}_IFCB107"
        for suffix in (".hdr", ".adc", ".roi"):
            (tmp_path / f"{lid}{suffix}").write_bytes(rng.bytes(int(rng.integers(0, 3000))))
    assert not records(read(tmp_path))


def test_only_bin_names_are_claimed(tmp_path):
    write_bin(tmp_path, NEW, [new_row(1, 1, 0)], b"x")
    for name in ("decoy.adc", f"{NEW}_00001.png", f"{NEW}_extra.roi", f"x{NEW}.adc"):
        (tmp_path / name).write_bytes(b"")
    assert ifcb.claim(open_tree(tmp_path)) == {f"{NEW}.adc", f"{NEW}.hdr", f"{NEW}.roi"}


def test_a_damaged_zip_member_is_an_io_error(tmp_path):
    write_bin(tmp_path / "a", NEW, [new_row(1, 1, 0)], b"x")
    path = tmp_path / "bin.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((tmp_path / "a").iterdir()):
            archive.write(file, file.name)
    data = path.read_bytes().replace(b"0,0,0,0,0", b"0,0,1,0,0", 1)  # the checksum no longer fits
    path.write_bytes(data)
    assert reasons(read(path)) == {"io_error": 1}
