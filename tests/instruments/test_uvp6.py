"""UVP6 projects: calibration, depth of frames, volumes, footers, and what is wrong with a file."""

import io
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from aqqua.instruments import uvp6
from aqqua.instruments.record import ReadOptions, Record, Rejected, Sample
from aqqua.instruments.tree import open_tree
from aqqua.instruments.uvp6_profile import (
    calibrated_area_mm2,
    header_rows,
    parse_frames,
    parse_profile,
    parse_time,
)

INI = """[HW_CONF]
Aa=2300.000
Exp=1.136
Image_volume=0.710
Operator_email=someone@example.org
Pixel_Size=73
Threshold=22

[ACQ_CONF]
Operator_email=someone@example.org

[sample_metadata]
cruise=C
profileid=01
latitude=43°48 08
longitude=-009°30 37
sampledatetime=20220518-042127-284
"""
FRAMES = """HW_CONF,000125HF,1,someone@example.org;

ACQ_CONF,ACQ_CTD,3;
20220518-042127-284,1.00,31.75,0:1,2005,31.0,9.6;
20220518-042127-468,2.00,31.75,1:1,3079,31.8,10.4;2,424,39.9,17.4;
20220518-042127-507,6.00,31.75,1:EMPTY_IMAGE;
20220518-042128-000,8.00,31.75,1:OVER_EXPOSED;
"""
HEADER = "cruise;profileid;latitude;longitude;volimage;aa;exp;pixelsize;sampledatetime;\n"


def png(height=20, width=30, value=2) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def inverted_with_footer(height=60) -> bytes:
    """White paper, a text of eight rows and a bar of one row at column 9, as UVPapp draws them."""
    pixels = np.full((height, 114), 254, np.uint8)
    pixels[-17:-9, 9:30:2] = 0
    pixels[-6, 9:60] = 0
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def write(folder, files: dict[str, bytes]):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return open_tree(folder)


def project(images=None, ini=INI, frames=FRAMES) -> dict[str, bytes]:
    particles = {"metadata.ini": ini.encode("latin-1"), "particules.csv": frames.encode("latin-1")}
    files = {"ecodata/01/01_Particule.zip": zipped(particles)}
    if images is not None:
        files["ecodata/01/01_Images.zip"] = zipped(images)
    return files


def read(tree, options=ReadOptions()):  # noqa: B008  (frozen)
    found = list(uvp6.read(tree, uvp6.claim(tree), options))
    kinds = [[f for f in found if isinstance(f, kind)] for kind in (Record, Sample, Rejected)]
    return kinds[0], kinds[1], kinds[2]


@pytest.mark.parametrize("aa", [0.0023, 2300.0], ids=["mm2", "um2"])
def test_calibrated_area_is_the_published_one_in_either_unit(aa):
    area = calibrated_area_mm2(100, aa, 1.136)
    assert area == pytest.approx(0.430257, abs=5e-7)


def test_area_of_no_plausible_unit_is_refused():
    with pytest.raises(ValueError, match=r"got 2\.3"):
        calibrated_area_mm2(100, 2.3, 1.136)


def test_time_with_and_without_milliseconds():
    assert parse_time("20220518-042127-284") == datetime(2022, 5, 18, 4, 21, 27, 284000, tzinfo=UTC)
    assert parse_time("20220518-042127") == datetime(2022, 5, 18, 4, 21, 27, tzinfo=UTC)
    assert parse_time("20221318-042127") is None
    assert parse_time("2022") is None


def test_frames_count_only_lit_and_usable_ones():
    frames = parse_frames(FRAMES.encode())
    assert (frames.lit, frames.dark, frames.over_exposed, frames.empty) == (2, 1, 1, 1)
    assert frames.bad_lines == []
    assert frames.depth_at("20220518-042127-507") == 6.0
    assert frames.depth_at("20220518-042127") == pytest.approx((1 + 2 + 6) / 3)
    assert frames.depth_at("20220518-042200") is None


