"""Folders of images: labels, groups and times from names, tables with a column map, refusals."""

import io
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from aqqua.instruments import folder, image_table
from aqqua.instruments.image_table import ColumnMapError
from aqqua.instruments.name_patterns import name_facts
from aqqua.instruments.record import Found, ReadOptions, Record, Rejected
from aqqua.instruments.tree import open_tree


def put(root: Path, *names: str) -> None:
    for n, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((5, 6), 50 + n, np.uint8)).save(root / name)


def read(root: Path, **options: Any) -> list[Found]:
    tree = open_tree(root)
    return list(folder.read(tree, folder.claim(tree), ReadOptions(**options)))


def records(found: list[Found]) -> dict[str, Record]:
    return {item.source: item for item in found if isinstance(item, Record)}


def refused(found: list[Found]) -> dict[str, str]:
    return {item.source: item.reason for item in found if isinstance(item, Rejected)}


def test_the_class_is_the_folder_as_written(tmp_path: Path) -> None:
    names = ["Calanus <C5>, fem. cf/ü (1), b.png", "Copepoda__6666/2.png", "images/3.png", "4.png"]
    put(tmp_path, *names)
    (tmp_path / "notes.txt").write_text("not an image")
    found = records(read(tmp_path))
    assert [found[name].label for name in names] == ["Calanus <C5>, fem. cf", "Copepoda__6666", None, None]
    assert [found[name].label_status for name in names] == ["folder", "folder", "unlabelled", "unlabelled"]
    assert set(found) == set(names)
    assert all(item.label is None for item in records(read(tmp_path, label_from_folder=False)).values())
    assert found["4.png"].instrument == "unknown"
    assert found["4.png"].um_per_px is None
    assert found["4.png"].pixels.load(open_tree(tmp_path)).shape == (5, 6)


@pytest.mark.parametrize(
    ("stem", "instrument", "group", "time"),
    [
        ("SPC-PWSSC-1459740420-0486-10-2-1-84-60", "PWSSC", "SPC-PWSSC-1459740420", "2016-04-04T03:27:00"),
        ("SPC-UW-1459740420000123-5-1-2", "SPC", "SPC-UW-1459740420000123", "2016-04-04T03:27:00.000123"),
        ("D20150910T004501_IFCB104_00260-1", "IFCB", "D20150910T004501_IFCB104", "2015-09-10T00:45:01"),
        ("IFCB5_2012_028_081515_00003", "IFCB", "IFCB5_2012_028_081515", "2012-01-28T08:15:15"),
        ("Pia1.2020-10-21.1807+N00456088_hc", "PlanktonImager", "Pia1.2020-10-21.1807", None),
        ("20200108 082108  029  000001 1251 0708", "LOKI", "20200108 082108  029", None),
        ("20240309_022020.993.0", "CPICS", "20240309_022020.993", None),
        ("20210504-073301-123_4", None, "20210504-073301-123", None),
        ("m_20240613T1011Z_PTVR2HM_7_3", "Planktivore", "m_20240613T1011Z_PTVR2HM_7", "2024-06-13T10:11:00"),
        ("D20159910T004501_IFCB104_00260", "IFCB", "D20159910T004501_IFCB104", None),
        ("dolicho_crassum3", None, "", None),
        ("SPC-UW-99999999999999999999-1", None, "", None),
    ],
)  # fmt: skip
def test_names_of_known_cameras(stem: str, instrument: str | None, group: str, time: str | None) -> None:
    told = name_facts(stem)
    assert (told.instrument, told.group) == (instrument, group)
    assert told.time == (datetime.fromisoformat(time).replace(tzinfo=UTC) if time else None)


def test_options_go_before_names_and_registry(tmp_path: Path) -> None:
    put(tmp_path, "D20150910T004501_IFCB104_00001.png")
    (record,) = records(read(tmp_path)).values()
    assert (record.instrument, record.um_per_px) == ("IFCB", pytest.approx(1 / 3.4))
    assert record.sample == record.group == "D20150910T004501_IFCB104"
    (record,) = records(read(tmp_path, instrument="LOKI", um_per_px=2.5, licence="CC0")).values()
    assert (record.instrument, record.um_per_px, record.licence) == ("LOKI", 2.5, "CC0")


def test_a_footer_is_cut_unless_the_instrument_is_known_to_have_none(tmp_path: Path) -> None:
    picture = np.full((71, 114), 255, np.uint8)
    picture[5:30, 20:60] = 90  # the organism
    picture[54:62, 12:40:3] = 0  # text
    picture[64:66, 9:90] = 0  # bar
    Image.fromarray(picture).save(tmp_path / "a.png")
    for instrument, height in ((None, 40), ("Unheard of", 40), ("ZooScan", 40), ("ISIIS", 71)):
        (record,) = records(read(tmp_path, instrument=instrument)).values()
        assert record.pixels.load(open_tree(tmp_path)).shape == (height, 114)


