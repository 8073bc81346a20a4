"""What a kernel is timed on: calls of each backend, and what the least is that they must move and compute.

The cases of an op are made by the script of its name; the script that times them on a GPU takes all.
Test: tests/kernels/test_bench_cases.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch
from torch import Tensor

Function = Callable[..., Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    forward: dict[str, Callable[[], object]]  # backend -> call
    both: dict[str, Callable[[], object]]  # backend -> forward and backward
    forward_bytes: int  # that cannot be avoided
    both_bytes: int
    forward_flops: int = 0  # of matrix products; 0 where memory alone is the limit
    both_flops: int = 0
    not_run: dict[str, str] = field(default_factory=dict)  # peer -> why it is not here
    computes_in: torch.dtype | None = None  # where narrower than what comes out
    untimed: frozenset[str] = frozenset()  # backends that only say what is right
    host_counts: bool = False  # whether the time that the host takes to launch is part of it


def make_case(
    name: str,
    functions: dict[str, Function],
    inputs: Sequence[Tensor],
    forward_bytes: int,
    both_bytes: int,
    forward_flops: int = 0,
    not_run: dict[str, str] | None = None,
) -> Case:
    """A case of functions of the same inputs, each of which wants a gradient.

    'torch.compile' of the first function, the eager one, is added. Make one case at a time.
    """
    torch._dynamo.reset()  # its limit of recompilations counts all functions of the same source together
    functions = {**functions, "torch.compile": torch.compile(next(iter(functions.values())), dynamic=False)}
    inputs = [x.requires_grad_() for x in inputs]
    with torch.no_grad():
        upstream = [torch.randn_like(out) for out in _as_tuple(next(iter(functions.values()))(*inputs))]
    return Case(
        name=name,
        forward={key: _forward(function, inputs) for key, function in functions.items()},
        both={key: _both(function, inputs, upstream) for key, function in functions.items()},
        forward_bytes=forward_bytes,
        both_bytes=both_bytes,
        forward_flops=forward_flops,
        both_flops=3 * forward_flops,
        not_run=not_run or {},
        computes_in=min((x.dtype for x in inputs), key=lambda dtype: dtype.itemsize),
    )


def _as_tuple(out: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return out if isinstance(out, tuple) else (out,)


def _forward(function: Function, inputs: Sequence[Tensor]) -> Callable[[], object]:
    return lambda: function(*inputs)


def _both(function: Function, inputs: Sequence[Tensor], upstream: list[Tensor]) -> Callable[[], object]:
    return lambda: torch.autograd.grad(_as_tuple(function(*inputs)), inputs, upstream)


def missing(packages: Sequence[str]) -> dict[str, str]:
    """Those of the peers' packages that are not here, and so not run."""
    return {name: "not installed" for name in packages if find_spec(name) is None}
