"""Tables of the page of a curation: shares before and after, with bars.

Test: tests/explore/test_curation.py.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

from aqqua.explore.curation_numbers import Tally
from aqqua.explore.page import plain

LISTED = 40  # rows of a table; what is left is summed


def shares_table(tally: Tally, heading: str) -> Iterator[str]:
    """Share of the images against share of the uses of each name; the largest, then the sum of the others."""
    names = tally.largest()
    listed, others = names[:LISTED], names[LISTED:]
    rows = [(f"<bdi>{plain(name)}</bdi>", tally.images[name], tally.uses[name]) for name in listed]
    if others:
        left, their_uses = sum(tally.images[n] for n in others), math.fsum(tally.uses[n] for n in others)
        rows.append((f"the other {count(len(others))}", left, their_uses))
    all_images, all_uses = sum(tally.images.values()), math.fsum(tally.uses.values())
    yield from bars_table(heading, rows, all_images, all_uses, len(listed))


def bars_table(
    heading: str,
    rows: Sequence[tuple[str, int, float]],
    all_images: int,
    all_uses: float,
    with_bars: int | None = None,
) -> Iterator[str]:
    """A row for each name (HTML), its images and its uses, of all images and all uses.

    Args:
        with_bars: so many rows have bars, to the scale of the longest; None: all.
    """
    parts = [(name, n, n / all_images, w / all_uses if all_uses else 0.0) for name, n, w in rows]
    longest = max((max(before, after) for *_, before, after in parts[:with_bars]), default=0) or 1.0
    heads = (heading, "images", "of images", "of uses", "change", "")
    yield '<div class="wide"><table class="shares"><thead><tr>'
    yield "".join(f"<th>{head}</th>" for head in heads)
    yield "</tr></thead><tbody>"
    for i, (name, n, before, after) in enumerate(parts):
        bars = _bars(before, after, longest) if with_bars is None or i < with_bars else ""
        cells = (name, count(n), share(before), share(after), change(before, after), bars)
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    yield "</tbody></table></div>"


def facts_table(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Names and what they are, both HTML."""
    yield "<dl>"
    yield from (f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows)
    yield "</dl>"


def _bars(before: float, after: float, longest: float) -> str:
    widths = (("before", before, 1), ("after", after, 8))
    rects = (
        f'<rect class="{name}" width="{100 * value / longest:.2f}%" y="{y}" height="6"/>'
        for name, value, y in widths
    )
    return f'<svg class="bars" aria-hidden="true">{"".join(rects)}</svg>'


def count(number: int) -> str:
    """With narrow spaces between thousands, at which no line is broken."""
    return f"{number:,}".replace(",", "\u202f")


def counted_images(number: int) -> str:
    """So many images."""
    return f"{count(number)} image{'' if number == 1 else 's'}"


def share(value: float) -> str:
    """A part of 1 in per cent."""
    per_cent = 100 * value
    if value == 0:
        return "0\u00a0%"
    if per_cent < 0.01:
        return "&lt;\u00a00.01\u00a0%"
    digits = 0 if per_cent >= 99.95 else 1 if per_cent >= 1 else 2
    return f"{per_cent:.{digits}f}\u00a0%"


def change(before: float, after: float) -> str:
    """How many times as much."""
    return "" if before == 0 else f"×\u00a0{number(after / before)}"


def number(value: float) -> str:
    """About three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