def test_frames_masks_and_backgrounds_are_not_organisms(tmp_path: Path) -> None:
    wrong = ["Background.tif", "x/mask_12.png", "scalebar_100px.png", "full_frames/a.png", "background_2.png"]
    right = ["masked crab/a.png", "x/maskray.png", "backgrounds.png"]
    put(tmp_path, *wrong, *right)
    found = read(tmp_path)
    assert refused(found) == dict.fromkeys(wrong, "not_an_organism")
    assert set(records(found)) == set(right)


HEADER = "path,scale,when,la,lo,z,v,taxon,WoRMS,net,cam,nr"
COLUMNS = dict(
    file="path", um_per_px="scale", time="when", lat="la", lon="lo", depth_m="z", volume_l="v",
    label="taxon", aphia_id="WoRMS", sample="net", group="cam", object_id="nr",
)  # fmt: skip


def test_a_table_fills_the_record(tmp_path: Path) -> None:
    put(tmp_path, "c/a.png", "c/b.png")
    rows = [
        HEADER,
        'c/a.png,10.5,2020-01-02T03:04:05+02:00,-54.5,170,12.5,300,"Calanus, sp.",135336.0,n1,f7,obj 1',
        "C:\\scans\\b.png,,,nan,NA,,,,,n1,,",
    ]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    found = records(read(tmp_path, table="t.csv", columns=COLUMNS))
    one, two = found["c/a.png"], found["c/b.png"]
    assert one.time == datetime(2020, 1, 2, 1, 4, 5, tzinfo=UTC)
    assert (one.um_per_px, one.lat, one.lon, one.depth_m, one.volume_l) == (10.5, -54.5, 170, 12.5, 300)
    assert (one.label, one.label_status, one.aphia_id) == ("Calanus, sp.", "folder", 135336)
    assert (one.sample, one.group, one.object_id) == ("n1", "f7", "obj 1")
    assert (two.um_per_px, two.lat, two.label, two.label_status) == (None, None, None, "unlabelled")
    assert (two.group, two.object_id) == ("n1", "c/b.png")  # no frame known: the sample stays together
    assert records(read(tmp_path, table="t.csv", columns=COLUMNS, um_per_px=7))["c/a.png"].um_per_px == 7


@pytest.mark.parametrize("form", ["semicolon", "tsv", "bom", "utf16", "latin1", "parquet", "cr"])
def test_tables_of_all_kinds(tmp_path: Path, form: str) -> None:
    put(tmp_path, "x/a.png")
    text = "file\tlabel\tlat\tlabel_status\nx/a.png\tDaphnie d'été\t-3.25\tvalidated\n"
    name = "t.tsv" if form == "tsv" else "t.txt"
    if form == "parquet":
        name = "t.parquet"
        table = {
            "file": ["x/a.png"],
            "label": ["Daphnie d'été"],
            "lat": [-3.25],
            "label_status": ["validated"],
        }
        pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / name)
    elif form == "semicolon":
        (tmp_path / name).write_text(text.replace("\t", ";"))
    elif form == "cr":
        (tmp_path / name).write_bytes(text.replace("\n", "\r").encode())
    else:
        encoding = {"bom": "utf-8-sig", "utf16": "utf-16", "latin1": "latin-1", "tsv": "utf-8"}[form]
        (tmp_path / name).write_text(text, encoding=encoding)
    (record,) = read(tmp_path, table=name)
    assert isinstance(record, Record)
    assert (record.label, record.lat, record.label_status) == ("Daphnie d'été", -3.25, "validated")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("um_per_px", "0"), ("um_per_px", "-1"), ("um_per_px", "2000"), ("um_per_px", "inf"),
        ("um_per_px", '"12,5"'), ("lat", "95"), ("lat", "43°0"), ("lon", "200"), ("lon", "1_0"),
        ("depth_m", "99999"), ("volume_l", "0"),
        ("aphia_id", "135336.5"), ("aphia_id", "-9"), ("time", "yesterday"), ("time", "2020-13-01"),
        ("time", "0001-01-01T00:00:00+10:00"), ("label_status", "sure"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_true(tmp_path: Path, field: str, text: str) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text(f"file,{field}\na.png,{text}\n")
    (rejected,) = read(tmp_path, table="t.csv")
    assert isinstance(rejected, Rejected)
    assert (rejected.source, rejected.reason) == ("a.png", "bad_metadata")
    assert rejected.detail.startswith(f"t.csv#2: {field} must be")


def test_rows_and_images_that_do_not_meet(tmp_path: Path) -> None:
    put(tmp_path, "1/a.png", "2/a.png", "b.png", "c.png", "mask.png")
    rows = ["file,label", "a.png,x", "gone.png,x", "b.png,x", "b.png,y", ",x", "c.png", "", "../b.png/.,x"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    found = read(tmp_path, table="t.csv")
    assert set(records(found)) == {"b.png"}
    assert refused(found) == {
        "t.csv#2": "missing_image",  # two images of that name
        "t.csv#3": "missing_image",
        "t.csv#5": "duplicate_id",
        "t.csv#6": "missing_image",
        "t.csv#7": "bad_table",
        "t.csv#9": "missing_image",
        "1/a.png": "unlisted_image",
        "2/a.png": "unlisted_image",
        "c.png": "unlisted_image",
        "mask.png": "not_an_organism",
    }


def test_a_table_speaks_first_of_the_images_beside_it(tmp_path: Path) -> None:
    put(tmp_path, "x40/i/000001.png", "x100/i/000001.png")
    (tmp_path / "x40" / "t.csv").write_text("file,label\n000001,Bosmina\n")
    found = read(tmp_path, table="x40/t.csv")
    assert records(found)["x40/i/000001.png"].label == "Bosmina"
    assert refused(found) == {"x100/i/000001.png": "unlisted_image"}


@pytest.mark.parametrize("data", [b"", b"PAR1 not parquet PAR1", b"\0\1\2" * 50])
@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_broken_tables_refuse_every_image(tmp_path: Path, name: str, data: bytes) -> None:
    put(tmp_path, "a.png", "b.png")
    (tmp_path / name).write_bytes(data)
    if name == "t.csv":  # any bytes are a text; without a file column the user named the wrong table
        with pytest.raises(ColumnMapError, match="must have a column of image files"):
            read(tmp_path, table=name)
    else:
        found = read(tmp_path, table=name)
        assert refused(found) == {name: "bad_table", "a.png": "unlisted_image", "b.png": "unlisted_image"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "absent.csv"}, "table: must be a file"),
        ({"columns": {"lat": "la"}}, "needs a table"),
        ({"table": "t.csv", "columns": {"latitude": "lat"}}, "a field must be one of file, object_id"),
        ({"table": "t.csv", "columns": {"lat": "breite"}}, "lat must be one column of t.csv, got 'breite'"),
        ({"um_per_px": -1.0}, "um_per_px: must be 0.01 to 1000, got -1"),
    ],
)
def test_mistakes_of_the_user_are_told(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text("file,lat\na.png,1\n")
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **options)


