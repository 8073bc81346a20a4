"""What is held out: whole groups, exact copies together, the same for every dataset and run."""

from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from made_images import Noise, an_input, record

from aqqua.instruments.detect import find
from aqqua.instruments.record import ReadOptions
from aqqua.instruments.tree import open_tree
from aqqua.store.read import Dataset
from aqqua.store.split import held_out
from aqqua.store.write import ingest


def make(path: Path, records: list, **options: int) -> Dataset:
    ingest([an_input(records)], path, **{"block_rows": 64, "workers": 1, **options})
    return Dataset.open(path)


def held(dataset: Dataset, share: float) -> dict[str, bool]:
    """image id → held out."""
    answer: dict[str, bool] = {}
    for block in range(dataset.blocks):
        ids = dataset.table(["image_id"], blocks=[block])["image_id"].to_pylist()
        answer.update(zip(ids, held_out(dataset, block, share).tolist(), strict=True))
    assert len(answer) == dataset.rows
    return answer


def test_groups_are_never_split(tmp_path):
    dataset = make(tmp_path / "a", [record(i, instrument="IFCB") for i in range(600)])  # 60 groups of ten
    sides: dict[int, set[bool]] = {}
    for image_id, out in held(dataset, 0.3).items():
        sides.setdefault(int(image_id.removeprefix("cruise/image")) // 10, set()).add(out)
    assert len(sides) == 60
    assert {len(side) for side in sides.values()} == {1}
    assert 6 <= sum(True in side for side in sides.values()) <= 30


def test_groups_of_one_name_at_two_instruments_are_two_groups(tmp_path):
    dataset = make(tmp_path / "a", [record(i, group=f"g{i // 2}") for i in range(200)])
    answer = held(dataset, 0.5)
    pairs = [(answer[f"cruise/image{i}"], answer[f"cruise/image{i + 1}"]) for i in range(0, 200, 2)]
    assert 20 < sum(a != b for a, b in pairs) < 80


def test_exact_copies_without_a_group_fall_on_the_same_side(tmp_path):
    records = [record(i, group="", pixels=Noise(i % 100)) for i in range(300)]
    answer = held(make(tmp_path / "a", records), 0.5)
    sides = [{answer[f"cruise/image{i + j}"] for j in (0, 100, 200)} for i in range(100)]
    assert {len(side) for side in sides} == {1}
    assert 30 <= sum(True in side for side in sides) <= 70


def test_the_split_does_not_depend_on_blocks_order_or_other_images(tmp_path):
    records = [record(i, group="" if i % 3 else f"g{i // 10}") for i in range(300)]
    whole = held(make(tmp_path / "a", records), 0.25)
    shuffled = held(make(tmp_path / "b", records[::-1], block_rows=7, seed=5), 0.25)
    some = held(make(tmp_path / "c", records[50:120]), 0.25)
    assert shuffled == whole
    assert some == {image_id: whole[image_id] for image_id in some}
    assert len(some) == 70


def test_a_larger_share_holds_out_the_same_images_and_more(tmp_path):
    dataset = make(tmp_path / "a", [record(i, group="") for i in range(500)])
    answers = [held(dataset, share) for share in (0.0, 0.1, 0.5, 1.0)]
    counts = [sum(answer.values()) for answer in answers]
    assert counts[0] == 0
    assert counts[3] == 500
    assert counts[1] == pytest.approx(50, abs=25)
    assert counts[2] == pytest.approx(250, abs=45)
    for smaller, larger in pairwise(answers):
        assert all(larger[image_id] for image_id, out in smaller.items() if out)


def test_the_split_is_fixed_forever(tmp_path):
    """A change of the hash would put training images into every test set."""
    records = [record(i, group=f"bin{i}", instrument="IFCB") for i in range(12)]
    answer = held(make(tmp_path / "a", records), 0.5)
    assert "".join("01"[answer[f"cruise/image{i}"]] for i in range(12)) == "101111111000"


def test_a_fifth_of_real_images_is_held_out(real_data, tmp_path):
    tree = open_tree(real_data / "isiis-ndsb.zip")
    found = list(islice(find(tree, ReadOptions()), 0, None, 5))
    ingest([(tree, iter(found))], tmp_path / "isiis", workers=1)
    dataset = Dataset.open(tmp_path / "isiis")
    assert dataset.rows > 3900
    out = np.concatenate([held_out(dataset, block, 0.2) for block in range(dataset.blocks)])
    assert out.mean() == pytest.approx(0.2, abs=0.02)
