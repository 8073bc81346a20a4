"""Original files in a dataset: the same images as without, damage found, replaced and named."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged_files import unsealed
from made_images import NoiseFile, an_input, record
from PIL import Image

from aqqua.ingest import ingest_paths, report_lines
from aqqua.instruments import original
from aqqua.instruments.footer import footer_rows
from aqqua.instruments.record import ReadOptions
from aqqua.store import unpack as unpack_module
from aqqua.store.manifest import file_sha256
from aqqua.store.prefetch import BlockReader, ReadConfig
from aqqua.store.read import DamagedError, Dataset
from aqqua.store.schema import ENCODED_SCHEMA, SCHEMA
from aqqua.store.split import NAMING
from aqqua.store.substitute import read_served, substitutes
from aqqua.store.verify import info, verify
from aqqua.store.write import ingest

PART = "part-00000.parquet"
MakeTwo = Callable[..., tuple[Dataset, Dataset]]


@pytest.fixture
def make_two(tmp_path: Path) -> MakeTwo:
    """Datasets of the same images, without and with their files, in blocks of 64."""

    def make(count: int = 300) -> tuple[Dataset, Dataset]:
        for keep in (False, True):
            found = [record(i, pixels=NoiseFile(i)) for i in range(count)]
            ingest([an_input(found)], tmp_path / str(keep), block_rows=64, keep_encoded=keep, workers=1)
        return Dataset.open(tmp_path / "False"), Dataset.open(tmp_path / "True")

    return make


def assert_same_images(plain: Dataset, kept: Dataset) -> None:
    assert plain.blocks == kept.blocks
    for number in range(plain.blocks):
        (want, names), (got, again) = (d.block_with(number, ["image_id", *NAMING]) for d in (plain, kept))
        assert names.equals(again)
        np.testing.assert_array_equal(want.offsets, got.offsets)
        np.testing.assert_array_equal(want.data, got.data)
        for field in want.sizes.__slots__:
            np.testing.assert_array_equal(getattr(want.sizes, field), getattr(got.sizes, field), field)
        for i in range(len(want)):
            assert (want.pixels(i).dtype, want.pixels(i).shape) == (got.pixels(i).dtype, got.pixels(i).shape)
            np.testing.assert_array_equal(want.pixels(i), got.pixels(i))
            assert not got.pixels(i).flags.writeable


def rewrite(path: Path, row: int, **values: object) -> None:
    """Other values in a row of the first part, with checksums that vouch for them."""
    table = pq.read_table(path / PART)
    for name, value in values.items():
        column = table[name].to_pylist()
        column[row] = value
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(column, field.type))
    pq.write_table(table, path / PART, row_group_size=64, write_page_checksum=True)
    manifest = json.loads((path / "dataset.json").read_text())
    manifest["parts"][0] |= {"bytes": (path / PART).stat().st_size, "sha256": file_sha256(path / PART)}
    (path / "dataset.json").write_text(json.dumps(unsealed(manifest)))


def row_with(dataset: Dataset, form: str | None, block: int = 1) -> int:
    """A row of a block that holds a file of this format."""
    return 64 * block + dataset.table(["format"], [block])["format"].to_pylist().index(form)


def file_at(dataset: Dataset, row: int) -> bytes:
    return dataset.table(["encoded"], [row // 64])["encoded"][row % 64].as_py()


# the same images


def test_the_same_images_in_the_same_order(make_two):
    plain, kept = make_two()
    assert_same_images(plain, kept)
    assert (plain.manifest["schema_version"], kept.manifest["schema_version"]) == (1, 2)
    assert pq.read_schema(plain.path / PART).equals(SCHEMA)
    assert pq.read_schema(kept.path / PART).equals(ENCODED_SCHEMA)
    for key in ("rows", "blocks", "counts", "pixel_bytes", "instruments", "duplicates"):
        assert plain.manifest[key] == kept.manifest[key]
    rows = pq.read_table(
        kept.path / PART, columns=["pixels", "encoded", "format", "channels", "bits"]
    ).to_pylist()
    for row in rows:
        held = {name for name in ("pixels", "encoded", "format") if row[name] is not None}
        deep_colour = (row["channels"], row["bits"]) == (3, 16)
        assert held == ({"pixels"} if deep_colour else {"encoded", "format"})
    assert (verify(plain.path, deep=True), verify(kept.path, deep=True)) == ([], [])


def test_info_counts_files_by_format(make_two):
    plain, kept = make_two(200)
    table = kept.table(["format", "encoded"]).to_pylist()
    files = {name: [row["encoded"] for row in table if row["format"] == name] for name in ("PNG", "TIFF")}
    want = {name: {"images": len(kind), "bytes": sum(map(len, kind))} for name, kind in files.items()}
    assert info(kept.path)["encoded"] == want
    assert info(plain.path)["encoded"] == {}
    assert "encoded" not in plain.manifest
    with pytest.raises(ValueError, match=r"columns must be among .* got 'encoded'"):
        plain.table(["encoded"])


def test_the_bytes_do_not_depend_on_workers(tmp_path):
    for workers in (1, 2):
        found = [record(i, pixels=NoiseFile(i)) for i in range(600)]
        ingest([an_input(found)], tmp_path / str(workers), keep_encoded=True, workers=workers)
    assert file_sha256(tmp_path / "1" / PART) == file_sha256(tmp_path / "2" / PART)


@pytest.mark.parametrize("keep", [False, True])
def test_images_without_files_stay_pixels(tmp_path, keep):
    ingest([an_input([record(i) for i in range(70)])], tmp_path / "d", keep_encoded=keep, workers=1)
    dataset = Dataset.open(tmp_path / "d")
    assert len(dataset.block(0)) == 70
    assert info(dataset.path)["encoded"] == {}
    assert verify(dataset.path, deep=True) == []


def real_folder(real_data: Path, folder: Path) -> Path:
    """A few images of each kind: grey and RGB JPEG, PNG and TIFF, grey of 16 bits, and a palette."""
    sets = ["isiis-ndsb", "uvp6/uvpec", "pwssc", "flowcam-vickot", "microscopy/lake", "ecotaxa/import_test"]
    folder.mkdir()
    for name in [*sets, "zooscan/ecotaxa_ml_template/images"]:
        with zipfile.ZipFile(real_data / f"{name}.zip") as archive:
            inside = [n for n in archive.namelist() if n.lower().endswith((".png", ".jpg"))]
            for number, member in enumerate(inside[:: len(inside) // 12 + 1]):
                target = folder / f"{name.replace('/', '-')}-{number}{Path(member).suffix}"
                target.write_bytes(archive.read(member))
    tiffs = [*(real_data / "planktonimager").glob("*.tif"), *(real_data / "spc").glob("*.tif")]
    for path in tiffs:
        (folder / path.name).write_bytes(path.read_bytes())
    deep = Image.open(real_data / "spc" / "case_1_blob.tif")
    deep.save(folder / "deep.png")
    grey = Image.fromarray((np.asarray(deep) >> 8).astype(np.uint8))
    grey.save(folder / "grey.tif")
    grey.quantize(8).save(folder / "palette.png")
    return folder


def levels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_real_images_of_all_formats(real_data, tmp_path):
    folder = real_folder(real_data, tmp_path / "in")
    for keep in (False, True):
        out = tmp_path / str(keep)
        report = ingest_paths([str(folder)], out, ReadOptions(), keep_encoded=keep, workers=1)
    plain, kept = (Dataset.open(tmp_path / str(keep)) for keep in (False, True))
    assert_same_images(plain, kept)
    assert verify(kept.path, deep=True) == []
    rows = kept.table(["source", "format", "encoded", "bits", "channels"]).to_pylist()
    for row in rows:
        if row["encoded"] is not None:
            assert row["encoded"] == (folder / row["source"]).read_bytes()
    kinds = {(row["format"], row["bits"], row["channels"]) for row in rows}
    assert kinds == {
        *((form, 8, channels) for form in ("JPEG", "PNG", "TIFF") for channels in (1, 3)),
        *(("PNG", 16, 1), ("TIFF", 16, 1), (None, 8, 1)),
    }
    pixels = {row["source"] for row in rows if row["format"] is None}
    cut = {path.name for path in folder.iterdir() if path.suffix == ".jpg" and footer_rows(levels(path))}
    assert len(cut) > 10, "EcoTaxa and ZooScan burn a strip under their pictures, which is cut off"
    assert pixels == {"palette.png"} | cut
    assert any("kept as the original JPEG" in line for line in report_lines(report))


# damage


def test_a_file_that_no_longer_decodes_is_a_bad_block(make_two):
    _, whole = make_two()
    row = row_with(whole, "PNG")
    stands = next(substitutes(1, whole.blocks))
    want = whole.block(stands)
    data = file_at(whole, row)
    rewrite(whole.path, row, encoded=data[: len(data) // 2])
    dataset = Dataset.open(whole.path)
    assert len(dataset.block(0)) == 64
    with pytest.raises(
        DamagedError, match=rf"{PART} row group 1 row {row - 64} must hold a PNG of .*, got trunc"
    ):
        dataset.block(1)
    served = read_served(dataset, 1)
    np.testing.assert_array_equal(served.block.data, want.data)
    assert (served.bad.block, served.bad.row_group, served.bad.replacement) == (1, 1, stands)
    assert f"row {row - 64} must hold a PNG" in served.bad.error


@pytest.mark.parametrize("threads", [0, 2])
def test_the_reader_of_training_counts_and_names_it(make_two, threads):
    _, whole = make_two()
    rewrite(whole.path, row_with(whole, "TIFF"), encoded=b"II*\0")
    dataset = Dataset.open(whole.path)
    reader = BlockReader(dataset, ReadConfig(read_threads=threads), NAMING)
    reader.follow(range(dataset.blocks))
    bad = [reader.bad(number) for number in range(dataset.blocks)]
    assert [number for number, found in enumerate(bad) if found] == [1]
    want = dataset.block(bad[1].replacement)
    np.testing.assert_array_equal(reader.block(1).data, want.data)
    np.testing.assert_array_equal(reader.sizes(1).key, want.sizes.key)
    reader.close()


def other_png(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"encoded": other_png(50, 50)}, "got unsupported_image: 50×50 pixels instead of"),
        ({"encoded": b"\x89PNG and more"}, "got unreadable_image"),
        ({"encoded": b""}, "got empty_file"),
        ({"format": "TIFF"}, "got unreadable_image: not a TIFF file"),
        ({"format": "EPS"}, "got unsupported_format: format 'EPS'"),
        ({"bits": 16}, "instead of"),
        ({"height": 0}, "must be height × width × channels"),
        ({"channels": 2}, "must be height × width × channels"),
        ({"pixels": b"\0"}, "must hold pixels, or encoded and format, got pixels and encoded and format"),
        ({"format": None}, "must hold pixels, or encoded and format, got encoded"),
        ({"encoded": None}, r"must be height × width × channels .* got 0"),
        ({"height": 1 << 16, "width": 1 << 15}, "must begin a block of at most"),
    ],
)
def test_a_row_that_lies_is_damage(make_two, values, said):
    _, kept = make_two(100)
    bits = kept.table(["bits", "format"], [0]).to_pylist()
    row = bits.index({"bits": 8, "format": "PNG"})
    rewrite(kept.path, row, **values)
    with pytest.raises(DamagedError, match=said):
        Dataset.open(kept.path).block(0)
    problems = verify(kept.path, deep=True)
    assert problems[0].file == PART
    assert "row group 0 row" in problems[0].detail


def test_a_bomb_is_refused_by_what_is_declared(make_two, monkeypatch):
    _, kept = make_two(100)
    monkeypatch.setattr(unpack_module, "MAX_PIXELS", 2)
    monkeypatch.setattr(original, "decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DamagedError, match="at most 2 pixels, got"):
        kept.block(0)


def test_no_memory_is_no_damage(make_two, monkeypatch):
    def full(*_arguments: object) -> np.ndarray:
        raise MemoryError("none left")

    _, kept = make_two(100)
    monkeypatch.setattr(unpack_module, "decode_original", full)
    with pytest.raises(MemoryError, match="none left"):
        read_served(kept, 0)


def test_verify_finds_a_file_of_another_image_and_wrong_counts(make_two):
    _, kept = make_two(100)
    rows = kept.table(["image_id", "format", "height", "width", "channels", "bits"], [0]).to_pylist()
    row = next(i for i, r in enumerate(rows) if (r["format"], r["channels"], r["bits"]) == ("PNG", 1, 8))
    rewrite(kept.path, row, encoded=other_png(rows[row]["height"], rows[row]["width"]))
    assert verify(kept.path) == []
    found = {problem.file: problem.detail for problem in verify(kept.path, deep=True)}
    assert (
        f"row group 0 row {row} ({rows[row]['image_id']}): pixels must have the content hash" in found[PART]
    )
    assert "encoded must be" in found["dataset.json"]


@pytest.mark.parametrize("version", [1, 2])
def test_a_manifest_must_fit_its_parts(make_two, version):
    plain, kept = make_two(100)
    path = (kept, plain)[version - 1].path
    manifest = json.loads((path / "dataset.json").read_text())
    (path / "dataset.json").write_text(json.dumps({**unsealed(manifest), "schema_version": version}))
    assert [p.detail.split(",")[0] for p in verify(path)] == [
        f"must have the columns of schema version {version}"
    ]
    with pytest.raises(DamagedError, match="row group 0 must be readable, got"):
        Dataset.open(path).block(0)
