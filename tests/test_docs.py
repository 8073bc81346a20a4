"""The pages say what the code does: reason codes, metrics, defaults of config keys, links."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from aqqua.config import keys
from aqqua.instruments.record import Reason
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


def test_config_keys_named_in_the_pages_exist():
    known = set(keys(PretrainConfig))
    sections = "data|views|masks|model|objective|teacher|optim|train"
    for page in ("docs/training.md", "docs/own-data.md", "docs/dali.md", "README.md"):
        if not (ROOT / page).exists():
            continue
        text = (ROOT / page).read_text(encoding="utf-8")
        for key in re.findall(rf"[`\s]((?:{sections})\.(?!safetensors)[a-z_.]+[a-z])(?=[`=\s])", text):
            assert key in known, f"{page}: {key}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
