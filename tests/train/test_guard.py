"""The guard against numbers that are not finite, the flag that real signals set, fingerprints of weights."""

import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aqqua.train import guard
from aqqua.train.guard import (
    MAX_STREAK,
    DivergedError,
    FiniteGuard,
    check_replicas,
    fingerprint,
    not_finite,
)
from aqqua.train.ranks import Place, Ranks

NAN, INF = float("nan"), float("inf")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_admits_finite_steps_only(bad):
    guard = FiniteGuard()
    assert guard.admits(1e30, {"backbone": 0.0, "dino_head": 3.0})
    assert not guard.admits(bad, {"backbone": 1.0})
    assert not guard.admits(1.0, {"backbone": 1.0, "dino_head": bad})
    assert guard == FiniteGuard(streak=2, skipped=2)


def test_a_finite_step_ends_the_streak():
    guard = FiniteGuard()
    for step in range(30):
        is_bad = step % MAX_STREAK != 0  # two of three: a long run of them is never too much
        assert guard.admits(NAN if is_bad else 1.0, {}) is not is_bad
        assert not guard.exhausted
    assert guard == FiniteGuard(streak=2, skipped=20)


def test_the_third_in_a_row_is_too_much():
    guard = FiniteGuard()
    for expected in (False, False, True):
        guard.admits(NAN, {})
        assert guard.exhausted is expected


def test_what_is_not_finite_is_named():
    assert not_finite(1.0, {"backbone": 2.0}) == []
    assert not_finite(INF, {"backbone": 1.0, "dino_head": NAN}) == ["loss", "dino_head"]


@given(st.integers(1, 300), st.data())
def test_a_flipped_bit_changes_the_fingerprint(values, data):
    x = torch.randn(values, generator=torch.Generator().manual_seed(values))
    before, at = fingerprint(x), data.draw(st.integers(0, 32 * values - 1))
    x.view(torch.uint8)[at // 8] ^= 1 << at % 8
    assert fingerprint(x) != before
    x.view(torch.uint8)[at // 8] ^= 1 << at % 8
    assert fingerprint(x) == before


def test_a_fingerprint_is_of_the_bytes_and_their_order(monkeypatch):
    x = torch.arange(24.0).reshape(4, 6)
    assert fingerprint(x) == fingerprint(x.clone()) == fingerprint(x.flatten())
    assert fingerprint(x) != fingerprint(x.flip(0))
    assert fingerprint(x.t()) == fingerprint(x.t().contiguous())
    assert fingerprint(torch.tensor(3, dtype=torch.uint8)) != fingerprint(torch.tensor(4, dtype=torch.uint8))
    assert -(1 << 63) <= fingerprint(x) < 1 << 63
    whole = fingerprint(x)
    monkeypatch.setattr(guard, "WORDS", 5)  # in pieces
    assert fingerprint(x) == whole


class Told(Ranks):
    """A rank whose peers' tables are given."""

    def __init__(self, *others: list[int]) -> None:
        super().__init__(Place(0, 1 + len(others)))
        self.others = others

    def table(self, numbers):
        return [list(numbers), *self.others]


def test_the_rank_in_the_minority_is_named():
    tensors = {"a": torch.ones(3), "b": torch.zeros(2)}
    good = [fingerprint(tensor) for tensor in tensors.values()]
    check_replicas(7, tensors.items(), Told(good, good))
    with pytest.raises(DivergedError, match=r"step 7: .* got others on rank 2 in b; "):
        check_replicas(7, tensors.items(), Told(good, [good[0], good[1] + 1]))
    with pytest.raises(DivergedError, match=r"on rank 1 or the others \(too few ranks to tell\) in a; "):
        check_replicas(7, tensors.items(), Told([good[0] ^ 1, good[1]]))
    check_replicas(7, {}.items(), Told([]))
