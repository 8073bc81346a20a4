"""Sections of the page of a curation on single images: duplicates, quality, contamination.

Test: tests/explore/test_curation.py.
"""

from collections.abc import Iterator

from aqqua.explore.curation_numbers import LOOKED_INTO, Numbers
from aqqua.explore.curation_sections import Page, how_to_read, not_given
from aqqua.explore.curation_tables import count, counted_images, share
from aqqua.explore.curation_walls import Picture, WallScale
from aqqua.explore.page import plain
from aqqua.store.weights import KIND


def two_labels(one: str | None, other: str | None) -> bool:
    """Whether images have labels that differ."""
    return one is not None and other is not None and one != other


def duplicates_section(page: Page) -> Iterator[str]:
    """Pairs of a copy and what is kept."""
    numbers, chosen = page.numbers, page.chosen
    if not ({"duplicates"} & numbers.stages.keys() or numbers.kinds):
        yield not_given("the search for duplicates")
        return
    yield how_to_read(
        "Left the copy, which is not used, right the one that is kept. If pairs are different "
        "organisms, narrow <code>duplicates.same</code> or raise <code>duplicates.cosine</code>; if "
        "copies are missed, set <code>duplicates.within</code> to sample. A pair with two labels is "
        "framed: one of them may be wrong, and the labels’ owner may want to know."
    )
    if not numbers.kinds:
        yield '<p class="facts">None was found.</p>'
    for kind, found in sorted(numbers.kinds.items()):
        looked, differ = chosen.two_labels.get(kind, (0, 0))
        first = "the first " if found > LOOKED_INTO else ""
        yield f"<h3><bdi>{plain(kind)}</bdi>: {counted_images(found)}</h3>"
        yield f'<p class="facts">{count(differ)} of {first}{count(looked)} looked into have two labels.</p>'
        pairs = chosen.pairs.get(kind, [])
        yield from _pairs(page, [(page.pictures[a], page.pictures[b]) for a, b in pairs])


def _pairs(page: Page, pairs: list[tuple[Picture, Picture]]) -> Iterator[str]:
    """Side by side, each pair at a scale of its own."""
    yield '<div class="pairs">'
    for pair in pairs:
        differ = two_labels(pair[0].label, pair[1].label)
        scale = WallScale.of(pair)
        figures = "".join(page.frames.figure(picture, scale, with_id=True) for picture in pair)
        mark = '<p class="mark">two labels</p>' if differ else ""
        yield f'<div><div class="pair{" differ" if differ else ""}">{figures}{mark}</div>{scale.bar()}</div>'
    yield "</div>"


def quality_section(page: Page) -> Iterator[str]:
    """A wall for each flag."""
    numbers = page.numbers
    if not ({"quality"} & numbers.stages.keys() or numbers.flags):
        yield not_given("the judgement of quality")
        return
    yield how_to_read(
        "Images that got a flag, at random. If good images are among them, move the flag’s threshold "
        "(<code>quality.tiny_px, blurred_deviations, ...</code>); "
        "what a flag costs is its factor in <code>weights.flags</code>: 0 drops the image, 1 ignores "
        "the flag."
    )
    if not numbers.flags:
        yield '<p class="facts">None was given.</p>'
    for name, images in sorted(numbers.flags.items(), key=lambda pair: (-pair[1], pair[0])):
        factor = numbers.fact(KIND, "config", "flags", name)
        cost = f"; weights times {factor:g}" if isinstance(factor, int | float) else ""
        part = share(images / numbers.images)
        yield f"<h3><bdi>{plain(name)}</bdi></h3>"
        yield f'<p class="facts">{counted_images(images)}, {part}{cost}</p>'
        yield page.frames.wall([page.pictures[row] for row in numbers.flagged[name]])


def contamination_section(page: Page) -> Iterator[str]:
    """Pairs of an image and one of an evaluation."""
    numbers, chosen = page.numbers, page.chosen
    if not ({"contamination"} & numbers.stages.keys() or numbers.near):
        yield not_given("the search for contamination")
        return
    yield how_to_read(
        "Left an image that an evaluation would know again, which is not used, right the image of the "
        "evaluation. If pairs are different pictures, narrow <code>contamination.same</code> or raise "
        "<code>contamination.cosine</code>; if none is found where some should be, check the "
        "evaluation’s groups and image ids."
    )
    part = share(numbers.near / numbers.images)
    yield f'<p class="facts">{counted_images(numbers.near)}, {part}.{_whys(numbers)}</p>'
    alone, pairs = [], []
    for row, of in chosen.near:
        other = page.evaluation.get(chosen.evaluation_rows.get(of or "", -1))
        if other is None or other.image_id == page.pictures[row].image_id:
            alone.append(page.pictures[row])
        else:
            pairs.append((page.pictures[row], other))
    yield from _pairs(page, pairs)
    if alone:
        yield "<h4>images of the evaluation itself, or near one that is not at hand</h4>"
        yield page.frames.wall(alone)


def _whys(numbers: Numbers) -> str:
    """What contamination says it found."""
    whys = numbers.fact("contamination", "images")
    if not isinstance(whys, dict):
        return ""
    counted = ", ".join(f"{plain(str(why))} {count(n)}" for why, n in whys.items() if isinstance(n, int))
    return f" By reason: {counted}."
