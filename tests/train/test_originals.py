"""Training from original files is training from their pixels, bit for bit, with a damaged block too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from damaged_files import damaged_copy
from filed_blobs import FiledBlobs
from same_run import numbers, saved

from aqqua.evaluate.contenders.pixels import pixel_features
from aqqua.instruments.detect import find
from aqqua.instruments.record import ReadOptions
from aqqua.instruments.tree import open_tree
from aqqua.store.read import Dataset
from aqqua.store.release import export_release
from aqqua.store.write import ingest
from aqqua.train.loop import pretrain
from aqqua.train.settings import PretrainConfig

MakeConfig = Callable[..., PretrainConfig]


@pytest.fixture(scope="module")
def datasets(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The blobs as files of four formats, three of which are kept: without and with the files."""
    folder = tmp_path_factory.mktemp("originals")
    files = FiledBlobs(dataset, folder / "in")
    return files.ingest(folder / "plain", keep_encoded=False), files.ingest(
        folder / "kept", keep_encoded=True
    )


def trained(make_config: MakeConfig, run: Path, dataset: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Metrics of four steps, but for times, and all tensors of the last checkpoint."""
    pretrain(make_config(run, data={"path": dataset}, train={"max_steps": 4}))
    return numbers(run), saved(run).tensors


def assert_same(make_config: MakeConfig, folder: Path, plain: Path, kept: Path) -> list[dict[str, Any]]:
    (want, weights), (got, again) = (
        trained(make_config, folder / f"run-{path.name}", path) for path in (plain, kept)
    )  # fmt: skip
    assert len(want) == 4
    assert got == want
    assert [name for name in weights if not torch.equal(weights[name], again[name])] == []
    return want


def test_the_same_losses_and_weights(make_config, tmp_path, datasets):
    kept = Dataset.open(datasets[1]).manifest["encoded"]
    assert set(kept) == {"PNG", "JPEG", "TIFF"}
    assert {name: facts["images"] for name, facts in kept.items()} == dict.fromkeys(
        ("PNG", "JPEG", "TIFF"), 75
    )
    assert [line["bad_blocks"] for line in assert_same(make_config, tmp_path, *datasets)] == [0] * 4


def test_the_same_features_and_release(tmp_path, datasets):
    plain, kept = (Dataset.open(path) for path in datasets)
    for number in range(plain.blocks):
        np.testing.assert_array_equal(pixel_features(plain, number), pixel_features(kept, number))
    again = []
    for dataset in (plain, kept):
        export_release(dataset, tmp_path / dataset.path.name)
        tree = open_tree(tmp_path / dataset.path.name, label="release")
        ingest([(tree, find(tree, ReadOptions(), None))], tmp_path / f"{dataset.path.name}-again", workers=1)
        again.append(Dataset.open(tmp_path / f"{dataset.path.name}-again"))
    hashes = [set(one.table(["content"])["content"].to_pylist()) for one in (plain, kept, *again)]
    assert hashes == [hashes[0]] * 4
    assert len(hashes[0]) == 300


def test_a_file_that_fails_late_is_replaced_counted_and_named(make_config, tmp_path, datasets):
    """As is a block of pixels with a flipped bit: by the same one, with the same losses."""
    plain = damaged_copy(datasets[0], tmp_path / "damaged-plain", [2])
    kept = damaged_copy(datasets[1], tmp_path / "damaged-kept", [])
    part = kept / "part-00000.parquet"
    table = pq.read_table(part)
    files, row = table["encoded"].to_pylist(), 2 * 64 + table["format"].to_pylist()[2 * 64 :].index("JPEG")
    files[row] = files[row][:-200]
    place = table.schema.get_field_index("encoded")
    table = table.set_column(place, table.schema.field(place), pa.array(files, pa.large_binary()))
    pq.write_table(table, part, row_group_size=64, write_page_checksum=True)

    lines = assert_same(make_config, tmp_path, plain, kept)
    assert lines[-1]["bad_blocks"] == 1
    notes = [
        json.loads((tmp_path / f"run-{path.name}" / "bad_blocks.jsonl").read_text()) for path in (plain, kept)
    ]
    assert f"row group 2 row {row - 128} must hold a JPEG of" in notes[1].pop("error")
    assert "could not verify page" in notes[0].pop("error")
    assert notes[0] == notes[1]
    assert notes[0]["block"] == 2
