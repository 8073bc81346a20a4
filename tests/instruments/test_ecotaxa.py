"""The EcoTaxa reader: every rule on a small made-up export, exact counts on EcoTaxa's own test imports.

One file over 300 lines: all cases share the same few helpers, which write a table and read it back.
"""

import io
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from aqqua.instruments import ecotaxa
from aqqua.instruments.ecotaxa_table import HEAD_BYTES
from aqqua.instruments.record import Found, ReadOptions, Record, Rejected, RejectedInputError, Sample
from aqqua.instruments.tree import open_tree

PERSON = "Jane Q. Annotator"


def png(shade: int = 200) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (12, 9), shade).save(buffer, "PNG")
    return buffer.getvalue()


def table(*rows: dict[str, str], types: bool = True, end: str = "\n") -> str:
    """A TSV with the columns of all rows, object_id and img_file_name first."""
    columns = list(dict.fromkeys(["object_id", "img_file_name", *(name for row in rows for name in row)]))
    lines = ["\t".join(columns), *(["\t".join("[t]" for _ in columns)] if types else [])]
    lines += ["\t".join(row.get(name, "") for name in columns) for row in rows]
    return end.join(lines) + end


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("latin-1"))
    return folder


def read(path: Path, **options: object) -> list[Found]:
    tree = open_tree(path)
    return list(ecotaxa.read(tree, ecotaxa.claim(tree), ReadOptions(**options)))  # type: ignore[arg-type]


def counts(found: list[Found]) -> dict[str, int]:
    return dict(
        Counter("ok" if isinstance(f, Record) else f.reason for f in found if not isinstance(f, Sample))
    )


def one(
    folder: Path, name: str = "ecotaxa_a.tsv", options: dict[str, object] | None = None, **row: str
) -> Found:
    """What a table of one row with one image gives."""
    write(folder, {name: table({"object_id": "o1", "img_file_name": "a.png", **row}), "a.png": png()})
    found = [f for f in read(folder, **(options or {})) if not isinstance(f, Sample)]
    assert len(found) == 1
    return found[0]


def record(folder: Path, **row: str) -> Record:
    found = one(folder, **row)  # type: ignore[arg-type]
    assert isinstance(found, Record), found
    return found


def reason(folder: Path, **row: str) -> str:
    found = one(folder, **row)  # type: ignore[arg-type]
    assert isinstance(found, Rejected), found
    return found.reason


def test_a_row_becomes_a_record_without_personal_data(tmp_path):
    found = record(
        tmp_path,
        **{
            "object_lat": "43.5",
            "object_lon": "-7,25",
            "object_date": "20200205",
            "object_time": "111823",
            "object_depth_min": "10",
            "object_depth_max": "30",
            "object_annotation_category": "small<egg",
            "object_annotation_status": "Validated",
            "object_annotation_person_name": PERSON,
            "object_annotation_person_email": "jane@example.org",
            "sample_operator": PERSON,
            "sample_id": "s1",
            "acq_id": "a1",
            "acq_instrument": "zooscan",
            "process_particle_pixel_size_mm": "0.0106",
            "sample_tot_vol": "50",
            "acq_sub_part": "4",
        },
    )
    assert (found.object_id, found.instrument, found.sample, found.group) == ("o1", "ZooScan", "s1", "s1")
    assert (found.lat, found.lon, found.depth_m) == (43.5, -7.25, 20.0)
    assert found.um_per_px == pytest.approx(10.6)
    assert found.volume_l == pytest.approx(12_500)  # 50 m³ split in 4
    assert found.time == datetime(2020, 2, 5, 11, 18, 23, tzinfo=UTC)
    assert (found.label, found.label_status, found.source) == ("small<egg", "validated", "a.png")
    assert PERSON not in repr(read(tmp_path))
    assert "example.org" not in repr(read(tmp_path))


def test_unknown_stays_unknown(tmp_path):
    found = record(
        tmp_path, object_lat="nan", object_lon="99999", object_depth_min="99999", object_depth_max="5"
    )
    assert (found.lat, found.lon, found.depth_m, found.um_per_px, found.time) == (None,) * 5
    assert (found.instrument, found.label, found.label_status, found.sample) == (
        "unknown",
        None,
        "unlabelled",
        "",
    )


