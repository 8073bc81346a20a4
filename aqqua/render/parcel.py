"""Many arrays to the device in one copy: a copy costs some ten microseconds, however small it is.

They are laid side by side in page-locked memory, from which a GPU copies by itself while the host goes on.
Test: tests/render/test_parcel.py.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

ALIGNMENT = 256  # bytes; what CUDA gives every allocation, so that a kernel may assume as much of a part


def upload(parts: Mapping[str, np.ndarray | Tensor], device: torch.device) -> dict[str, Tensor]:
    """The parts on the device, by one copy; on the CPU the parts themselves."""
    if device.type == "cpu":
        return {name: torch.from_numpy(p) if isinstance(p, np.ndarray) else p for name, p in parts.items()}
    starts = places([part.nbytes for part in parts.values()]).tolist()
    parcel = send(list(parts.values()), device)
    return {
        name: opened(parcel, start, part) for (name, part), start in zip(parts.items(), starts, strict=False)
    }


def places(sizes: Sequence[int]) -> Int64[np.ndarray, " parts1"]:
    """First byte of each part of so many bytes, all multiples of ALIGNMENT; then the bytes of them all."""
    return np.cumsum([0, *(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)], dtype=np.int64)


def send(parts: Sequence[np.ndarray | Tensor], device: torch.device) -> UInt8[Tensor, " bytes"]:
    """The parts' bytes on the device, at `places` of their sizes; the copy may still be under way.

    It is in order with what is done later on the current stream. The page-locked memory is PyTorch's, which
    uses it anew only when the copy is over.

    Args:
        parts: of any shape and dtype, on the host. An array is copied as C lays it.
    """
    flat = [_bytes(part) for part in parts]
    starts = places([len(part) for part in flat])
    # A length that is never 0 spares every reader of the buffer that case.
    buffer = torch.empty(max(int(starts[-1]), ALIGNMENT), dtype=torch.uint8, pin_memory=device.type == "cuda")
    room = buffer.numpy()
    for start, part in zip(starts.tolist(), flat, strict=False):
        room[start : start + len(part)] = part
    return buffer.to(device, non_blocking=True)


def opened(parcel: UInt8[Tensor, " bytes"], place: int, like: np.ndarray | Tensor) -> Tensor:
    """The part that begins at a place, with the shape and dtype of what was sent."""
    tensor = torch.from_numpy(like) if isinstance(like, np.ndarray) else like
    return parcel[place : place + tensor.nbytes].view(tensor.dtype).reshape(tensor.shape)


def _bytes(part: np.ndarray | Tensor) -> UInt8[np.ndarray, " bytes"]:
    if isinstance(part, Tensor):  # NumPy has no bfloat16
        return part.contiguous().view(-1).view(torch.uint8).numpy()
    return np.ascontiguousarray(part).reshape(-1).view(np.uint8)
