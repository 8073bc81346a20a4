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
from PIL import Image

from aqqua.evaluate.features import pixel_features
from aqqua.instruments.detect import find
from aqqua.instruments.image import EncodedImage
from aqqua.instruments.record import ReadOptions, Record
from aqqua.instruments.tree import open_tree
from aqqua.store.read import Dataset
from aqqua.store.release import export_release
from aqqua.store.write import ingest
from aqqua.train import checkpoint
from aqqua.train.folder import CHECKPOINTS
from aqqua.train.loop import pretrain
from aqqua.train.settings import PretrainConfig

MakeConfig = Callable[..., PretrainConfig]
KINDS = (("PNG", "png"), ("JPEG", "jpg"), ("TIFF", "tif"), ("BMP", "bmp"))
TIMES = {"images_per_s", "tokens_per_s", "step_s", "waiting_share"}


@pytest.fixture(scope="module")
def datasets(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The blobs as files of four formats, three of which are kept: without and with the files."""
    folder = tmp_path_factory.mktemp("originals")
    (folder / "in").mkdir()
    pixels = [block.pixels(i) for block in Dataset.open(dataset).iter_blocks() for i in range(len(block))]
    names = []
    for number, image in enumerate(pixels):
        form, suffix = KINDS[number % len(KINDS)]
        names.append(f"blob{number}.{suffix}")
        Image.fromarray(image).save(folder / "in" / names[-1], form)
    for out in ("plain", "kept"):
        records = (
            Record(
                object_id=name, pixels=EncodedImage(name), instrument="ISIIS", sample="s",
                um_per_px=68.0, group=f"g{i // 10}", source=name,
            )
            for i, name in enumerate(names)
        )  # fmt: skip
        found = [(open_tree(folder / "in"), records)]
        ingest(found, folder / out, block_rows=64, keep_encoded=out == "kept", workers=1)
    return folder / "plain", folder / "kept"


def trained(make_config: MakeConfig, run: Path, dataset: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Metrics of four steps, but for times, and all tensors of the last checkpoint."""
    pretrain(make_config(run, data={"path": dataset}, train={"max_steps": 4}))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    saved = checkpoint.load_newest(run / CHECKPOINTS)
    assert saved is not None
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines], saved.tensors


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