@pytest.mark.parametrize(
    ("text", "degrees"),
    [("43°0 0", 43.0), ("-43°30 36", -43.51), ("-0°30 0", -0.5), ("43º15 0", 43.25), ("18,5", 18.5)],
)
def test_coordinates(tmp_path, text, degrees):
    assert record(tmp_path, object_lat=text).lat == pytest.approx(degrees)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("object_lat", "95"),
        ("object_lat", "43°75 0"),
        ("object_lat", "north"),
        ("object_lon", "200"),
        ("object_depth_min", "-600"),
        ("object_depth_min", "inf"),
        ("img_rank", "-1"),
        ("img_rank", "first"),
        ("process_pixel", "-1"),
        ("process_pixel", "0"),
    ],
)
def test_a_value_that_cannot_be_true_is_refused(tmp_path, column, text):
    assert reason(tmp_path, **{"object_depth_max": "5", column: text}) == "bad_metadata"


@pytest.mark.parametrize(
    ("day", "clock", "expected"),
    [
        ("20200205", "111823", (11, 18, 23, 0)),
        ("2020-02-05", "04:20:00", (4, 20, 0, 0)),
        ("20200205", "420", (4, 20, 0, 0)),
        ("20200205", "1153", (11, 53, 0, 0)),
        ("20200205", "80000", (8, 0, 0, 0)),
        ("20200205", "0", (0, 0, 0, 0)),
        ("20200205", "020139.315", (2, 1, 39, 315_000)),
        ("20200205", "08:28:00.000", (8, 28, 0, 0)),
        ("2020-02-05", "09:00:00Z", (9, 0, 0, 0)),
        ("20200205", "5:31", (5, 31, 0, 0)),
    ],
)
def test_times(tmp_path, day, clock, expected):
    hour, minute, second, microsecond = expected
    moment = datetime(2020, 2, 5, hour, minute, second, microsecond, UTC)
    assert record(tmp_path, object_date=day, object_time=clock).time == moment


@pytest.mark.parametrize(("day", "clock"), [("", "420"), ("20200205", ""), ("N/A", "nan"), ("99999", "420")])
def test_half_a_time_is_unknown(tmp_path, day, clock):
    assert record(tmp_path, object_date=day, object_time=clock).time is None


@pytest.mark.parametrize(
    ("day", "clock"),
    [("20140433", "420"), ("20140403", "9920"), ("3 April 2014", "420"), ("00010101", "420")],
)
def test_impossible_times_are_refused(tmp_path, day, clock):
    assert reason(tmp_path, object_date=day, object_time=clock) == "bad_metadata"


@pytest.mark.parametrize(
    ("row", "um"),
    [
        ({"process_particle_pixel_size_mm": "0.0106"}, 10.6),
        ({"process_pixel": "10.6"}, 10.6),
        ({"acq_pixel": "73", "acq_instrument": "uvp6"}, 73),
        ({"acq_pixel": "0.088", "acq_instrument": "UVP5"}, 88),
        ({"acq_pixel": "0.174", "acq_instrument": "uvp5_sn003"}, 174),
        ({"process_pixel": "0.75", "acq_instrument": "PlanktoScope v2.6"}, 0.75),
        ({"process_pixel": "0.294", "acq_instrument": "IFCB"}, 0.294),
        ({"process_pixel": "0.73", "process_pixel_size": "0.53", "acq_instrument": "PlanktoScope"}, 0.53),
        ({"acq_pixel": "73", "process_scale": "2", "acq_instrument": "uvp6"}, 36.5),
        ({"acq_instrument": "uvp6"}, 73),  # registry
        ({"acq_instrument": "canon", "process_software": "zooprocess_pid_to_ecotaxa_7.23"}, None),
        ({"acq_pixel_um": "3.45"}, 3.45),
    ],
)
def test_pixel_size_by_name_and_magnitude(tmp_path, row, um):
    assert record(tmp_path, **row).um_per_px == (um if um is None else pytest.approx(um))


