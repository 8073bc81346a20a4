"""Checkpoints of every format there was: they load, go on and serve; what is of no known format is refused.

`fixtures/format-N` were each made once, by the program of their time (fixtures/make_checkpoint.py). A program
that writes a newer format must still read them, and adds one of its own.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from same_run import saved
from small_runs import losses_of

from aqqua.cli import main
from aqqua.train import checkpoint
from aqqua.train.folder import CHECKPOINTS

FIXTURES = Path(__file__).parent / "fixtures"
FORMATS = sorted(path.name for path in FIXTURES.glob("format-*"))
MOST_BYTES = 200_000
CLOSE = 1e-4  # relative; another torch may round otherwise
STATE, MANIFEST = "state.json", "manifest.json"
NEEDED = ("step", "images", "images_per_step", "lanes", "guard", "dataset", "config")
Damage = Callable[[dict[str, Any]], object]


def brought(name: str, folder: Path) -> Path:
    """A copy of a fixture, with its config for there; returns the config's file."""
    shutil.copytree(FIXTURES / name, folder)
    values = yaml.safe_load((folder / "run" / "config.yaml").read_text())
    values["run"], values["data"]["path"] = str(folder / "run"), str(folder / "dataset")
    values["train"]["max_steps"] = 4
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder / "config.yaml"


def the_one(folder: Path) -> Path:
    (found,) = (folder / "run" / CHECKPOINTS).iterdir()
    return found


def rewritten(path: Path, change_state: Damage, change_manifest: Damage) -> None:
    """State and manifest changed, with true checksums, as another version of the program would write them."""
    state, manifest = (json.loads((path / name).read_text()) for name in (STATE, MANIFEST))
    change_state(state)
    (path / STATE).write_text(json.dumps(state))
    del manifest["seal"]
    manifest["files"][STATE] = checkpoint._fingerprint(path / STATE)
    change_manifest(manifest)
    sealed = manifest if "unsealed" in manifest else {**manifest, "seal": checkpoint._seal(manifest)}
    (path / MANIFEST).write_text(json.dumps(sealed))


def as_it_is(_: dict[str, Any]) -> None:
    """No change."""


def without(key: str, values: dict[str, Any]) -> None:
    del values[key]


def of_version(version: int, manifest: dict[str, Any]) -> None:
    manifest["format_version"] = version


def far(got: float, want: float) -> bool:
    return abs(got - want) > CLOSE * max(1.0, abs(want))


@pytest.mark.reliability("19")
@pytest.mark.parametrize("name", FORMATS)
def test_a_checkpoint_of_every_format_loads_goes_on_and_serves(tmp_path, capsys, measured, name):
    config = brought(name, tmp_path / name)
    expected = json.loads((FIXTURES / name / "expected.json").read_text())
    embed = ["embed", str(tmp_path / name / "run"), "--data", str(tmp_path / name / "dataset")]
    assert main([*embed, "--out", str(tmp_path / "e.parquet")]) == 0
    rows = {row["image_id"]: row["embedding"] for row in pq.read_table(tmp_path / "e.parquet").to_pylist()}
    apart = [
        image
        for image, want in expected["embeddings"].items()
        if any(far(a, b) for a, b in zip(rows[image], want, strict=True))
    ]
    assert main(["pretrain", str(config)]) == 0
    assert "continued after step 2" in capsys.readouterr().err
    losses = {step: json.loads(loss) for step, loss in losses_of(tmp_path / name / "run").items()}
    others = [
        f"{part} of step {step}"
        for step, loss in losses.items()
        for part, value in loss.items()
        if far(value, expected["losses"][str(step)][part])
    ]
    size = sum(path.stat().st_size for path in (FIXTURES / name).rglob("*") if path.is_file())
    measured(
        f"{name} ({size / 1000:.0f} KB): verified, resumed with {len(others)} other losses, "
        f"embedded with {len(apart)} other images"
    )
    assert (apart, others) == ([], [])
    assert [*losses] == [3, 4]
    assert saved(tmp_path / name / "run").step == 4
    assert size <= MOST_BYTES


def test_every_format_has_its_fixture():
    assert [f"format-{version + 1}" for version in range(checkpoint.FORMAT_VERSION)] == FORMATS


@pytest.mark.reliability("19")
def test_what_is_of_no_known_format_is_refused_in_a_sentence(tmp_path, capsys, measured):
    """Not one may end in a traceback, and none in a run that starts from scratch."""
    cases: dict[str, tuple[Damage, Damage, str]] = {
        f"no {key}": (partial(without, key), as_it_is, f"got none of {key}") for key in NEEDED
    }
    for version in (checkpoint.FORMAT_VERSION + 1, 99):
        cases[f"version {version}"] = (as_it_is, partial(of_version, version), "update aqqua")
    cases["no seal"] = (as_it_is, lambda m: m.update(unsealed=True), "differs from its checksum")
    cases["no version"] = (as_it_is, partial(without, "format_version"), "format_version")
    clear, wrong = 0, []
    for number, (name, (change_state, change_manifest, said)) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        config = brought(FORMATS[-1], folder)
        rewritten(the_one(folder), change_state, change_manifest)
        code = main(["pretrain", str(config)])
        line = capsys.readouterr().err
        good = code == 2 and line.count("\n") == 1 and "resume: " in line and said in line
        clear += good and not (folder / "run" / "metrics.jsonl").exists()
        wrong += [] if good else [f"{name}: {code} {line}"]
    measured(f"{clear} of {len(cases)} unknown or incomplete formats refused in a sentence")
    assert wrong == []
    assert clear == len(cases)


def test_what_is_not_needed_may_be_missing(tmp_path):
    """The version that wrote it, and fields of a guard that were not known then."""
    config = brought(FORMATS[-1], tmp_path / "old")

    def older(state: dict[str, Any]) -> None:
        del state["aqqua"]
        state["guard"] = {}

    rewritten(the_one(tmp_path / "old"), older, as_it_is)
    assert main(["pretrain", str(config)]) == 0
    assert saved(tmp_path / "old" / "run").step == 4
