"""The goals of reliability, row by row, and the page docs/reliability.md that says how far they are met."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- made by make reliability: begin -->", "<!-- made by make reliability: end -->"
HEADING = ("row", "what is done to it", "goal", "peer", "figure", "met", "seconds")
NOT_YET = "not yet"


@dataclass(frozen=True)
class Goal:
    """One row: what a test does, and the figure it must reach."""

    row: str
    test: str
    goal: str
    peer: str = ""


@dataclass(frozen=True)
class Result:
    """What the tests of one row measured."""

    figure: str
    met: bool
    seconds: float


GOALS = (
    Goal(
        "1a",
        "kill -9 at 200 random moments while saving",
        "0 unloadable, 0 wrong, 0 acknowledged lost",
        "torch.save to one file",
    ),
    Goal(
        "1b",
        "crash before, in and after every I/O operation of a save",
        "all recover; a crash in the recovery too",
    ),
    Goal(
        "1c",
        "power loss at every I/O operation: what was not flushed may be lost",
        "0 acknowledged lost",
        "the same code without fsync",
    ),
    Goal("2", "disk full at 40 sizes", "earlier checkpoint whole, OSError, nothing half-written, 40 of 40"),
    Goal("3", "EIO at every I/O operation of a save", "0 false \"saved\", earlier checkpoint whole"),
    Goal("4", "SIGTERM or SIGUSR1 at 50 random points", "exit within 30 s, checkpoint of that step"),
    Goal(
        "5",
        "500 bit flips and truncations in checkpoints, 500 in datasets",
        "all found, older one used, file named",
        "safetensors alone",
    ),
    Goal("6", "world size 2→1→2", "losses and weights bit-identical"),
    Goal(
        "7",
        "order of the data for 1, 2, 3, 4 and 8 ranks; resume at 100 steps",
        "same order; none of 10⁶ ids twice or missed; state ≤ 1 KB; any position in O(window)",
    ),
    Goal(
        "8",
        "100,000 fuzzed inputs: images, tables, dataset files, configs",
        "0 crashes, 0 over 1 s, every refusal with a code, memory grows < 50 MB",
    ),
    Goal("9", "NaN, inf, 1e30 in loss or gradient", "the step leaves no trace"),
    Goal("10", "a rank killed, stopped, starved or slow", "all exit within timeout + 2 s, culprit named"),
    Goal("11", "one weight bit flipped on one rank", "found at the next check, rank and tensor named"),
    Goal("12", "clock and file times that lie", "the right checkpoint, no crash"),
    Goal(
        "13",
        "200 hand-made and 2,000 mutated hostile archives",
        "0 bytes outside, ≤ 200 MB more memory, ≤ 2 s each, each refusal with a reason",
    ),
    Goal("14", "25 pickle payloads through every loader", "0 executed", "pickle.loads"),
    Goal("15", "300 hostile names in the explorer", "0 unescaped, CSP present"),
    Goal(
        "16",
        "soak: 10⁵ packs of one lane",
        "memory slope < 1 MB, files and threads constant",
    ),
    Goal("17", "two runs of one seed", "bit-identical"),
    Goal("18", "20 steps against 7 + 6 + 7 with kill -9 between", "equal at every step"),
    Goal("19", "old checkpoints", "every released format loads"),
    Goal("20", "10 % of reads fail", "10⁴ reads, 0 wrong, ≤ 5 tries"),
)  # fmt: skip


def rows_on_page(text: str) -> dict[str, tuple[str, ...]]:
    """Cells of the page's table by row."""
    table = text[text.index(BEGIN) : text.index(END)].splitlines()[3:]
    rows = [tuple(cell.strip() for cell in line.strip("| ").split("|")) for line in table if "|" in line]
    return {cells[0]: cells for cells in rows}


def page_with(text: str, results: Mapping[str, Result]) -> str:
    """The page with new results; rows that were not run keep what they had."""
    kept = rows_on_page(text)
    lines = ["| " + " | ".join(HEADING) + " |", "|" + "---|" * len(HEADING)]
    for goal in GOALS:
        lines.append("| " + " | ".join(_cells(goal, results.get(goal.row), kept.get(goal.row))) + " |")
    made = "\n".join([BEGIN, *lines, END])
    return re.sub(f"{BEGIN}.*{END}", lambda _: made, text, flags=re.DOTALL)


def _cells(goal: Goal, result: Result | None, kept: tuple[str, ...] | None) -> list[str]:
    said = [goal.row, goal.test, goal.goal, goal.peer or "–"]
    if result is not None:
        return [
            *said,
            result.figure.replace("|", "/"),
            "yes" if result.met else "**no**",
            f"{result.seconds:.0f}",
        ]
    if kept is not None and len(kept) == len(HEADING) and kept[-1] != "–":
        return [*said, *kept[4:]]
    return [*said, NOT_YET, "–", "–"]