@pytest.mark.parametrize(
    "row",
    [
        {"acq_pixel": "0.2"},  # 0.2 µm or 200 µm
        {"process_particle_pixel_size_mm": "10.6"},  # named mm, sized µm
        {"process_pixel": "5000"},
        {"process_pixel": "10.6", "acq_pixel": "73"},
        {"acq_pixel": "73", "process_scale": "2", "process_keeporiginal": "y", "acq_instrument": "uvp6"},
    ],
)
def test_a_scale_that_cannot_be_told_is_refused_unless_the_user_says(tmp_path, row):
    assert reason(tmp_path, **row) == "ambiguous_scale"
    found = one(tmp_path, options={"um_per_px": 12.5, "instrument": "LOKI", "licence": "CC BY 4.0"}, **row)
    assert isinstance(found, Record)
    assert (found.um_per_px, found.instrument, found.licence) == (12.5, "LOKI", "CC BY 4.0")


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"acq_instrument": "uvp6"}, "UVP6"),
        ({"acq_instrument": "UVP5HD"}, "UVP5hd"),
        ({"acq_instrument": "flowcam"}, "FlowCam"),
        ({"acq_id": "loki10001.02"}, "LOKI"),
        ({"acq_hardware": "VPR08"}, "VPR"),
        ({"acq_hardware": "hydroptic_v3"}, "ZooScan"),
        ({"acq_instrument": "epson", "process_software": "zooprocess_pid_to_ecotaxa_7.23"}, "ZooScan"),
        ({"acq_instrument": "a microscope"}, "unknown"),
    ],
)
def test_instruments(tmp_path, row, name):
    assert record(tmp_path, **row).instrument == name


@pytest.mark.parametrize("text", ["", "foo", "0", "-5", "999999"])
def test_volume_is_unknown_unless_certain(tmp_path, text):
    row = {"acq_instrument": "zooscan", "process_pixel": "10.6", "acq_sub_part": "1"}
    assert record(tmp_path, sample_tot_vol=text, **row).volume_l is None
    assert record(tmp_path, sample_tot_vol="5", **{**row, "acq_instrument": "flowcam"}).volume_l is None


@pytest.mark.parametrize(
    ("category", "state", "label", "status"),
    [
        ("Copepoda", "predicted", "Copepoda", "predicted"),
        ("Copepoda", "dubious", "Copepoda", "dubious"),
        ("Copepoda", "discarded", "Copepoda", "discarded"),
        ("Copepoda", "", "Copepoda", "unlabelled"),
        ("Copepoda", "predit", "Copepoda", "unlabelled"),
        ("", "validated", None, "unlabelled"),
    ],
)
def test_labels(tmp_path, category, state, label, status):
    found = record(tmp_path, object_annotation_category=category, object_annotation_status=state)
    assert (found.label, found.label_status) == (label, status)


def test_images_of_one_object_and_duplicates(tmp_path):
    names = ["a.png", "b.png", "c.png", "d.png"]
    rows = [
        {"object_id": "o", "img_file_name": "a.png", "img_rank": "0"},
        {"object_id": "o", "img_file_name": "b.png", "img_rank": "1.0"},
        {"object_id": "o", "img_file_name": "c.png", "img_rank": "1"},  # a rank twice
        {"object_id": "o", "img_file_name": "d.png"},  # no rank: the next free one
        {"object_id": "o", "img_file_name": "a.png", "img_rank": "7"},  # an image twice
        {"object_id": "p", "img_file_name": "a.png"},  # one image for two objects
        {"object_id": "", "img_file_name": "a.png"},
    ]
    write(tmp_path, {"ecotaxa.tsv": table(*rows), **{name: png() for name in names}})
    found = read(tmp_path)
    assert [f.object_id for f in found if isinstance(f, Record)] == ["o", "o#1", "o#2", "p"]
    assert [f.reason for f in found if isinstance(f, Rejected)] == [
        "duplicate_id",
        "duplicate_id",
        "bad_table",
    ]
    assert [f.source for f in found if isinstance(f, Rejected)] == [
        "ecotaxa.tsv#5",
        "ecotaxa.tsv#7",
        "ecotaxa.tsv#9",
    ]


def test_the_same_id_in_two_tables_gets_the_folder(tmp_path):
    content = table({"object_id": "1", "img_file_name": "1.png"})
    write(tmp_path, {f"s{i}/ecotaxa_s.tsv": content for i in (1, 2)} | {f"s{i}/1.png": png() for i in (1, 2)})
    write(tmp_path, {"s2/ecotaxa_t.tsv": content})
    found = [f for f in read(tmp_path) if isinstance(f, Record)]
    assert [f.object_id for f in found] == ["1", "s2/1", "s2/ecotaxa_t.tsv/1"]
    assert [f.group for f in found] == ["s1", "s2", "s2"]


