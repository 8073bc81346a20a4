"""Runs a grid of small trainings at equal compute, and says what each setting is worth.

    python bench/ablate/ablate.py GRID.yaml --data DATA --work WORK [--jobs 2] [--minutes 60]
    python bench/ablate/ablate.py GRID.yaml --work WORK --results bench/results/ablate

Grids are in bench/ablate/grids. DATA is a folder of datasets (`aqqua ingest`, or `bench/benchmark.py --work
DATA`) by the names the grid uses. WORK/<grid> keeps a JSON per run, its log and its weights: a run that is
there is not run again, one that was cut off goes on. After --minutes no other run is started. Each run is on
one thread. The summary is WORK/<grid>/<grid>.md and .svg; with --results both, and the JSON files, are copied
there, and the summary goes into docs/recipe.md between the grid's marks.
Test: tests/test_ablate.py.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cell import read_row, run_cell
from grid import ROOT, Cell, Grid, cells_of, read_grid
from table import markdown, picture

PAGE = ROOT / "docs" / "recipe.md"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grid", type=Path)
    parser.add_argument("--data", type=Path, help="folder of datasets; without it nothing is run")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--minutes", type=float, default=60, help="after which no other run is started")
    parser.add_argument("--results", type=Path, help="folder that also gets the summary and every run's JSON")
    given = parser.parse_args(arguments)
    grid = read_grid(given.grid)
    work = given.work / grid.name
    work.mkdir(parents=True, exist_ok=True)
    failed = run_all(grid, given.data, work, given.jobs, given.minutes * 60) if given.data else []
    rows = rows_of(grid, work)
    if rows:
        (work / f"{grid.name}.md").write_text(markdown(grid, rows), encoding="utf-8")
        (work / f"{grid.name}.svg").write_text(picture(grid, rows), encoding="utf-8")
        sys.stdout.write(markdown(grid, rows))
        if given.results:
            publish(grid, work, given.results / grid.name)
            insert(PAGE, grid.name, markdown(grid, rows))
    for line in failed:
        sys.stderr.write(f"ablate: {line}\n")
    return 1 if failed or not rows else 0


def run_all(grid: Grid, data: Path, work: Path, jobs: int, most_s: float) -> list[str]:
    """Run what is not there yet; what went wrong."""
    end = time.monotonic() + most_s

    def one(cell: Cell) -> str | None:
        if time.monotonic() > end:
            return None
        try:
            run_cell(grid, cell, data, work)
        except (ValueError, RuntimeError, OSError) as error:
            return f"{cell.name}: {error}"
        sys.stderr.write(f"ablate: {cell.name} is there\n")
        return None

    with ThreadPoolExecutor(jobs) as pool:  # of processes that each wait for a verb
        return [said for said in pool.map(one, cells_of(grid)) if said]


def rows_of(grid: Grid, work: Path) -> list[dict[str, Any]]:
    """The runs that are there, in the grid's order; see read_row."""
    rows = (read_row(grid, cell, work) for cell in cells_of(grid))
    return [row for row in rows if row is not None]


def publish(grid: Grid, work: Path, results: Path) -> None:
    """Copy the summary and every run's JSON."""
    results.mkdir(parents=True, exist_ok=True)
    names = [f"{grid.name}.md", f"{grid.name}.svg", *(f"{cell.name}.json" for cell in cells_of(grid))]
    for name in names:
        if (work / name).exists():
            shutil.copyfile(work / name, results / name)


def insert(page: Path, name: str, summary: str) -> None:
    """Put a summary in the place of what is between the grid's marks; nothing where the page has none."""
    start, end = f"<!-- made by bench/ablate: {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(start)
    if found:
        after = rest.partition(end)[2]
        page.write_text(f"{before}{start}\n{summary}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
