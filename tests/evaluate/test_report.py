"""The split is honest (groups, copies, statuses, rare classes), and an evaluation says what it did."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from aqqua.evaluate.models import load_embedder, save_embedder
from aqqua.evaluate.report import DEFAULT_HOLDOUT, evaluate, split_labelled
from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.read import Dataset
from aqqua.store.split import held_out as held_out_rows
from aqqua.store.write import ingest

KNN = [f"{kind} k={k}" for kind in ("kNN", "whitened kNN") for k in (1, 5, 20)]


@dataclass(frozen=True)
class Numbered:
    """A small picture that is nobody else's."""

    number: int

    def load(self, _tree: Tree) -> np.ndarray:
        return np.random.default_rng(self.number).integers(0, 255, (3, 5), np.uint8)


def made(folder: Path, facts: list[dict]) -> Dataset:
    """A dataset of records, in blocks of 32; `content` numbers the picture."""
    records = [
        Record(
            object_id=f"o{i}",
            pixels=Numbered(f.get("content", i)),
            instrument=f.get("instrument", "IFCB"),
            um_per_px=None,
            sample="",
            group=f.get("group", ""),
            label=f.get("label", "a"),
            label_status=f.get("status", "validated"),
        )
        for i, f in enumerate(facts)
    ]
    ingest([(Tree(root=Path("m"), label="m"), iter(records))], folder, block_rows=32, workers=1)
    return Dataset.open(folder)


def column(dataset: Dataset, name: str) -> np.ndarray:
    return np.array(dataset.table([name])[name].to_pylist(), object)


