"""A run with the GPU renderer learns as one with the C++ renderer; how its work is handed to the model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from aqqua.model.sequences import Sequences
from aqqua.train import side_stream
from aqqua.train.headline import headline
from aqqua.train.loop import pretrain
from aqqua.train.run import open_run
from aqqua.train.side_stream import SideStream, hand_over

GPU = torch.device("cuda:1")
# Small views and little blur: without a GPU, Triton's interpreter renders.
SMALL: dict[str, Any] = {
    "views": {"locals": 1, "max_tokens": (6, 3), "min_tokens": (3, 2), "blur_sigma_px": (0.1, 0.3)},
    "train": {"max_steps": 2, "log_every": 1, "tensorboard": False},
}


def losses(folder: Path) -> list[list[float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [list(json.loads(line)["loss"].values()) for line in lines]


def test_the_losses_of_a_run_are_those_of_the_native_renderer(make_config, tmp_path):
    found = {}
    for renderer in ("native", "triton"):
        data = {"renderer": renderer, "lanes": 1, "pack_tokens": 128, "holdout": 0.0, "prefetch": False}
        pretrain(make_config(tmp_path / renderer, data=data, **SMALL))
        found[renderer] = losses(tmp_path / renderer)
    assert len(found["native"]) == 2
    torch.testing.assert_close(found["triton"], found["native"], rtol=1e-4, atol=1e-5)


def test_the_feeder_asks_for_the_renderer_of_its_device(make_config, tmp_path):
    run = open_run(make_config(tmp_path, data={"renderer": "triton"}, **SMALL))
    assert "data.renderer triton" in headline(run)
    assert open_run(make_config(tmp_path / "auto", **SMALL)).feeder.renderer_name == "native"


class Recorder:
    """Stands for a stream and an event of a GPU that is not here."""

    def __init__(self) -> None:
        self.waited: list[object] = []
        self.kept: list[torch.Tensor] = []

    def wait_event(self, event: object) -> None:
        self.waited.append(event)


class OnDevice(torch.Tensor):
    """Says that it lies on a GPU and tells the stream that it was recorded for."""

    is_cuda = True

    def record_stream(self, stream: Recorder) -> None:
        stream.kept.append(self)


class Holder:
    def __init__(self, **parts: object) -> None:
        vars(self).update(parts)


def test_the_current_stream_waits_and_keeps_what_it_is_handed(monkeypatch):
    stream, event = Recorder(), object()
    monkeypatch.setattr(side_stream.torch.cuda, "current_stream", {GPU: stream}.__getitem__)
    a, b = (torch.zeros(2).as_subclass(OnDevice) for _ in range(2))
    hand_over(
        event, [Holder(rows=a, none=None, count=3, of_host=torch.zeros(1), within=Holder(offsets=b))], GPU
    )
    assert stream.waited == [event]
    assert {id(tensor) for tensor in stream.kept} == {id(a), id(b)}


def test_on_the_cpu_nothing_is_done(monkeypatch):
    monkeypatch.setattr(side_stream.torch.cuda, "current_stream", lambda _: pytest.fail("no stream is here"))
    side = SideStream(torch.device("cpu"))
    with side.working():
        pass
    assert side.mark() is None
    hand_over(side.mark(), [torch.zeros(1)], torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_the_side_stream_made_is_there_when_it_was_handed_over():
    side = SideStream(torch.device("cuda"))
    with side.working():
        torch.cuda._sleep(50_000_000)
        made = torch.full((1 << 20,), 3.0, device="cuda")
        grids = torch.tensor([[2, 3]])
        laid = Sequences.from_grids(grids, torch.ones(1), patch_px=8, prefix=1, device="cuda")
    hand_over(side.mark(), [made, laid], torch.device("cuda"))
    assert int((made == 3).sum()) == 1 << 20
    assert laid.offsets_V1.tolist() == [0, 7]
