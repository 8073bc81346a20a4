"""Leaves of a large cell: every candidate lies in a pair of leaves that is looked at, once."""

import numpy as np
import pytest

from aqqua._core import near_keys
from aqqua.curate.copies import leaves
from aqqua.curate.copies.leaves import cell_candidates, close_pairs
from aqqua.curate.copies.looks import LOOK, candidates, correlations
from aqqua.curate.copies.verify import SamePicture
from aqqua.curate.images.descriptor import spectra

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


def pairs_of(looks: np.ndarray, rule: SamePicture, threads: int = 1) -> list[tuple]:
    """Of records that are mapped in another order than they are asked for."""
    places = np.random.default_rng(1).permutation(len(looks))
    records = np.empty_like(looks)
    records[places] = looks
    found = list(cell_candidates(records, places, rule, threads))
    return sorted(np.concatenate(found)[["a", "b"]].tolist())


@pytest.mark.parametrize("rule", [RULE, SamePicture(size_px=0), SamePicture(size_px=5, gain=1)])
@pytest.mark.parametrize("count", [400, 449])
def test_leaves_lose_no_candidate_and_give_none_twice(monkeypatch, rule, count):
    looks = made_looks(count)
    every = sorted(candidates(looks, looks, True, rule, by_content=True)[["a", "b"]].tolist())
    monkeypatch.setattr(leaves, "FEW", 8)
    monkeypatch.setattr(leaves, "LEAVES_AT_FIRST", 2)
    monkeypatch.setattr(leaves, "PAIRS_AT_ONCE", 200)
    monkeypatch.setattr(leaves, "CHUNK", 128)
    for threads in (1, 3):
        assert pairs_of(looks, rule, threads) == every
    if rule is RULE:
        assert len(every) >= 60


def test_few_records_are_held_each_against_each():
    looks = made_looks(100)
    every = sorted(candidates(looks, looks, True, RULE, by_content=True)[["a", "b"]].tolist())
    assert pairs_of(looks, RULE) == every
    assert every


def test_what_no_bound_rules_out_is_little_more_than_the_candidates():
    looks = made_looks(1600)
    close = np.concatenate(list(close_pairs(looks, np.arange(len(looks)), RULE)))
    every = candidates(looks, looks, True, RULE)
    found = {tuple(sorted(pair)) for pair in close.tolist()}
    assert len(found) == len(close)
    assert found >= {tuple(sorted(pair)) for pair in every[["a", "b"]].tolist()}
    assert len(found) < 3 * len(every)


def packed(keys: np.ndarray) -> np.ndarray:
    rows = np.full((-(-len(keys) // 64) * 64, keys.shape[1]), np.inf, np.float32)
    rows[: len(keys)] = keys
    return np.ascontiguousarray(rows.reshape(-1, 64, keys.shape[1]).transpose(0, 2, 1))


@pytest.mark.parametrize(("apart", "scale"), [(0, 1), (2, 1), (5, 2)])
def test_near_keys_are_all_pairs_within_reach(apart, scale):
    draw = np.random.default_rng(apart)
    keys = (draw.normal(size=(200, 5)) * scale).astype(np.float32)
    lines, rest = np.zeros((200, 64), np.float32), np.ones(200, np.float32)
    bounds = {"apart": apart, "reach": 1.0, "correlation": 0.5}
    found = [
        near_keys(packed(keys), lines, rest, **bounds, first=a, last=b, threads=2)
        for a, b in ((0, 3), (3, 4))
    ]
    gap = np.abs(keys[:, None] - keys)
    near = (gap[..., :apart] <= 1).all(axis=2) & (np.square(gap[..., apart:]).sum(axis=2) <= 1)
    wanted = np.argwhere(np.triu(near, 1))
    assert np.concatenate(found).tolist() == wanted.tolist()
    assert 20 < len(wanted) < 10_000
    assert not len(near_keys(packed(keys), lines, 0 * rest, **bounds, first=0, last=4))


def test_spectra_bound_the_correlation_in_every_pose():
    """The line of one pose is that of another with signs of classes changed, or turned."""
    looks = made_looks(120)
    pictures = looks["picture"]
    lines, rest = spectra(pictures)
    r = correlations(pictures, pictures, *(n.ravel() for n in np.indices((120, 120)))).max(axis=1)
    keys = packed(np.zeros((120, 1), np.float32))
    for least in (0.6, 0.9):
        found = near_keys(keys, lines, rest, apart=0, reach=1.0, correlation=least - 1e-4, first=0, last=2)
        wanted = np.argwhere(np.triu(r.reshape(120, 120) >= least, 1))
        assert {*map(tuple, wanted.tolist())} <= {*map(tuple, found.tolist())}
        assert len(wanted) >= 25
        assert len(found) < 120 * 119 / 2 * 0.9


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keys_BKR": np.zeros((1, 3, 8), np.float32)}, "keys_BKR must be contiguous float32"),
        ({"rest_N": np.zeros(80, np.float32)}, "rows must fill all leaves but the last, got 80"),
        ({"lines_NS": np.zeros((4, 8), np.float32)}, "lines_NS must be"),
        ({"apart": 9}, "apart must be 0 to the number of keys, got 9"),
        ({"reach": np.nan}, "reach must be finite"),
        ({"last": 2}, "leaves must be 0 to 1, in order, got 2"),
        ({"threads": 0}, "threads must be 1 to 1024"),
    ],
)
def test_what_near_keys_cannot_take_is_refused(change, said):
    given = {
        "keys_BKR": np.zeros((1, 3, 64), np.float32), "lines_NS": np.zeros((4, 64), np.float32),
        "rest_N": np.ones(4, np.float32), "apart": 1, "reach": 1.0, "correlation": 0.5, "first": 0, "last": 1,
    }  # fmt: skip
    assert len(near_keys(**given)) == 6  # of the rows that are there, all are alike
    if "lines_NS" not in change and "rest_N" in change:
        given["lines_NS"] = np.zeros((80, 64), np.float32)
    with pytest.raises(ValueError, match=said):
        near_keys(**{**given, **change})
