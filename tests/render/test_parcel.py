"""Arrays come out of a parcel as they went in, each where a kernel may expect it."""

import numpy as np
import torch

from aqqua.render.parcel import ALIGNMENT, opened, places, send, upload

PARTS = {
    "bytes": np.arange(7, dtype=np.uint8),
    "nothing": np.zeros((0, 3), np.float32),
    "words": np.arange(12, dtype=np.int64).reshape(3, 4),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "flags": np.array([True, False]),
    "half": torch.tensor([[1.5, -2.25]], dtype=torch.bfloat16),
}


def same(got: torch.Tensor, sent: np.ndarray | torch.Tensor) -> bool:
    sent = torch.from_numpy(sent) if isinstance(sent, np.ndarray) else sent
    return got.dtype == sent.dtype and torch.equal(got.cpu(), sent)


def test_parts_come_out_as_they_went_in(device):
    parcel = send(list(PARTS.values()), torch.device(device))
    starts = places([part.nbytes for part in PARTS.values()])
    assert parcel.device.type == device
    assert len(parcel) == starts[-1]
    assert not (starts % ALIGNMENT).any()
    for start, part in zip(starts.tolist(), PARTS.values(), strict=False):
        assert same(opened(parcel, start, part), part)


def test_an_empty_parcel_is_still_one():
    assert len(send([], torch.device("cpu"))) == ALIGNMENT
    assert places([]).tolist() == [0]


def test_upload_gives_every_part_its_name(device):
    got = upload(PARTS, torch.device(device))
    assert got.keys() == PARTS.keys()
    assert all(same(got[name], part) for name, part in PARTS.items())


def test_on_the_cpu_nothing_is_copied():
    got = upload(PARTS, torch.device("cpu"))
    assert got["words"].data_ptr() == PARTS["words"].ctypes.data
    assert got["half"] is PARTS["half"]
