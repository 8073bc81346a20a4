"""Ingest: the same bytes from any number of workers, every input accounted for, nothing half-written."""

import errno
import json
import os
import random
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_images import Noise, an_input, record

from aqqua.instruments.image import EncodedImage
from aqqua.instruments.record import Rejected, Sample
from aqqua.instruments.tree import open_tree
from aqqua.store import parts
from aqqua.store.read import Dataset
from aqqua.store.schema import SCHEMA
from aqqua.store.verify import verify
from aqqua.store.write import ingest


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_bytes_for_any_workers_and_any_input_order(tmp_path):
    found = [record(i, "broken" if i % 97 == 0 else "any") for i in range(700)]
    found += [record(3), Rejected(source="x.png", reason="empty_file", detail="0 bytes")]
    shuffled = random.Random(0).sample(found, len(found))
    ingest([an_input(found)], tmp_path / "one", block_rows=64, workers=1)
    ingest([an_input(found)], tmp_path / "two", block_rows=64, workers=2)
    ingest([an_input(shuffled)], tmp_path / "other_order", block_rows=64, workers=1)
    ingest([an_input(found)], tmp_path / "other_seed", block_rows=64, workers=1, seed=1)
    one = contents(tmp_path / "one")
    assert one == contents(tmp_path / "two")
    assert one == contents(tmp_path / "other_order")
    assert one["part-00000.parquet"] != contents(tmp_path / "other_seed")["part-00000.parquet"]


def test_every_block_is_a_fair_sample(make_dataset):
    dataset = make_dataset(1000)
    labels = [int(label.removeprefix("label")) for label in dataset.table(["label"])["label"].to_pylist()]
    assert Counter(Counter(labels).values()) == {50: 20}
    together = sum(a == b for a, b in pairwise(labels))
    assert together < 100  # 950 as listed, 49 by chance
    for start in range(0, 896, 64):
        assert len(set(labels[start : start + 64])) >= 14  # of 20


