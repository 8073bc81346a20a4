"""Sinkhorn: published value, overflow, and the same answer for every split over packs and ranks."""

import threading

import pytest
import torch

from aqqua.objective import sinkhorn as room
from aqqua.objective.sinkhorn import sinkhorn


def published(logits_BK, temperature, iterations=3):
    """The loop of dinov2/loss/dino_clstoken_loss.py for one rank, in float64."""
    q_KB = torch.exp(logits_BK.double() / temperature).T
    K, B = q_KB.shape
    q_KB = q_KB / q_KB.sum()
    for _ in range(iterations):
        q_KB = q_KB / q_KB.sum(dim=1, keepdim=True) / K
        q_KB = q_KB / q_KB.sum(dim=0, keepdim=True) / B
    return (q_KB * B).T


def published_in_logs(logits_BK, temperature, iterations=3):
    """The same in logs: float64's exp overflows at 709, and 50 / 0.04 is 1250."""
    log_q_KB = (logits_BK.double() / temperature).T
    for _ in range(iterations):
        log_q_KB = log_q_KB - log_q_KB.logsumexp(dim=1, keepdim=True)
        log_q_KB = log_q_KB - log_q_KB.logsumexp(dim=0, keepdim=True)
    return log_q_KB.exp().T


def solve(logits_BK, temperature, **options):
    return sinkhorn(logits_BK, temperature, **options).probabilities(logits_BK)


def test_golden_value():
    t = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    assert (solve(t, 0.07) * torch.arange(64)).sum().item() == pytest.approx(505.46930, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.04, 0.07, 1.0])
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_matches_the_published_loop(temperature, iterations):
    t = torch.randn(50, 23, generator=torch.Generator().manual_seed(1)) * 2
    got = solve(t, temperature, iterations=iterations)
    torch.testing.assert_close(got.double(), published(t, temperature, iterations), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [2.0, 50.0])
def test_large_logits_with_a_prototype_low_for_every_row(size):
    t = (torch.rand(40, 9, generator=torch.Generator().manual_seed(2)) * 2 - 1) * size
    t[:, 3] = -size
    assignment = sinkhorn(t, 0.04)
    q = assignment.probabilities(t)
    assert torch.isfinite(assignment.log_u_K).all()
    assert torch.isfinite(q).all()
    torch.testing.assert_close(q.sum(dim=1), torch.ones(40))
    # float32 resolves 1.2e-4 at 1250, and that is the error of the logarithm of q.
    torch.testing.assert_close(q.double(), published_in_logs(t, 0.04), rtol=1e-3, atol=1e-6)


def test_prototypes_get_equal_shares_when_converged():
    t = torch.randn(64, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        solve(t, 0.1, iterations=500).sum(dim=0), torch.full((8,), 8.0), rtol=1e-3, atol=0
    )


def test_packs_and_chunks_give_the_same_result(monkeypatch):
    t = torch.randn(50, 16, generator=torch.Generator().manual_seed(4))
    whole = sinkhorn(t, 0.05).log_u_K
    torch.testing.assert_close(sinkhorn(list(t.split([7, 0, 30, 13])), 0.05).log_u_K, whole)
    monkeypatch.setattr(room, "CHUNK_ELEMENTS", 3 * 16)
    torch.testing.assert_close(sinkhorn(t, 0.05).log_u_K, whole)


def test_order_of_packs_does_not_change_a_bit():
    packs = list(torch.randn(64, 32, generator=torch.Generator().manual_seed(5)).split([9, 21, 30, 4]))
    assert torch.equal(sinkhorn(packs, 0.05).log_u_K, sinkhorn(packs[::-1], 0.05).log_u_K)


class Ranks:
    """all_reduce between threads, one per rank; works in place, as torch.distributed does."""

    def __init__(self, n):
        self.slots, self.barrier = [torch.zeros(())] * n, threading.Barrier(n, timeout=20)

    def all_reduce(self, rank):
        def reduce(x, op):
            self.slots[rank] = x.clone()
            self.barrier.wait()
            both = torch.stack(self.slots)
            self.barrier.wait()
            return x.copy_(both.sum(dim=0) if op == "sum" else both.amax(dim=0))

        return reduce

    def run(self, packs_per_rank, temperature):
        results = {}

        def work(rank):
            results[rank] = sinkhorn(packs_per_rank[rank], temperature, all_reduce=self.all_reduce(rank))

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(packs_per_rank))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == len(packs_per_rank)
        return list(results.values())


@pytest.mark.parametrize("split", [[1, 3], [3, 1], [2, 2], [4, 0]], ids=str)
def test_ranks_with_unequal_rows_give_the_bits_of_one_rank(split):
    packs = list(torch.randn(40, 32, generator=torch.Generator().manual_seed(6)).mul(3).split([3, 17, 8, 12]))
    one = sinkhorn(packs, 0.04)
    empty = [torch.zeros(0, 32)]
    ranks = Ranks(2).run([packs[: split[0]] or empty, packs[split[0] :] or empty], 0.04)
    for result in ranks:
        assert torch.equal(result.log_u_K, one.log_u_K)


def test_no_row_anywhere_is_finite():
    assert torch.isfinite(sinkhorn(torch.zeros(0, 5), 0.04).log_u_K).all()


def test_nan_in_one_pack_is_not_hidden_from_the_others():
    t = torch.zeros(4, 5)
    t[2, 1] = torch.nan
    assignment = sinkhorn(list(t.split(2)), 0.04)
    assert assignment.probabilities(t[:2]).isnan().any()


def test_bfloat16_and_arguments_left_alone():
    t = torch.randn(12, 10, generator=torch.Generator().manual_seed(7)).bfloat16()
    before = t.clone()
    q = solve(t, 0.07)
    assert q.dtype == torch.float32
    assert torch.equal(t, before)
    torch.testing.assert_close(q, solve(t.float(), 0.07))
    f = t.float()
    kept = f.clone()
    solve(f, 0.07)
    assert torch.equal(f, kept)


@pytest.mark.parametrize(
    ("logits", "options", "message"),
    [
        (torch.zeros(2, 2), {"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        (torch.zeros(2, 2), {"temperature": 0.1, "iterations": 0}, "iterations must be at least 1, got 0"),
        ([], {"temperature": 0.1}, "at least one tensor of logits"),
    ],
)
def test_errors(logits, options, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn(logits, **options)
