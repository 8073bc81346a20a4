"""The synthetic sample: same seed same bytes, files that keep their formats' rules, counts that add up.

Over 300 lines in one file, because all tests read the one sample that is written once.
"""

import csv
import hashlib
import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqqua.instruments.detect import find
from aqqua.instruments.record import ReadOptions, Record, Rejected, RejectedInputError, Sample
from aqqua.instruments.tree import open_tree
from aqqua.sample import TRAPS_REFUSED, part_counts, write_sample
from aqqua.sample.class_folders import AWKWARD_NAME
from aqqua.sample.community import TAXA, draw_length_um
from aqqua.sample.ifcb_bins import OLD_BIN
from aqqua.sample.optics import FLOWCAM, IFCB, ISIIS, UVP6, ZOOSCAN, portray

IMAGES = 160
CAMERAS = {"ifcb": IFCB, "zooscan": ZOOSCAN, "uvp6": UVP6, "isiis": ISIIS, "flowcam": FLOWCAM}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> dict[str, Path]:
    return write_sample(tmp_path_factory.mktemp("sample") / "out", IMAGES, seed=3)


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _adc_rows(adc: Path) -> list[list[str]]:
    return [line.split(",") for line in adc.read_text("ascii").splitlines()]


def _bins(folder: Path) -> list[Path]:
    return sorted(path.with_suffix("") for path in folder.rglob("*.hdr"))


def _tables(path: Path) -> dict[str, list[dict[str, str]]]:
    """Tables of the export, type row first."""
    with zipfile.ZipFile(path) as archive:
        return {
            name: list(csv.DictReader(io.StringIO(archive.read(name).decode("latin-1")), delimiter="\t"))
            for name in archive.namelist()
            if name.endswith(".tsv")
        }


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path):
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    write_sample(first, 60, seed=5)
    write_sample(again, 60, seed=5)
    write_sample(other, 60, seed=6)
    assert _hashes(first) == _hashes(again)
    common = set(_hashes(first).items()) & set(_hashes(other).items())
    empty = hashlib.sha256(b"").hexdigest()
    pictured = (".roi", ".zip", ".png", ".jpg", ".tif")
    assert [name for name, digest in common if name.endswith(pictured) and digest != empty] == []


def test_counts_sum_to_images_and_progress_reaches_the_end(tmp_path):
    calls: list[tuple[int, int]] = []
    write_sample(tmp_path / "out", 73, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 73) for done in range(1, 74)]
    for images in (50, 73, 1999, 2000):
        assert sum(part_counts(images).values()) == images


