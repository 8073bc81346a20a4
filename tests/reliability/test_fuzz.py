"""A hundred thousand damaged inputs: each accepted, or refused in the way callers are told to expect."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from bounded_child import in_child
from fuzz_targets import CONFIG, Configs, Ocean, Read, Stored, hunt, images, read_image

from aqqua.instruments.record import Reason

SHORT = 50  # the short form reads one input of so many
MOST_GROWN_MB, MOST_S = 50, 1
ENDS = {*get_args(Reason), "accepted", "sample", "named", "refused", "read True"}


def of_images(_folder: Path) -> tuple[list[bytes], Read]:
    return images(), read_image


def of_tables(folder: Path) -> tuple[list[bytes], Read]:
    ocean = Ocean(folder / "ocean")
    return list(ocean.tables.values()), ocean.read


def of_datasets(folder: Path) -> tuple[list[bytes], Read]:
    stored = Stored(folder)
    return list(stored.files.values()), stored.read


def of_configs(folder: Path) -> tuple[list[bytes], Read]:
    return [CONFIG], Configs(folder).read


@pytest.mark.reliability("8")
@pytest.mark.parametrize(
    ("make", "count"),
    [(of_images, 60_000), (of_tables, 2_500), (of_datasets, 10_000), (of_configs, 10_000)],
    ids=["images", "tables", "datasets", "configs"],
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_inputs_are_read_or_refused(tmp_path, full, measured, make: Callable, count: int):
    originals, read = make(tmp_path)
    count = count if full else count // SHORT
    notes: dict[str, Any] = in_child(partial(hunt, originals, read, count, 8), tmp_path)
    ends = notes.get("ends", {})
    measured(
        f"{make.__name__.removeprefix('of_')}: {count} inputs, {sum(ends.values())} ends of {len(ends)} "
        f"kinds, {len(notes.get('escaped', ['?']))} unforeseen errors, exit {notes['exit']}, "
        f"slowest {notes.get('slowest_s', -1):.2f} s, {notes.get('grown_mb', -1):+.0f} MB"
    )
    assert (notes["exit"], notes.get("escaped")) == (0, [])
    assert set(ends) <= ENDS
    assert len(ends) >= 2, "damage that is always refused, or never, shows nothing"
    assert notes["grown_mb"] < MOST_GROWN_MB
    assert notes["slowest_s"] < MOST_S
