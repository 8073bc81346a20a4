"""What is noted comes from all ranks; rank 0 alone writes it."""

import json
from typing import Any

import pytest

from aqqua.store.read import Dataset
from aqqua.store.substitute import BadBlock
from aqqua.train import metrics
from aqqua.train.backend import LateImage
from aqqua.train.journal import SKIPPED, Journal
from aqqua.train.metrics import METRICS
from aqqua.train.ranks import Place, Ranks


class Told(Ranks):
    """A rank of two, whose peer says what it is told to say."""

    def __init__(self, rank: int, peer: Any = None) -> None:
        super().__init__(Place(rank, 2))
        self.peer = peer

    def _both(self, mine: Any, theirs: Any) -> list[Any]:
        return [mine, theirs] if self.first else [theirs, mine]

    def table(self, numbers):
        """Counts of damaged blocks and of late images: of the peer's, the rows it is told to say."""
        rows = [row for row in self.peer or [] if isinstance(row, dict)]
        theirs = [sum("replacement" in row for row in rows), sum("blank" in row for row in rows)]
        return self._both(list(numbers), theirs)

    def gather(self, value):
        return self._both(value, self.peer)


@pytest.fixture(scope="module")
def dataset(sample_dataset) -> Dataset:
    return Dataset.open(sample_dataset)


def bad(block: int) -> BadBlock:
    return BadBlock(block, "part-0.parquet", 1, "torn", 9)


def test_damaged_blocks_of_all_ranks_are_noted_once(dataset, tmp_path, capsys):
    ranks = Told(0, [vars_of(bad(4))])
    with Journal(tmp_path, 0, 100, False, ranks, dataset) as journal:
        journal.damage(3, [bad(2)], [])
        journal.damage(4, [bad(2)], [])
    noted = [json.loads(line) for line in (tmp_path / "bad_blocks.jsonl").read_text().splitlines()]
    assert [(row["step"], row["block"]) for row in noted] == [(3, 2), (3, 4)]
    assert capsys.readouterr().err.count("is damaged") == 2


def test_files_that_fail_late_on_any_rank_are_noted_once(dataset, tmp_path, capsys):
    theirs = {"block": 0, "row": 7, "key": 9, "blank": True, "error": "torn"}
    with Journal(tmp_path, 0, 100, False, Told(0, [theirs]), dataset) as journal:
        for step in (3, 4):
            journal.damage(step, [], [LateImage(0, 2, 5, blank=False, error="odd")])
    noted = [json.loads(line) for line in (tmp_path / "late_images.jsonl").read_text().splitlines()]
    assert [(row["step"], row["row"], row["stands"]) for row in noted] == [(3, 2, "strict"), (3, 7, "blank")]
    assert capsys.readouterr().err.count("cannot be decoded by DALI") == 2


def test_that_late_images_are_only_counted_from_now_on_is_said_once(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(metrics, "NAMED_IMAGES", 2)
    with Journal(tmp_path, 0, 100, False, Told(0), dataset) as journal:
        for step in (3, 4, 5):
            journal._ranks.peer = [{"block": 0, "row": step, "key": 9, "blank": True, "error": "torn"}]
            journal.damage(step, [], [])
    said = capsys.readouterr().err
    assert said.count("cannot be decoded by DALI") == 2
    assert said.count("are counted, not named") == 1


def vars_of(found: BadBlock) -> dict[str, Any]:
    return {name: getattr(found, name) for name in BadBlock.__slots__}


def test_pace_and_instruments_are_those_of_all_ranks(dataset, tmp_path):
    ranks = Told(0, [30, 200, 400, 0.0, 0.0, {"IFCB": 30}])
    with Journal(tmp_path, 0, 100, False, ranks, dataset) as journal:
        journal.meter._images, journal.meter._tokens, journal.meter._room = 10, 100, 200
        journal.meter._instruments.update({"IFCB": 4, "UVP6": 6})
        journal.numbers(1, {"loss": 2.0})
    row = json.loads((tmp_path / METRICS).read_text())
    assert row["instruments"] == {"IFCB": 34, "UVP6": 6}
    assert row["fill"] == 0.5
    assert row["images_per_s"] * 300 == pytest.approx(row["tokens_per_s"] * 40)  # 40 images, 300 tokens
    assert row["bad_blocks"] == 0


def test_a_skipped_step_names_the_images_of_all_ranks(dataset, tmp_path):
    with Journal(tmp_path, 0, 100, False, Told(0, ["c"]), dataset) as journal:
        assert journal.skipped(5, ["a", "b"]) == ["a", "b", "c"]
    assert json.loads((tmp_path / SKIPPED).read_text()) == {"step": 5, "images": ["a", "b", "c"]}


def test_another_rank_writes_and_says_nothing(dataset, tmp_path, capsys):
    with Journal(tmp_path, 0, 100, True, Told(1, ["c"]), dataset) as journal:
        journal.say("headline")
        assert journal.skipped(5, ["a"]) == ["c", "a"]
        journal._ranks.peer = [1, 1, 1, 0.0, 0.0, {}]
        journal.numbers(1, {"loss": 2.0})
        journal._ranks.peer = [vars_of(bad(1))]
        journal.damage(2, [], [])
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")
