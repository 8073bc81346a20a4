"""The page of `aqqua plan`: images, their views, and what was done to each, to be judged by eye.

One file without scripts, nothing fetched; the same input makes the same bytes. Ids and labels come
from other people's files: they are escaped, and a content policy forbids whatever else they might try.
Test: tests/explore/test_page.py.
"""

import math
import unicodedata
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from aqqua import __version__
from aqqua.explore.parameters import Parameters
from aqqua.explore.picture import (
    Greys,
    ScaleBar,
    colour_of,
    frame_of,
    mask_svg,
    original_svg,
    outlines_svg,
    view_svg,
)
from aqqua.explore.shown import Shown, ShownImage, ShownView
from aqqua.render.reference import SMALLEST_SIGMA
from aqqua.train.settings import PretrainConfig

VIEW_PX = 280  # CSS pixels of the longest side of an image's views, about: magnifications are whole
MOST_MAGNIFIED = 4
ORIGINAL_PX = 420  # CSS pixels of the longer side of an original, at most
SUFFIXES = (".html", ".htm")

STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --quiet: #5b656e; --paper: #fbfbfa; --line: #d5d9dc; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --quiet: #9aa4ad; --paper: #16191c; --line: #3a4147; }
}
body { margin: 1.5rem auto; padding: 0 1.25rem; max-width: 80rem; color: var(--ink); background: var(--paper);
  font: 14px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.35rem; } h2 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .3rem 0; } .facts, figcaption, dd { color: var(--quiet); overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .9rem; } dd { margin: 0; }
