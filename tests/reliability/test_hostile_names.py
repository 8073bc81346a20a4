"""Three hundred hostile names on a page of ours, that of `aqqua plan`: they stay text.

The explorer's, with its server, is tried with as many in a browser, by
tests/explore/atlas_page/test_atlas_page_page.py. Read by the parser of Python's standard library, which
forgives as browsers do; tests/explore/test_page.py has a strict one.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from aqqua.cli import main
from aqqua.explore.page import page
from aqqua.explore.shown import Shown, show
from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.read import Dataset
from aqqua.store.write import ingest
from aqqua.train.settings import PretrainConfig

BREAKS = (  # out of text, an attribute, a comment, a style, a title, a script, an element of SVG, CDATA
    *("", '"', "'", '">', "'>", "-->", "</style>", "</title>", "</script>", "</bdi></h2>", "</svg>", "]]>"),
    *("&quot;>", "&#34;>", "\u202e", "\x00", "\u2028", "\ufeff"),
)
PAYLOADS = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>",
    "<iframe src=//x.y>",
    "<a href='javascript:alert(1)'>Acartia</a>", "<meta http-equiv=refresh content='0;url=//x.y'>",
    "<base href=//x.y>", "<style>@import '//x.y'</style>", "<details open ontoggle=alert(1)>",
    "onmouseover=alert(1) x=", "{{7*7}}${7*7}<%=7%>", "=HYPERLINK(\"//x.y\")", "@SUM(1)|cmd",
    "<math><mi xlink:href=javascript:alert(1)>", "<!--<img src=--><img src=x onerror=alert(1)//>",
    "<object data=data:text/html,x>", "<form action=//x.y><button>", "%3Cscript%3E<ScRiPt\n>alert(1)",
)  # fmt: skip
NAMES = [f"{opening}{payload}" for opening, payload in product(BREAKS, PAYLOADS)][:300]
ALLOWED = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "dl",
        "dt",
        "dd",
        "section",
        "div",
        "bdi",
    ),
    *("figure", "figcaption", "br", "span", "table", "thead", "tbody", "tr", "th", "td"),
    *(
        "svg",
        "image",
        "rect",
        "polygon",
        "circle",
        "g",
        "defs",
        "pattern",
        "path",
        "use",
        "clippath",
        "line",
        "text",
    ),
}
ON_ONE_PAGE = 6  # images of one page


class Reading(HTMLParser):
    """What a page has: elements, attributes, links, policies, and the text of `bdi`, where names stand."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[str] = set()
        self.odd_attributes: list[tuple[str, str | None]] = []
        self.policies: list[str] = []
        self.names: list[str] = []
        self.titles: list[str] = []
        self.oddities: list[str] = []  # comments, declarations, instructions
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self._open = tag
        if tag == "bdi":
            self.names.append("")
        values = dict(attributes)
        if values.get("http-equiv"):
            self.policies.append(f"{values['http-equiv']}: {values.get('content')}")
        for name, value in attributes:
            away = name in ("href", "src", "action", "data", "xlink:href") and not str(value).startswith(
                ("data:image/png", "#")
            )
            if name.startswith("on") or away:
                self.odd_attributes.append((name, value))

    def handle_endtag(self, _tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "bdi":
            self.names[-1] += data
        elif self._open in ("title", "h1"):
            self.titles.append(data)

    def handle_comment(self, data: str) -> None:
        self.oddities.append(data)

    def handle_pi(self, data: str) -> None:
        self.oddities.append(data)

    def unknown_decl(self, data: str) -> None:
        self.oddities.append(data)


def as_seen(name: str) -> str:
    """A name as a page may show it: characters that are not seen are replaced, all others kept."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") else c for c in name)


def escaped_from(reading: Reading) -> list[str]:
    """What no page of ours has."""
    policies = [p for p in reading.policies if p.startswith("Content-Security-Policy: default-src 'none'; ")]
    found = sorted(reading.elements - ALLOWED) + [str(a) for a in reading.odd_attributes] + reading.oddities
    if len(policies) != 1 or len(reading.policies) != 1 or "script" in policies[0]:
        found.append(f"policies {reading.policies}")
    return found


def wrong(text: str, names: Sequence[str]) -> list[str]:
    """What is wrong with a page that must show these names."""
    reading = Reading(text)
    shown, want = set(reading.names), {as_seen(name) for name in names}
    return escaped_from(reading) + [f"not as text: {name!r}" for name in want - shown]


@pytest.fixture(scope="module")
def config(sample_dataset: Path) -> PretrainConfig:
    values = {"run": "none", "data": {"path": sample_dataset}, "train": {"images": 1, "device": "cpu"}}
    return PretrainConfig.model_validate({**values, "views": {"locals": 1}})


@pytest.fixture(scope="module")
def shown(sample_dataset: Path, config: PretrainConfig) -> Shown:
    return show(Dataset.open(sample_dataset), config, ON_ONE_PAGE)


@pytest.mark.reliability("15")
def test_hostile_names_stay_text(shown, config, measured):
    assert len(NAMES) == len(set(NAMES)) == 300
    problems = []
    for at in range(0, len(NAMES), ON_ONE_PAGE):
        names = NAMES[at : at + ON_ONE_PAGE]
        images = tuple(
            replace(image, image_id=name, label=name, instrument=name)
            for image, name in zip(shown.images, names, strict=True)
        )
        text = page(replace(shown, images=images), names[0], config, 0)
        problems += wrong(text, names)
        if not any(as_seen(names[0]) in title for title in Reading(text).titles):
            problems.append(f"not as text in the title: {names[0]!r}")
    measured(
        f"{len(NAMES)} names as id, label, instrument and dataset on the page of `aqqua plan`: "
        f"{len(problems)} unescaped, CSP there, no script; the explorer's page: its tests in a browser"
    )
    assert problems == []


class Grey:
    """Pixels of an image that is not looked at."""

    def load(self, _tree: Tree) -> np.ndarray:
        return np.random.default_rng(1).integers(0, 255, (20, 20), np.uint8)


@pytest.mark.reliability("15")
def test_hostile_names_from_the_dataset_to_the_page(tmp_path, capsys, full, measured):
    """As a user would meet them: from a source's tables by ingest and the real command."""
    names = NAMES[::6] if full else NAMES[::30]
    records = (
        Record(object_id=f"{i}{name}", pixels=Grey(), instrument="IFCB", um_per_px=None, sample=name,
               group=name, label=name, label_status="validated", source=name)
        for i, name in enumerate(names)
    )  # fmt: skip
    ingest([(Tree(root=Path(NAMES[1]), label=NAMES[1]), records)], tmp_path / "dataset", workers=1)
    stored = Dataset.open(tmp_path / "dataset").table(["image_id", "label"]).to_pylist()
    out = tmp_path / "page.html"
    options = ["--out", str(out), "views.locals=1", "train.device=cpu"]
    assert main(["plan", str(tmp_path / "dataset"), "--show", str(len(stored)), *options]) == 0
    capsys.readouterr()
    expected = [row[key] for row in stored for key in row if row[key] is not None]
    problems = wrong(out.read_text(encoding="utf-8"), expected)
    measured(
        f"{len(stored)} images with such ids and labels, ingested and shown by the command: "
        f"{len(problems)} unescaped"
    )
    assert problems == []
    assert len(stored) == len(names)
    assert any("<script>" in row["label"] for row in stored)
