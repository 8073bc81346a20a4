"""Checkpoints that can be told from their step alone, and work done in a child process."""

import gc
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import torch

from aqqua.train.checkpoint import Checkpoint


def state_of(step: int, size: int = 50) -> Checkpoint:
    draw = torch.Generator().manual_seed(step)
    tensors = {
        "student.weight": torch.randn(3, size, generator=draw),
        "half": torch.randn(7, generator=draw).bfloat16(),
        "optimizer.step": torch.tensor(float(step)),
    }
    return Checkpoint(step, tensors, {"step": step, "taken": 2**63 + step, "name": "Öland µm"})


def is_state_of(found: Checkpoint, size: int = 50) -> bool:
    """True if it is, bit for bit, the checkpoint of the step it says it is of."""
    return equal(found, state_of(found.step, size))


def equal(a: Checkpoint, b: Checkpoint) -> bool:
    return (
        (a.step, a.state, a.tensors.keys()) == (b.step, b.state, b.tensors.keys())
        and all(a.tensors[k].dtype == b.tensors[k].dtype for k in a.tensors)
        and all(torch.equal(a.tensors[k], b.tensors[k]) for k in a.tensors)
    )


def forked(work: Callable[[], Any]) -> int:
    """Process id of a child that does the work and ends with 0, or with 1 if it raised."""
    pid = os.fork()
    if pid == 0:
        # What other tests left behind is not the child's to collect: destructors of native libraries want
        # their threads, which a fork does not have.
        gc.freeze()
        _work_and_end(work)
    return pid


def _work_and_end(work: Callable[[], Any]) -> NoReturn:
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def exit_code(pid: int) -> int:
    """Waits for a child; the number of the signal, negative, if one ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