def test_vignettes_carry_depth_position_scale_and_volume(tmp_path):
    images = {"sub1/20220518-042127-468_1.png": png(), "20220518-042128_12.png": png()}
    records, samples, rejected = read(write(tmp_path, project(images)))
    assert rejected == []
    by_depth = {record.depth_m: record for record in records}
    assert set(by_depth) == {2.0, 8.0}
    record = by_depth[2.0]
    assert record.object_id == "01_20220518-042127-468_1"
    assert (record.sample, record.group, record.um_per_px) == ("01", "01", 73.0)
    assert record.time == datetime(2022, 5, 18, 4, 21, 27, 468000, tzinfo=UTC)
    assert record.lat == pytest.approx(43.802222, abs=1e-6)
    assert record.lon == pytest.approx(-9.510278, abs=1e-6)
    assert record.volume_l == pytest.approx(2 * 0.71)
    assert samples[0].images == 2
    assert samples[0].facts["aa_um2"] == "2300"
    assert samples[0].facts["threshold"] == "22"


def test_folder_and_zip_read_alike(tmp_path):
    images = {"20220518-042127-468_1.png": png()}
    files = project(images)
    (tmp_path / "p.zip").write_bytes(zipped(files))
    inside_zip = read(open_tree(tmp_path / "p.zip"))
    unpacked = {"ecodata/01/01_Images/20220518-042127-468_1.png": png()} | project()
    in_folders = read(write(tmp_path / "f", unpacked))
    assert [r.object_id for r in inside_zip[0]] == [r.object_id for r in in_folders[0]]
    assert inside_zip[1][0].facts == in_folders[1][0].facts


def test_personal_data_stays_behind(tmp_path):
    files = project({"20220518-042127_1.png": png()})
    files["config/cruise_info.txt"] = b"[General]\ncs_name=Jane Doe\nop_email=someone@example.org\n"
    found = read(write(tmp_path, files))
    assert "example.org" not in repr(found)
    assert "Jane" not in repr(found)


def test_profile_without_images_is_a_sample_of_none(tmp_path):
    records, samples, rejected = read(write(tmp_path, project()))
    assert (records, rejected) == ([], [])
    assert samples[0].images == 0
    assert samples[0].volume_l == pytest.approx(1.42)


def test_raw_vignette_keeps_every_row_and_an_inverted_copy_loses_its_footer(tmp_path):
    settings = b"; comment\n[vignette]\ninvert=y\nfooterheight_px=31\n"
    images = {
        "compute_vignette.txt": settings,
        "20220518-042127_1.png": png(height=60, value=2),
        "20220518-042127_2.png": inverted_with_footer(),
    }
    tree = write(tmp_path, project(images))
    raw, inverted = read(tree)[0]
    assert raw.pixels.load(tree).shape == (60, 30)
    assert inverted.pixels.load(tree).shape == (29, 114)


def test_every_picture_is_accounted_for_once(tmp_path):
    images = {
        "a/20220518-042127_1.png": png(),
        "b/20220518-042127_1.png": png(),  # the same id again
        "background.png": png(),
    }
    files = project(images) | {"raw/20220518-034504/20220518-042127_1.png": png()}
    records, samples, rejected = read(write(tmp_path, files))
    assert len(records) == 1
    assert samples[0].images == 1
    reasons = sorted((r.source.rpartition("/")[2], r.reason) for r in rejected)
    assert reasons == [
        ("20220518-042127_1.png", "duplicate_id"),
        ("20220518-042127_1.png", "unlisted_image"),
        ("background.png", "unlisted_image"),
    ]


