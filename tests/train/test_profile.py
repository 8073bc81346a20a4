"""`profile=true`: what it writes, that it changes nothing, and that a full disk does not end the run."""

import gzip
import json
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aqqua.config import load_config
from aqqua.train import profile as module
from aqqua.train.loop import pretrain
from aqqua.train.profile import FOLDER, ProfileConfig
from aqqua.train.run import open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.spans import PREFIX, SPANS, Seen, span
from aqqua.train.useful import Useful


def recorded(make_config, folder, profile, steps=5):
    small = {"lanes": 1, "pack_tokens": 512}  # each of a pack's views is dozens of operators to record
    rooms = {"data": small, "model": {"attention": "grouped"}, "views": {"locals": 2}}
    train = {"max_steps": steps, "images": 10_000}
    return pretrain(make_config(folder, train=train, **rooms, **({"profile": profile} if profile else {})))


@pytest.fixture(scope="module")
def run(make_config, tmp_path_factory):
    return recorded(make_config, tmp_path_factory.mktemp("profiled"), {"after_steps": 2, "steps": 1})


def test_every_stretch_of_a_step_is_in_the_summary_with_its_share(run, tmp_path):
    summary = json.loads((run.folder / FOLDER / "step-3-rank-0.json").read_text())
    assert (summary["first_step"], summary["steps"], summary["rank"]) == (3, 1, 0)
    spans = {one["name"]: one for one in summary["spans"]}
    assert list(spans) == [name for name in SPANS if name != "communicate"]  # a rank alone has nobody
    within = [spans[name]["share"] for name in ("teacher", "sinkhorn", "student", "backward", "optimizer")]
    assert all(0 < share < 1 for share in within)
    assert 0.5 < sum(within) < 1.02  # they do not overlap, and are most of a step
    for one in spans.values():
        assert one["share"] == pytest.approx(one["ms_per_step"] / summary["ms_per_step"])
    assert spans["wait"]["share"] == summary["waiting_share"] > 0
    assert spans["teacher"]["gpu_ms_per_step"] is None
    assert spans["ema"]["calls_per_step"] == 1
    assert spans["optimizer"]["calls_per_step"] == 2  # to clip and to step
    seconds = summary["ms_per_step"] / 1e3
    again = open_run(run.config.model_copy(update={"run": tmp_path}))
    with closing(again.feeder.steps(again.lanes, 0)) as steps:
        *_, third = (next(steps) for _ in range(3))
    useful = Useful.of(run.config, run.device, run.compute_dtype)
    assert summary["tflop_per_s"] == pytest.approx(useful.flops(third.packs) / seconds / 1e12)
    assert summary["tflop_per_s"] == pytest.approx(summary["counted_tflop_per_s"], rel=0.1)
    assert summary["gb_per_s"] == pytest.approx(useful.moved_bytes(third.packs) / seconds / 1e9)
    assert summary["launches_per_step"] > 100
    assert summary["operators"][0]["ms_per_step"] >= summary["operators"][-1]["ms_per_step"] > 0
    assert summary["ms_of_step_before"] > 0


def test_the_trace_has_the_names_of_both_threads_and_a_curve_of_memory(run):
    with gzip.open(run.folder / FOLDER / "step-3-rank-0.trace.json.gz", "rt") as file:
        events = json.load(file)["traceEvents"]
    threads = {}
    for event in events:
        if event.get("name", "").startswith(PREFIX):
            threads.setdefault(event["name"].removeprefix(PREFIX), set()).add(event["tid"])
    assert set(threads) == set(SPANS) - {"communicate"}
    assert threads["plan"] == threads["render"] != threads["teacher"] == threads["ema"]
    sizes = [event["args"]["bytes"] for event in events if event.get("ph") == "C"]
    assert len(sizes) == 2 * sum(event.get("name", "").startswith(PREFIX) for event in events)
    assert min(sizes) > 1e7  # of a process with PyTorch in it
    summary = json.loads((run.folder / FOLDER / "step-3-rank-0.json").read_text())
    assert [size for _, size in summary["memory"]] == sizes


def test_a_profiled_run_is_the_same_run(run, make_config, tmp_path):
    plain = recorded(make_config, tmp_path, None)
    assert not (plain.folder / FOLDER).exists()
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, run.model.state_dict()[name]), name


def test_a_run_that_ends_early_writes_what_was_recorded(make_config, tmp_path):
    run = recorded(make_config, tmp_path, {"after_steps": 1, "steps": 50}, steps=2)
    summary = json.loads((run.folder / FOLDER / "step-2-rank-0.json").read_text())
    assert summary["steps"] == 1


def test_a_run_that_ends_before_it_writes_nothing(make_config, tmp_path):
    run = recorded(make_config, tmp_path, {"after_steps": 2, "steps": 1}, steps=2)
    assert not (run.folder / FOLDER).exists()


def test_a_disk_that_refuses_the_profile_does_not_end_the_run(make_config, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_with_memory_track", full)
    run = recorded(make_config, tmp_path, {"after_steps": 1, "steps": 1}, steps=3)
    assert run.step == 3
    assert "the profile cannot be written" in capsys.readouterr().err


def test_true_is_the_usual_way_and_false_none(tmp_path):
    (tmp_path / "c.yaml").write_text("run: r\ndata: {path: d}\ntrain: {images: 1}\n")
    for text, want in (("profile=true", ProfileConfig()), ("profile=false", None)):
        assert load_config(PretrainConfig, tmp_path / "c.yaml", [text]).profile == want
    assert load_config(PretrainConfig, tmp_path / "c.yaml", ["profile.steps=7"]).profile.steps == 7


def test_a_span_is_nothing_while_no_profiler_runs():
    with torch.profiler.profile() as profiler, span("teacher"):
        torch.zeros(1)
    assert PREFIX + "teacher" not in {event.key for event in profiler.key_averages()}


def test_a_gpu_tells_the_time_between_both_ends_of_a_span():
    def moment(ms: float) -> Any:
        return SimpleNamespace(ms=ms, elapsed_time=lambda end: end.ms - ms)

    seen = Seen(gpu=[("teacher", moment(1), moment(5)), ("ema", moment(8), moment(9))])
    seen.gpu.append(("teacher", moment(20), moment(22.5)))
    assert seen.gpu_ms() == {"teacher": 6.5, "ema": 1.0}
    events: Any = [
        SimpleNamespace(key=PREFIX + "teacher", device_type=where, count=4, cpu_time_total=time)
        for where, time in ((torch.autograd.DeviceType.CPU, 3000.0), (torch.autograd.DeviceType.CUDA, 0.0))
    ]  # its name stands among the GPU's events too, with no time of the host
    (teacher,) = module._spans(events, 2, 0.01, seen.gpu_ms())
    assert (teacher.calls_per_step, teacher.ms_per_step, teacher.gpu_ms_per_step) == (2, 1.5, 3.25)
    assert teacher.share == pytest.approx(0.3)
