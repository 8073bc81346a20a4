"""Bit flips and truncations in checkpoints and in datasets: found, named, never taken for good data."""

import random
import shutil
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_states import equal, exit_code, forked, is_state_of, state_of
from safetensors import SafetensorError
from safetensors.torch import load_file

from aqqua.store.read import Dataset
from aqqua.store.schema import MANIFEST
from aqqua.store.verify import verify as verify_dataset
from aqqua.train.checkpoint import Checkpoint, load_newest, save, verify

WORK = 50  # damaged datasets a child process reads before the next one does


def damaged(draw: random.Random, good: bytes) -> bytes:
    """One bit flipped; every tenth time the end cut off instead."""
    if draw.random() < 0.1:
        return good[: draw.randrange(len(good))]
    changed, bit = bytearray(good), draw.randrange(8 * len(good))
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def drawn_file(draw: random.Random, folder: Path, leave_out: str = "") -> Path:
    """A file of a folder, each as likely as it is large, but one in four at random: small ones count too."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != leave_out)
    if draw.random() < 0.25:
        return draw.choice(files)
    return draw.choices(files, [path.stat().st_size for path in files])[0]


def safetensors_alone_sees(file: Path, want: Checkpoint) -> bool:
    """True if safetensors refuses the file; what it loads instead is other numbers."""
    try:
        found = load_file(file)
    except (SafetensorError, ValueError, KeyError, OSError):
        return True
    return equal(Checkpoint(want.step, found, want.state), want)  # the bit was one that says nothing


@pytest.mark.reliability("5")
def test_damage_to_a_checkpoint_is_found_and_the_older_one_used(tmp_path, full, measured):
    draw, count = random.Random(5), 500 if full else 25
    save(tmp_path, state_of(1, 2000))
    newest, want = save(tmp_path, state_of(2, 2000)), state_of(2, 2000)
    found = older = named = tensors = peer_missed = 0
    for _ in range(count):
        file = drawn_file(draw, newest)
        good = file.read_bytes()
        file.write_bytes(damaged(draw, good))
        found += verify(newest) is not None
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            left = load_newest(tmp_path)
        older += left is not None and left.step == 1 and is_state_of(left, 2000)
        named += any(newest.name in str(warning.message) for warning in said)
        if file.suffix == ".safetensors":
            tensors += 1
            peer_missed += not safetensors_alone_sees(file, want)
        file.write_bytes(good)
    measured(
        f"checkpoints: {found} of {count} found, older one used {older}, named {named}; "
        f"safetensors alone missed {peer_missed} of {tensors}"
    )
    assert found == older == named == count
    assert peer_missed > tensors // 2, "the damage must be of a kind that is not seen by itself"


def images_of(dataset: Dataset) -> list[np.ndarray]:
    return [block.pixels(i).copy() for block in dataset.iter_blocks() for i in range(len(block))]


def read_all(path: Path, want: list[np.ndarray], told: Path) -> None:
    """Read a damaged dataset as training does, and say how that went."""
    try:
        got = images_of(Dataset.open(path))
    except (ValueError, OSError):
        told.write_text("refused")
        return
    same = len(got) == len(want) and all(map(np.array_equal, got, want))
    told.write_text("same" if same else "other")


def damage_and_read(path: Path, copy: Path, seeds: range, want: list[np.ndarray]) -> None:
    """One damage for each seed; what verify and a reader made of it goes into `copy`/../said."""
    for seed in seeds:
        draw = random.Random(seed)
        file = copy / drawn_file(draw, path, leave_out=MANIFEST).name
        good = file.read_bytes()
        file.write_bytes(damaged(draw, good))
        said = copy.parent / "said" / str(seed)
        problems = {problem.file for problem in verify_dataset(copy)}
        read_all(copy, want, said)
        said.write_text(f"{said.read_text()} {file.name in problems} {bool(problems)} {file.name}")
        file.write_bytes(good)


@pytest.mark.reliability("5")
def test_damage_to_a_dataset_is_found_and_never_read_as_other_pixels(
    sample_dataset, tmp_path, full, measured
):
    count, want = 500 if full else 25, images_of(Dataset.open(sample_dataset))
    copy = tmp_path / "copy"
    shutil.copytree(sample_dataset, copy)
    (tmp_path / "said").mkdir()
    crashes = 0
    for first in range(0, count, WORK):
        seeds = range(first, min(first + WORK, count))
        child = forked(partial(damage_and_read, sample_dataset, copy, seeds, want))
        crashes += exit_code(child) != 0
        shutil.copytree(sample_dataset, copy, dirs_exist_ok=True)
    said = [path.read_text().split() for path in (tmp_path / "said").iterdir()]
    named = sum(words[1] == "True" for words in said)
    found = sum(words[2] == "True" for words in said)
    other = [words[3] for words in said if words[0] == "other"]
    measured(
        f"parts and tables: {found} of {count} found, file named {named}; read as other pixels {len(other)}; "
        f"reader crashes {crashes}"
    )
    assert (len(said), found, named, other, crashes) == (count, count, count, [], 0)


@pytest.mark.reliability("5")
def test_damage_to_the_manifest_of_a_dataset_is_found(sample_dataset, tmp_path, full, measured):
    copy, draw, count = tmp_path / "copy", random.Random(5), 500 if full else 60
    shutil.copytree(sample_dataset, copy)
    good, found = (copy / MANIFEST).read_bytes(), 0
    for _ in range(count):
        (copy / MANIFEST).write_bytes(damaged(draw, good))
        try:
            found += bool(verify_dataset(copy))
        except ValueError:
            found += 1
    measured(f"dataset.json: {found} of {count} found")
    assert found == count
