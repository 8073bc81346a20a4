"""Sums of gradients over packs and ranks, with ranks that are threads of this process."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from aqqua.train.gradients import GradientSum, buckets
from aqqua.train.ranks import Place, Ranks

SHAPES = [(7,), (3, 5), (), (64, 3), (1,)]
WAYS = ["float32", "float64", "lane order"]


class Threads(Ranks):
    """A rank that meets the others at a shared table."""

    def __init__(self, rank: int, size: int, table: list[Any], barrier: Barrier) -> None:
        super().__init__(Place(rank, size))
        self._table, self._barrier = table, barrier

    def _meet(self, mine: Tensor) -> list[Tensor]:
        self._table[self.rank] = mine.clone()
        self._barrier.wait(10)
        found = list(self._table)
        self._barrier.wait(10)
        return found

    def all_reduce(self, x: Tensor, op: Literal["sum", "max"] = "sum") -> Tensor:
        assert op == "sum"
        return x.copy_(torch.stack(self._meet(x)).sum(0))

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        return x.copy_(self._meet(x)[source])

    def table(self, numbers: Sequence[int]) -> list[list[int]]:
        return [row.tolist() for row in self._meet(torch.tensor(numbers, dtype=torch.int64))]


def on_ranks(size: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What each rank makes of it."""
    table, barrier = [None] * size, Barrier(size)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: work(Threads(rank, size, table, barrier)), range(size)))


def lane_gradients(lanes: int) -> list[list[Tensor | None]]:
    """Of each lane; the second parameter has none in lane 1, the last in none at all."""
    draw = torch.Generator().manual_seed(5)
    made: list[list[Tensor | None]] = [
        [torch.randn(shape, generator=draw) * 10.0 ** (lane % 5) for shape in SHAPES] for lane in range(lanes)
    ]
    for lane in made:
        lane[-1] = None
    made[1][1] = None
    return made


def summed(ranks: Ranks, way: Any, lanes: int = 8, most: int = 1 << 20) -> tuple[list[Tensor | None], Tensor]:
    """The sums that a rank ends with, after its packs."""
    parameters = [torch.zeros(shape, requires_grad=True) for shape in SHAPES]
    total = GradientSum(parameters, ranks, way, most)
    for lane in range(ranks.rank, lanes, ranks.size):
        for parameter, gradient in zip(parameters, lane_gradients(lanes)[lane], strict=True):
            if gradient is not None:  # as autograd does
                parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
        total.add(torch.tensor([1.0, 0.1 * lane]))
    numbers = total.finish()
    return [parameter.grad for parameter in parameters], numbers


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("most", [1, 20, 1 << 20])
def test_all_ranks_get_the_sum(way, size, most):
    want = lane_gradients(8)
    for gradients, numbers in on_ranks(size, lambda ranks: summed(ranks, way, most=most)):
        for index, gradient in enumerate(gradients[:-1]):
            parts = [lane[index] for lane in want if lane[index] is not None]
            torch.testing.assert_close(gradient, torch.stack(parts).double().sum(0).float())
        assert gradients[-1] is None  # no image touched it: the optimizer must leave it alone
        torch.testing.assert_close(numbers, torch.tensor([8.0, 2.8]))


@pytest.mark.parametrize("way", ["float64", "lane order"])
def test_the_number_of_ranks_does_not_show(way):
    (alone, numbers), *_ = on_ranks(1, lambda ranks: summed(ranks, way))
    for size in (2, 4, 8):
        for gradients, theirs in on_ranks(size, lambda ranks: summed(ranks, way)):
            assert all(torch.equal(a, b) for a, b in zip(gradients[:-1], alone[:-1], strict=True))
            if way == "lane order":
                assert torch.equal(theirs, numbers)


def test_float32_at_once_does_show_it():
    """Else the test above would be empty."""
    (alone, _), *_ = on_ranks(1, lambda ranks: summed(ranks, "float32"))
    (pair, _), *_ = on_ranks(2, lambda ranks: summed(ranks, "float32"))
    assert not all(torch.equal(a, b) for a, b in zip(pair[:-1], alone[:-1], strict=True))


def test_gradients_begin_at_multiples_of_16_bytes():
    (gradients, _), *_ = on_ranks(2, lambda ranks: summed(ranks, "float32"))
    first = gradients[0].data_ptr()
    assert all((gradient.data_ptr() - first) % 16 == 0 for gradient in gradients[:-1])


def test_buckets_hold_all_in_order_within_their_size():
    tensors = [torch.empty(n) for n in (3, 4, 100, 1, 1)]
    found = buckets(tensors, 8)
    assert [[len(t) for t in bucket] for bucket in found] == [[3, 4], [100], [1, 1]]


class NoReading(TorchFunctionMode):
    """Refuses what makes the host wait for a device."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        reads = (Tensor.tolist, Tensor.item, Tensor.__float__, Tensor.__bool__, Tensor.cpu, Tensor.numpy)
        assert function not in reads, f"the host waits in {function}"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("way", WAYS)
def test_one_rank_alone_never_waits_for_the_device(way):
    with NoReading():
        gradients, _ = summed(Ranks(), way)
    assert [gradient is None for gradient in gradients] == [False] * 4 + [True]


@pytest.mark.parametrize("way", WAYS)
def test_one_pack_alone_keeps_its_gradients_as_they_are(way):
    parameter = torch.zeros(3, requires_grad=True)
    total = GradientSum([parameter], Ranks(), way, packs=1)
    parameter.grad = gradient = torch.tensor([1.0, 1e-30, 3.0])
    total.add(torch.tensor([2.0]))
    assert total.finish().tolist() == [2.0]
    assert parameter.grad is gradient


@pytest.mark.parametrize("way", WAYS)
def test_a_gradient_of_one_rank_alone_is_one_of_all(way):
    for gradients, _ in on_ranks(2, lambda ranks: summed(ranks, way, lanes=2)):
        assert torch.equal(gradients[1], lane_gradients(2)[0][1])
