"""ZooProcess .pid and ZooImage .zid: objects, volumes, scales, and tables that are not whole."""

import io
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from aqqua.instruments import zooscan
from aqqua.instruments.detect import find
from aqqua.instruments.image import EncodedImage
from aqqua.instruments.record import ReadOptions, Record, Rejected, RejectedInputError, Sample
from aqqua.instruments.tree import open_tree
from aqqua.instruments.zooscan_table import parse_table

PID = """PID
[Image]
Scanning_date= 20200221_1357
C:\\\\Zooscan\\\\a bare line
Author= Jane Doe
[Info]
Resolution= 2400
[Sample]
SampleId= tow1
Scanop= Jane Doe
Date= 20190803-2347
Latitude= 39.2822
Longitude= -68.807
Depth= 99999
Otherref= NaN
Zmax= 600
Zmin= 400
Vol= 2000
[Subsample]
SubPart= 4
[Particules_Process]
PixSize=   0.0106

[Data]
!Item;Label;Area;Tag
"""
ZIM = """ZI1
[Image]
Author=Jane Doe
[Subsample]
SubPart=0.024
[Process]
PixSize=0.04233

[Data]
!Item \tLabel\tArea\t
1\tBIO+A\t0.4713\t
2\tBIO+A\t1.0124\t
"""


def jpg(height=8, width=6) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 194, np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def pid(*rows: str, label="tow1_tot_1") -> bytes:
    return (PID + "".join(f"{row.replace('L', label)}\n" for row in rows)).encode("latin-1")


def write(folder, files: dict[str, bytes]):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return open_tree(folder)


def read(tree, options=ReadOptions()):  # noqa: B008  (frozen)
    found = list(zooscan.read(tree, zooscan.claim(tree), options))
    kinds = [[f for f in found if isinstance(f, kind)] for kind in (Record, Sample, Rejected)]
    return kinds[0], kinds[1], kinds[2]


def test_table_alone_is_a_sample_with_counts_and_facts(tmp_path):
    tree = write(tmp_path, {"tow1_tot_1_dat1.pid": pid("1;L;973;1", "2;L;640;1")})
    records, samples, rejected = read(tree)
    assert (records, rejected) == ([], [])
    sample = samples[0]
    assert (sample.sample, sample.images, sample.triggers) == ("tow1_tot_1", 0, 2)
    assert sample.volume_l == 2000 * 1000 / 4  # one quarter of 2000 m³ was scanned
    assert sample.time == datetime(2019, 8, 3, 23, 47, tzinfo=UTC)
    assert (sample.lat, sample.lon) == (None, None)  # the notation cannot be told
    assert sample.facts["longitude_as_written"] == "-68.807"
    assert sample.facts["um_per_px"] == "10.6"


def test_personal_data_stays_behind(tmp_path):
    files = {"tow1_tot_1_dat1.pid": pid("1;L;973;1"), "BIO+A_dat1.zim": ZIM.encode()}
    assert "Jane" not in repr(read(write(tmp_path, files)))


def test_vignettes_beside_the_table_become_records(tmp_path):
    files = {
        "tow1_tot_1_dat1.pid": pid("1;L;973;1", "2;L;640;1", "3;L;5;1"),
        "tow1_tot_1_1.jpg": jpg(),
        "sub/tow1_tot_1_2.jpg": jpg(),
        "tow1_tot_1_9.jpg": jpg(),
        "other_1.jpg": jpg(),  # of no table: left to other readers
    }
    tree = write(tmp_path, files)
    assert "other_1.jpg" not in zooscan.claim(tree)
    records, samples, rejected = read(tree)
    assert [r.object_id for r in records] == ["tow1_tot_1_1", "tow1_tot_1_2"]
    assert records[0].pixels.load(tree).shape == (8, 6)  # grey stored as RGB comes back grey
    assert (records[0].um_per_px, records[0].depth_m, records[0].group) == (10.6, 500.0, "tow1")
    assert samples[0].images == 2
    assert sorted(r.reason for r in rejected) == ["missing_image", "unlisted_image"]


def test_vignettes_with_an_ecotaxa_table_are_left_to_it(tmp_path):
    files = {"s_dat1.pid": pid("1;L;9;1", label="s"), "s_1.jpg": jpg(), "ecotaxa_s.tsv": b"img_file_name\n"}
    assert zooscan.claim(write(tmp_path, files)) == {"s_dat1.pid"}


def test_whole_scans_and_masks_are_not_organisms(tmp_path):
    files = {"s_dat1.pid": pid(), "s_sep.gif": b"x", "s_msk1.gif": b"x", "raw/s_raw_1.tif": b"\n"}
    _, _, rejected = read(write(tmp_path, files))
    assert [r.reason for r in rejected] == ["not_an_organism"] * 3


def test_rows_that_cannot_be_objects(tmp_path):
    data = pid("1;L;9;1", "2;L", ";L;9;1", "1;L;9;1", "")
    _, samples, rejected = read(write(tmp_path, {"tow1_tot_1_dat1.pid": data}))
    assert samples[0].triggers == 2
    assert [r.reason for r in rejected] == ["bad_table", "bad_table", "duplicate_id"]
    line = data.decode().splitlines().index("2;tow1_tot_1") + 1
    assert rejected[0].source == f"tow1_tot_1_dat1.pid#{line}"


def test_second_copy_of_a_table_is_refused(tmp_path):
    files = {"s_dat1.pid": pid("1;L;9;1"), "s_dat1 (1).pid": pid("1;L;9;1")}
    _, samples, rejected = read(write(tmp_path, files))
    assert len(samples) == 1
    assert [r.reason for r in rejected] == ["duplicate_id"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty_file"), (b"PID\n[Image]\n", "bad_table"), (b"\xff\x00[Data]", "bad_table")],
)
def test_files_without_a_table(tmp_path, data, reason):
    _, _, rejected = read(write(tmp_path, {"s_dat1.pid": data}))
    assert [r.reason for r in rejected] == [reason]


