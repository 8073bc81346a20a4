"""What is wanted of every benchmark, and what became of it: bench/targets.toml beside the rows of results.

bench/report.py says of each target whether it is met, missed or not measured; bench/gate.py refuses what lies
under a gate. Test: tests/test_bench_targets.py.
"""

import json
import operator
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FILE = Path(__file__).parent / "targets.toml"
Row = Mapping[str, Any]
State = Literal["met", "missed", "under the gate", "not measured"]
KEY = re.compile(r'"([^"]+)"|([^."]+)')


class Target(BaseModel):
    """One figure of a benchmark: a table of targets.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str = Field(description="what is measured, in words")
    device: Literal["cpu", "gpu"] = Field(default="cpu", description="what it is measured on")
    file: str = Field(description="its rows, below bench/results; * stands for any device or date")
    where: dict[str, str | int] = Field(
        default={}, description="the rows it is about, by their fields; in texts * stands for anything"
    )
    figure: str = Field(
        description="path to a number of the row, or 'path / path', their quotient; keys are separated by "
        "dots, those with a dot quoted, * is each: then the worst counts"
    )
    unit: str = Field(description="of the figure; '× who' where it is a ratio measured in one run")
    peer: str = Field(default="", description="whom a ratio is beside, in words")
    goal: float = Field(description="what is wanted, in that unit")
    gate: float | None = Field(default=None, description="below it a change is refused; null refuses nothing")
    lower_is_better: bool = Field(default=False, description="as of times and bytes")

    def value(self, row: Row) -> float | None:
        """The figure of a row; None if the row is not about it."""
        if not all(_matches(row.get(key), wanted) for key, wanted in self.where.items()):
            return None
        parts = [list(_numbers(row, path.strip())) for path in self.figure.split(" / ")]
        if not all(parts):
            return None
        figures = parts[0] if len(parts) == 1 else [a / b for a, b in zip(*parts, strict=True)]
        return max(figures) if self.lower_is_better else min(figures)

    def met(self, value: float) -> bool:
        """Whether the goal is reached."""
        return value <= self.goal if self.lower_is_better else value >= self.goal

    def judge(self, value: float) -> State:
        """What to say of a figure."""
        if self.gate is not None and (value > self.gate if self.lower_is_better else value < self.gate):
            return "under the gate"
        return "met" if self.met(value) else "missed"

    def in_words(self) -> str:
        """The goal, as in '≥ 40 × the specification'."""
        return f"{'≤' if self.lower_is_better else '≥'} {number(self.goal)} {self.unit}"


@dataclass(frozen=True)
class Point:
    """The figure of one measurement."""

    value: float
    date: str
    commit: str
    machine: str  # the CPU, or the GPU
    path: Path


def load_targets(path: Path = FILE) -> dict[str, Target]:
    """All targets by name.

    Raises:
        pydantic.ValidationError: a table lacks a field, or has one that is not known.
    """
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: Target.model_validate(table) for name, table in tables.items()}


def history(target: Target, results: Path) -> list[Point]:
    """Every measurement of a target, oldest first; rows without a commit belong to the first of the file."""
    points: dict[tuple[str, int], Point] = {}
    better = operator.gt if target.lower_is_better else operator.lt
    for path in sorted(results.glob(target.file)):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for line, row in enumerate(rows):
            if (value := target.value(row)) is None:
                continue
            about = row if "commit" in row else rows[0]
            key = (str(path), line if about is row else -1)
            if key not in points or better(value, points[key].value):  # the worst of a run's cases
                machine = about["cpu"] if about.get("device", "cpu") == "cpu" else about["device"]
                points[key] = Point(value, about.get("date", ""), about["commit"], machine, path)
    return sorted(points.values(), key=lambda point: point.date)


def newest(target: Target, results: Path) -> tuple[State, Point | None]:
    """What became of a target in its newest measurement."""
    points = history(target, results)
    return (target.judge(points[-1].value), points[-1]) if points else ("not measured", None)


def number(value: float) -> str:
    """As people write it: 1,500,000; 30.6; 0.941."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _matches(found: object, wanted: str | int) -> bool:
    return (
        fnmatchcase(found, wanted) if isinstance(found, str) and isinstance(wanted, str) else found == wanted
    )


def _numbers(row: Row, path: str) -> Iterator[float]:
    """The numbers a path leads to; nothing where it leads nowhere or to null."""
    return _below(row, [quoted or plain for quoted, plain in KEY.findall(path)])


def _below(value: object, keys: Sequence[str]) -> Iterator[float]:
    if not keys:
        if isinstance(value, int | float):
            yield float(value)
        return
    key, *rest = keys
    if key == "*":
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        for part in parts:
            yield from _below(part, rest)
    elif isinstance(value, Mapping) and key in value:
        yield from _below(value[key], rest)
