"""Checkpoints: bit-exact, whole or absent at every moment, proved whole before use."""

import errno
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import time
import warnings
from pathlib import Path

import pytest
import torch

from aqqua.train import checkpoint
from aqqua.train.checkpoint import Checkpoint, load, load_newest, save, verify

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


def made(step: int, size: int = 50) -> Checkpoint:
    """A checkpoint that can be told from its step alone."""
    draw = torch.Generator().manual_seed(step)
    tensors = {
        "student.weight": torch.randn(3, size, generator=draw),
        "half": torch.randn(7, generator=draw).bfloat16(),
        "optimizer.step.weight": torch.tensor(float(step)),
        "none": torch.zeros(0, 4),
    }
    return Checkpoint(step, tensors, {"step": step, "taken": 2**63 + step, "name": "Öland µm"})


def same(a: Checkpoint, b: Checkpoint) -> bool:
    return (
        (a.step, a.state, a.tensors.keys()) == (b.step, b.state, b.tensors.keys())
        and all(a.tensors[k].dtype == b.tensors[k].dtype for k in a.tensors)
        and all(torch.equal(a.tensors[k], b.tensors[k]) for k in a.tensors)
    )


def newest(folder: Path) -> Checkpoint:
    found = load_newest(folder)
    assert found is not None
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def reseal(path: Path, **changes: object) -> None:
    """Rewrite a manifest as a program that knows the format would."""
    manifest = json.loads((path / MANIFEST).read_text())
    manifest.pop("seal")
    manifest.update(changes)
    (path / MANIFEST).write_text(json.dumps({**manifest, "seal": checkpoint._seal(manifest)}))


def test_loads_the_bits_that_were_saved(tmp_path):
    want = made(7)
    want.tensors["turned"] = torch.randn(4, 6).t()  # not contiguous
    want.tensors["special"] = torch.tensor([float("inf"), -0.0, 1e-45])
    path = save(tmp_path / "a" / "b", want)
    assert path.name == "step-000000000007"
    assert names(path) == [MANIFEST, STATE, TENSORS]
    assert same(load(path), want)
    assert same(newest(tmp_path / "a" / "b"), want)
    nan = Checkpoint(8, {"x": torch.tensor([float("nan")])}, {})
    save(tmp_path / "nan", nan)
    assert newest(tmp_path / "nan").tensors["x"].isnan().all()


def test_none_only_where_there_never_was_one(tmp_path):
    assert load_newest(tmp_path / "absent") is None
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-7").mkdir()  # not a name of ours
    assert load_newest(tmp_path) is None


def test_nothing_is_pickled(tmp_path, monkeypatch):
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "save", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    path = save(tmp_path, made(1))
    assert same(newest(tmp_path), made(1))
    assert all(
        b"pickle" not in file.read_bytes() and file.read_bytes()[:2] != b"PK" for file in path.iterdir()
    )


class Crash(SystemExit):
    """The process is gone: nothing that catches Exception may run after it."""


