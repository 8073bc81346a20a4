"""docs/traits-and-carbon.md: its code runs, its tables are those of the code."""

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
from made_tables import CLASSES, FACTS, certain

from aqqua.downstream.carbon.registry import load_registry
from aqqua.downstream.predictions import KEPT, PredictionsWriter
from aqqua.downstream.size.table import FLAGS
from aqqua.store.read import Dataset

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "traits-and-carbon.md").read_text(encoding="utf-8")


def rows(heading):
    lines = PAGE[PAGE.index(f"| {heading} |") :].splitlines()[2:]
    table = [line for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("|"))]]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table]


def test_its_code_runs(sample_dataset, tmp_path):
    (tmp_path / "dataset").symlink_to(sample_dataset)
    dataset = Dataset.open(sample_dataset)
    images = dataset.table(list(KEPT))
    # Sample data lack a volume for some; those are left to the page's text.
    images = images.filter(images["volume_l"].is_valid())
    facts = {**FACTS, "dataset_sha256": dataset.manifest_sha256}
    with PredictionsWriter(tmp_path / "predictions.parquet", CLASSES, facts) as writer:
        writer.write(images, certain([i % len(CLASSES) for i in range(len(images))]))
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)
    here = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=here,
    )
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "sizes.parquet").num_rows == len(dataset)
    assert pq.read_table(tmp_path / "carbon.parquet").num_rows == len(images) > 20
    found = pq.read_table(tmp_path / "samples.parquet").to_pylist()
    assert sum(row["images"] for row in found) == len(images)


def test_the_flags():
    assert [row[0] for row in rows("flag")] == list(FLAGS)


def test_the_relations():
    wanted = [
        [entry.id, entry.input.quantity, entry.output.quantity, entry.provenance]
        for entry in load_registry().relations
    ]
    found = rows("relation")
    assert [[row[0], row[2], row[3], row[5]] for row in found] == wanted
    for row, entry in zip(found, load_registry().relations, strict=True):
        assert entry.citation.startswith(row[4])