section { border-top: 1px solid var(--line); padding: 1rem 0 1.4rem; }
.pictures { display: flex; flex-wrap: wrap; gap: .9rem; align-items: flex-start; margin: .7rem 0; }
figure { margin: 0; } figcaption { font-size: 12px; }
svg { display: block; image-rendering: pixelated; max-width: 100%; height: auto; }
.original svg, .outlines svg { outline: 1px solid var(--line); }
.key { display: inline-block; width: .7em; height: .7em; border-radius: 50%; }
.bar { fill: var(--ink); }
.box, polygon { fill: none; vector-effect: non-scaling-stroke; }
.box { stroke: #2b8a3e; stroke-width: 1.5; stroke-dasharray: 5 4; }
.global { stroke-width: 2.5; } .local { stroke-width: 1.2; }
.hidden { fill: #be4bdb; fill-opacity: .6; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 12px; font-variant-numeric: tabular-nums; }
th, td { padding: .12rem .55rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

HEADINGS = (
    ("view", "G global, L local"),
    ("grid", "patch rows × columns"),
    ("px", "height × width that the model gets"),
    ("µm/px", "of a pixel that the model gets; in brackets where it is kept from the model"),
    ("scale", "pixels that the model gets per pixel of the image"),
    ("stretch", "of a view made square: how much wider than high a square of the image becomes"),
    ("angle", "how far the rectangle is turned in the image, clockwise"),
    ("mirror", "flipped"),
    ("gain", "contrast about the background"),
    ("offset", "added grey, full scale = 1"),
    ("inverted", "polarity"),
    ("solarized", "levels above one half mirrored at it"),
    ("saturation", "factor of the chroma; images of colour only, as hue"),
    ("hue", "how far it is turned"),
    ("blur px", "σ of the defocus, pixels that the model gets"),
    ("blur µm", "the same in micrometres"),
    (
        "σ source px",
        f"of the one Gaussian (defocus, antialiasing); below {SMALLEST_SIGMA:g} left out",
    ),
    ("specks", "of detritus over the view"),
    ("noise", "σ, full scale = 1"),
    ("hidden", "share of the patches hidden from the student"),
    ("cut", "share of the values beyond black or white on this page, not in the model"),
)


def write_page(shown: Shown, dataset: str, config: PretrainConfig, visit: int, out: Path) -> int:
    """Write the page to a new file; returns its bytes.

    Args:
        shown: from aqqua.explore.shown.show.
        dataset: its name, for the heading.

    Raises:
        FileExistsError: the file is there.
    """
    data = page(shown, dataset, config, visit).encode("utf-8")
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("xb") as file:
        file.write(data)
    return len(data)


def page(shown: Shown, dataset: str, config: PretrainConfig, visit: int) -> str:
    """The whole page."""
    greys = Greys.of(config.views)
    sections = (_section(image, n, greys) for n, image in enumerate(shown.images, 1))
    title = f"Views of {len(shown.images)} images of {plain(dataset)}"
    return document(title, STYLE, [*_preface(shown, config, visit, greys), *sections])


def document(title: str, style: str, body: Iterable[str]) -> str:
    """A page that loads nothing and runs nothing.

    Args:
        title: of it, escaped; also its heading.
        style: CSS.
        body: its lines below the heading, escaped.
    """
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8"/>',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"/>',
            '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
            f"<title>{title}</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            f"<h1>{title}</h1>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def plain(text: str) -> str:
    """Someone else's text as text: marked-up characters escaped, those that are not seen made visible."""
    seen = "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") else c for c in text)
    return escape(seen)


def _departures(config: PretrainConfig) -> str:
    """What of the set of augmentations was changed."""
    changed = (f"{name} {_listed(value)}" for name, value in config.views.departures().items())
    text = ", ".join(changed)
    return f" with {text}" if text else ""


def _listed(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value).lower()


def _greyed(shown: Shown, config: PretrainConfig) -> str:
    """Said where colour is lost on the way to the model."""
    colour = any(image.pixels.ndim == 3 for image in shown.images)
    return "; colour is made grey: model.channels=3 keeps it" if colour and config.model.channels == 1 else ""


def _preface(shown: Shown, config: PretrainConfig, visit: int, greys: Greys) -> Iterator[str]:
    views, model = config.views, config.model
    hidden_odds = 0.0 if config.hidden is None else config.hidden.odds
    zero = "the image's own background" if views.subtract_background else f"grey {views.mean:g}"
    facts = {
        "drawn with": f"augmentation {views.augmentation}{_departures(config)}, seed {config.seed}, visit "
        f"{visit}; aqqua {__version__}, renderer {shown.renderer}",
        "model": f"patches of {' or '.join(map(str, views.patch_choices or [model.patch_px]))} px, "
        f"{model.channels} "
        f"channel{'s' if model.channels > 1 else ''}{_greyed(shown, config)}",
        "greys of views": f"255 · ({greys.level:g} + {greys.slope:g} · x) for a value x that the model gets; "
        f"x = 0 is {zero}, x = ±1 a difference of {views.std:g} of the full scale. Originals: as stored",
        "outlines": "globals thick, locals thin; the dot is the corner of a view's first pixel; dashed green "
        "is the box of the organism; outside the image is its background",
        "violet": f"patches hidden from the student ({hidden_odds:.0%} of globals; which, and how many, also "
        "depends on the images that share a pack)",
        "sizes": "the views of one image are magnified alike; a bar below each picture is its scale, by the "
        "view's own µm/px",
        "cut": "values beyond black or white are cut off in these drawings, not in the model",
    }
    yield "<dl>"
    yield from (f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    yield "</dl>"


def _section(image: ShownImage, number: int, greys: Greys) -> str:
    patch_px = image.patch_px
    largest = max(max(view.values_hwC.shape[:2]) for view in image.views)
    magnified = min(max(round(VIEW_PX / largest), 1), MOST_MAGNIFIED)
    label = "no label" if image.label is None else plain(image.label)
    rows_of_figures = (
        _originals(image, number, patch_px, magnified),
        _views(image, number, greys, patch_px, magnified, are_global=True),
        _views(image, number, greys, patch_px, magnified, are_global=False),
    )
    return "\n".join(
        [
            f'<section id="image-{number}">',
            f"<h2>{number}. <bdi>{label}</bdi></h2>",
            f'<p class="facts">{_facts(image)}; views ×{magnified}</p>',
            *(f'<div class="pictures">{"".join(figures)}</div>' for figures in rows_of_figures),
            *_table([_cells(view, greys, patch_px, image.pixels.ndim == 3) for view in image.views]),
            "</section>",
        ]
    )


def _facts(image: ShownImage) -> str:
    height, width = image.pixels.shape[:2]
    top, left, bottom, right = image.box
    kind = "grey" if image.pixels.ndim == 2 else "colour"
    scale = "scale unknown" if math.isnan(image.um_per_px) else f"{image.um_per_px:.4g} µm/px"
    background = ", ".join(map(str, image.background))
    return (
        f"<bdi>{plain(image.image_id)}</bdi>; <bdi>{plain(image.instrument)}</bdi>; "
        f"{height} × {width} px, {kind}, {image.pixels.itemsize * 8} bit; {scale}; background {background}; "
        f"organism in rows {top} to {bottom}, columns {left} to {right}"
    )


def _originals(image: ShownImage, number: int, patch_px: int, magnified: int) -> Iterator[str]:
    _, _, width, height = frame_of(image, patch_px)
    shown_px = min(float(magnified), ORIGINAL_PX / max(width, height))
    svg, bar = original_svg(image, shown_px, f"i{number}")
    yield _figure("original", svg, f"original, ×{shown_px:.2g}", bar)
    outlines = outlines_svg(image, patch_px, shown_px, f"i{number}")
    yield _figure("outlines", outlines, "where its views lie", None)


def _views(
    image: ShownImage, number: int, greys: Greys, patch_px: int, magnified: int, *, are_global: bool
) -> Iterator[str]:
    for view in image.views:
        parameters = view.parameters
        if parameters.is_global != are_global:
            continue
        key = f"i{number}{parameters.name}"
        svg, bar = view_svg(view, greys, magnified, key)
        swatch = f'<span class="key" style="background:{colour_of(parameters)}"></span> {parameters.name}'
        yield _figure("view", svg, swatch, bar)
        if view.mask is not None:
            yield _figure("mask", mask_svg(view, patch_px, magnified, key), f"{swatch}, masked", None)


def _figure(kind: str, svg: str, caption: str, bar: ScaleBar | None) -> str:
    scale = "" if bar is None else f"<br/>{bar.text}"
    return f'<figure class="{kind}">{svg}<figcaption>{caption}{scale}</figcaption></figure>'


def _table(rows: list[list[str]]) -> Iterator[str]:
    """One row for each view; a column in which no view has anything is left out."""
    kept = [k for k in range(len(HEADINGS)) if any(row[k] for row in rows)]
    head = "".join(f'<th title="{escape(HEADINGS[k][1])}">{HEADINGS[k][0]}</th>' for k in kept)
    yield f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>'
    for row in rows:
        yield f"<tr>{''.join(f'<td>{row[k]}</td>' for k in kept)}</tr>"
    yield "</tbody></table></div>"


def _cells(view: ShownView, greys: Greys, patch_px: int, has_colour: bool) -> list[str]:
    p = view.parameters
    rows, columns = p.grid
    clipped = greys.clipped_share(view.values_hwC)
    return [
        f'<span class="key" style="background:{colour_of(p)}"></span> {p.name}',
        f"{rows} × {columns}",
        f"{rows * patch_px} × {columns * patch_px}",
        _um_per_px(p),
        f"{p.zoom:.3f}",
        "" if abs(p.stretch - 1) < 1e-3 else f"{p.stretch:.2f}",
        f"{p.angle_deg:.0f}°",
        "yes" if p.mirrored else "",
        f"{p.gain:.2f}",
        f"{round(p.offset, 3) + 0.0:+.3f}",  # + 0.0: no minus before nothing
        "yes" if p.inverted else "",
        "yes" if p.solarized else "",
        f"{p.saturation:.2f}" if has_colour else "",
        f"{round(360 * p.hue) + 0:+d}°" if has_colour else "",
        f"{p.blur_px:.2f}",
        "?" if math.isnan(p.blur_um) else f"{p.blur_um:.3g}",
        f"{p.sigma_source_px:.2f}",
        f"{p.specks}" if p.specks else "",
        f"{p.noise:.3f}",
        "" if view.mask is None else f"{view.mask.mean():.0%}",
        f"{clipped:.1%}" if clipped else "",
    ]


def _um_per_px(p: Parameters) -> str:
    text = "unknown" if math.isnan(p.um_per_px) else f"{p.um_per_px:.4g}"
    return f"({text})" if p.scale_hidden else text