def test_header_serves_where_the_ini_is_gone_and_names_what_is_missing(tmp_path):
    row = "C;01;43°48 08;009°30 37;0.710;0.0023;1.136;73;20220518-042127-284;\n"
    header = HEADER + row + row.replace(";01;", ";07;") + "C;02\n"
    files = {
        "ecodata/01/01_Images.zip": zipped({"20220518-042127_1.png": png()}),
        "meta/uvp6_header_x.txt.backup_20220526_102948": header.encode("latin-1"),
    }
    records, samples, rejected = read(write(tmp_path, files))
    assert records[0].um_per_px == 73.0
    assert records[0].depth_m is None
    assert samples[0].facts["aa_um2"] == "2300"  # 0.0023 mm² of the header, in the unit of the ini
    assert sorted(r.reason for r in rejected) == ["bad_table", "missing_file", "missing_file", "missing_file"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Aa=2.3", "ambiguous_scale"),
        ("Pixel_Size=7", "ambiguous_scale"),
        ("Exp=-1", "bad_metadata"),
        ("Image_volume=0", "bad_metadata"),
        ("latitude=95°00 00", "bad_metadata"),
    ],
)
def test_values_that_cannot_be_are_unknown_and_reported(tmp_path, line, reason):
    key = line.partition("=")[0]
    ini = "\n".join(line if old.startswith(f"{key}=") else old for old in INI.splitlines())
    _, samples, rejected = read(write(tmp_path, project(ini=ini)))
    assert [r.reason for r in rejected] == [reason]
    assert len(samples) == 1
    fact = {"Aa": "aa_um2", "Pixel_Size": "um_per_px", "Image_volume": "image_volume_l"}.get(key)
    assert fact not in samples[0].facts
    assert (samples[0].lat is None) == (key == "latitude")


def test_broken_tables_are_reported_once(tmp_path):
    frames = FRAMES + "cut off in the mid\n20220518-042129-000,no,31,1:1;\n"
    _, samples, rejected = read(write(tmp_path, project(frames=frames)))
    assert [r.reason for r in rejected] == ["bad_table"]
    assert "2 lines" in rejected[0].detail
    assert "line 8" in rejected[0].detail
    assert samples[0].facts["frames_lit"] == "2"


def test_options_override_the_files(tmp_path):
    tree = write(tmp_path, project({"20220518-042127_1.png": png()}))
    records, _, _ = read(tree, ReadOptions(instrument="UVP6-LP", um_per_px=80.0, licence="CC0"))
    assert (records[0].instrument, records[0].um_per_px, records[0].licence) == ("UVP6-LP", 80.0, "CC0")


def test_other_trees_are_not_claimed(tmp_path):
    assert (
        uvp6.claim(write(tmp_path, {"a/b.png": png(), "config/x.txt": b"x", "raw/y.png": png()}))
        == frozenset()
    )


def test_real_project(real_data):
    """Frame counts agree with firstimage..endimg: 27940 - 11209 + 1 and 20140 - 3360 + 1."""
    records, samples, rejected = read(open_tree(real_data / "uvp6" / "uvp6_sn000125hf_202205_talpro"))
    assert (records, rejected) == ([], [])
    assert [s.sample for s in samples] == ["01", "02"]
    for sample, frames in zip(samples, (27940 - 11209 + 1, 20140 - 3360 + 1), strict=True):
        assert int(sample.facts["frames_lit"]) + int(sample.facts["frames_dark"]) == frames
        assert (sample.facts["aa_um2"], sample.facts["exp"], sample.images) == ("2300", "1.136", 0)
        assert sample.facts["um_per_px"] == "73"
    assert samples[0].volume_l == pytest.approx(15061 * 0.71)
    assert samples[1].volume_l == pytest.approx(15101 * 0.71)
    assert samples[0].lat == pytest.approx(43.802222, abs=1e-6)
    assert samples[1].lon == pytest.approx(9.706944, abs=1e-6)
    assert "@" not in repr(samples)
    assert "redacted" not in repr(samples)


def test_damaged_text_never_raises():
    """Every cut and a wrong byte at every place: unknown values and bad lines, no exception."""
    for text, parse in ((INI, lambda b: parse_profile(b, None, None)), (FRAMES, parse_frames)):
        data = text.encode("latin-1")
        for at in range(len(data)):
            parse(data[:at])
            parse(data[:at] + b"\xb2" + data[at + 1 :])
            list(header_rows(data[:at]))
