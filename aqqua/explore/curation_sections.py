"""The sections of the page of a curation, as HTML.

Each says how to read it and which setting to change where it looks wrong; of a stage that was not run, it
says that. Test: tests/explore/test_curation.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from aqqua.explore.curation_numbers import REASONS, Numbers, Tally
from aqqua.explore.curation_tables import (
    bars_table,
    count,
    counted_images,
    facts_table,
    number,
    share,
    shares_table,
)
from aqqua.explore.curation_walls import Frames, Picture, WallScale
from aqqua.explore.page import plain
from aqqua.store.weights import KIND

LARGE_CLUSTERS = 12  # by images, and as many by uses
_LABELS = 5  # of a cluster, named
_LOST = 8  # names that are never used, listed
_AXES = {"instrument": "instrument", "depth": "depth band", "province": "province", "season": "season"}


@dataclass(frozen=True)
class Chosen:
    """What of the dataset is shown."""

    clusters: list[int]
    capped: list[int]  # that have a wall
    pairs: dict[str, list[tuple[int, int]]]  # rows of the copy and of what is kept, by kind
    two_labels: dict[str, tuple[int, int]]  # of so many pairs looked into, so many have two labels
    near: list[tuple[int, str | None]]
    evaluation_rows: dict[str, int]  # of the evaluation's images


@dataclass
class Page:
    """What the sections are written from."""

    numbers: Numbers
    chosen: Chosen
    pictures: dict[int, Picture]
    evaluation: dict[int, Picture]  # of the evaluation's dataset
    frames: Frames = field(default_factory=Frames)


def how_to_read(text: str) -> str:
    """The first paragraph of a section."""
    return f'<p class="read">{text}</p>'


def not_given(what: str) -> str:
    """In place of a section."""
    return f'<p class="facts">Not known: {what} was not given to this report.</p>'


def summary_section(page: Page) -> Iterator[str]:
    """What there is, and how much more even it became."""
    numbers = page.numbers
    yield how_to_read(
        "“Uses” are how often training is expected to take an image in an epoch: its weight. An "
        "effective number is how many classes (strata, clusters) of equal size would be as diverse; of "
        "classes and strata it should grow, of clusters it may fall where one instrument with many gives "
        "way to others. If many images weigh 0, look at the reason’s section below; if effective numbers "
        "hardly grow, lower <code>weights.strata.alpha</code> or raise <code>weights.max_repeats</code>."
    )
    reasons = "; ".join(f"{count(numbers.unused[r])} {r}" for r in REASONS if numbers.unused[r]) or "none"
    rows = [
        ("images", count(numbers.images)),
        ("used", f"{count(numbers.used)} ({share(numbers.used / numbers.images)})"),
        ("weight 0", reasons),
        ("uses in an epoch", f"{number(numbers.uses) if numbers.uses < 1e3 else count(round(numbers.uses))}; "
         f"one image at most {number(numbers.most)}"),
    ]  # fmt: skip
    for name, text in (("class", "classes"), ("stratum", "strata"), ("instrument", "instruments")):
        tally = numbers.by.get(name)
        if tally and tally.images:
            labelled = sum(tally.images.values())
            of = f", of {count(labelled)} labelled images" if name == "class" else ""
            rows.append((text, f"{count(len(tally.images))}{of}; {_effective(*tally.effective())}"))
    if numbers.levels:
        there = int((numbers.clusters.images_K > 0).sum())
        rows.append(
            ("clusters", f"{count(there)} at the finest level; {_effective(*numbers.clusters.effective())}")
        )
    yield from facts_table(rows)


def _effective(before: float, after: float) -> str:
    ratio = f" (×\u00a0{number(after / before)})" if before else ""
    return f"effective number {number(before)} before, {number(after)} after{ratio}"


def shares_section(page: Page) -> Iterator[str]:
    """Of the images and of the uses, by what is known of them."""
    yield how_to_read(
        "Grey is the share of the images, blue that of the uses, each table to its own scale. If one "
        "instrument, place, depth or season still is most of the uses, lower "
        "<code>weights.strata.alpha</code>; if rare ones are repeated too often, raise it or lower "
        "<code>weights.max_repeats</code>. Classes follow from clusters; labels are shown here, not "
        "aimed at."
    )
    tallies = page.numbers.by
    lost = list(_never_used(tallies))
    yield from lost
    if lost:
        yield (
            "<p>If that is not meant, look up why in the sections below. An instrument all of whose clusters "
            "are capped gets no uses either: name fewer in <code>weights.cap.clusters</code>, or set "
            "<code>weights.cap.labels</code> to false.</p>"
        )
    yield '<div class="columns"><div>'
    for name, heading in _AXES.items():
        yield f"<h3>By {heading}</h3>"
        yield from shares_table(tallies[name], heading)
    yield "</div><div><h3>By class</h3>"
    labelled = tallies["class"].images
    yield from shares_table(tallies["class"], "class") if labelled else ["<p>No image has a label.</p>"]
    yield "</div></div>"


def _never_used(tallies: dict[str, Tally]) -> Iterator[str]:
    """What curation threw out altogether: it is easily overlooked in a table."""
    for name, heading in {**_AXES, "class": "class"}.items():
        tally = tallies[name]
        lost = [word for word in tally.largest() if not tally.uses[word]]
        if lost:
            listed = ", ".join(
                f"<bdi>{plain(word)}</bdi> ({counted_images(tally.images[word])})" for word in lost[:_LOST]
            )
            more = f" and {count(len(lost) - _LOST)} more" if len(lost) > _LOST else ""
            yield f'<p class="mark">Never used, by {heading}: {listed}{more}.</p>'


def clusters_section(page: Page) -> Iterator[str]:
    """Large clusters, each with examples."""
    numbers = page.numbers
    if not numbers.levels:
        yield not_given("the clustering")
        return
    yield how_to_read(
        f"The {LARGE_CLUSTERS} clusters of the finest level with most images and the {LARGE_CLUSTERS} "
        "with most uses. A cluster should show one kind of thing: if it mixes kinds, make clusters "
        "smaller (<code>clusters.hierarchy.members</code>) or take better embeddings; if it is snow, "
        "fibres or bubbles and gets too many uses, name its number in "
        "<code>weights.cap.clusters</code>. Labels had no say in it. Images in dashes are not used."
    )
    yield from _clusters_table(page, page.chosen.clusters)
    for cluster in page.chosen.clusters:
        nearest, random = numbers.clusters.nearest(cluster), numbers.clusters.at_random(cluster)
        yield f'<h3 id="cluster-{cluster}">Cluster {cluster}</h3>{_cluster_facts(page, cluster)}'
        yield from _rows_of_wall(page, {"nearest to its centroid": nearest, "at random": random})


def _clusters_table(page: Page, clusters: list[int]) -> Iterator[str]:
    found = page.numbers.clusters
    rows = [
        (f"<bdi>{plain(found.instrument[k])}</bdi> {k}", int(found.images_K[k]), float(found.uses_K[k]))
        for k in clusters
    ]
    yield from bars_table("cluster", rows, page.numbers.images, page.numbers.uses)


def _cluster_facts(page: Page, cluster: int) -> str:
    numbers = page.numbers
    clusters = numbers.clusters
    images, uses = int(clusters.images_K[cluster]), float(clusters.uses_K[cluster])
    above = clusters.parents[cluster]
    path = ", ".join(f"{k} of level {level}" for level, k in enumerate(above, 2))
    within = f", within {path}" if above else ""
    counted = clusters.labels[cluster]
    labelled = sum(counted.values())
    largest = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))[:_LABELS]
    names = ", ".join(f"<bdi>{plain(name)}</bdi> {share(n / labelled)}" for name, n in largest)
    more = f" and {len(counted) - _LABELS} more" if len(counted) > _LABELS else ""
    labels = f"labels of {count(labelled)}: {names}{more}" if labelled else "no labels"
    capped = "; <strong>capped</strong>" if cluster in numbers.capped else ""
    instrument = f"<bdi>{plain(clusters.instrument[cluster])}</bdi>"
    return (
        f'<p class="facts">{instrument}{within}; {counted_images(images)}, '
        f"{share(images / numbers.images)} of all; {share(uses / numbers.uses)} of the uses, "
        f"{number(uses / images)} for an image; {labels}{capped}</p>"
    )


def _rows_of_wall(page: Page, rows: dict[str, list[int]]) -> Iterator[str]:
    """Rows of pictures at one scale, each under its heading."""
    pictures = [page.pictures[row] for row in chain.from_iterable(rows.values())]
    if not pictures:
        return
    scale = WallScale.of(pictures)
    for heading, of in rows.items():
        if of:
            yield f"<h4>{heading}</h4>{page.frames.wall([page.pictures[row] for row in of], scale)}"
    yield scale.bar()


def _emptied(names: object, number: object) -> Iterator[str]:
    """Strata that caps leave nothing."""
    if not isinstance(names, list) or not isinstance(number, int) or not number:
        return
    more = f"; and {count(number - len(names))} more" if number > len(names) else ""
    yield (
        f"<p><strong>No uses at all</strong> get {count(number)} strata all of whose clusters are capped: "
        f"{plain('; '.join(map(str, names)))}{more}.</p>"
    )


def capped_section(page: Page) -> Iterator[str]:
    """Clusters whose uses are bounded."""
    numbers = page.numbers
    there, most = numbers.fact(KIND, "capped", "number"), numbers.fact(KIND, "config", "cap", "share")
    if not isinstance(there, int):
        yield not_given("what the weights were capped by")
        return
    yield how_to_read(
        "Clusters that together get at most "
        f"{share(most) if isinstance(most, int | float) else 'a share'} of the uses of their stratum "
        "(<code>weights.cap.share</code>). If organisms are among them, take their numbers out of "
        "<code>weights.cap.clusters</code>, or set <code>weights.cap.labels</code> to false; if snow is "
        "missed, name its clusters there."
    )
    before, after = (numbers.fact(KIND, "capped", f"share_of_{of}") for of in ("images", "uses"))
    known = all(isinstance(part, int | float) for part in (before, after))
    shares = f"; they hold {share(before)} of the images and get {share(after)} of the uses" if known else ""
    yield from _emptied(
        numbers.fact(KIND, "capped", "emptied_strata"), numbers.fact(KIND, "capped", "emptied")
    )
    largest = f" The {len(page.chosen.capped)} largest:" if page.chosen.capped else ""
    yield f'<p class="facts">Capped clusters: {count(there)}{shares if there else ""}.{largest}</p>'
    yield from _clusters_table(page, page.chosen.capped) if page.chosen.capped else ()
    for cluster in page.chosen.capped:
        yield f"<h3>Cluster {cluster}</h3>{_cluster_facts(page, cluster)}"
        yield from _rows_of_wall(page, {"at random": numbers.clusters.at_random(cluster)})
