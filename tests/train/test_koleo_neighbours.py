"""Neighbours of all lanes: the same, bit for bit, however the lanes lie on ranks."""

import threading

import pytest
import torch

from aqqua.objective.koleo import koleo_loss
from aqqua.objective.spread import spread_loss, unit_rows
from aqqua.train.neighbours import neighbours_among
from aqqua.train.ranks import Place, Ranks

SIZES = (3, 5, 1, 4)  # images of four lanes


class Threads(Ranks):
    """A rank in a thread; what they tell each other lies in a list that all of them see."""

    def __init__(self, rank, size, told, gate):
        super().__init__(Place(rank, size))
        self._told, self._gate = told, gate

    def _all(self, mine):
        self._told[self.rank] = mine
        self._gate.wait(30)
        found = list(self._told)
        self._gate.wait(30)
        return found

    def table(self, numbers):
        return self._all(list(numbers))

    def stack(self, row_P):
        return torch.stack(self._all(row_P))


def lanes_of(width=6):
    g = torch.Generator().manual_seed(0)
    features = [torch.randn(2, size, width, generator=g, requires_grad=True) for size in SIZES]
    return features, list(torch.tensor([0, 1, 2, 3, 4, 1, 6, 7, 8, 9, 10, 0, 12]).split(SIZES))


def found_on(ranks, lanes, count):
    """Neighbours of each lane, by so many ranks."""
    features, images = lanes_of()
    unit = [unit_rows(x.detach()) for x in features]
    told, gate, found = [None] * ranks, threading.Barrier(ranks), [None] * len(SIZES)

    def work(rank):
        mine = range(rank, len(SIZES), ranks)
        result = neighbours_among(
            [unit[lane] for lane in mine], [images[lane] for lane in mine],
            Threads(rank, ranks, told, gate), lanes, count,
        )  # fmt: skip
        for lane, one in zip(mine, result, strict=True):
            found[lane] = one

    workers = [threading.Thread(target=work, args=(rank,)) for rank in range(ranks)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return found


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize(("lanes", "count"), [(4, 1), (2, 2), (1, 1)])
def test_any_number_of_ranks_finds_the_same(ranks, lanes, count):
    for mine, theirs in zip(found_on(ranks, lanes, count), found_on(1, lanes, count), strict=True):
        assert mine.first == theirs.first
        for name in ("unit_GJD", "nearest_GIk", "drawn_3P"):
            assert torch.equal(getattr(mine, name), getattr(theirs, name)), name


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_a_group_is_one_pack_of_all_its_images(lanes):
    features, images = lanes_of()
    shares = [spread_loss(x, among) for x, among in zip(features, found_on(2, lanes, 1), strict=True)]
    for start in range(0, len(SIZES), lanes):
        group = slice(start, start + lanes)
        want = koleo_loss(torch.cat(features[group], dim=1), torch.cat(images[group]))
        got = sum(shares[group])
        torch.testing.assert_close(got, want)
        grads = [torch.autograd.grad(loss, features[group], retain_graph=True) for loss in (got, want)]
        for mine, theirs in zip(*grads, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
