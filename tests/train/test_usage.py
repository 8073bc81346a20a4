"""What a run has used, over its sessions and through kills; with GPUs that count as they are told to."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from same_run import numbers

from aqqua.train import loop, usage
from aqqua.train.loop import pretrain
from aqqua.train.ranks import Place, Ranks
from aqqua.train.settings import PretrainConfig
from aqqua.train.usage import Gpu, Ledger, Session, Usage, energy_meter, gpu_of

HOUR = 3600.0


class Meter:
    """Seconds and joules that a test turns on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.used = 0.0, 5e9  # a driver that was loaded long ago
        monkeypatch.setattr(usage.time, "monotonic", lambda: self.now)

    def gpu(self, name: str = "a") -> Gpu:
        return Gpu(name, lambda: self.used)

    def train(self, hours: float, kwh: float) -> None:
        self.now += hours * HOUR
        self.used += kwh * 3.6e6


class Told(Ranks):
    """Rank 0 of several, whose peers have GPUs of these names and joules in a session."""

    def __init__(self, **others: float | None) -> None:
        super().__init__(Place(0, 1 + len(others)))
        self.others = others

    def gather(self, value):
        counts = isinstance(value[1], bool)
        return [
            value,
            *([name, joules is not None if counts else joules] for name, joules in self.others.items()),
        ]


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    return Meter(monkeypatch)


def opened(folder: Path, meter: Meter, ranks: Ranks | None = None, **options: Any) -> Usage:
    defaults = {"grant_gpu_hours": None, "say": lambda _line: None, "since_s": meter.now, "gpu": meter.gpu()}
    return Usage(folder, ranks or Ranks(), **{**defaults, **options})


def test_hours_and_energy_add_up_over_sessions_also_of_a_killed_one(tmp_path, meter):
    killed = opened(tmp_path, meter)
    killed.__enter__()
    meter.train(2.0, 0.5)
    assert killed.numbers() == {"gpu_hours": 2.0, "energy_kwh": 0.5}
    meter.train(1.0, 9.0)  # lost with the process, before its next line
    with opened(tmp_path, meter) as second:
        meter.train(1.0, 0.25)
        assert second.numbers() == {"gpu_hours": 3.0, "energy_kwh": 0.75}
        assert second.last_line() == "the run has used 3.00 GPU-hours in 2 sessions, 0.75 kWh by its GPUs"
    rows = [json.loads(line) for line in (tmp_path / "usage.jsonl").read_text().splitlines()]
    assert [row["session"] for row in rows] == [1, 2, 2, 2, 2]  # one line of a past session stays
    assert rows[0] == {"session": 1, "gpus": 1, "gpu_s": 2 * HOUR, "joules": 1.8e6}


def test_a_torn_line_costs_itself_alone(tmp_path, meter):
    path = tmp_path / "usage.jsonl"
    whole = '{"session": 4, "gpus": 2, "gpu_s": 7200.0, "joules": 3600000.0}\n'
    path.write_text(whole + '{"session": 4, "gpus": 2, "gpu_s": 9000')
    ledger = Ledger(path)
    assert ledger.past == {4: Session(4, 2, 7200.0, 3.6e6)}
    assert ledger.session == 5
    with opened(tmp_path, meter) as now:
        assert now.numbers()["gpu_hours"] == 2.0
    assert path.read_text().startswith(whole + '{"session": 5')


def test_a_session_that_ends_by_an_error_is_counted(tmp_path, meter):
    def fail() -> None:
        meter.train(1.5, 0.1)
        raise RuntimeError

    with pytest.raises(RuntimeError), opened(tmp_path, meter):
        fail()
    assert opened(tmp_path, meter).numbers()["gpu_hours"] == 1.5


def test_gpus_of_all_ranks_count_once_each(tmp_path, meter):
    ranks = Told(b=3.6e6, c=7.2e6)
    found = opened(tmp_path, meter, ranks)
    meter.train(2.0, 0.5)
    assert found.numbers() == {"gpu_hours": 6.0, "energy_kwh": 3.5}
    shared = opened(tmp_path / "..", meter, Told(a=1.8e6))
    meter.train(1.0, 0.0)
    assert shared.numbers()["gpu_hours"] == 1.0