@pytest.mark.parametrize(
    ("written", "um"), [("0.0106", 10.6), ("10.6", 10.6), ("0.04233", 42.33), ("1.0", None), ("99999", None)]
)
def test_pixel_size_is_mm_or_um_by_magnitude(written, um):
    table = parse_table(PID.replace("0.0106", written).encode())
    assert table.um_per_px == (None if um is None else pytest.approx(um))


def test_pixel_size_falls_back_to_dots_per_inch():
    table = parse_table(PID.replace("PixSize=   0.0106", "").encode())
    assert table.um_per_px == pytest.approx(25_400 / 2400)


def test_scale_of_no_plausible_unit_is_reported(tmp_path):
    data = pid("1;L;9;1").replace(b"0.0106", b"1.06")
    _, samples, rejected = read(write(tmp_path, {"tow1_tot_1_dat1.pid": data}))
    assert [r.reason for r in rejected] == ["ambiguous_scale"]
    assert "um_per_px" not in samples[0].facts


@pytest.mark.parametrize(
    "change", [("Vol= 2000", "Vol= 99999"), ("SubPart= 4", "SubPart= 0"), ("Vol= 2000", "")]
)
def test_missing_volume_is_unknown(change):
    assert parse_table(PID.replace(*change).encode()).volume_l is None


def test_zid_is_read_without_its_rdata(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("BIO/BIO+A_dat1.zim", ZIM)
        members.writestr("BIO/BIO_dat1.RData", b"never opened")
        for at in (1, 2, 3):
            members.writestr(f"BIO/BIO+A_{at}.jpg", jpg())
    tree = write(tmp_path, {"BIO.zid": archive.getvalue()})
    assert len(zooscan.claim(tree)) == 5
    records, samples, rejected = read(tree)
    assert [r.object_id for r in records] == ["BIO+A_1", "BIO+A_2"]
    assert (records[0].instrument, records[0].um_per_px) == ("ZooImage", pytest.approx(42.33))
    assert (records[0].sample, records[0].group) == ("BIO+A", "BIO")
    assert samples[0].volume_l is None
    assert sorted(r.reason for r in rejected) == ["unlisted_image", "unsupported_format"]


def test_other_trees_are_not_claimed(tmp_path):
    assert zooscan.claim(write(tmp_path, {"a_1.jpg": jpg(), "b_sep.gif": b"x"})) == frozenset()


def test_real_pid_files(real_data):
    """361, 0 and 573 rows; the middle file says 378 objects were analysed and holds none."""
    records, samples, rejected = read(open_tree(real_data / "zooscan" / "pid"))
    assert records == []
    assert [(s.sample, s.triggers) for s in samples] == [
        ("hb1907_moc11_net3_333_1_tot_1", 361),
        ("hb1907_moc11_net3_333_2_tot_1", 0),
        ("hb1907_moc8_net1_333_1_tot_1", 573),
    ]
    assert {s.facts["um_per_px"] for s in samples} == {"10.6"}
    assert [r.reason for r in rejected] == ["bad_table"]
    assert "378" in rejected[0].detail
    assert "redacted" not in repr(samples)


def test_real_zid(real_data):
    tree = open_tree(real_data / "zooscan" / "zooimage")
    records, samples, rejected = read(tree)
    assert len(records) == samples[0].images == samples[0].triggers == 66
    assert [r.reason for r in rejected] == ["unsupported_format"]
    assert records[0].um_per_px == pytest.approx(42.33)
    pixels = [r.pixels.load(tree) for r in records]
    assert all(p.ndim == 2 and p.dtype == np.uint8 for p in pixels)
    assert min(p.shape[1] for p in pixels) == 16  # widths 16 to 283, heights 18 to 411
    assert max(p.shape[0] for p in pixels) == 411
    border = [np.median(np.concatenate([p[0], p[-1], p[:, 0], p[:, -1]])) for p in pixels]
    assert np.median(border) == 194


def test_real_project_files_are_refused_by_size(real_data):
    tree = open_tree(real_data / "zooscan" / "zooprocess-lib")
    records, samples, rejected = read(tree)
    assert (records, samples[0].triggers, samples[0].volume_l) == ([], 439, 124.5 * 1000 / 2)
    assert [r.reason for r in rejected] == ["not_an_organism"] * 2  # 367-Mpx GIF and a 1-byte TIFF
    gif = next(tree.names(".gif"))
    with pytest.raises(RejectedInputError) as refused:
        EncodedImage(gif).load(tree)
    assert refused.value.reason == "image_too_large"
    for name in tree.names(".tif"):
        with pytest.raises(RejectedInputError) as refused:
            EncodedImage(name).load(tree)
        assert refused.value.reason == "unreadable_image"


def test_everything_in_the_zooscan_folder_comes_out_once(real_data):
    """Each picture of the folder is in exactly one record or refusal, whichever reader takes it."""
    tree = open_tree(real_data / "zooscan" / "zooimage")
    found = list(find(tree, ReadOptions()))
    sources = [f.source for f in found if isinstance(f, Record | Rejected)]
    assert len(sources) == len(set(sources)) == 67
    assert set(tree.names(".jpg")) < set(sources)


def test_damaged_text_never_raises():
    """Every cut and a wrong byte at every place: unknown values and bad rows, no exception."""
    data = pid("1;L;973;1", "2;L;640;1")
    for at in range(len(data)):
        assert len(parse_table(data[:at]).objects) <= 2
        parse_table(data[:at] + b"\xb2" + data[at + 1 :])
