"""One run of a grid: as many images as the compute is good for, trained, judged, written as one JSON.

Test: tests/test_ablate.py.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from grid import ROOT, Cell, Grid

from aqqua.cost.plan import Question, make_plan
from aqqua.evaluate.provenance import source_commit
from aqqua.store.new_file import whole_file
from aqqua.store.read import Dataset

TERA = 1e12


def run_cell(grid: Grid, cell: Cell, data: Path, work: Path) -> Path:
    """The cell's JSON in `work`; made if it is not there yet. A run that was cut off goes on where it was.

    Raises:
        ValueError: the config cannot be run, or compute does not reach for one step.
        RuntimeError: a verb ended with an error, which stands in the cell's log.
    """
    out = work / f"{cell.name}.json"
    if read_row(grid, cell, work) is not None:
        return out
    run = work / "runs" / cell.name
    images, gflop = images_of(grid, cell, data)
    settings = [*cell.overrides, f"data.path={data / grid.dataset}", f"train.images={images}", f"run={run}"]
    started, log = time.monotonic(), work / "logs" / f"{cell.name}.log"
    verb(log, "pretrain", ROOT / grid.base, *settings)
    trained_s = time.monotonic() - started
    row = {
        "grid": grid.name, "grid_sha256": grid.sha256, "arm": cell.arm, "seed": cell.seed,
        "overrides": list(cell.overrides),
        "commit": source_commit(), "dataset": Dataset.open(data / grid.dataset).manifest_sha256,
        "gflop_per_image": gflop, "trained_s": trained_s, **seen(run, gflop),
        "scores": scores(grid, run, data, work / "scores" / cell.name, log),
    }  # fmt: skip
    with whole_file(out, "ablate") as path:
        path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    return out


def read_row(grid: Grid, cell: Cell, work: Path) -> dict[str, Any] | None:
    """The cell's JSON; None where it is not there yet.

    Raises:
        ValueError: it is of other settings, compute, data or suites than the grid's.
    """
    path = work / f"{cell.name}.json"
    if not path.exists():
        return None
    row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if (row["grid_sha256"], tuple(row["overrides"])) != (grid.sha256, cell.overrides):
        raise ValueError(
            f"{path.name}: must be a run of this grid ({grid.sha256[:12]}, {' '.join(cell.overrides)}), got "
            f"one of {row['grid_sha256'][:12]}, {' '.join(row['overrides'])}; take another WORK"
        )
    return row


def images_of(grid: Grid, cell: Cell, data: Path) -> tuple[int, float]:
    """Images that the compute is good for, and 1e9 operations of one: both networks, heads, backward."""
    overrides = (*cell.overrides, f"data.path={data / grid.dataset}", "train.images=1")
    plan = make_plan(Question(ROOT / grid.base, overrides))
    if plan.native is None:
        raise ValueError(f"{cell.name}: the config must be one that can run, got {'; '.join(plan.blockers)}")
    work = plan.native.work
    images = int(grid.compute_tflop * TERA / work.flops.total)
    if images < work.images_per_step:
        raise ValueError(
            f"{cell.name}: compute_tflop must be good for a step of {work.images_per_step:.0f} images, got "
            f"{images} images; raise it"
        )
    return images, work.flops.total / 1e9


def seen(run: Path, gflop: float) -> dict[str, float]:
    """Images and steps that the run took, and their planned operations."""
    last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return {"images": last["images"], "steps": last["step"], "tflop": last["images"] * gflop / 1e3}


def scores(grid: Grid, run: Path, data: Path, folder: Path, log: Path) -> dict[str, Any]:
    """suite/tier -> scale told -> probe -> figure -> value and interval over groups of test images."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for judged in grid.judged:
        out = folder / f"{judged.suite.replace('/', '-')}.json"
        models = {"true": str(run), **{told: f"{run}?um_per_px={told}" for told in grid.told}}
        where = [word for key, name in judged.data.items() for word in ("--data", f"{key}={data / name}")]
        out.unlink(missing_ok=True)
        verb(
            log, "evaluate", *models.values(), "--suite", judged.suite, "--tier", judged.tier, *where,
            "--probes", *grid.probes, "--against", "--out", out,
        )  # fmt: skip
        answers = json.loads(out.read_text(encoding="utf-8"))["scores"]
        found[f"{judged.suite}/{judged.tier}"] = {
            told: {probe: answer["figures"] for probe, answer in answers[name][judged.tier].items()}
            for told, name in models.items()
        }
    return found


def verb(log: Path, *words: object) -> None:
    """Run a verb of aqqua on one thread, its words in the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "aqqua.cli", *map(str, words)]
    with log.open("a", encoding="utf-8") as file:
        ended = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    if ended.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"aqqua {words[0]} must end well, got {ended.returncode}: {' '.join(last)}")
