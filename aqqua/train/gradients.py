"""The gradients of a step, summed over its packs on all ranks of the plain engine.

- *float32*: each rank adds up its packs as autograd does, then one sum over the ranks: 4 bytes per value on
  the wire, no memory. The last digit depends on how lanes lie on ranks, and training makes more of it.
- *float64*: the same in twice the digits and then rounded, also on a single rank. What is rounded away is so
  little that the number of ranks hardly ever shows: 8 bytes per value on the wire and in memory.
- *in lane order*: after each pack every rank broadcasts that pack's gradient, and all add them in the order
  of the lanes, as one rank alone does: the same bits for every number of ranks, always; 4 bytes per value and
  lane on the wire, 4 per value in memory.

With the gradients travel a few numbers (the losses). Beside them the hosts tell each other for which
parameters there is a gradient at all: one that no image touched is not moved by the optimizer, and that must
not depend on the ranks.

Letters: P values of a bucket, E numbers beside the gradients. Test: tests/train/test_gradients.py.
"""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from aqqua.train.ranks import Ranks

BUCKET_VALUES = 2**26  # 256 MB in float32
_WORD_BITS = 62  # of flags in a whole number that ranks tell each other
_WORD = (1 << _WORD_BITS) - 1
ALIGNED_VALUES = 4  # 16 bytes: kernels read that much at a time where a gradient begins at a multiple of it


def buckets(parameters: Sequence[Tensor], most: int = BUCKET_VALUES) -> list[list[Tensor]]:
    """The parameters in order, in lists of at most so many values; one may be larger by itself."""
    found: list[list[Tensor]] = [[]]
    values = 0
    for parameter in parameters:
        if found[-1] and values + parameter.numel() > most:
            found.append([])
            values = 0
        found[-1].append(parameter)
        values += parameter.numel()
    return found


class GradientSum:
    """Sums `grad` of parameters, and some numbers, over packs and ranks."""

    def __init__(
        self,
        parameters: Sequence[Tensor],
        ranks: Ranks,
        way: Literal["float32", "float64", "lane order"] = "float32",
        most: int = BUCKET_VALUES,
        packs: int | None = None,
    ) -> None:
        """
        Args:
            parameters: those that are trained, in the same order on all ranks, float32.
            ranks: whose gradients are summed.
            way: see the module. A single rank is in lane order by itself.
            most: values of a bucket.
            packs: how many there are on this rank, if it is known: one alone is its own exact sum.
        """
        self._ranks, self._way = ranks, way
        if ranks.size == 1 and (way == "lane order" or packs == 1):
            self._way = "float32"
        self._buckets = buckets(parameters, most)
        self._there: set[int] = set()  # ids of parameters with a gradient in any pack so far
        self._sums: list[Tensor] = []
        self._extra_E: Tensor | float = 0.0

    def add(self, extra_E: Float[Tensor, " E"]) -> None:
        """A backward pass is over, and came with these numbers."""
        if self._way == "float32":  # autograd adds up
            self._extra_E = self._extra_E + extra_E
            return
        self._note_those_there()
        for number, bucket in enumerate(self._buckets):
            mine_P = _flatten(bucket, extra_E if number == 0 else extra_E[:0])
            if number == len(self._sums):
                dtype = torch.float64 if self._way == "float64" else torch.float32
                self._sums.append(torch.zeros_like(mine_P, dtype=dtype))
            self._add_flat(self._sums[number], mine_P)
            for parameter in bucket:
                parameter.grad = None

    def finish(self) -> Float[Tensor, " E"]:
        """Give each parameter the sum over all packs of all ranks; returns the numbers' sum."""
        if self._way == "float32" and self._ranks.size == 1:
            return torch.as_tensor(self._extra_E)
        self._note_those_there()
        there = self._there_on_any_rank()
        extra_E: list[Tensor] = []
        for number, bucket in enumerate(self._buckets):
            sum_P = self._sums[number] if self._sums else self._flat(bucket, number)
            if self._way != "lane order":
                self._ranks.all_reduce(sum_P)
            extra_E.append(_restore(bucket, sum_P.float(), there))
        self._sums = []
        return extra_E[0]

    def _note_those_there(self) -> None:
        self._there |= {id(p) for bucket in self._buckets for p in bucket if p.grad is not None}

    def _there_on_any_rank(self) -> set[int]:
        """Ids of parameters with a gradient; the hosts tell each other, so that none waits for its device."""
        order = [id(p) for bucket in self._buckets for p in bucket]
        flags = sum(1 << place for place, name in enumerate(order) if name in self._there)
        words = [flags >> at & _WORD for at in range(0, len(order), _WORD_BITS)]
        heard = [reduce(or_, column) for column in zip(*self._ranks.table(words), strict=True)]
        return {name for at, name in enumerate(order) if heard[at // _WORD_BITS] >> at % _WORD_BITS & 1}

    def _add_flat(self, sum_P: Tensor, mine_P: Tensor) -> None:
        if self._way == "float64":
            sum_P += mine_P
            return
        for rank in range(self._ranks.size):
            theirs_P = mine_P if rank == self._ranks.rank else torch.empty_like(mine_P)
            sum_P += self._ranks.broadcast(theirs_P, rank)

    def _flat(self, bucket: list[Tensor], number: int) -> Tensor:
        extra_E = torch.as_tensor(self._extra_E)
        return _flatten(bucket, extra_E if number == 0 else extra_E[:0])


def _flatten(bucket: list[Tensor], extra_E: Tensor) -> Float[Tensor, " P"]:
    """The gradients end to end, each at a multiple of 16 bytes; then the numbers."""
    parts = []
    for parameter in bucket:
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parts += [gradient.flatten(), gradient.new_zeros(_gap(parameter))]
    return torch.cat([*parts, extra_E])


def _restore(bucket: list[Tensor], flat_P: Float[Tensor, " P"], there: set[int]) -> Float[Tensor, " E"]:
    """Set the gradients from what `_flatten` made; returns the numbers beside them."""
    at = 0
    for parameter in bucket:
        sum_P = flat_P[at : at + parameter.numel()]
        parameter.grad = sum_P.view_as(parameter) if id(parameter) in there else None
        at += parameter.numel() + _gap(parameter)
    return flat_P[at:]


def _gap(parameter: Tensor) -> int:
    return -parameter.numel() % ALIGNED_VALUES
