"""Leaves of a large cell: every candidate lies in a pair of leaves that is looked at, once."""

import numpy as np
import pytest

from aqqua.curate.copies import leaves
from aqqua.curate.copies.leaves import near_tiles
from aqqua.curate.copies.looks import LOOK, candidates
from aqqua.curate.copies.verify import SamePicture

RULE = SamePicture()


def made_looks(count: int, seed: int = 0) -> np.ndarray:
    """Smooth pictures of which every fourth is nearly that before it."""
    draw = np.random.default_rng(seed)
    looks = np.zeros(count, LOOK)
    y, x = np.mgrid[:16, :16] / 16
    for i in range(count):
        waves = draw.normal(size=(6, 4)) * (1, 6, 6, 3)
        picture = sum(w[0] * np.cos(w[1] * x + w[2] * y + w[3]) for w in waves)
        looks["picture"][i] = np.clip(128 + 40 * picture, 0, 255)
    looks["order"], looks["short"] = draw.integers(30, 40, count), draw.integers(20, 30, count)
    looks["mean"], looks["deviation"] = draw.uniform(0, 200, count), draw.lognormal(3, 0.5, count)
    looks["wide"] = draw.random(count) < 0.1
    looks["content"] = draw.integers(0, 2**60, (count, 2))
    for name in ("order", "short", "wide", "mean", "picture"):
        looks[name][3::4] = looks[name][2::4][: len(looks[3::4])]
    looks["deviation"][3::4] = looks["deviation"][2::4][: len(looks[3::4])] * 1.29
    looks["order"][3::4] += 2
    looks["mean"][3::4] = (looks["mean"][3::4] + 2.99) / 0.98
    looks["row"] = np.arange(count)
    return looks


def pairs_of(looks: np.ndarray, rule: SamePicture) -> list[tuple]:
    found = [
        candidates(left, right, same, rule, by_content=True)
        for left, right, same in near_tiles(looks, np.arange(len(looks)), rule)
    ]
    return sorted(np.concatenate(found)[["a", "b"]].tolist())


@pytest.mark.parametrize("rule", [RULE, SamePicture(size_px=0), SamePicture(size_px=5, gain=1)])
@pytest.mark.parametrize("size", [3, 16])
def test_leaves_lose_no_candidate_and_give_none_twice(monkeypatch, rule, size):
    looks = made_looks(400)
    every = sorted(candidates(looks, looks, True, rule, by_content=True)[["a", "b"]].tolist())
    monkeypatch.setattr(leaves, "LEAF", size)
    monkeypatch.setattr(leaves, "TILE", 4 * size)
    assert pairs_of(looks, rule) == every
    if rule is RULE:
        assert len(every) >= 60


def test_most_leaves_of_sparse_data_are_never_compared(monkeypatch):
    monkeypatch.setattr(leaves, "LEAF", 16)
    compared = []
    for count in (400, 1600):
        looks = made_looks(count)
        tiles = near_tiles(looks, np.arange(count), RULE)
        compared.append(sum(len(left) * len(right) for left, right, _ in tiles))
    assert compared[0] < 0.5 * 400**2
    assert compared[1] < 12 * compared[0]  # less than the square