def test_groups_never_cross(tmp_path):
    facts = [
        {"group": f"g{i % 40}", "instrument": ("IFCB", "UVP6")[i // 40 % 2], "label": "ab"[i % 2]}
        for i in range(400)
    ]
    dataset = made(tmp_path / "d", facts)
    split = split_labelled(dataset, 0.3)
    names = column(dataset, "instrument") + "/" + column(dataset, "group")
    assert not set(names[split.train]) & set(names[split.test])
    assert len(split.train) + len(split.test) == 400
    assert 0.1 < len(split.test) / 400 < 0.5
    assert split.names == ["a", "b"]
    np.testing.assert_array_equal(split.label, column(dataset, "label") == "b")


def test_a_larger_share_holds_out_the_same_groups_and_more(tmp_path):
    dataset = made(tmp_path / "d", [{"group": f"g{i}"} for i in range(200)])
    small, large = split_labelled(dataset, 0.2), split_labelled(dataset, 0.4)
    assert set(small.test) < set(large.test)


def test_copies_of_training_images_leave_the_test(tmp_path):
    """Every picture is in two groups; where one is trained on, the other is no test."""
    facts = [{"group": f"g{i}", "content": i % 100} for i in range(200)]
    dataset = made(tmp_path / "d", facts)
    split = split_labelled(dataset, 0.5)
    content = column(dataset, "content")
    assert not set(content[split.train]) & set(content[split.test])
    gone = split.left_out["exact copy of a training image"]
    assert gone > 20
    assert len(split.train) + len(split.test) + gone == 200


def test_unlabelled_copies_that_pretraining_saw_leave_the_test_too(tmp_path):
    labelled = [{"group": f"g{i}", "content": i} for i in range(100)]
    unlabelled = [{"group": f"u{i}", "content": i, "label": None, "status": "unlabelled"} for i in range(100)]
    dataset = made(tmp_path / "d", labelled + unlabelled)
    split = split_labelled(dataset, 0.5)
    content, group = column(dataset, "content"), column(dataset, "group")
    held_out = set(group[split.test])
    tested = np.concatenate([held_out_rows(dataset, block, 0.5) for block in range(dataset.blocks)])
    assert held_out
    assert not set(content[split.test]) & set(content[~tested])


def test_copies_without_a_group_stay_together(tmp_path):
    dataset = made(tmp_path / "d", [{"content": i % 60} for i in range(120)])
    split = split_labelled(dataset, 0.4)
    assert split.left_out["exact copy of a training image"] == 0
    assert len(split.train) + len(split.test) == 120


def test_untrusted_labels_do_not_count(tmp_path):
    statuses = ["validated", "folder", "predicted", "dubious", "discarded"]
    facts: list[dict] = [{"status": statuses[i % 5]} for i in range(200)]
    facts += [{"status": "unlabelled", "label": None} for _ in range(10)]
    dataset = made(tmp_path / "d", facts)
    split = split_labelled(dataset, 0.3)
    used = np.concatenate([split.train, split.test])
    assert set(column(dataset, "label_status")[used]) == {"validated", "folder"}
    assert len(used) == 80
    assert split.left_out["label not trusted"] == 120
    assert split.left_out["no label"] == 10


def test_classes_with_too_few_training_images_are_not_asked_for(tmp_path):
    facts = [{"label": "common"} for _ in range(100)] + [{"label": f"rare{i}"} for i in range(7)]
    dataset = made(tmp_path / "d", facts)
    split = split_labelled(dataset, 0.3)
    assert split.names == ["common"]
    assert split.left_out["class with under 2 training images"] == 7
    labels = column(dataset, "label")
    assert set(labels[np.concatenate([split.train, split.test])]) == {"common"}
    assert (split.label[labels != "common"] == -1).all()


@pytest.mark.parametrize("holdout", [0.0, 1.0, float("nan")])
def test_an_empty_side_is_refused(tmp_path, holdout):
    dataset = made(tmp_path / "d", [{} for _ in range(20)])
    with pytest.raises(ValueError, match=r"must hold labelled images, got .* choose another --holdout"):
        split_labelled(dataset, holdout)


def test_no_labels_at_all(tmp_path):
    dataset = made(tmp_path / "d", [{"label": None, "status": "unlabelled"} for _ in range(20)])
    with pytest.raises(ValueError, match="got 0 to learn from and 0 to test on"):
        split_labelled(dataset, 0.3)


def test_an_evaluation_of_a_run(tiny_run, sample_dataset):
    result = evaluate(tiny_run, sample_dataset, against=["untrained", "pixels"])
    assert list(result.scores) == ["model", "untrained", "pixels"]
    for probes in result.scores.values():
        assert list(probes) == [*KNN, "linear"]
        assert all(0 <= s.macro_f1 <= 1 and 0 <= s.accuracy <= 1 for s in probes.values())
    about = result.about
    split = split_labelled(Dataset.open(sample_dataset), 0.3)
    assert about["holdout"] == 0.3  # the run's
    assert about["test_images_unseen_in_pretraining"] is True
    counts = about["train_images"], about["test_images"], about["classes"]
    assert counts == (len(split.train), len(split.test), len(split.names))
    assert list(result.margins) == ["untrained", "pixels"]
    for name, margins in result.margins.items():
        assert list(margins) == [*KNN, "linear"]
        for probe, (low, high) in margins.items():
            ahead = result.scores["model"][probe].macro_f1 - result.scores[name][probe].macro_f1
            assert low <= ahead <= high
    lines = result.lines()
    assert len(lines) == 2 + 3 * 7
    assert sum(" to " in line for line in lines[2:]) == 2 * 7
    again = evaluate(tiny_run, sample_dataset, against=["untrained", "pixels"])
    assert again.as_dict() == result.as_dict()


def test_a_larger_holdout_than_the_run_s_is_not_called_unseen(tiny_run, sample_dataset, tmp_path):
    result = evaluate(tiny_run, sample_dataset, against=[], holdout=0.5, linear=False)
    assert result.about["test_images_unseen_in_pretraining"] is False
    assert list(result.scores) == ["model"]
    assert list(result.scores["model"]) == KNN
    assert result.margins == {}
    save_embedder(load_embedder(tiny_run), tmp_path / "m.safetensors")
    exported = evaluate(tmp_path / "m.safetensors", sample_dataset, against=[], linear=False)
    assert exported.about["holdout"] == DEFAULT_HOLDOUT
    assert exported.about["test_images_unseen_in_pretraining"] is False  # nobody can know
