"""An ingest on several machines: the same bytes as on one, and nothing left when a worker dies."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from made_images import Noise, NoiseFile, an_input, record

from aqqua.ingest import ingest_paths
from aqqua.instruments.record import ReadOptions
from aqqua.instruments.tree import Tree
from aqqua.sample import write_sample
from aqqua.spread import Engine
from aqqua.store import machines, parts, shuffle
from aqqua.store.decode import CHUNK
from aqqua.store.machines import decode_on_machines, write_parts_on_machines
from aqqua.store.manifest import MANIFEST
from aqqua.store.verify import verify
from aqqua.store.write import ingest


@dataclass(frozen=True)
class KillsItsParent(Noise):
    """The worker itself is lost, not only the process in which it decodes."""

    def load(self, _tree: Tree) -> np.ndarray:
        os.kill(os.getppid(), 9)
        return super().load(_tree)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def said_of(folder: Path) -> dict[str, object]:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["made_by"]["command"], manifest["seal"]
    return manifest


@pytest.fixture(scope="module")
def ocean(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ocean") / "ocean"
    write_sample(folder, 90)
    return folder


@pytest.fixture(scope="module")
def alone(ocean) -> Path:
    """The dataset that one process of this machine makes."""
    ingest_paths([str(ocean)], ocean.with_name("alone"), ReadOptions(), workers=1)
    return ocean.with_name("alone")


@pytest.mark.parametrize("keep_encoded", [False, True])
def test_the_sample_ocean_comes_to_the_same_bytes_whoever_works(
    ocean, alone, ray_cluster, tmp_path, monkeypatch, keep_encoded
):
    monkeypatch.chdir(ocean.parent)
    how: list[dict[str, object]] = [{"workers": 3}, {"workers": 2, "engine": ray_cluster.name}]
    if keep_encoded:
        how.insert(0, {"workers": 1})
    for number, chosen in enumerate(how):
        out = tmp_path / str(number)
        ingest_paths(["ocean"], out, ReadOptions(), keep_encoded=keep_encoded, command=str(chosen), **chosen)
    same = tmp_path / "0"
    for out in [tmp_path / str(number) for number in range(1, len(how))] + ([] if keep_encoded else [alone]):
        made, wanted = bytes_of(out), bytes_of(same)
        assert said_of(out) == said_of(same)
        assert {name: made[name] == wanted[name] for name in wanted if name != MANIFEST} == {
            name: True for name in made if name != MANIFEST
        }
        assert verify(out, deep=True) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(n) for n in range(len(how))]


def images(count: int) -> Iterator:
    """Some are refused, some repeat an id, some the pixels of another."""
    for i in range(count):
        if i % 97 == 5:
            yield record(i, "broken")
        elif i % 50 == 7:
            yield record(i - 1, pixels=NoiseFile(i))  # the same id again
        elif i % 40 == 3:
            yield record(i, pixels=NoiseFile(i - 1), label="other")
        else:
            yield record(i, pixels=NoiseFile(i))


def test_many_groups_of_parts_and_split_buckets_come_to_the_same_bytes(tmp_path, monkeypatch):
    """Without Ray: the pieces are the same whoever works on them."""
    monkeypatch.setattr(parts, "LEAST_BLOCKS", 2)
    monkeypatch.setattr(parts, "MAX_WIDTH", 3)
    monkeypatch.setattr(parts, "BLOCKS_PER_PART", 4)
    monkeypatch.setattr(shuffle, "LOAD_BYTES", 40_000)
    monkeypatch.setattr(machines, "RUN_ROWS", 7)
    monkeypatch.setattr(machines, "TASK_RECORDS", 2 * CHUNK)
    found = list(images(1500))
    inputs = [(found[:700], "a"), (found[700:], "b")]
    ingest([an_input(*one) for one in inputs], tmp_path / "one", block_rows=8, workers=1)

    engine = Engine()
    monkeypatch.setattr("aqqua.store.write.decode_chunks", lambda *a: decode_on_machines(*a[:3], engine))
    monkeypatch.setattr(
        "aqqua.store.write.write_parts",
        lambda *a: write_parts_on_machines(*a[:5], engine, a[6]),
    )
    seen: list[tuple[str, int, int | None]] = []
    report = ingest(
        [an_input(*one) for one in inputs], tmp_path / "many", block_rows=8, workers=1,
        progress=lambda *at: seen.append(at),
    )  # fmt: skip
    assert report.parts > 2 * 3
    assert report.reasons["duplicate_id"] > 10
    assert report.reasons["unreadable_image"] > 10
    assert report.duplicate_groups > 10
    assert seen[-1][0] == "write"
    assert seen[-1][1] == seen[-1][2] == report.read - report.reasons["unreadable_image"]
    assert bytes_of(tmp_path / "many") == bytes_of(tmp_path / "one")


@pytest.mark.usefixtures("ray_cluster")
def test_a_hostile_image_costs_itself_on_ray_too(tmp_path):
    found = [record(i, "dies" if i == 30 else "any") for i in range(60)]
    report = ingest([an_input(found)], tmp_path / "d", block_rows=8, engine="ray", workers=2)
    assert report.reasons == {"unreadable_image": 1}
    assert report.accepted == 59


@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_that_dies_on_ray_leaves_nothing_and_is_told_of(tmp_path):
    found = [record(i, pixels=KillsItsParent(i) if i == 30 else Noise(i)) for i in range(60)]
    with pytest.raises(RuntimeError, match=r"engine ray: workers must stay alive, got .*fewer workers"):
        ingest([an_input(found)], tmp_path / "d", block_rows=8, engine="ray", workers=2)
    assert list(tmp_path.iterdir()) == []


def test_ray_wants_to_know_how_many_work(tmp_path):
    with pytest.raises(ValueError, match="workers must be given with engine ray, got none; set 16"):
        ingest([an_input([record(0)])], tmp_path / "d", engine="ray")
    with pytest.raises(ValueError, match="workers must be given with engine ray, got none; add --workers"):
        ingest_paths([str(tmp_path)], tmp_path / "d", ReadOptions(), engine="ray")
