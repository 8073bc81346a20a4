"""Clip, AdamW, teacher and copies: the tables, and the three launches.

Not a registered torch operator: which tensors change is in tables of addresses, which no tracer can follow.
"""

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
import triton.language as tl
from torch import Tensor

from aqqua.kernels.optim import kernel
from aqqua.kernels.optim.state import StepState, to_device

# Reasoned, and checked by offline compilation; not yet measured on a GPU. Update: 4 values of five tensors
# per thread, so that three programs share a multiprocessor. Squares: 16 values of one. A chunk: 16 blocks of
# update; 23,500 programs for ViT-L.
CHUNK = 16_384
TILES = {"squares": {"BLOCK": 4096, "num_warps": 8}, "update": {"BLOCK": 1024, "num_warps": 8}}
FACTORS = {"BLOCK_C": 4096, "BLOCK_S": 256, "num_warps": 8}
TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
ALIGNMENT = 16  # bytes of the widest load


@dataclass(frozen=True)
class Tables:
    """Where the tensors of a state lie. Layouts: see kernel.py."""

    addresses: tuple[int, ...]  # of all that is moved, to see that none has been
    tensors_S8: Tensor
    chunks_C2: Tensor
    first_M1: Tensor


_tables: weakref.WeakKeyDictionary[StepState, Tables] = weakref.WeakKeyDictionary()


def tables_of(state: StepState) -> Tables:
    """The tables of a state, made when it is first seen.

    Raises:
        ValueError: a tensor of the state has got other memory since.
    """
    addresses = tuple(tensor.data_ptr() for tensor in chain.from_iterable(state.moved))
    if state not in _tables:
        _tables[state] = _make_tables(state, addresses)
    elif _tables[state].addresses != addresses:
        raise ValueError(
            "optimizer_step: the tensors of a state must stay where they are, got other addresses than at "
            "its first step; copy into them, or make a new StepState"
        )
    return _tables[state]


def _make_tables(state: StepState, addresses: tuple[int, ...]) -> Tables:
    S = len(state.parameters)
    sizes = torch.tensor([p.numel() for p in state.parameters])
    modules = torch.tensor(state.module_S)
    tensors_S8 = torch.zeros(S, 8, dtype=torch.int64)
    kept = torch.tensor(addresses, dtype=torch.int64).view(-1, S)
    has = [0, 1, 2] + [3] * (state.teachers is not None) + [4] * (state.copies is not None)
    tensors_S8[:, has] = kept.t()
    tensors_S8[:, 5:] = torch.stack((sizes, modules, torch.tensor(state.group_S)), dim=1)

    counts = (sizes + CHUNK - 1) // CHUNK
    order = modules.argsort(stable=True)
    tensor_C = order.repeat_interleave(counts[order])
    first_S = counts[order].cumsum(0) - counts[order]
    number_C = torch.arange(len(tensor_C)) - first_S.repeat_interleave(counts[order])
    per_module = torch.zeros(state.modules, dtype=torch.int64).index_add(0, modules, counts)
    first_M1 = torch.nn.functional.pad(per_module.cumsum(0), (1, 0))
    chunks_C2 = torch.stack((tensor_C, number_C), dim=1)
    return Tables(
        addresses,
        tensors_S8.to(state.device),
        chunks_C2.to(state.device, torch.int32),
        first_M1.to(state.device, torch.int32),
    )


def optimizer_step(
    state: StepState,
    gradients: Sequence[Tensor | None],
    rates_G6: Tensor,
    max_norm: float,
    found_inf: Tensor | None,
    reduce: Callable[[Tensor], object] | None,
) -> Tensor:
    """As aqqua.kernels.optim.optimizer_step."""
    tables = tables_of(state)
    found = [0 if g is None else g.data_ptr() for g in gradients]  # of no values: 0 too
    gradients_S = to_device(torch.tensor(found, dtype=torch.int64), state.device)
    dtype = next((g.dtype for g in gradients if g is not None), torch.float32)
    aligned = all(address % ALIGNMENT == 0 for address in chain(found, tables.addresses))
    where = gradients_S, tables.tensors_S8, tables.chunks_C2
    walk = {"GRADIENT": TYPES[dtype], "ALIGNED": aligned, "CHUNK": CHUNK}
    chunks = (tables.chunks_C2.shape[0],)

    partial_C = rates_G6.new_empty(chunks, dtype=torch.float32)
    rows_S16 = rates_G6.new_empty(len(found), 16, dtype=torch.float32)
    if chunks[0]:
        kernel.squares_kernel[chunks](*where, partial_C, **walk, **TILES["squares"])
    norms_M = _factors(state, tables, gradients_S, partial_C, rates_G6, rows_S16, max_norm, found_inf, reduce)
    if chunks[0]:
        copied = torch.bfloat16 if state.copies is None else state.copies[0].dtype
        flags = {"TEACHER": state.teachers is not None, "COPY": state.copies is not None}
        kernel.update_kernel[chunks](
            *where, rows_S16, COPIED=TYPES[copied], **flags, **walk, **TILES["update"]
        )  # fmt: skip
    # Autograd has to hear of writes that it cannot see, to refuse what was saved before them.
    torch.autograd.graph.increment_version(chain.from_iterable(state.moved))
    return norms_M


def _factors(
    state: StepState, tables: Tables, gradients_S: Tensor, partial_C: Tensor, rates_G6: Tensor,
    rows_S16: Tensor, max_norm: float, found_inf: Tensor | None, reduce: Callable[[Tensor], object] | None,
) -> Tensor:  # fmt: skip
    """Write the rows, and return the norms: one launch, or two with `reduce` between them."""
    M, clip = state.modules, math.isfinite(max_norm)
    squares_M, norms_M = (rows_S16.new_empty(M) for _ in range(2))
    arguments = (
        partial_C, tables.first_M1, squares_M, norms_M, squares_M if found_inf is None else found_inf,
        gradients_S, tables.tensors_S8, rates_G6, state.counts_S, rows_S16,
        len(state.parameters), max_norm if clip else 0.0,
    )  # fmt: skip
    block = max(2, 1 << (M - 1).bit_length())
    constants = {"M": M, "BLOCK_M": block, "CLIP": clip, "FLAG": found_inf is not None, **FACTORS}
    if reduce is None:
        kernel.factors_kernel[(1,)](*arguments, SUM=True, SCALE=True, **constants)
    else:
        kernel.factors_kernel[(1,)](*arguments, SUM=True, SCALE=False, **constants)
        reduce(squares_M)
        kernel.factors_kernel[(1,)](*arguments, SUM=False, SCALE=True, **constants)
    return norms_M