class FaultyDisk:
    """Counts the operations that change a disk, and fails at the k-th, before or after it is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.fail_at, self.after, self.dead, self.log = 0, 0, False, False, list[str]()
        self.error: BaseException = Crash()
        for owner, name in (
            (os, "fsync"), (Path, "rename"), (Path, "mkdir"), (Path, "write_text"),
            (checkpoint, "save_file"), (shutil, "rmtree"), (os, "open"), (os, "unlink"), (os, "rmdir"),
        ):  # fmt: skip
            monkeypatch.setattr(owner, name, self._wrap(name, getattr(owner, name)))

    def _wrap(self, name, call):
        def faulty(*args, **kwargs):
            if self.dead:  # a dead process does nothing more: no clean-up, no sweep
                raise self.error
            self.count += 1
            self.log.append(name)
            if self.count != self.fail_at:
                return call(*args, **kwargs)
            if self.after:
                call(*args, **kwargs)
            elif name in ("write_text", "save_file"):  # killed half-way through a file
                path = args[0] if name == "write_text" else args[1]
                path.write_bytes(b'{"format_version": 1, "st')
            self.dead = isinstance(self.error, Crash)
            raise self.error

        return faulty

    def arm(self, fail_at: int, after: bool, error: BaseException) -> None:
        self.count, self.fail_at, self.after, self.error, self.dead = 0, fail_at, after, error, False

    def mend(self) -> None:
        self.fail_at, self.dead = 0, False


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("error", "keep"), [(Crash(), 1), (OSError(errno.ENOSPC, "No space left"), 2)], ids=["kill", "full"]
)
def test_a_crash_at_any_operation_leaves_an_earlier_checkpoint(tmp_path, monkeypatch, error, after, keep):
    disk = FaultyDisk(monkeypatch)
    k, finished = 0, False
    while not finished:
        k += 1
        folder = tmp_path / str(k)
        save(folder, made(1), keep)
        save(folder, made(2), keep)
        disk.arm(k, after, error)
        try:
            save(folder, made(3), keep)
            acknowledged, finished = 3, disk.count < k
        except (Crash, OSError):
            acknowledged = 2
        disk.mend()
        found = newest(folder)
        assert found.step in (acknowledged, 3), (k, disk.log[-1])
        assert same(found, made(found.step)), (k, disk.log[-1])
        assert max(path.name for path in folder.glob("step-*")) == f"step-{found.step:012d}"
        save(folder, made(4), keep)
        assert same(newest(folder), made(4))
        assert not [name for name in names(folder) if name.startswith(".partial")], (k, disk.log)
    assert k > 10  # the faults did reach the operations


def test_a_failed_save_leaves_nothing_behind_and_names_the_disk(tmp_path, monkeypatch):
    save(tmp_path, made(1))
    disk = FaultyDisk(monkeypatch)
    for k in range(1, 8):
        disk.arm(k, False, OSError(errno.EIO, "Input/output error"))
        with pytest.raises(OSError, match="Input/output error"):
            save(tmp_path, made(2))
        assert names(tmp_path) == ["step-000000000001"], k


def test_a_full_disk_met_by_safetensors_is_an_os_error(tmp_path, monkeypatch):
    def full(*_args: object) -> None:
        raise checkpoint.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        save(tmp_path, made(1))


def test_everything_is_flushed_before_the_rename_and_the_rename_after(tmp_path, monkeypatch):
    """What a power loss may take is what was not flushed: files, then their folder, then its name."""
    events: list[tuple[str, str]] = []
    fsync, rename = os.fsync, Path.rename

    def note_flush(handle: int) -> None:
        events.append(("flush", Path(f"/proc/self/fd/{handle}").resolve().name))
        fsync(handle)

    def note_rename(path: Path, to: Path) -> Path:
        events.append(("rename", to.name))
        return rename(path, to)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(Path, "rename", note_rename)
    save(tmp_path / "run" / "checkpoints", made(1))
    kinds = [name if not name.startswith(".partial") else "temporary" for _, name in events]
    assert kinds == [
        tmp_path.name, "run", TENSORS, STATE, MANIFEST, "temporary", "step-000000000001", "checkpoints",
    ]  # fmt: skip
    assert [kind for kind, _ in events].index("rename") == 6


def test_saving_a_step_again_never_takes_the_whole_one_away(tmp_path, monkeypatch):
    save(tmp_path, made(5), keep=1)
    disk = FaultyDisk(monkeypatch)
    save(tmp_path, made(5), keep=1)
    assert disk.log == []
    assert same(newest(tmp_path), made(5))


def test_a_broken_checkpoint_of_the_same_step_is_replaced(tmp_path):
    save(tmp_path, made(4))
    path = save(tmp_path, made(5))
    (path / STATE).write_text("{}")
    assert verify(path) == "state.json differs from its checksum"
    save(tmp_path, made(5))
    assert names(tmp_path) == ["step-000000000004", "step-000000000005"]
    assert same(newest(tmp_path), made(5))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("name", [TENSORS, STATE, MANIFEST])
def test_bit_flips_and_truncations_are_found_and_the_older_one_used(tmp_path, name):
    save(tmp_path, made(1))
    path = save(tmp_path, made(2))
    good, draw = (path / name).read_bytes(), random.Random(name)
    damaged = [flipped(good, draw.randrange(8 * len(good))) for _ in range(60)]
    damaged += [good[:length] for length in (0, 1, len(good) // 2, len(good) - 1)] + [good + b"\0"]
    for data in damaged:
        (path / name).write_bytes(data)
        assert verify(path) is not None
        with pytest.raises(ValueError, match="must be whole"):
            load(path)
        with pytest.warns(UserWarning, match="step-000000000002"):
            assert same(newest(tmp_path), made(1))
    (path / name).unlink()
    with pytest.warns(UserWarning, match="FileNotFoundError"):
        assert same(newest(tmp_path), made(1))


def test_every_single_bit_of_the_manifest_counts(tmp_path):
    path = save(tmp_path, made(2))
    good = (path / MANIFEST).read_bytes()
    for bit in range(0, 8 * len(good), 5):  # every byte or nearly, and all eight places in it
        (path / MANIFEST).write_bytes(flipped(good, bit))
        assert verify(path) is not None, (bit, good[bit // 8 - 8 : bit // 8 + 8])


def test_only_broken_ones_stop_the_run(tmp_path):
    for step in (1, 2):
        (save(tmp_path, made(step)) / TENSORS).write_bytes(b"")
    with pytest.raises(ValueError, match=r"got none that does \(step-0+2: .*step-0+1: .*; restore one"):
        newest(tmp_path)


def test_a_renamed_checkpoint_is_not_taken_for_another_step(tmp_path):
    save(tmp_path, made(3)).rename(tmp_path / "step-000000000099")
    assert verify(tmp_path / "step-000000000099") == "its manifest is of step 3"


def test_a_newer_format_is_refused_not_passed_over(tmp_path):
    save(tmp_path, made(1))
    reseal(save(tmp_path, made(2)), format_version=2)
    with pytest.raises(ValueError, match=r"at most 1, got 2 in .*; update aqqua"):
        newest(tmp_path)


def test_purge_keeps_the_newest_that_verify(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, made(step), keep=3)
    (tmp_path / "step-000000000003" / STATE).write_text("{}")
    save(tmp_path, made(4), keep=2)
    # The broken third does not count: the second stays as the fall-back it may have to be.
    assert [verify(tmp_path / name) is None for name in names(tmp_path)] == [True, False, True]
    assert names(tmp_path)[0] == "step-000000000002"
    for step in (5, 6):
        save(tmp_path, made(step), keep=2)
    assert names(tmp_path) == ["step-000000000005", "step-000000000006"]


def test_order_is_by_step_whatever_the_clock_says(tmp_path):
    for age, step in enumerate((9, 10, 100)):
        path = save(tmp_path, made(step), keep=3)
        for file in (path, *path.iterdir()):
            os.utime(file, (1e9 - 1e6 * age, 1e9 - 1e6 * age))
    assert newest(tmp_path).step == 100
    save(tmp_path, made(101), keep=2)
    assert names(tmp_path) == ["step-000000000100", "step-000000000101"]


def _save_for_ever(folder: Path, acknowledged: int) -> None:
    """What the forked child does: save, then say so."""
    step = 0
    while True:
        step += 1
        save(folder, made(step, size=20_000))
        os.write(acknowledged, step.to_bytes(4, "little"))


def test_kill_9_while_saving_loses_no_acknowledged_step(tmp_path):
    draw, context = random.Random(3), multiprocessing.get_context("fork")
    for round_number in range(15):
        folder = tmp_path / str(round_number)
        reading, writing = os.pipe()
        # Forked: no second import of torch. One tensor thread, so there is no pool to lose.
        child = context.Process(target=_save_for_ever, args=(folder, writing))
        child.start()
        os.close(writing)
        first = os.read(reading, 4)
        time.sleep(draw.uniform(0.0, 0.06))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        told = first
        while more := os.read(reading, 1 << 16):
            told += more
        os.close(reading)
        last = int.from_bytes(told[-4:], "little")
        found = newest(folder)
        assert last <= found.step <= last + 1
        assert same(found, made(found.step, size=20_000))
        shutil.rmtree(folder)


@pytest.mark.parametrize(("failures", "step"), [(3, 2), (4, 1)], ids=["recovers", "does not"])
def test_a_disk_that_fails_for_a_moment_costs_no_checkpoint(tmp_path, monkeypatch, failures, step):
    for number in (1, 2):
        save(tmp_path, made(number))
    monkeypatch.setattr(checkpoint, "RETRY_S", (0.0, 0.0, 0.0))
    left, real = [OSError(errno.EIO, "Input/output error")] * failures, checkpoint._fingerprint

    def fingerprint(path: Path) -> object:
        if left:
            raise left.pop()
        return real(path)

    monkeypatch.setattr(checkpoint, "_fingerprint", fingerprint)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_newest(tmp_path)
    assert found is not None
    assert found.step == step
