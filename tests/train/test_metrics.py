"""The numbers of a run: each step once after a resume, valid JSON always, readable by TensorBoard."""

import errno
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aqqua.store.substitute import BadBlock
from aqqua.train import metrics
from aqqua.train.backend import LateImage
from aqqua.train.metrics import BAD_BLOCKS, BadBlockLog, LateImageLog, Lines, Meter, MetricsLog, drop_after


def strict(text: str) -> list[dict[str, Any]]:
    """JSON as other programs read it: no NaN, no Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def rows(folder: Path) -> list[dict[str, Any]]:
    return strict((folder / "metrics.jsonl").read_text())


def write(folder: Path, resumed: int, steps: range) -> None:
    log = MetricsLog(folder, resumed, tensorboard=False)
    for step in steps:
        log.write(step, {"loss": {"total": step / 2}, "since": resumed})
    log.close()


def test_a_resumed_run_writes_each_step_once(tmp_path):
    write(tmp_path, 0, range(1, 8))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "loss": {"to')  # killed here
    write(tmp_path, 5, range(6, 10))
    assert [(row["step"], row["since"]) for row in rows(tmp_path)] == [
        *((step, 0) for step in range(1, 6)), *((step, 5) for step in range(6, 10)),
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_bytes_that_are_no_text_do_not_stop_a_resume(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xfe\x00\n{"step": 2}\n')
    drop_after(path, 2)
    assert [row["step"] for row in strict(path.read_text())] == [1, 2]
    drop_after(tmp_path / "absent.jsonl", 2)
    assert not (tmp_path / "absent.jsonl").exists()


def test_lines_are_on_disk_when_written(tmp_path):
    log = MetricsLog(tmp_path, 0, tensorboard=False)
    log.write(1, {"lr": 0.1})
    assert rows(tmp_path) == [{"step": 1, "lr": 0.1}]
    log.close()


def test_numbers_that_are_not_finite_are_valid_json_at_any_depth(tmp_path):
    log = MetricsLog(tmp_path, 0, tensorboard=False)
    log.write(1, {"a": math.nan, "loss": {"dino": math.inf, "deep": {"x": -math.inf}, "ok": 1.5}, "n": 3})
    log.close()
    assert rows(tmp_path) == [
        {"step": 1, "a": "nan", "loss": {"dino": "inf", "deep": {"x": "-inf"}, "ok": 1.5}, "n": 3}
    ]


def test_tensorboard_reads_the_same_numbers_and_forgets_what_was_dropped(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = MetricsLog(tmp_path, 0)
    for step in range(1, 6):
        log.write(step, {"lr": 0.5 / step, "loss": {"total": float(step)}, "instruments": {"IFCB": step}})
    log.write(6, {"loss": {"total": math.nan}, "note": "no number"})
    log.close()
    log = MetricsLog(tmp_path, 3)
    log.write(4, {"loss": {"total": 40.0}})
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"lr", "loss/total", "instruments/IFCB"}
    assert [(e.step, e.value) for e in events.Scalars("loss/total")] == [(1, 1), (2, 2), (3, 3), (4, 40)]
    assert [e.step for e in events.Scalars("lr")] == [1, 2, 3]


def a_pack(images: int, tokens: int, codes: list[int]) -> Any:
    sizes = SimpleNamespace(instrument=np.array(codes), instrument_names=("UVP6", "IFCB"))
    return SimpleNamespace(n_images=images, tokens=tokens, budget_tokens=100, sizes=sizes)


def test_the_meter_counts_between_readings(monkeypatch):
    clock = [10.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: clock[0])
    meter = Meter()
    for _ in range(2):
        with meter.waiting():
            clock[0] += 1.0
        clock[0] += 3.0
        meter.add([a_pack(3, 90, [0, 1, 1]), a_pack(1, 70, [0])])
    assert meter.read() == {
        "images_per_s": 1.0, "tokens_per_s": 40.0, "fill": 0.8, "step_s": 4.0, "waiting_share": 0.25,
        "instruments": {"IFCB": 4, "UVP6": 4},
    }  # fmt: skip
    clock[0] += 2.0
    meter.add([a_pack(2, 50, [1, 1])])
    assert meter.read()["images_per_s"] == 1.0
    empty = meter.read()
    assert empty["images_per_s"] == empty["fill"] == 0.0
    assert empty["instruments"] == {}


def test_a_bad_block_is_noted_once_and_again_after_a_resume_before_it(tmp_path):
    def bad(block: int) -> BadBlock:
        return BadBlock(block, "part-00000.parquet", block, "flipped", 9)

    log, path = BadBlockLog(tmp_path, 0), tmp_path / BAD_BLOCKS
    assert log.note(3, [bad(4)]) == [bad(4)]
    assert log.note(4, [bad(4), bad(7)]) == [bad(7)]
    assert log.note(5, [bad(4), bad(7)]) == []
    assert len(log) == 2
    with path.open("a") as file:
        file.write('{"step": 6, "blo')  # killed here
    assert len(BadBlockLog(tmp_path, 4)) == 2
    log = BadBlockLog(tmp_path, 3)
    assert len(log) == 1
    log.note(4, [bad(7)])
    assert [(row["step"], row["block"], row["replacement"]) for row in strict(path.read_text())] == [
        (3, 4, 9), (4, 7, 9),
    ]  # fmt: skip
    (tmp_path / "new").mkdir()
    BadBlockLog(tmp_path / "new", 0).note(1, [])
    assert list((tmp_path / "new").iterdir()) == []


def late(row: int, *, blank: bool = False) -> LateImage:
    return LateImage(2, row, 7 * row, blank, "torn")


def late_log(folder: Path, resumed: int) -> LateImageLog:
    dataset: Any = SimpleNamespace(place=lambda block: ("part-00000.parquet", block))  # nothing can be read
    return LateImageLog(folder, resumed, dataset)


def test_a_late_image_is_named_once_also_after_a_resume(tmp_path):
    log = late_log(tmp_path, 0)
    assert [note.row for note in log.note(1, [late(0), late(1, blank=True), late(0)])] == [0, 1]
    assert log.note(2, [late(0)]) == []
    log.note(3, [late(4)])
    first = strict(log.path.read_text())[0]
    assert first == {
        "step": 1, "block": 2, "row": 0, "key": 0, "file": "part-00000.parquet", "row_group": 2,
        "stands": "strict", "error": "torn",
    }  # fmt: skip
    again = late_log(tmp_path, 2)  # the checkpoint is of step 2
    assert again.counts() == {"strict": 1, "blank": 1}
    assert again.note(3, [late(0), late(1, blank=True)]) == []
    assert [note.row for note in again.note(3, [late(4)])] == [4]
    assert [(row["step"], row["row"]) for row in strict(log.path.read_text())] == [(1, 0), (1, 1), (3, 4)]


def test_so_many_late_images_are_named_and_the_others_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "NAMED_IMAGES", 3)
    log = late_log(tmp_path, 0)
    assert len(log.note(1, [late(row) for row in range(2)])) == 2
    assert not log.full
    assert len(log.note(2, [late(2), late(3), late(4, blank=True)])) == 1
    assert log.full
    assert log.note(3, [late(3), late(0)]) == []  # one that has no name, again; one that has
    assert log.counts() == {"strict": 5, "blank": 1}
    rows = strict(log.path.read_text())
    assert rows[3:] == [{"step": 2, "strict": 1, "blank": 1}, {"step": 3, "strict": 1, "blank": 0}]
    again = late_log(tmp_path, 2)
    assert again.counts() == {"strict": 4, "blank": 1}
    assert again.full


def test_a_full_disk_costs_lines_and_is_said_once(tmp_path):
    said: list[str] = []
    lines = Lines(tmp_path / "some.jsonl", 0, said.append)
    lines.add([{"step": 1}])
    kept = lines.path.rename(tmp_path / "kept")
    lines.path.symlink_to("/dev/full")  # whatever is written there finds no room
    lines.add([{"step": 2}])
    lines.add([{"step": 3}])
    assert len(said) == 1
    assert "No space left" in said[0]
    lines.path.unlink()
    kept.rename(lines.path)
    with lines.path.open("a") as file:
        file.write('{"st')  # what may have fitted
    lines.add([{"step": 4}])
    assert [row["step"] for row in Lines(lines.path, 9, said.append).rows()] == [1, 4]


def test_tensorboard_without_room_is_left_out(tmp_path, monkeypatch):
    said: list[str] = []
    log = MetricsLog(tmp_path, 0, True, said.append)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log._board, "add_scalar", full)
    log.write(1, {"loss": 1.0})
    log.write(2, {"loss": 1.0})
    log.close()
    assert len(said) == 1
    assert [row["step"] for row in rows(tmp_path)] == [1, 2]
