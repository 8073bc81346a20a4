"""The pages say what the code does: reason codes, metrics, defaults of config keys, links."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml
from PIL import Image

from aqqua.config import keys
from aqqua.curate.pipeline import STAGES, CurateConfig
from aqqua.instruments.record import Reason
from aqqua.plan.view_config import ViewConfig
from aqqua.train.settings import PretrainConfig

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def table(page: str, first_heading: str) -> list[list[str]]:
    """Cells of the rows of the table whose first column has that heading."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_reason_code_is_explained():
    rows = table("docs/own-data.md", "reason")
    assert [named(row[0])[0] for row in rows] == list(get_args(Reason))
    assert all(len(row) == 3 and row[1] and row[2] for row in rows)


def test_every_metric_is_explained(tiny_run):
    lines = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    explained = [name for row in table("docs/training.md", "field") for name in named(row[0])]
    assert sorted(explained) == sorted(lines[0])


def test_defaults_of_the_knobs(tmp_path):
    needed = {"run": tmp_path, "data": {"path": tmp_path}, "train": {"images": 1}}
    defaults = PretrainConfig.model_validate(needed).model_dump(mode="json")
    defaults["train"]["images"] = None
    for key, default, *_ in table("docs/training.md", "key"):
        value: Any = defaults
        for part in named(key)[0].split("."):
            value = value[part]
        assert yaml.safe_load(default) == value, key


def test_the_augmentation_sets_differ_as_their_table_says():
    sets = [ViewConfig(augmentation=name).model_dump(mode="json") for name in ("plankton", "dinov2")]
    rows = {named(key)[0]: cells for key, *cells in table("docs/augmentation.md", "setting")}
    differing = {f"views.{key}" for key in sets[0] if sets[0][key] != sets[1][key]} - {"views.augmentation"}
    assert rows.keys() == differing
    for key, cells in rows.items():
        assert [yaml.safe_load(cell) for cell in cells] == [of[key.removeprefix("views.")] for of in sets], (
            key
        )


def test_defaults_written_in_the_augmentation_page():
    """Of the form views.key=value."""
    text = (ROOT / "docs/augmentation.md").read_text(encoding="utf-8")
    defaults = ViewConfig().model_dump(mode="json")
    written = re.findall(r"`views\.([a-z_]+)=([^`]+)`", text)
    others = {"augmentation": "dinov2", "blur": "released", "specks": "4"}  # what else may be chosen
    assert len(written) > 15
    for key, value in written:
        assert value == others.get(key) or yaml.safe_load(value) == defaults[key], key


def test_every_picture_of_the_augmentation_page_is_drawn_small_and_shown(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("draw", ROOT / "docs/augmentation/draw.py")
    draw = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "draw", draw)  # where dataclasses look for their types
    spec.loader.exec_module(draw)
    monkeypatch.setattr(sys, "argv", ["draw.py", "--out", str(tmp_path)])
    draw.main()
    shown = re.findall(r"!\[[^]]+\]\(augmentation/(.+\.png)\)", (ROOT / "docs/augmentation.md").read_text())
    assert sorted(shown) == sorted(path.name for path in (ROOT / "docs/augmentation").glob("*.png"))
    assert sorted(shown) == sorted(path.name for path in tmp_path.glob("*.png"))
    for name in shown:
        committed = ROOT / "docs/augmentation" / name
        assert committed.stat().st_size < 60_000, name
        with Image.open(committed) as there, Image.open(tmp_path / name) as here:
            assert (there.size, there.mode) == (here.size, here.mode)
            # Another Pillow may decode or filter a level apart.
            difference = np.abs(np.asarray(there, np.int16) - np.asarray(here, np.int16))
            assert difference.mean() < 0.5, name


def test_the_pictures_of_the_performance_page_are_of_the_committed_rows(tmp_path):
    folder = ROOT / "docs/performance"
    subprocess.run([sys.executable, str(folder / "draw.py"), "--out", str(tmp_path)], check=True, timeout=120)
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    shown = re.findall(r"!\[[^]]+\]\(performance/(.+\.svg)\)", (ROOT / "docs/performance.md").read_text())
    assert sorted(shown) == sorted(drawn)
    committed = {path.name: path.read_text() for path in folder.glob("*.svg")}
    assert committed == drawn, "run python docs/performance/draw.py"


def test_every_column_of_the_table_of_targets_is_explained():
    (head, *_) = [
        line for line in (ROOT / "bench/README.md").read_text().splitlines() if line.startswith("| name")
    ]
    columns = [cell.strip() or "(no name)" for cell in head.strip("|").split("|")]
    assert [row[0] for row in table("docs/performance.md", "column")] == columns


def test_config_keys_named_in_the_pages_exist():
    known = set(keys(PretrainConfig))
    sections = "data|views|masks|model|objective|teacher|optim|train"
    pages = ("augmentation", "cost", "dali", "own-data", "performance", "training")
    for page in (*(f"docs/{name}.md" for name in pages), "README.md"):
        if not (ROOT / page).exists():
            continue
        text = (ROOT / page).read_text(encoding="utf-8")
        for key in re.findall(rf"[`\s]((?:{sections})\.(?!safetensors)[a-z_.]+[a-z])(?=[`=\s])", text):
            assert key in known, f"{page}: {key}"


def test_settings_of_curation_named_in_its_page_and_its_report_exist():
    known = set(keys(CurateConfig))
    sections = {key[:i] for key in known for i, letter in enumerate(key) if letter == "."}
    files = [ROOT / "docs/curation.md", *(ROOT / "aqqua/explore").glob("curation*.py")]
    pattern = rf"(?:`|<code>)((?:{'|'.join(CurateConfig.model_fields)})\.(?!json)[a-z_.]+[a-z])(?=[`<=])"
    named = [key for file in files for key in re.findall(pattern, file.read_text(encoding="utf-8"))]
    assert len(named) > 10
    assert set(named) <= known | sections


def test_the_stages_of_curation_are_those_of_its_page():
    assert [named(row[0])[0] for row in table("docs/curation.md", "stage")] == list(STAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
