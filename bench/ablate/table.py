"""A grid's result as Markdown and as a picture of what each arm gains.

Test: tests/test_ablate.py.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from differences import ALL, Estimate, Figures, figures_of, gain, of_arm
from grid import Grid

WIDTH_PX, ROW_PX, LEFT_PX, RIGHT_PX, TOP_PX = 760, 26, 230, 190, 34


def markdown(grid: Grid, rows: Sequence[Mapping[str, Any]]) -> str:
    """What was asked, what was spent, and a table for each suite, the mean of all first."""
    lines = [f"### {grid.name}", "", grid.question, "", *_spent(grid, rows), ""]
    lines += [
        f"{_words(grid.figure)} by {grid.probe}, mean over seeds; gain over `{grid.against}` "
        "(told another scale: over the same arm told the true one), paired by seed; 95 % intervals "
        "(Student's t).",
        "",
    ]
    lines += _tables(grid, figures_of(rows, grid.probe, grid.figure))
    for also in grid.also:
        lines += [f"{_words(also.figure)} by {also.probe.replace('_', ' ')}:", ""]
        lines += _tables(grid, figures_of(rows, also.probe, also.figure, of_all=False))
    commits = sorted({f"`{row['commit'][:10]}`" for row in rows})
    data = sorted({row["dataset"][:12] for row in rows})
    return "\n".join([*lines, f"Commit {', '.join(commits)}; data `{'`, `'.join(data)}`.", ""])


def _spent(grid: Grid, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    wanted = len(grid.arms) * len(grid.seeds)
    lines = [f"{len(rows)} of {wanted} runs, each of {grid.compute_tflop:g} TFLOP of training:", ""]
    lines += ["| arm | settings | GFLOP an image | images | minutes |", "|---|---|---|---|---|"]
    for arm, settings in grid.arms.items():
        if of := [row for row in rows if row["arm"] == arm]:
            minutes = sum(row["trained_s"] for row in of) / len(of) / 60
            told = " ".join(f"`{one}`" for one in settings) or "as it is"
            lines.append(
                f"| {arm} | {told} | {of[0]['gflop_per_image']:.2f} | {of[0]['images']:,} | {minutes:.1f} |"
            )
    return lines


def _words(figure: str) -> str:
    return figure.replace("_", " ")


def _tables(grid: Grid, figures: Figures) -> list[str]:
    suites = dict.fromkeys(suite for suite, _ in figures)
    return [line for suite in suites for line in (*_table(grid, suite, figures), "")]


def _table(grid: Grid, suite: str, figures: Figures) -> list[str]:
    """Arms told the true scale against the arm named; told another, against themselves."""
    true = figures[suite, "true"]
    lines = [f"| {suite} | figure | gain | seeds |", "|---|---|---|---|"]
    for arm in grid.arms:
        for told in [told for one, told in figures if one == suite]:
            mine = of_arm(figures[suite, told], arm)
            if mine is None:
                continue
            other = grid.against if told == "true" else arm
            more = None if (arm, told) == (other, "true") else gain(figures[suite, told], arm, true, other)
            name = arm if told == "true" else f"{arm}, µm/px told: {told}"
            lines.append(f"| {name} | {cell(mine)} | {cell(more, '+') if more else ''} | {mine.seeds} |")
    return lines


def cell(estimate: Estimate, sign: str = "") -> str:
    """0.31 (0.28 to 0.34)."""
    value = f"{estimate.value:{sign}.3f}"
    return (
        value if estimate.low is None else f"{value} ({estimate.low:{sign}.3f} to {estimate.high:{sign}.3f})"
    )


def picture(grid: Grid, rows: Sequence[Mapping[str, Any]]) -> str:
    """Gains of all arms over suites, as SVG: a point, its interval, and the line of no gain."""
    gains = list(_gains(grid, figures_of(rows, grid.probe, grid.figure)))
    ends = [0.0] + [end for _, one in gains for end in (one.value, one.low, one.high) if end is not None]
    low, high = min(ends), max(ends)
    margin = max((high - low) * 0.08, 1e-3)
    low, high = low - margin, high + margin
    height = TOP_PX + ROW_PX * len(gains) + 40

    def x(value: float) -> float:
        return LEFT_PX + (value - low) / (high - low) * (WIDTH_PX - LEFT_PX - RIGHT_PX)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{WIDTH_PX}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="20" font-weight="600">{escape(_words(grid.figure))}, gain over '
        f"{escape(grid.against)}</text>",
        f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{TOP_PX}" y2="{height - 36}" stroke="#888"/>',
    ]
    for number, (name, one) in enumerate(gains):
        parts += _drawn(name, one, TOP_PX + ROW_PX * (number + 0.5), x)
    for value in sorted({low + margin, 0.0, high - margin}):  # one of the ends may be no gain
        parts.append(
            f'<text x="{x(value):.1f}" y="{height - 16}" text-anchor="middle" fill="#555">{value:+.3f}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _gains(grid: Grid, figures: Figures) -> list[tuple[str, Estimate]]:
    suites = list(dict.fromkeys(suite for suite, _ in figures))
    found = []
    for arm in grid.arms:
        for suite in suites if arm != grid.against else []:
            by_run = figures[suite, "true"]
            if one := gain(by_run, arm, by_run, grid.against):
                found.append((f"{arm}: {'all' if suite == ALL else suite}", one))
    return found


def _drawn(name: str, one: Estimate, y: float, x: Any) -> list[str]:
    low, high = one.low if one.low is not None else one.value, one.high if one.high is not None else one.value
    colour = "#555" if low <= 0 <= high else "#0072b2" if low > 0 else "#d55e00"  # blind-safe (Okabe, Ito)
    return [
        f'<text x="{LEFT_PX - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>',
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" '
        'stroke-width="2"/>',
        f'<circle cx="{x(one.value):.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>',
        f'<text x="{WIDTH_PX - RIGHT_PX + 12}" y="{y + 4:.1f}" fill="{colour}">{cell(one, "+")}</text>',
    ]