def test_where_images_are_looked_for(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("in_zip.png", png())
        zipped.writestr("imgs/wrapped.png", png())
    rows = [
        "sub/a.png",
        "sub\\b.png",
        "./c.png",
        "D.PNG",
        "in_zip.png",
        "wrapped.png",
        "gone.png",
        "../x.png",
        "",
    ]
    content = table(*({"object_id": f"o{i}", "img_file_name": name} for i, name in enumerate(rows)))
    write(tmp_path / "in", {"ecotaxa.tsv": content, "imgs.zip": archive.getvalue(), "extra.png": png()})
    write(tmp_path / "in", {name: png() for name in ("sub/a.png", "sub/b.png", "c.png", "d.png")})
    write(tmp_path, {"x.png": png()})
    found = read(tmp_path / "in")
    assert [f.source for f in found if isinstance(f, Record)] == [
        "sub/a.png",
        "sub/b.png",
        "c.png",
        "d.png",
        "imgs.zip/in_zip.png",
        "imgs.zip/imgs/wrapped.png",
    ]
    assert counts(found) == {"ok": 6, "missing_image": 2, "unsafe_path": 1, "unlisted_image": 1}


def test_a_row_naming_a_link_says_so(tmp_path):
    write(
        tmp_path, {"real.png": png(), "in/ecotaxa.tsv": table({"object_id": "o", "img_file_name": "a.png"})}
    )
    (tmp_path / "in" / "a.png").symlink_to(tmp_path / "real.png")
    assert counts(read(tmp_path / "in")) == {"link": 1}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("types", [True, False])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig", "utf-16"])
def test_encodings_and_line_ends(tmp_path, encoding, types, end):
    row = {
        "object_id": "ø1",
        "img_file_name": "a.png",
        "object_lat": "43°0 0",
        "object_annotation_category": "œuf",
    }
    if encoding == "latin-1":
        row["object_annotation_category"] = "larve é"
    write(tmp_path, {"ecotaxa.tsv": table(row, types=types, end=end).encode(encoding), "a.png": png()})
    found = read(tmp_path)
    assert counts(found) == {"ok": 1}
    assert isinstance(found[0], Record)
    assert (found[0].object_id, found[0].lat) == ("ø1", 43.0)
    assert found[0].label == row["object_annotation_category"]


def test_quotes_that_close_and_that_do_not(tmp_path):
    lines = [
        '"object_id"\t"img_file_name"\t"object_annotation_category"',
        '"o1"\t"a.png"\t"a ""quoted"" name"',
        '"o2"\t"a.png"\t"over two\nlines"',
        'o3\ta.png\t"never closes',
        "o4\ta.png\tfine",
        'o5\ta.png\t5" long',
    ]
    write(tmp_path, {"ecotaxa.tsv": "\n".join(lines), "a.png": png()})
    labels = {f.object_id: f.label for f in read(tmp_path) if isinstance(f, Record)}
    assert labels == {
        "o1": 'a "quoted" name',
        "o2": "over two\nlines",
        "o3": '"never closes',
        "o4": "fine",
        "o5": '5" long',
    }


def test_rows_of_the_wrong_width(tmp_path):
    lines = [
        "object_id\timg_file_name\tobject_lat\tobject_area\tacq_sub_part",
        "o1\ta.png\t1\t2",  # the optional end left out, as EcoTaxa imports it
        "o2\ta.png\t1\t2\t3\t\t",  # trailing tabs
        "o3\ta.png",  # cut short: no latitude
        "o4\ta.png\t1\t2\t3\tExtra",
        "",
        "\t\t\t\t",
    ]
    write(tmp_path, {"ecotaxa.tsv": "\n".join(lines), "a.png": png()})
    assert counts(read(tmp_path)) == {"ok": 2, "bad_table": 2}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty_file"),
        (b"object_id\timg_file_name\n[t]\t[t]\n", "bad_table"),
        (b"object_id\tobject_lat\no1\t3\n", "bad_table"),
        (b"object_id\timg_file_name\tobject_id\no1\ta.png\to2\n", "bad_table"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "bad_table"),
        (b"<html><body>404</body></html>", "bad_table"),
        (b"object_id\timg_file_name\to" + b"x" * (2 << 20), "bad_table"),
    ],
)
def test_a_table_that_is_none(tmp_path, content, expected):
    write(tmp_path, {"ecotaxa_x.tsv": content})
    assert counts(read(tmp_path)) == {expected: 1}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=4)), max_size=6))
