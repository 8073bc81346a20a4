"""Contamination: what an evaluation would know again is found, in another dataset and in this one."""

import json

import numpy as np
import pytest
from held_pictures import CHANGES, column, hold, organism

from aqqua.curate.copies import contamination
from aqqua.curate.copies.contamination import ContaminationConfig, write_contamination
from aqqua.curate.copies.evaluation_set import EvaluationSet
from aqqua.curate.images.signatures import write_signatures

CONFIG = ContaminationConfig()


@pytest.fixture
def signed(tmp_path):
    def make(name, pictures, facts=None):
        dataset = hold(tmp_path / name, pictures, facts)
        return dataset, write_signatures(dataset, tmp_path / f"{name}-signed")

    return make


def test_copies_of_another_set_are_found_whatever_group_and_instrument(signed, tmp_path, monkeypatch):
    monkeypatch.setattr(contamination, "TILE", 5)
    pictures = [organism(n) for n in range(40)]
    changes = list(CHANGES.values())
    copies = [np.ascontiguousarray(changes[i % 7](pictures[i])) for i in range(14)] + [pictures[14]]
    facts = [{"group": f"g{i}", "instrument": "IFCB"} for i in range(15)]
    others = [organism(n) for n in range(100, 120)]
    dataset, signatures = signed("train", pictures)
    evaluation = EvaluationSet(*signed("test", copies + others, facts + [{}] * 20))
    out = write_contamination(
        dataset, signatures, evaluation, tmp_path / "out", CONFIG, report=tmp_path / "report.json"
    )
    ids = column(out, "evaluation_id")
    assert ids == {f"image{i}": f"held/image{i}" if i < 15 else None for i in range(40)}
    assert column(out, "near_evaluation") == {name: one is not None for name, one in ids.items()}
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["images"] == {"evaluation": 0, "exact": 1, "near": 14, "embedding": 0}
    assert report["evaluation_images"] == 35
    assert report["evaluation_images_hit"] == 15
    assert report["examples"]["exact"] == [{"image_id": "held/image14", "evaluation_id": "held/image14"}]
    assert set(report["hits_of"]) == {f"held/image{i}" for i in range(15)}


def test_a_set_within_the_dataset_is_marked_with_what_is_near_it(signed, tmp_path):
    a, b, c = organism(1), organism(2), organism(3)
    facts = [{"group": g} for g in ("test", "", "train", "train", "train")]
    dataset, signatures = signed("data", [a, b, a[::-1], b, c], facts)
    evaluation = EvaluationSet(dataset, signatures, frozenset({"held/image1"}), frozenset({"test"}))
    out = write_contamination(dataset, signatures, evaluation, tmp_path / "out", CONFIG)
    assert column(out, "evaluation_id") == {
        "image0": "held/image0",
        "image1": "held/image1",
        "image2": "held/image0",
        "image3": "held/image1",
        "image4": None,
    }


def test_an_evaluation_set_without_images_is_refused(signed, tmp_path):
    dataset, signatures = signed("data", [organism(1)])
    evaluation = EvaluationSet(dataset, signatures, frozenset({"nobody"}))
    with pytest.raises(ValueError, match="evaluation set must have images"):
        write_contamination(dataset, signatures, evaluation, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="embeddings of both must be given"):
        write_contamination(
            dataset, signatures, EvaluationSet(dataset, signatures), tmp_path / "out",
            ContaminationConfig(cosine=0.9),
        )  # fmt: skip


@pytest.mark.parametrize("pixels", [np.zeros((1, 1), np.uint8), np.full((30, 30), 9, np.uint16)])
def test_constant_images_are_near_equal_ones_alone(signed, tmp_path, pixels):
    dataset, signatures = signed("data", [pixels, pixels + 1, organism(1)])
    evaluation = EvaluationSet(*signed("test", [pixels]))
    out = write_contamination(dataset, signatures, evaluation, tmp_path / "out", CONFIG)
    assert column(out, "near_evaluation") == {"image0": True, "image1": False, "image2": False}
