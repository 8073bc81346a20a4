"""Every command of README.md and of some pages of docs is run, on small sample data, page by page.

Run are blocks marked `sh` and `python`; a `yaml` block is written to the file its first line names.
Not run are lines of make, git, pip, python -m venv, and those with `# not run`. What a page calls its
own (`cruise1`, `export.zip`, `cpics`) is made here. Pretraining gets overrides that keep it short.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqqua.cli import main
from aqqua.config import load_config
from aqqua.evaluate.suites.suite import Suite
from aqqua.sample import write_sample
from aqqua.taxonomy.label_map import LabelMap
from aqqua.train.settings import PretrainConfig

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/own-data.md",
    "docs/dali.md",
    "docs/cost.md",
    "docs/performance.md",
    "docs/suites.md",
    "docs/evaluate.md",
    "docs/publish.md",
    "docs/explore.md",
)
NOT_RUN = re.compile(r"(make|git|pip|python3? -m venv)\b|.*# not run")
BLOCK = re.compile(r"^```(sh|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHORT = [
    *("data.lanes=1", "data.pack_tokens=3000", "views.locals=2", "views.max_tokens=[64,16]"),
    *("model.width=32", "model.layers=2", "model.heads=2", "objective.head.prototypes=64"),
    *("train.epochs=null", "train.images=40", "train.threads=1", "train.log_every=1"),
]


def steps(text: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of what a page tells its reader to do."""
    for kind, body in BLOCK.findall(text):
        if kind != "sh":
            yield kind, body
            continue
        for line in body.replace("\\\n", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#") and not NOT_RUN.match(line.strip()):
                yield kind, line.strip()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the reader of a page has lying about."""
    folder = tmp_path_factory.mktemp("desk")
    write_sample(folder / "cruise1", 100)
    write_sample(folder / "other", 50, seed=1)
    (folder / "other" / "ecotaxa_zooscan.zip").rename(folder / "export.zip")
    shutil.rmtree(folder / "other")
    shutil.copytree(ROOT / "configs", folder / "configs")
    _cpics(folder / "cpics")
    return folder


def _cpics(folder: Path) -> None:
    """Colour crops and a table of them, as the pages describe it."""
    (folder / "rois").mkdir(parents=True)
    draw = np.random.default_rng(0)
    rows = ["image,class,validated,latitude,longitude,depth"]
    for i in range(12):
        name = f"20240309_0220{i:02}.993.0.png"
        Image.fromarray(draw.integers(0, 90, (30 + i, 40, 3), np.uint8)).save(folder / "rois" / name)
        rows.append(f"rois/{name},{'Copepoda' if i % 2 else ''},validated,41.5,-70.7,{i}")
    (folder / "rois.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_works(page, desk, tmp_path, monkeypatch, capfd):
    if page == "docs/dali.md":
        pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install 'aqqua[gpu]'")
    found = list(steps((ROOT / page).read_text(encoding="utf-8")))
    assert any(line.startswith("aqqua") for _, line in found), f"{page} shows no command"
    work = tmp_path / "work"
    shutil.copytree(desk, work)
    monkeypatch.chdir(work)
    for kind, text in found:
        code = _do(kind, text, work)
        said = capfd.readouterr().err
        assert code == 0, f"{page}: {text}\n{said}"


def _do(kind: str, text: str, work: Path) -> int:
    if kind == "yaml":
        name = text.splitlines()[0].removeprefix("# ")
        (work / name).write_text(text, encoding="utf-8")
        _load(work / name)
        return 0
    if kind == "python":
        return _process([sys.executable, "-c", text], work)
    words = shlex.split(text, comments=True)
    if words[0] == "aqqua" and not {"|", ">", "&&", ";"} & set(words):
        return main([*words[1:], *_shortened(words)])  # in this process: no second import of torch
    return _process(["bash", "-euo", "pipefail", "-c", text], work)


def _load(path: Path) -> None:
    """Read a file that a page shows as what its name says it is."""
    if path.stem.endswith("suite"):
        Suite.load(path)
    elif path.stem.endswith("labels"):
        LabelMap.load(path)
    else:
        load_config(PretrainConfig, path)


def _shortened(words: list[str]) -> list[str]:
    """Arguments that make a command small enough for a test."""
    if words[1] == "pretrain" and "--print-config" not in words:
        given = {word.partition("=")[0] for word in words}
        return [override for override in SHORT if override.partition("=")[0] not in given - {"train.images"}]
    return ["--workers", "1"] if words[1] == "ingest" else []


def _process(command: list[str], work: Path) -> int:
    """With `aqqua` on the PATH, whether it is installed or only checked out."""
    tools = work / ".tools"
    tools.mkdir(exist_ok=True)
    (tools / "aqqua").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aqqua.cli "$@"\n')
    (tools / "aqqua").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=work, env=environment, timeout=60).returncode


def test_what_is_run_and_what_not():
    page = (
        "```sh\nmake demo   # all\naqqua ingest a \\\n    --out b   # c\n\n# a remark\n"
        "tensorboard --logdir runs   # not run\n```\ntext\n```yaml\n# my.yaml\nrun: x\n```\n"
        "```\naqqua shown only\n```\n```python\nprint(1)\n```\n"
    )
    assert list(steps(page)) == [
        ("sh", "aqqua ingest a      --out b   # c"),
        ("yaml", "# my.yaml\nrun: x\n"),
        ("python", "print(1)\n"),
    ]