def test_refuses_a_folder_with_something_in_it(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(ValueError, match="must be absent or empty"):
        write_sample(tmp_path, 60)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_refuses_too_few_images(tmp_path):
    with pytest.raises(ValueError, match="at least 50, got 49"):
        write_sample(tmp_path / "out", 49)
    assert not (tmp_path / "out").exists()


def test_new_ifcb_bins_are_contiguous_from_0(sample):
    images = empty = without_image = 0
    for stem in (stem for stem in _bins(sample["ifcb"]) if stem.name != OLD_BIN):
        assert stem.parent.name == stem.name[:9]
        rows, offset = _adc_rows(stem.with_suffix(".adc")), 0
        for row in rows:
            assert len(row) == 24
            width, height, start = int(row[15]), int(row[16]), int(row[17])
            assert start == offset
            assert (width > 0) == (height > 0)
            offset += width * height
            images += width > 0
            without_image += width == 0
        assert stem.with_suffix(".roi").stat().st_size == offset
        empty += not rows
    assert empty == 1
    assert images + _old_images(sample["ifcb"]) == part_counts(IMAGES)["ifcb"]
    assert without_image > images


def _old_images(folder: Path) -> int:
    (adc,) = folder.rglob(f"{OLD_BIN}.adc")
    return sum(int(row[11]) > 0 for row in _adc_rows(adc))


def test_old_ifcb_bin_starts_at_1_and_ends_with_one_spare_byte(sample):
    (adc,) = sample["ifcb"].rglob(f"{OLD_BIN}.adc")
    rows, offset = _adc_rows(adc), 1
    for row in rows:
        assert len(row) == 16
        assert row[-1] == ""
        assert int(row[13]) == offset
        offset += int(row[11]) * int(row[12])
    assert adc.with_suffix(".roi").stat().st_size == offset + 1
    assert any(int(row[11]) == 0 for row in rows)
    triggers = [row[0] for row in rows if int(row[11])]
    assert len(triggers) > len(set(triggers)), "one flash shows two bodies"


def test_ifcb_header_agrees_with_the_last_row(sample):
    for stem in (stem for stem in _bins(sample["ifcb"]) if stem.name.startswith("D")):
        lines = stem.with_suffix(".hdr").read_text("ascii").splitlines()
        header = dict(line.split(": ", 1) for line in lines)
        assert len(header["ADCFileFormat"].split(",")) == 24
        assert header["sampleTime"].replace("-", "").replace(":", "") == f"{stem.name.split('_')[0][1:]}Z"
        for row in _adc_rows(stem.with_suffix(".adc"))[-1:]:
            assert float(header["runTime"]) == pytest.approx(float(row[22]), rel=1e-3)
            assert float(header["inhibitTime"]) == pytest.approx(float(row[23]), rel=1e-3)


def test_ifcb_pixels_are_organisms_on_grey(sample):
    stem = next(stem for stem in _bins(sample["ifcb"]) if stem.with_suffix(".roi").stat().st_size > 9)
    raw = stem.with_suffix(".roi").read_bytes()
    for row in _adc_rows(stem.with_suffix(".adc")):
        width, height, start = map(int, row[15:18])
        if width:
            pixels = np.frombuffer(raw, np.uint8, width * height, start).reshape(height, width)
            border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            assert 155 < np.median(border) < 225
            assert np.median(border) - pixels.min() > 15


def test_ecotaxa_tables_have_types_and_name_their_pictures(sample):
    tables = _tables(sample["ecotaxa_zooscan"])
    with zipfile.ZipFile(sample["ecotaxa_zooscan"]) as archive:
        pictures = {name for name in archive.namelist() if name.endswith(".jpg")}
    named: list[str] = []
    for name, (types, *rows) in tables.items():
        assert name.startswith("ecotaxa_")
        assert set(types.values()) == {"[t]", "[f]"}
        assert all(None not in row and None not in row.values() for row in rows)
        assert all(row["process_particle_pixel_size_mm"] == "0.0106" for row in rows)
        named += [row["img_file_name"] for row in rows]
    assert len(named) == len(set(named))
    assert len(set(named) & pictures) == part_counts(IMAGES)["ecotaxa_zooscan"]
    assert len(set(named) - pictures) == 1
    assert pictures - set(named) == {"baie_2024_03_12/not_in_the_table.jpg"}


def test_ecotaxa_statuses_coordinates_and_encoding(sample):
    tables = _tables(sample["ecotaxa_zooscan"])
    statuses = Counter(row["object_annotation_status"] for rows in tables.values() for row in rows[1:])
    assert statuses["validated"] > 0.7 * statuses.total()
    assert statuses["predicted"] > 0
    in_degrees_minutes = [rows for rows in tables.values() if "°" in rows[1]["object_lat"]]
    assert len(in_degrees_minutes) == 1
    assert in_degrees_minutes[0][0]["object_lat"] == "[t]"
    with zipfile.ZipFile(sample["ecotaxa_zooscan"]) as archive, pytest.raises(UnicodeDecodeError):
        archive.read("ecotaxa_large_2024_05_19.tsv").decode("utf-8")


def test_ecotaxa_pictures_carry_the_footer_and_measures_fit(sample):
    rows = [row for table in _tables(sample["ecotaxa_zooscan"]).values() for row in table[1:-1]]
    with zipfile.ZipFile(sample["ecotaxa_zooscan"]) as archive:
        for row in rows[:25]:
            image = Image.open(io.BytesIO(archive.read(row["img_file_name"])))
            assert image.mode == "RGB"
            assert image.width >= 114
            grey = np.asarray(image)[..., 0]
            bar = (grey[-31:] < 100).sum(axis=1).max()
            assert 92 <= bar <= 96, "1 mm is 94 px"
            if row["object_area"]:
                area, esd = float(row["object_area"]), float(row["object_esd"])
                assert esd == pytest.approx(2 * np.sqrt(area / np.pi), rel=1e-4)
                assert int(row["object_height"]) <= image.height - 31


def test_uvp6_project_has_calibration_and_one_frame_per_vignette(sample):
    profiles = sorted((sample["uvp6"] / "ecodata").iterdir())
    vignettes = 0
    for profile in profiles:
        with zipfile.ZipFile(profile / f"{profile.name}_Particule.zip") as archive:
            ini = archive.read("metadata.ini").decode("latin-1")
            lines = archive.read("particules.csv").decode("ascii").splitlines()
        assert {"[HW_CONF]", "[ACQ_CONF]", "[sample_metadata]", "Aa=2300.000", "Exp=1.136"} <= set(
            ini.split("\r\n")
        )
        assert "°" in ini
        assert lines[0].startswith("HW_CONF,")
        assert lines[2].startswith("ACQ_CONF,")
        frames = {line.split(",")[0].rsplit("-", 1)[0]: line.split(":", 1)[1] for line in lines[3:]}
        with zipfile.ZipFile(profile / f"{profile.name}_Images.zip") as archive:
            for name in archive.namelist():
                image = Image.open(io.BytesIO(archive.read(name)))
                vignettes += 1
                area = int((np.asarray(image) > 21).sum())
                cells = frames[Path(name).stem.split("_")[0]].rstrip(";").split(";")
                assert max(area, 1) in {int(cell.split(",")[0]) for cell in cells}
                assert np.median(np.asarray(image)) < 10, "black background"
    assert vignettes == part_counts(IMAGES)["uvp6"]
    header = next((sample["uvp6"] / "meta").iterdir()).read_text("latin-1").splitlines()
    assert "0.0023" in header[1].split(";")
    assert len(header) == 1 + len(profiles)


def test_isiis_is_white_and_holds_its_traps(sample):
    files = sorted(sample["isiis"].glob("*/*.jpg"))
    good = [path for path in files if path.stat().st_size]
    assert len(files) - len(good) == 1
    assert len(good) == part_counts(IMAGES)["isiis"]
    for path in good:
        image = Image.open(path)
        assert image.mode == "L"
        pixels = np.asarray(image)
        assert np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])) == 255
    (awkward,) = sample["isiis"].glob(f"*/{AWKWARD_NAME}")
    twins = [path for path in good if path.read_bytes() == awkward.read_bytes()]
    assert len({path.parent.name for path in twins}) == len(twins) == 2


