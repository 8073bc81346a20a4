"""Reading back: pixels bit for bit, clear errors for what is no dataset."""

import json
import pickle
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged_files import unsealed
from made_images import Noise

from aqqua.store.read import Dataset
from aqqua.store.verify import info, verify


def number_of(image_id):
    return int(image_id.removeprefix("cruise/image"))


def test_round_trip_is_bit_identical(make_dataset):
    dataset = make_dataset(300)
    ids = dataset.table(["image_id"])["image_id"].to_pylist()
    kinds, row = set(), 0
    for block in dataset.iter_blocks():
        for i in range(len(block)):
            want, got = Noise(number_of(ids[row])).load(None), block.pixels(i)
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
            kinds.add((got.dtype.name, got.ndim))
            row += 1
    assert row == dataset.rows == len(dataset) == 300
    assert kinds == {("uint8", 2), ("uint8", 3), ("uint16", 2), ("uint16", 3)}


def test_sizes_need_no_pixels_and_agree_with_the_block(make_dataset):
    dataset = make_dataset(200)
    assert [dataset.rows_of(block) for block in range(dataset.blocks)] == [64, 64, 64, 8]
    for number in range(dataset.blocks):
        sizes, block = dataset.sizes(number), dataset.block(number)
        table = dataset.table(["um_per_px", "instrument", "key"], blocks=[number])
        np.testing.assert_array_equal(sizes.key, block.sizes.key)
        assert (sizes.key.dtype, sizes.um_per_px.dtype, sizes.box.dtype) == (np.uint64, np.float32, np.int32)
        assert (sizes.background.shape, sizes.box.shape) == ((len(block), 3), (len(block), 4))
        names = [sizes.instrument_names[code] for code in sizes.instrument]
        assert names == table["instrument"].to_pylist()
        known = [value is not None for value in table["um_per_px"].to_pylist()]
        assert (~np.isnan(sizes.um_per_px)).tolist() == known
        shapes = [block.pixels(i).shape[:2] for i in range(len(block))]
        assert shapes == list(zip(sizes.height.tolist(), sizes.width.tolist(), strict=True))


def test_8_bit_pixels_are_views_and_read_only(make_dataset):
    block = make_dataset(64).block(0)
    for i in np.flatnonzero(block.sizes.bits == 8)[:5].tolist():
        assert np.shares_memory(block.pixels(i), block.data)
        with pytest.raises(ValueError, match="read-only"):
            block.pixels(i)[0] = 0


def test_many_threads_and_pickling(make_dataset):
    dataset = pickle.loads(pickle.dumps(make_dataset(300)))
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda b: dataset.block(b % dataset.blocks).sizes.key.tolist(), range(40)))
    assert keys[: dataset.blocks] * 8 == keys


def test_open_says_what_is_wrong(make_dataset, tmp_path):
    dataset = make_dataset(10)
    with pytest.raises(ValueError, match=r"must hold dataset.json"):
        Dataset.open(tmp_path)
    file, manifest = dataset.path / "dataset.json", dict(dataset.manifest)
    file.write_text(json.dumps({**unsealed(manifest), "schema_version": 3}))
    with pytest.raises(ValueError, match="schema version must be at most 2, got 3"):
        Dataset.open(dataset.path)
    file.write_text('{"format": "parquet"}')
    with pytest.raises(ValueError, match="this folder is something else"):
        Dataset.open(dataset.path)
    file.write_text("{")
    with pytest.raises(ValueError, match="must be JSON"):
        Dataset.open(dataset.path)
    file.write_text(json.dumps(unsealed(manifest)))
    (dataset.path / "part-00000.parquet").unlink()
    with pytest.raises(ValueError, match=r"every part must be there, got no part-00000.parquet"):
        Dataset.open(dataset.path)


@pytest.mark.parametrize(
    ("damage", "key"),
    [
        (lambda m: m.pop("rows"), "'rows'"),
        (lambda m: m.update(rows="ten"), "'rows'"),
        (lambda m: m.update(block_rows=0), "'block_rows'"),
        (lambda m: m.pop("instruments"), "'instruments'"),
        (lambda m: m.pop("made_by"), "'made_by'"),
        (lambda m: m.update(parts=None), "'parts'"),
        (lambda m: m["parts"][0].pop("sha256"), "'parts.0.sha256'"),
        (lambda m: m["parts"][0].update(name="../secret.parquet"), "'parts.0.name'"),
        (lambda m: m["counts"].pop("read"), "'counts.read'"),
        (lambda m: m["instruments"]["IFCB"].pop("um_per_px_known_share"), "um_per_px_known_share"),
        (lambda m: m.update(blocks=7), "'blocks'"),
        (lambda m: m["parts"].clear(), "'blocks'"),
    ],
)
@pytest.mark.parametrize("read", [Dataset.open, info, verify])
def test_a_damaged_manifest_names_its_key(make_dataset, damage, key, read):
    path = make_dataset(10).path
    manifest = json.loads((path / "dataset.json").read_text())
    damage(manifest)
    (path / "dataset.json").write_text(json.dumps(unsealed(manifest)))
    with pytest.raises(ValueError, match=r"dataset: .*dataset\.json must hold .*" + re.escape(key)):
        read(path)


def test_opening_costs_no_memory_per_block(make_dataset):
    """3·10⁹ images: 46,000 parts, 5.9 million blocks."""
    manifest, images = make_dataset(10).manifest, 3_000_000_001
    full, blocks = 45_777, -(-images // 512)
    counts = [128] * full + [blocks - 128 * full]
    parts = [{"name": f"part-{i:05d}.parquet", "blocks": count} for i, count in enumerate(counts)]
    manifest = {**manifest, "rows": images, "blocks": blocks, "block_rows": 512, "parts": parts}
    tracemalloc.start()
    dataset = Dataset(Path("far"), manifest)
    assert tracemalloc.get_traced_memory()[1] < 5e6  # bytes; 5.9 million int32 would be 23 MB
    tracemalloc.stop()
    assert dataset.blocks == blocks
    assert (dataset.rows_of(0), dataset.rows_of(blocks - 2), dataset.rows_of(blocks - 1)) == (512, 512, 1)
    assert dataset.place(128 * 45_000 + 5) == ("part-45000.parquet", 5)


def test_wrong_columns_and_blocks_are_refused(make_dataset):
    dataset = make_dataset(10)
    with pytest.raises(ValueError, match=r"columns must be among .* got 'lattitude'"):
        dataset.table(["lattitude"])
    with pytest.raises(IndexError, match="block must be 0 to 0, got 1"):
        dataset.block(1)
    assert dataset.table(["label"], blocks=[]).num_rows == 0


def test_a_lying_size_is_caught_with_file_and_row_group(make_dataset):
    dataset = make_dataset(10)
    path = dataset.path / "part-00000.parquet"
    table = pq.read_table(path)
    heights = table["height"].to_numpy() + (np.arange(10) == 3)
    lie = pa.array(heights.astype(np.int32))
    pq.write_table(
        table.set_column(table.schema.get_field_index("height"), table.schema.field("height"), lie), path
    )
    with pytest.raises(ValueError, match=r"part-00000.parquet row group 0 row 3 must be height"):
        Dataset.open(dataset.path).block(0)
