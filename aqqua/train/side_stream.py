"""Work for the GPU beside the model's: a second stream, and how its results are handed over.

The thread that prepares a step orders its copies and renders here, so that they run while the model works on
the step before. On the CPU there are no streams and all of this does nothing.
Test: tests/train/test_renderers.py.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


class SideStream:
    """A stream of one device."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def working(self) -> AbstractContextManager[object]:
        """While this is entered, what this thread orders of the device goes to the side stream."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def mark(self) -> torch.cuda.Event | None:
        """When all that was ordered so far is done."""
        return None if self._stream is None else self._stream.record_event()


def hand_over(ready: torch.cuda.Event | None, owners: Iterable[object], device: torch.device) -> None:
    """From here on the device's current stream may use the tensors: it waits for them, the host does not.

    Args:
        ready: `mark` after they were made; None on the CPU.
        owners: objects whose attributes are the tensors, or are such objects. Their memory belongs to the
            side stream, which must not use it anew before the current one is done with it.
        device: on which they lie.
    """
    if ready is None:
        return
    current = torch.cuda.current_stream(device)
    current.wait_event(ready)
    for tensor in _tensors(owners):
        if tensor.is_cuda:
            tensor.record_stream(current)


def _tensors(owners: Iterable[object]) -> Iterator[Tensor]:
    for owner in owners:
        if isinstance(owner, Tensor):
            yield owner
        elif hasattr(owner, "__dict__"):
            yield from _tensors(vars(owner).values())