@pytest.mark.parametrize("images", [200, 300, 500])
@pytest.mark.parametrize("workers", [1, 2])
def test_row_groups_are_whole_over_several_parts(tmp_path, monkeypatch, images, workers):
    monkeypatch.setattr(parts, "BLOCKS_PER_PART", 3)
    monkeypatch.setattr(parts, "LEAST_BLOCKS", 2)  # several parts side by side, several groups of them
    found = [record(i) for i in range(images)]
    report = ingest([an_input(found)], tmp_path / "d", block_rows=32, workers=workers)
    files = [pq.ParquetFile(f).metadata for f in sorted((tmp_path / "d").glob("part-*.parquet"))]
    groups = [[file.row_group(g).num_rows for g in range(file.num_row_groups)] for file in files]
    flat = [rows for group in groups for rows in group]
    assert flat == [32] * (images // 32) + [images % 32]
    assert max(map(len, groups)) <= 3
    assert len(groups) > 2
    assert (report.blocks, report.parts) == (len(flat), len(files))
    dataset = Dataset.open(tmp_path / "d")
    assert [dataset.rows_of(block) for block in range(dataset.blocks)] == flat
    assert sorted(dataset.table(["image_id"])["image_id"].to_pylist()) == sorted(
        f"cruise/image{i}" for i in range(images)
    )
    assert pq.read_schema(tmp_path / "d" / "part-00000.parquet").equals(SCHEMA)
    assert verify(tmp_path / "d", deep=True) == []


def test_read_is_accepted_plus_quarantined(tmp_path):
    found = [
        *(record(i) for i in range(20)),
        record(20, "broken"),
        record(21, "crash"),
        record(22, "float"),
        record(23, lat=95.0),
        record(24, um_per_px=0.0),
        record(25, time=datetime(2020, 1, 1)),
        record(5, source="again.png"),
        Rejected(source="readme.txt", reason="unlisted_image", detail="no table speaks of it"),
        Sample(sample="s0", instrument="IFCB", images=27, volume_l=0.005, facts={"Exp": "1.136"}),
    ]
    report = ingest([an_input(found)], tmp_path / "d", workers=1)
    assert (report.read, report.accepted, report.quarantined) == (28, 20, 8)
    rows = pq.read_table(tmp_path / "d" / "quarantine.parquet").to_pylist()
    assert (
        Counter(row["reason"] for row in rows)
        == report.reasons
        == {
            "unreadable_image": 1,
            "io_error": 1,
            "unsupported_image": 1,
            "bad_metadata": 3,
            "duplicate_id": 1,
            "unlisted_image": 1,
        }
    )
    assert {row["input"] for row in rows} == {"cruise"}
    assert [row["source"] for row in rows if row["reason"] == "duplicate_id"] == ["folder/image5.png"]
    samples = pq.read_table(tmp_path / "d" / "samples.parquet").to_pylist()
    assert samples[0]["facts"] == [("Exp", "1.136")]
    assert samples[0]["triggers"] is None


def test_metadata_survives(tmp_path):
    facts = {
        "time": datetime(2021, 5, 6, 7, 8, 9, 123000, tzinfo=UTC),
        **{"lat": -54.5, "lon": 179.25, "depth_m": 12.5, "volume_l": 0.25, "aphia_id": 104464},
        **{"licence": "CC-BY-4.0", "label": "Čalanus\udcff", "label_status": "validated", "um_per_px": 3.4},
    }
    ingest([an_input([record(0, **facts), record(1, label=None)])], tmp_path / "d", workers=1)
    columns = [name for name in SCHEMA.names if name not in ("pixels", "content")]
    rows = {row["image_id"]: row for row in Dataset.open(tmp_path / "d").table(columns).to_pylist()}
    row = rows["cruise/image0"]
    for name in ("time", "lat", "lon", "depth_m", "volume_l", "aphia_id", "licence", "label_status"):
        assert row[name] == facts[name]
    assert row["label"] == "Čalanus?"
    assert row["um_per_px"] == pytest.approx(3.4)
    unknown = rows["cruise/image1"]
    assert [unknown[name] for name in ("label", "time", "lat", "depth_m", "um_per_px")] == [None] * 5


def test_equal_pixels_are_reported_and_two_labels_flagged(tmp_path):
    found = [record(i) for i in range(10)]
    found += [record(100, pixels=Noise(4), label=None), record(101, pixels=Noise(7), label="other")]
    report = ingest([an_input(found)], tmp_path / "d", workers=1)
    rows = pq.read_table(tmp_path / "d" / "duplicates.parquet").to_pylist()
    flags = {row["image_id"].removeprefix("cruise/"): row["two_labels"] for row in rows}
    assert flags == {"image4": False, "image100": False, "image7": True, "image101": True}
    assert {row["images"] for row in rows} == {2}
    assert (report.duplicate_groups, report.two_label_groups) == (2, 1)


def test_manifest_statistics_are_those_of_the_pixels(make_dataset):
    dataset = make_dataset(60)
    loaded = [Noise(i).load(None) for i in range(60) if i % 2]
    facts = dataset.manifest["instruments"]["UVP6"]
    values = np.concatenate([pixels.ravel() for pixels in loaded]).astype(np.float64)
    assert facts["images"] == 30
    assert facts["grey"]["16_bit"]["mean"] == pytest.approx(values.mean())
    assert facts["grey"]["16_bit"]["std"] == pytest.approx(values.std())
    assert facts["pixel_bytes"] == sum(pixels.nbytes for pixels in loaded)
    assert facts["height_px"]["max"] == max(len(pixels) for pixels in loaded)
    assert dataset.manifest["instruments"]["IFCB"]["um_per_px_known_share"] == 0.5


def test_a_crash_leaves_nothing(tmp_path):
    def dies_half_way():
        yield from (record(i) for i in range(600))
        raise KeyboardInterrupt

    for workers in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            ingest([an_input(dies_half_way())], tmp_path / "d", workers=workers)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_between_chunks_leaves_nothing(tmp_path, workers):
    def interrupt(_stage, _done, _total):
        raise KeyboardInterrupt

    found = [record(i) for i in range(1500)]
    with pytest.raises(KeyboardInterrupt):
        ingest([an_input(found)], tmp_path / "d", workers=workers, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parts.pq.ParquetWriter, "write_table", full)
    with pytest.raises(RuntimeError, match=r"must have room .* No space left on device; free some space"):
        ingest([an_input([record(0)])], tmp_path / "d", workers=1)
    assert list(tmp_path.iterdir()) == []


def test_refuses_an_output_that_holds_something(tmp_path):
    (tmp_path / "d").mkdir()
    ingest([an_input([record(0)])], tmp_path / "d", workers=1)  # an empty folder is taken
    before = contents(tmp_path / "d")
    with pytest.raises(ValueError, match="must be a new or empty folder"):
        ingest([an_input([record(0)])], tmp_path / "d", workers=1)
    assert contents(tmp_path / "d") == before


def test_refuses_two_inputs_of_one_name_and_inputs_without_images(tmp_path):
    first, second = an_input([record(0)]), an_input([record(1)])
    second[0].root = tmp_path / "elsewhere"
    with pytest.raises(ValueError, match="inputs must have different names"):
        ingest([first, second], tmp_path / "d", workers=1)
    with pytest.raises(ValueError, match="at least one image must be readable, got 1 read"):
        ingest([an_input([record(0, "broken")])], tmp_path / "d", workers=1)
    assert list(tmp_path.iterdir()) == []


def test_manifest_counts_and_progress(tmp_path):
    seen = []
    ingest(
        [an_input([record(i) for i in range(300)])],
        tmp_path / "d",
        workers=1,
        progress=lambda *step: seen.append(step),
        command="aqqua ingest cruise",
    )
    manifest = json.loads((tmp_path / "d" / "dataset.json").read_text())
    assert manifest["counts"] == {"read": 300, "accepted": 300, "quarantined": 0, "quarantined_by_reason": {}}
    assert manifest["made_by"]["command"] == "aqqua ingest cruise"
    assert seen[:3] == [("decode", 256, None), ("decode", 300, None), ("decode", 300, 300)]
    assert {stage for stage, _, _ in seen[3:]} == {"write"}
    assert seen[-1] == ("write", 300, 300)


def test_progress_ends_at_its_total_with_repeated_ids(tmp_path):
    seen = []
    found = [record(i % 90) for i in range(100)]
    ingest([an_input(found)], tmp_path / "d", workers=1, progress=lambda *step: seen.append(step))
    assert seen[-1] == ("write", 100, 100)


def test_workers_where_the_system_cannot_tell_its_cores(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert ingest([an_input([record(0)])], tmp_path / "d").accepted == 1


def test_real_images_survive_bit_for_bit(real_data, tmp_path):
    tree = open_tree(real_data / "pwssc.zip")
    names = list(tree.names(".png"))[::20]
    found = [record(i, object_id=n, source=n, pixels=EncodedImage(n)) for i, n in enumerate(names)]
    report = ingest([(tree, iter(found))], tmp_path / "d", workers=2)
    assert report.accepted == len(names)
    dataset = Dataset.open(tmp_path / "d")
    sources = dataset.table(["source"])["source"].to_pylist()
    rows = (block.pixels(i) for block in dataset.iter_blocks() for i in range(len(block)))
    for source, pixels in zip(sources, rows, strict=True):
        np.testing.assert_array_equal(pixels, EncodedImage(source).load(tree))
