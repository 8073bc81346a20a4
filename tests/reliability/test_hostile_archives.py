"""Archives made to do harm, and damaged ones: refused with a reason, nothing written, little memory."""

import random
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from bounded_child import Stopwatch, in_child
from hostile_archives import Archive, a_png, archives, zipped
from mutations import mutant

from aqqua.ingest import ingest_paths
from aqqua.instruments.detect import find
from aqqua.instruments.record import ReadOptions, Reason, Record, Rejected, RejectedInputError
from aqqua.instruments.tree import open_tree
from aqqua.store.verify import verify

REASONS = set(get_args(Reason))
MOST_MB, MOST_S = 200, 2


def reasons_of(path: Path) -> list[str]:
    """Why what an archive holds is refused, as an ingest would find it; its pixels are read too."""
    try:
        tree = open_tree(path)
    except ValueError:
        return ["bad_archive"]  # as an input of its own: one clear sentence
    reasons: list[str] = []
    for found in find(tree, ReadOptions()):
        if isinstance(found, Rejected):
            reasons.append(found.reason)
        elif isinstance(found, Record):
            try:
                found.pixels.load(tree)
            except RejectedInputError as error:
                reasons.append(error.reason)
    return reasons


def read_all(made: list[Archive], folder: Path, notes: dict[str, Any]) -> None:
    """Notes of how reading each of the archives went."""
    watch, notes["unrefused"], notes["uncoded"] = Stopwatch(), [], []
    for archive in made:
        path = folder / f"in{archive.suffix}"
        path.write_bytes(archive.data)
        reasons = watch.time(partial(reasons_of, path))
        if not reasons and not archive.harmless:
            notes["unrefused"].append(archive.name)
        notes["uncoded"] += [reason for reason in reasons if reason not in REASONS]
        path.unlink()
    notes["slowest_s"] = watch.slowest_s


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.reliability("13")
def test_hand_made_archives_are_refused_with_a_reason(tmp_path, measured):
    made = archives()
    inside = tmp_path / "a" / "b" / "inside"
    inside.mkdir(parents=True)
    before = everything_in(tmp_path)
    notes = in_child(lambda notes: read_all(made, inside, notes), tmp_path)
    (tmp_path / "notes.json").unlink(missing_ok=True)
    written = everything_in(tmp_path) - before
    measured(
        f"{len(made)} hand-made: {len(notes.get('unrefused', []))} not refused, {len(written)} files "
        f"written, {notes.get('peak_mb', -1):.0f} MB, slowest {notes.get('slowest_s', -1):.2f} s"
    )
    assert len(made) >= 200
    assert notes["exit"] == 0
    assert (notes["unrefused"], notes["uncoded"], written) == ([], [], set())
    assert notes["peak_mb"] <= MOST_MB
    assert notes["slowest_s"] <= MOST_S


@pytest.mark.reliability("13")
def test_an_ingest_of_all_of_them_ends_well_and_stays_in_its_folder(tmp_path, measured):
    made, ocean = archives(), tmp_path / "ocean"
    ocean.mkdir()
    for number, archive in enumerate(made):
        (ocean / f"{number:03d}{archive.suffix}").write_bytes(archive.data)
    (ocean / "good.png").write_bytes(a_png())
    before = everything_in(tmp_path)
    report = ingest_paths([str(ocean)], tmp_path / "out", ReadOptions(), workers=1)
    outside = {name for name in everything_in(tmp_path) - before if name.split("/")[0] != "out"}
    measured(f"one ingest of all: {report.quarantined} quarantined, {len(outside)} files outside")
    assert outside == set()
    assert report.read == report.accepted + report.quarantined
    assert set(report.reasons) <= REASONS
    assert verify(tmp_path / "out", deep=True) == []


@pytest.mark.reliability("13")
def test_damaged_archives_end_in_an_image_or_a_reason(tmp_path, full, measured):
    count, draw = 2000 if full else 150, random.Random(13)
    good = zipped(("a.png", a_png()), ("b/c.png", a_png()), method=8)
    zips = [archive.data for archive in archives() if archive.suffix == ".zip"]
    seeds = [data for data in zips if len(data) < 10**5]
    made = [Archive(str(i), mutant(draw, [good, draw.choice(seeds)])) for i in range(count)]
    before = everything_in(tmp_path)
    notes = in_child(lambda notes: read_all(made, tmp_path, notes), tmp_path)
    (tmp_path / "notes.json").unlink(missing_ok=True)
    measured(
        f"{count} damaged: exit {notes['exit']}, {len(notes.get('unrefused', []))} read in full, "
        f"{notes.get('peak_mb', -1):.0f} MB, slowest {notes.get('slowest_s', -1):.2f} s"
    )
    assert notes["exit"] == 0
    assert everything_in(tmp_path) == before
    assert notes["uncoded"] == []
    assert notes["peak_mb"] <= MOST_MB
    assert notes["slowest_s"] <= MOST_S
