"""The page of the leaderboard: one file that fetches nothing, so that it can be mailed and opened anywhere.

Entries come from other people: they stand in the page as JSON in which no markup can begin, the script writes
them as text, and a content policy allows that one script, by its checksum, and nothing else.
Test: tests/explore/test_leaderboard.py, in a browser too.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from aqqua import __version__
from aqqua.evaluate.entry import Entry, comparable, read_entries
from aqqua.evaluate.metrics.scores import FIGURES
from aqqua.explore.page import STYLE
from aqqua.store.new_file import new_file, require_no_file

SCRIPTS = ("1_choose.js", "2_table.js", "3_plot.js", "4_classes.js", "5_start.js")
MAIN = ("macro_f1", "balanced_accuracy", "plankton_macro_f1", "lca_distance_edges", "ece")  # columns
_STYLE = """
form, .side { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; align-items: end; margin: .6rem 0; }
label { display: grid; font-size: 12px; color: var(--quiet); } select { font: inherit; max-width: 22rem; }
th button { all: unset; cursor: pointer; font-weight: 600; white-space: normal; }
th button:focus-visible, summary:focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; }
#table td, #table th { vertical-align: top; } #table th[scope=row] { max-width: 22rem; white-space: normal; }
details div { font-weight: 400; overflow-wrap: anywhere; } td small { color: var(--quiet); display: block; }
.best { font-weight: 700; } .best small { font-weight: 400; } th.words, .words { text-align: left; }
.recall { display: inline-block; height: .6em; margin-left: .5em;
  background: #0072b2; }
#plot { width: 100%; max-width: 60rem; }
#plot text { font-size: 11px; fill: var(--ink); }
.grid { stroke: var(--line); } #plot .bar { stroke: var(--ink); stroke-width: 1.2; fill: none; }
.point path { stroke: var(--paper); }
.point text { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.tall { max-height: 36rem; overflow: auto; }
.tall thead th { position: sticky; top: 0; background: var(--paper); }
canvas { image-rendering: pixelated; max-width: 100%; outline: 1px solid var(--line); }
.columns { display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(28rem, 100%), 1fr)); }
.columns > div { min-width: 0; } #at { min-height: 1.5em; }
"""
_BODY = """
<p>Higher is better unless a heading says otherwise; beside a figure stands its 95 % interval over groups of
test images (of fewer than five groups there is none). Two models differ where their intervals do not overlap,
and perhaps where they do: the paired margins of <code>aqqua evaluate</code> decide. What is not known comes
last.</p>
<noscript><p><strong>This page needs its own script, which your browser does not run.</strong></p></noscript>
<form aria-label="What is shown">
<label>suite <select id="suite"></select></label> <label>tier <select id="tier"></select></label>
<label>judged by <select id="probe"></select></label> <label>metric <select id="metric"></select></label>
</form>
<dl id="facts"></dl>
<section><h2>Models</h2>
<p class="facts">Choose a heading to sort by it; a model's name opens how its figures were made.</p>
<div class="wide"><table id="table" aria-label="Models"></table></div></section>
<section><h2>Accuracy against cost</h2>
<div class="side"><label>cost <select id="cost"></select></label>
<span id="plot-note" class="facts"></span></div>
<svg id="plot" viewBox="0 0 720 380" role="img" aria-label="The chosen metric against the chosen cost"></svg>
</section>
<section><h2>Classes</h2>
<div class="side"><label>model <select id="first"></select></label>
<label>beside <select id="second"></select></label> <span id="classes-note" class="facts"></span></div>
<div class="columns"><div class="tall wide"><table id="classes" aria-label="Classes"></table></div>
<div><p class="facts">Rows are the true class, columns the predicted one; the darker, the larger the share of
the class (blue: right, red: wrong).</p><canvas id="matrix" role="img"></canvas><p id="at" class="facts"></p>
<h2>Largest confusions</h2><ol id="confused"></ol></div></div></section>
"""


def write_leaderboard(places: Iterable[Path], out: Path) -> int:
    """Write the page of all entries in files and folders to a new file; returns the number of entries.

    Raises:
        ValueError: there is something at `out`, an entry is refused (aqqua.evaluate.entry), or there is none.
    """
    require_no_file(out, "leaderboard")
    entries = read_entries(places)
    page = leaderboard_page(list(entries.values()))
    with new_file(out, "leaderboard") as file:
        file.write_text(page, encoding="utf-8")
    return len(entries)


def leaderboard_page(entries: list[Entry]) -> str:
    """The whole page."""
    script = "\n".join((files(__package__) / name).read_text(encoding="utf-8") for name in SCRIPTS)
    checksum = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{checksum}'"
    data = {
        "boards": _boards(entries),
        "metrics": _names(),
    }
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8"/>',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>',
            '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
            "<title>Leaderboard</title>",
            f"<style>{STYLE}{_STYLE}</style>",
            "</head>",
            "<body>",
            "<h1>Leaderboard</h1>",
            _BODY,
            f'<p class="facts">aqqua {__version__}</p>',
            f'<script type="application/json" id="entries">{_harmless(data)}</script>',
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _boards(entries: list[Entry]) -> list[dict[str, Any]]:
    """Entries that may be compared, side by side; a suite whose data differ is a board of its own."""
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(comparable(entry), []).append(entry)
    suites = [group[0].suite for group in groups.values()]
    names = [suite.name for suite in suites]
    boards = []
    for suite, group in zip(suites, groups.values(), strict=True):
        seal = hashlib.sha256(repr(comparable(group[0])).encode()).hexdigest()
        told = f" ({seal[:8]})" if names.count(suite.name) > 1 else ""
        boards.append({"name": suite.name + told, "entries": [one.model_dump(mode="json") for one in group]})
    return sorted(boards, key=lambda board: str(board["name"]))


def _names() -> dict[str, dict[str, Any]]:
    """How figures are shown; in this order."""
    return {
        name: {
            "label": name.replace("_", " ").replace("macro f1", "macro-F1").replace("ece", "ECE"),
            "better": about.better,
            "main": name in MAIN,
        }
        for name, about in FIGURES.items()
    }


def _harmless(values: object) -> str:
    """JSON that holds no `<`: neither the end of the script nor a comment can begin in it."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