def test_flowcam_boxes_lie_inside_the_collage_and_do_not_overlap(sample):
    (lst,) = sample["flowcam"].rglob("*.lst")
    lines = lst.read_text("ascii").splitlines()
    fields = int(lines[1].removeprefix("num-fields|"))
    names = [line.split("|")[0] for line in lines[2 : 2 + fields]]
    rows = [dict(zip(names, line.split("|"), strict=True)) for line in lines[2 + fields :]]
    assert lines[0] == "017"
    assert len(rows) == part_counts(IMAGES)["flowcam"]
    collage = Image.open(lst.with_name(rows[0]["collage_file"]))
    taken = np.zeros((collage.height, collage.width), int)
    for row in rows:
        x, y, width, height = (int(row[f"image_{side}"]) for side in "xywh")
        assert 0 <= x < x + width <= collage.width
        assert 0 <= y < y + height <= collage.height
        taken[y : y + height, x : x + width] += 1
    assert collage.mode == "RGB"
    assert taken.max() == 1
    assert not np.asarray(collage)[taken == 0].any()


def test_most_images_are_labelled(sample):
    folders = sum(path.stat().st_size > 0 for path in sample["isiis"].glob("*/*.jpg"))
    folders += len(list(sample["ifcb_labelled"].glob("*/*.png"))) - 1
    rows = [row for table in _tables(sample["ecotaxa_zooscan"]).values() for row in table[1:]]
    validated = sum(row["object_annotation_status"] == "validated" for row in rows)
    assert folders + validated >= 0.6 * IMAGES


@pytest.mark.parametrize("name", TAXA)
@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_every_taxon_can_be_seen_by_every_camera(name, camera):
    background = {IFCB: 190, UVP6: 0}.get(camera, 255)
    for seed in range(4):
        portrait = portray(np.random.default_rng(seed), camera, name, background)
        height, width = portrait.pixels.shape[:2]
        assert portrait.pixels.dtype == np.uint8
        assert 4 < height <= camera.sides_px[1]
        assert 4 < width <= camera.sides_px[1]
        assert np.ptp(portrait.pixels) > 8


def test_a_taxon_has_one_size_in_um_at_all_instruments():
    taxon = TAXA["Copepoda"]
    shared = (1000.0, 6000.0)  # µm both can hold
    lengths = [
        draw_length_um(np.random.default_rng(seed), taxon, shared) / taxon.length_um for seed in range(200)
    ]
    assert 1.0 < np.median(lengths) < 1.6
    for camera in (ZOOSCAN, UVP6):
        widest = max(
            max(portray(np.random.default_rng(seed), camera, "Copepoda", 0).density.shape) * camera.um_per_px
            for seed in range(12)
        )
        assert 1500 < widest < 16_000


@pytest.mark.parametrize("part", ["ifcb", "ifcb_labelled", "ecotaxa_zooscan", "uvp6", "isiis", "flowcam"])
def test_readers_accept_all_but_the_traps(sample, part):
    tree = open_tree(sample[part])
    reasons: list[str] = []
    accepted: list[Record] = []
    samples: list[Sample] = []
    for found in find(tree, ReadOptions()):
        if isinstance(found, Rejected):
            reasons.append(found.reason)
        elif isinstance(found, Sample):
            samples.append(found)
        else:
            try:
                pixels = found.pixels.load(tree)
            except RejectedInputError as error:
                reasons.append(error.reason)
            else:
                assert pixels.ndim == (3 if part == "flowcam" else 2)
                assert pixels.size > 0
                accepted.append(found)
    assert sorted(reasons) == sorted(TRAPS_REFUSED.get(part, []))
    assert len(accepted) == part_counts(IMAGES)[part]
    um_per_px = {"ifcb": 1 / 3.4, "ecotaxa_zooscan": 10.6, "uvp6": 73.0, "flowcam": 0.5544}
    if part in um_per_px:
        assert [record.um_per_px for record in accepted] == pytest.approx([um_per_px[part]] * len(accepted))
        assert sum(found.images for found in samples) == len(accepted)
        assert all(record.group for record in accepted)
    if part == "ifcb":
        assert 0 in [found.images for found in samples]
    if part == "ecotaxa_zooscan":
        latitudes = {round(record.lat, 4) for record in accepted if record.lat is not None}
        assert latitudes == {43.6853, 43.375, 16.9021}