def test_a_damaged_table_never_raises(tmp_path, edits):
    """Bytes put anywhere into a good table: the reader ends, and the image is not forgotten."""
    row = {"object_lat": "1", "object_date": "20200102", "object_time": "420", "process_pixel": "10.6"}
    data = table(*({"object_id": f"o{i}", "img_file_name": "a.png", **row} for i in range(3))).encode()
    for place, insert in edits:
        place %= len(data)
        data = data[:place] + insert + data[place + 1 :]
    write(tmp_path, {"ecotaxa.tsv": data, "a.png": png()})
    found = [f for f in read(tmp_path) if not isinstance(f, Sample)]
    assert found
    ids = [f.object_id for f in found if isinstance(f, Record)]
    assert len(ids) == len(set(ids))


def test_a_packed_table_is_named(tmp_path):
    write(tmp_path, {"ecotaxa_x.tsv.gz": b"\x1f\x8b"})
    assert counts(read(tmp_path)) == {"unsupported_format": 1}


def test_a_table_is_known_by_its_columns(tmp_path):
    assert isinstance(one(tmp_path, name="Ecotaxa_project_acq.tsv"), Record)
    assert isinstance(one(tmp_path / "b", name="export_12.tsv"), Record)


def test_claims_nothing_that_is_not_its_own(tmp_path):
    write(tmp_path, {"classes.tsv": "image\tclass\na.png\tx\n", "notes.txt": "hello", "a.png": png()})
    assert ecotaxa.claim(open_tree(tmp_path)) == frozenset()
    write(
        tmp_path, {"exp/ecotaxa.tsv": table({"object_id": "o", "img_file_name": "b.png"}), "exp/b.png": png()}
    )
    assert ecotaxa.claim(open_tree(tmp_path)) == {"exp/ecotaxa.tsv", "exp/b.png"}