def test_energy_is_left_out_where_one_gpu_does_not_tell(tmp_path, meter):
    found = opened(tmp_path, meter, Told(b=None))
    meter.train(1.0, 0.5)
    assert found.numbers() == {"gpu_hours": 2.0}
    assert found.last_line() == "the run has used 2.00 GPU-hours in 1 sessions"


def test_a_grant_that_is_used_up_is_said_once(tmp_path, meter):
    said: list[str] = []
    found = opened(tmp_path, meter, grant_gpu_hours=3.0, say=said.append)
    meter.train(2.0, 0.5)
    assert found.numbers()["gpu_hours_left"] == 1.0
    assert said == []
    for _ in range(2):
        meter.train(2.0, 0.5)
        assert found.numbers()["gpu_hours_left"] == 0.0
    assert said == ["the 3 GPU-hours of train.grant_gpu_hours are used up; training goes on"]
    assert str(found.last_line()).endswith("; 0.0 of 3 left")


def test_a_full_disk_is_said_once_and_ends_nothing(tmp_path, meter, monkeypatch):
    said: list[str] = []
    found = opened(tmp_path, meter, say=said.append)

    def full(_self: Ledger, _now: Session) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Ledger, "write", full)
    meter.train(1.0, 0.5)
    assert found.numbers()["gpu_hours"] == found.numbers()["gpu_hours"] == 1.0
    assert len(said) == 1
    assert "usage.jsonl cannot be written" in said[0]


def test_without_gpus_nothing_is_written_or_said(tmp_path, meter):
    assert gpu_of(torch.device("cpu")) is None
    with opened(tmp_path, meter, gpu=None, grant_gpu_hours=1.0) as found:
        meter.train(9.0, 0.0)
        assert (found.numbers(), found.last_line()) == ({}, None)
    assert list(tmp_path.iterdir()) == []


class NVMLError(Exception):
    pass


def fake_nvml(monkeypatch: pytest.MonkeyPatch, millijoules: Callable[[], int]) -> list[Any]:
    calls: list[Any] = []

    def handle(uuid: str) -> str:
        calls.append(uuid)
        if uuid != "GPU-1":
            raise NVMLError
        return "handle"

    def energy(given: str) -> int:
        assert given == "handle"
        return millijoules()

    fake = SimpleNamespace(
        nvmlInit=lambda: calls.append("init"),
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetTotalEnergyConsumption=energy,
        NVMLError=NVMLError,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return calls


def test_nvml_counts_millijoules(monkeypatch):
    calls = fake_nvml(monkeypatch, lambda: 4_500_000)
    assert energy_meter("GPU-1")() == 4500.0
    assert calls == ["init", "GPU-1"]


def test_a_gpu_that_does_not_count_or_is_not_known_has_no_energy(monkeypatch):
    def refuse() -> int:
        raise NVMLError

    fake_nvml(monkeypatch, refuse)
    assert energy_meter("GPU-1")() is None
    assert energy_meter("MIG-7")() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy_meter("GPU-1")() is None


def test_a_gpu_is_known_by_its_uuid(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: SimpleNamespace(uuid="1"))
    fake_nvml(monkeypatch, lambda: 2000)
    found = gpu_of(torch.device("cuda"))
    assert found is not None
    assert (found.name, found.joules()) == ("GPU-1", 2.0)


def test_a_run_tells_it_in_metrics_and_at_its_end(
    make_config: Callable[..., PretrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(loop, "gpu_of", lambda _device: Gpu("GPU-1", lambda: 1e6))
    for stop in (2, 4):
        pretrain(make_config(tmp_path, train={"max_steps": stop, "grant_gpu_hours": 50.0}))
        said = " ".join(capsys.readouterr().err.split())
        assert f"GPU-hours in {stop // 2} sessions, 0 kWh by its GPUs; 50.0 of 50 left" in said
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    hours = [row["gpu_hours"] for row in rows]
    assert 0 < hours[0] < hours[1] < hours[2] < hours[3]
    assert all(row["gpu_hours"] + row["gpu_hours_left"] == pytest.approx(50.0) for row in rows)
    assert "gpu_hours" not in numbers(tmp_path)[0]