def test_mutated_tables_account_for_every_image(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png", "c.png")
    rng = np.random.default_rng(4)
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"file": ["a.png", "b.png"], "lat": [1.0, 2.0]}), stream)
    seeds = {"t.csv": b'file,lat\na.png,1\n"b.png",2.5\n', "t.parquet": stream.getvalue()}
    for n in range(300):
        name, seed = list(seeds.items())[n % 2]
        data = np.frombuffer(seed, np.uint8).copy()
        data[rng.integers(len(data), size=rng.integers(1, 4))] = rng.integers(256)
        (tmp_path / name).write_bytes(data.tobytes())
        try:
            found = read(tmp_path, table=name)
        except ColumnMapError:
            continue
        images = [item.source for item in found if not item.source.startswith("t.")]
        assert sorted(images) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    ("name", "images", "labels", "groups"),
    [
        ("isiis-ndsb.zip", 19_656, 121, 1),
        ("pwssc.zip", 1_736, 34, 1_653),
        ("uvp6/uvpec.zip", 735, 10, 1),
        ("microscopy/lake.zip", 55, 13, 1),
        ("planktonimager/2020_10_21-short.zip", 94, 4, 1),
    ],
)
def test_real_sets(real_data: Path, name: str, images: int, labels: int, groups: int) -> None:
    tree = open_tree(real_data / name)
    found = list(folder.read(tree, folder.claim(tree), ReadOptions()))
    rows = list(records(found).values())
    assert len(rows) == images
    assert len({row.label for row in rows}) == labels
    assert len({row.group for row in rows}) == groups
    assert len({row.object_id for row in rows}) == images
    for row in rows[:: len(rows) // 40 + 1]:
        assert row.pixels.load(tree).dtype == np.uint8


def test_real_plankton_imager_and_lake_tables(real_data: Path) -> None:
    tree = open_tree(real_data / "planktonimager" / "2020_10_21-short.zip")
    found = list(folder.read(tree, folder.claim(tree), ReadOptions()))
    assert list(refused(found).values()) == ["not_an_organism"]
    labels = Counter(row.label for row in records(found).values())
    assert labels == {"Copepoda": 12, "NonCopepoda": 8, "Detritus": 27, None: 47}  # None: the nested copy
    options = ReadOptions(table="x40/anno_list_40.csv", columns={"file": "img_id", "label": "species"})
    tree = open_tree(real_data / "microscopy" / "lake.zip")
    found = list(folder.read(tree, folder.claim(tree), options))
    x40 = [name for name in folder.claim(tree) if name.startswith("x40")]
    assert set(x40) <= set(records(found))
    for name, row in records(found).items():
        assert row.label is None or row.label in name or not name.startswith("x40")


def test_a_line_without_end_is_no_table_and_is_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(image_table, "MAX_LINE", 100)
    (tmp_path / "t.csv").write_text("file,label\n" + "a.png,x\n" * 30 + "b" * 200 + "\n")
    rows = image_table.read_rows(open_tree(tmp_path), "t.csv", {})
    assert [next(rows)[0] for _ in range(30)][-1] == 31
    with pytest.raises(image_table.TableError, match="shorter than 100 characters"):
        next(rows)
