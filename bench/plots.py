"""How each figure went over commits: small panels in one SVG for CPUs, and one for GPUs.

Written by hand, as other drawings of the house: the same rows make the same bytes on any machine, so a test
can compare. In each panel commits go from left to right, oldest first; the goal is dashed, the gate dotted. A
line joins the measurements of one machine. Test: tests/test_bench_report.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from targets import Point, Target, history, load_targets, number

COLUMNS, WIDTH, HEIGHT = 3, 300, 170  # panels in a row; px of a panel
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 40, 26  # px around what is drawn in it
INK, SOFT, GOAL, GATE = "#17323d", "#6b7f88", "#2b8a3e", "#c92a2a"
LINES = ("#2a7a9b", "#b07d1e", "#7048a8", "#c2255c")  # of machines, in the order of their first measurement


def plots_of(results: Path) -> dict[str, str]:
    """File name -> drawing; none where nothing was measured."""
    drawings = {}
    for device in ("cpu", "gpu"):
        found = {
            name: (target, points)
            for name, target in load_targets().items()
            if target.device == device and (points := history(target, results))
        }
        if found:
            drawings[f"{device}.svg"] = drawing(found)
    return drawings


def drawing(found: Mapping[str, tuple[Target, Sequence[Point]]]) -> str:
    """All panels, and below them the machines."""
    every = sorted((point for _, points in found.values() for point in points), key=lambda p: p.date)
    machines = {name: LINES[i % len(LINES)] for i, name in enumerate(dict.fromkeys(p.machine for p in every))}
    rows = -(-len(found) // COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT + 20 * len(machines) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="10">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for i, (name, (target, points)) in enumerate(found.items()):
        x, y = i % COLUMNS * WIDTH, i // COLUMNS * HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *panel(name, target, points, machines), "</g>"]
    for i, (machine, colour) in enumerate(machines.items()):
        y = rows * HEIGHT + 15 + 20 * i
        parts += [f'<circle cx="{LEFT}" cy="{y - 3}" r="3" fill="{colour}"/>', text(LEFT + 8, y, machine)]
    return "\n".join([*parts, "</svg>", ""])


def panel(name: str, target: Target, points: Sequence[Point], machines: Mapping[str, str]) -> Iterator[str]:
    """Title, axes, goal, gate and the lines."""
    marks = {"goal": (target.goal, GOAL, "6 3")}
    if target.gate is not None:
        marks["gate"] = (target.gate, GATE, "2 3")
    top = 1.12 * max(*(point.value for point in points), *(value for value, *_ in marks.values()))
    commits = list(dict.fromkeys(point.commit for point in points))
    low, high = HEIGHT - BOTTOM, TOP

    def across(commit: str) -> float:
        span = WIDTH - LEFT - RIGHT
        return LEFT + span * (commits.index(commit) + 0.5) / len(commits)

    def up(value: float) -> float:
        return low - (low - high) * value / top

    yield text(8, 16, name, "font-weight='bold'")
    yield text(8, 30, f"{target.what}, {target.unit}", f"fill='{SOFT}'")
    yield f'<path d="M{LEFT} {high} V{low} H{WIDTH - RIGHT}" fill="none" stroke="{SOFT}"/>'
    if target.lower_is_better:
        yield text(WIDTH - RIGHT, 16, "less is better", f"text-anchor='end' fill='{SOFT}'")
    if all(low - up(value) > 10 for value, *_ in marks.values()):
        yield text(LEFT - 4, low, "0", "text-anchor='end'")
    for mark, (value, colour, dashes) in marks.items():
        y = up(value)
        yield (
            f'<path d="M{LEFT} {y:.1f} H{WIDTH - RIGHT}" stroke="{colour}" stroke-dasharray="{dashes}">'
            f"<title>{mark} {number(value)}</title></path>"
        )
        yield text(LEFT - 4, y + 3, short(value), f"text-anchor='end' fill='{colour}'")
    for commit in commits:
        yield text(across(commit), low + 13, commit[:7], f"text-anchor='middle' fill='{SOFT}' font-size='8'")
    for machine, colour in machines.items():
        own = [(across(p.commit), up(p.value), p) for p in points if p.machine == machine]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in own)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}"/>' if len(own) > 1 else ""
        for x, y, point in own:
            said = escape(f"{number(point.value)}, {point.date}, {point.commit[:10]}")
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{said}</title></circle>'
    last = points[-1]
    y = up(last.value)
    crossed = any(0 < y - up(value) < 16 for value, *_ in marks.values())  # by a line just above it
    yield text(across(last.commit), y + 14 if crossed else y - 6, short(last.value), "text-anchor='middle'")


def short(value: float) -> str:
    """To fit beside an axis: 1.5 M, 33 M, 30.6."""
    return f"{value / 1e6:.3g} M" if value >= 1e6 else number(value)


def text(x: float, y: float, words: str, more: str = "") -> str:
    """A line of text at its left end, unless `more` says otherwise."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {more or f"fill={INK!r}"}>{escape(words)}</text>'