def test_a_broken_archive_member_is_not_an_exception(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        rows = [{"object_id": f"o{i}", "img_file_name": f"{i * 7919 % 10007}.png"} for i in range(20_000)]
        zipped.writestr("ecotaxa.tsv", table(*rows))
    data = bytearray(archive.getvalue())
    data[len(data) // 2] ^= 0xFF
    assert len(data) > HEAD_BYTES // 2
    (tmp_path / "in.zip").write_bytes(bytes(data))
    reasons = counts(read(tmp_path / "in.zip"))
    assert reasons.keys() <= {"missing_image", "io_error", "bad_table"}
    assert reasons.keys() & {"io_error", "bad_table"}


def test_samples_add_up(tmp_path):
    scan = {
        "acq_instrument": "zooscan",
        "process_pixel": "10.6",
        "sample_tot_vol": "10",
        "object_time": "420",
    }
    rows = [
        {
            "object_id": "o1",
            "sample_id": "s",
            "acq_id": "d1",
            "acq_sub_part": "2",
            "object_date": "20200103",
            **scan,
        },
        {
            "object_id": "o2",
            "sample_id": "s",
            "acq_id": "d2",
            "acq_sub_part": "8",
            "object_date": "20200102",
            **scan,
        },
        {
            "object_id": "o3",
            "sample_id": "t",
            "acq_id": "d1",
            "acq_sub_part": "4",
            "object_date": "20200102",
            **scan,
        },
    ]
    write(
        tmp_path, {"ecotaxa.tsv": table(*({**row, "img_file_name": "a.png"} for row in rows)), "a.png": png()}
    )
    first, second = (f for f in read(tmp_path) if isinstance(f, Sample))
    assert (first.sample, first.images, first.volume_l) == ("s", 2, None)
    assert first.facts == {"volume_l d1": "5000", "volume_l d2": "1250"}
    assert first.time == datetime(2020, 1, 2, 4, 20, tzinfo=UTC)
    assert (second.sample, second.images, second.volume_l) == ("t", 1, 2500)


# Counted by hand in the fixtures of ecotaxa_back: rows of each table, its images, and their faults.
REAL = {
    "ecotaxa/import_test": {"ok": 11},
    "ecotaxa/import_test.zip": {"ok": 8},
    "ecotaxa/import_sparse": {"ok": 6},
    "ecotaxa/import_uvp6_zip_in_dir": {"ok": 15},
    "uvp6/UVP6_example.zip": {"ok": 15},
    "ecotaxa/import de categories ambigues": {"ok": 6},
    "ecotaxa/import_test_plus": {"ok": 4, "missing_image": 11},
    "ecotaxa/import_bad_free_data": {"ok": 8},
    "ecotaxa/import_test_weird": {"ok": 4},
    "ecotaxa/import_various_states": {"ok": 9},
    "ecotaxa/import_test_upd_empty": {"missing_image": 11, "bad_table": 1},
    "ecotaxa/import_update": {"ok": 10, "missing_image": 1},
    "ecotaxa/merge_test": {"ok": 13, "unlisted_image": 2},
    "ecotaxa/my_files": {"unsupported_format": 1},
    "ecotaxa/ref_exports": {"ok": 49, "missing_image": 12, "bad_table": 6},
    "ecotaxa/ref_exports/doi": {"ok": 12},
    "ecotaxa/ref_exports/tsv_by_taxon": {"ok": 12},
    "ecotaxa/ref_exports/tsv_with_ids": {"bad_table": 3},
    "ecotaxa/import_issues/breaking_hierarchy": {"ok": 1},
    "ecotaxa/import_issues/classif_without_state": {"ok": 1},
    "ecotaxa/import_issues/corrupted_img": {"ok": 3, "missing_image": 1},
    "ecotaxa/import_issues/duplicate_in_tsv": {"ok": 1, "duplicate_id": 1},
    "ecotaxa/import_issues/empty_tsv": {"bad_table": 1},
    "ecotaxa/import_issues/empty_tsv2": {"empty_file": 1},
    "ecotaxa/import_issues/extra_data_without_header": {"bad_table": 1},
    "ecotaxa/import_issues/no_classif_id": {"ok": 1},
    "ecotaxa/import_issues/no_relevant_file": {},
    "ecotaxa/import_issues/predicted_but_what": {"ok": 1},
    "ecotaxa/import_issues/tsv_issues": {"ok": 3, "missing_image": 2, "bad_metadata": 1, "unlisted_image": 2},
    "ecotaxa/import_issues/tsv_too_many_cols": {"ok": 1},
    "zooscan/zqc": {"ok": 13, "missing_image": 5, "unlisted_image": 1},
    "zooscan/zooprocess-lib": {"missing_image": 2},
}


@pytest.mark.parametrize("name", REAL)
def test_real_imports_are_counted_exactly(real_data, name):
    assert counts(read(real_data / name)) == REAL[name]


def test_real_uvp6_import(real_data):
    found = [f for f in read(real_data / "uvp6/UVP6_example.zip") if isinstance(f, Record)]
    first = found[0]
    assert (first.object_id, first.instrument, first.um_per_px) == ("20200205-111823_3#1", "UVP6", 73.0)
    assert (first.lat, first.lon, first.depth_m) == (43.0, 17.0, pytest.approx(194.63))
    assert first.time == datetime(2020, 2, 5, 11, 18, 23, tzinfo=UTC)
    assert (first.group, first.label) == ("b_da_19", None)


def test_every_real_candidate_comes_out_once(real_data):
    """Rows + unnamed images + unusable tables; the rows are counted without the reader."""
    tree = open_tree(real_data / "ecotaxa")
    found = [f for f in ecotaxa.read(tree, ecotaxa.claim(tree), ReadOptions()) if not isinstance(f, Sample)]
    by_table = Counter(f.source.partition("#")[0] for f in found if isinstance(f, Rejected))
    rows = sum(len(_rows(tree.read(name))) for name in tree.names(".tsv", ".txt"))
    unlisted = sum(f.reason == "unlisted_image" for f in found if isinstance(f, Rejected))
    tables = (
        sum(isinstance(f, Rejected) and f.source in by_table and "#" not in f.source for f in found)
        - unlisted
    )
    assert len(found) == rows + unlisted + tables
    assert (rows, unlisted, tables) == (222, 4, 10)
    ids = [f.object_id for f in found if isinstance(f, Record)]
    assert len(ids) == len(set(ids)) == 169


def _rows(data: bytes) -> list[bytes]:
    """Data rows of a table with image names, the plain way: it suffices for these files."""
    lines = [line for line in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if line.strip()]
    if not lines or b"img_file_name" not in lines[0]:
        return []
    return [line for line in lines[1:] if b"[t]" not in line]


def test_real_pixels_load_or_say_why(real_data):
    tree = open_tree(real_data / "ecotaxa")
    broken: Counter[str] = Counter()
    for found in ecotaxa.read(tree, ecotaxa.claim(tree), ReadOptions()):
        if isinstance(found, Record):
            try:
                assert found.pixels.load(tree).size
            except RejectedInputError as error:
                broken[error.reason] += 1
    assert sum(broken.values()) == 4  # three LOKI images and a text file named .jpg
