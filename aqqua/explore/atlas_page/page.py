"""The page of an atlas, as HTML: one file with its style and its scripts in it, which loads nothing else.

The scripts lie beside this file, in the order of SCRIPTS; vendor/ has the library that draws points. The page
is the same wherever its data comes from; the content policy lets in its own scripts by their checksums, and
`unsafe-eval` because the library compiles its drawing commands (vendor/README.md). Names and ids of others
are only ever set as text.
Test: tests/explore/atlas_page/test_atlas_page_page.py, in a browser.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files

from aqqua import __version__
from aqqua.explore.page import plain

SCRIPTS = (
    *(
        "1_elements.js",
        "2_data.js",
        "3_folder.js",
        "4_colours.js",
        "5_maps.js",
        "6_density.js",
        "7_images.js",
    ),
    *("8_filters.js", "9_geography.js", "10_start.js"),
)


def served_page(names: list[str]) -> tuple[str, str]:
    """The page that asks a server, and the policy that the server must state with it."""
    return _page(names, "server", {}, ""), _policy("connect-src 'self'; ")


def folder_page(names: list[str]) -> str:
    """The page that takes its data from script files in the folder `data` beside it."""
    # 'self' of a file is, to some browsers, nothing: they need `file:`.
    return _page(names, "folder", {}, _meta("'self' file: "))


def single_page(names: list[str], data: Mapping[str, object]) -> str:
    """The page with all of its data inside.

    Args:
        names: of the atlases.
        data: values as JSON, by the names that 3_folder.js asks for.
    """
    return _page(names, "folder", data, _meta(""))


def _meta(scripts: str) -> str:
    return f'<meta http-equiv="Content-Security-Policy" content="{_policy("", scripts)}"/>'


def _policy(more: str, scripts: str = "") -> str:
    allowed = " ".join(f"'sha256-{_checksum(text)}'" for text in _scripts())
    return (
        f"default-src 'none'; {more}script-src {scripts}{allowed} 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
    )


def _checksum(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _read(*place: str) -> str:
    return files(__package__).joinpath(*place).read_text(encoding="utf-8")


def _scripts() -> tuple[str, str]:
    """The library's and ours."""
    return _read("vendor", "regl-scatterplot.js"), "\n".join(_read(name) for name in SCRIPTS)


def harmless(value: object) -> str:
    """JSON that holds no `<`: neither the end of a script nor a comment can begin in it."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _page(names: list[str], source: str, data: Mapping[str, object], meta: str) -> str:
    title = " and ".join(plain(name) for name in names)
    inside = "\n".join(
        f'<script type="application/json" data-name="{plain(name)}">{harmless(value)}</script>'
        for name, value in data.items()
    )
    scripts = "\n".join(f"<script>{text}</script>" for text in _scripts())
    # The library holds no end of a script; a new one that did would break here, not in a browser.
    assert all("</script" not in text for text in _scripts())
    return f"""<!DOCTYPE html>
<html lang="en" data-source="{source}">
<head>
<meta charset="utf-8"/>
{meta}
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{title}</title>
<style>{_read("page.css")}</style>
</head>
<body>
{_read("body.html").replace("AQQUA_VERSION", __version__)}
{inside}
{scripts}
</body>
</html>
"""
