"""Text of anybody in Markdown, so that it is shown as it is: no markup, no HTML, no row that breaks.

Test: tests/downstream/publish/test_model_card.py.
"""

import html
import re
from collections.abc import Sequence

_MARKUP = re.compile(r"([\\`*_{}\[\]|~$]|^[#+=-])")  # the last ones mean something only at the start
MOST = 500  # characters of one text


def plain(text: object) -> str:
    """A text on one line, every sign with a meaning escaped."""
    line = " ".join(str(text).split())
    line = line if len(line) <= MOST else line[: MOST - 1] + "…"
    return _MARKUP.sub(r"\\\1", html.escape(line, quote=False))


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table."""
    lines = ["| " + " | ".join(plain(heading) for heading in headings) + " |", "|" + "---|" * len(headings)]
    return lines + ["| " + " | ".join(plain(cell) for cell in row) + " |" for row in rows]


def code(text: str, language: str = "") -> list[str]:
    """Lines of a block of code whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence + language, *text.splitlines(), fence]
