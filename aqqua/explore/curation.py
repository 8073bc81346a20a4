"""The page of a curation: what it did to a dataset, to be judged by eye before anything is trained on it.

One file without scripts, nothing fetched, dark where the reader's screen is; the same columns make the same
bytes. Ids and labels come from other people's files: they are escaped (aqqua.explore.page.plain). Numbers
come from one pass over the columns (curation_numbers.py), pixels are read for the chosen images alone
(curation_walls.py); the text is in curation_sections.py.
Test: tests/explore/test_curation.py.
"""

from collections.abc import Callable
from itertools import chain
from pathlib import Path

from aqqua import __version__
from aqqua.explore.curation_findings import (
    contamination_section,
    duplicates_section,
    quality_section,
    two_labels,
)
from aqqua.explore.curation_numbers import Numbers, gather
from aqqua.explore.curation_sections import (
    LARGE_CLUSTERS,
    Chosen,
    Page,
    capped_section,
    clusters_section,
    shares_section,
    summary_section,
)
from aqqua.explore.curation_tables import count
from aqqua.explore.curation_walls import Frames, find_rows, labels_at, read_pictures
from aqqua.explore.page import STYLE, document, plain
from aqqua.store.read import Dataset
from aqqua.store.weights import KIND, SamplingWeights

CAPPED_CLUSTERS = 12  # with a wall
PAIRS = 8  # shown of each kind of duplicate
NEAR_PAIRS = 12  # shown of images near an evaluation set

_SECTIONS = (
    ("summary", "Summary", summary_section),
    ("shares", "Shares before and after", shares_section),
    ("clusters", "Large clusters", clusters_section),
    ("duplicates", "Duplicates", duplicates_section),
    ("quality", "Quality", quality_section),
    ("contamination", "Near an evaluation set", contamination_section),
    ("capped", "What was capped", capped_section),
)
_STYLE = """
h2 { font-size: 1.15rem; margin: 0 0 .3rem; } h3 { font-size: 1rem; margin: 1.3rem 0 .2rem; }
h4 { font-size: 12px; font-weight: 600; margin: .6rem 0 .3rem; color: var(--quiet); }
nav { margin: .8rem 0; } nav a { margin-right: 1rem; color: inherit; display: inline-block; }
.read { max-width: 60rem; border-left: 3px solid var(--line); padding-left: .7rem; }
.wall { display: flex; flex-wrap: wrap; gap: .6rem .7rem; align-items: baseline; }
.wall figure, .pair figure { min-width: 4.5rem; max-width: 12rem; overflow-wrap: anywhere; }
.wall figcaption, .pair figcaption { line-height: 1.25; margin-top: .2rem; }
.wall img, .pair img { display: block; max-width: 100%; height: auto;
  outline: 1px solid var(--line); }
.magnified { image-rendering: pixelated; } .unused img { outline: 2px dashed #e8590c; }
.pairs { display: flex; flex-wrap: wrap; gap: .9rem; }
.pair { display: flex; flex-wrap: wrap; gap: .6rem; align-items: baseline; padding: .5rem;
  border: 1px solid var(--line); }
.mark { color: #e8590c; font-weight: 600; }
.differ { border: 2px solid #e8590c; }
.left-out { border: 1px dotted var(--line); box-sizing: border-box; max-width: 100%; }
.scale { display: flex; align-items: center; gap: .5rem; font-size: 12px; color: var(--quiet); }
.columns { display: grid; gap: 0 2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); }
.columns > div { min-width: 0; } .columns > div > h3 { margin-top: .8rem; }
.shares td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
.bars { width: 9rem; height: 15px; } .before { fill: #868e96; } .after { fill: #1c7ed6; }
@media (max-width: 40rem) {
  body { margin: .8rem auto; padding: 0 .8rem; } dl { grid-template-columns: 1fr; } dt { font-weight: 600; }
  .bars { width: 5rem; } th, td { padding: .12rem .35rem; }
}
"""


def write_curation_page(
    dataset: Dataset,
    folders: dict[str, Path],
    out: Path,
    evaluation: Dataset | None = None,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Numbers:
    """Write the page to a new file, of at most some 10 million bytes; returns what it says.

    Args:
        dataset: that was curated.
        folders: of the columns by their kind: `weights`, and of clusters, duplicates, quality, contamination
            and signatures whatever was made.
        out: the HTML file.
        evaluation: where the images of contamination's `evaluation_id` lie; None: in the dataset itself.
        tell: called with the blocks counted and all of them.

    Raises:
        FileExistsError: the file is there.
        ValueError: no weights, columns of another dataset, damage.
        OSError: the disk failed.
    """
    if out.exists():  # before an hour of counting
        raise FileExistsError(f"report: {out} must be new, got a file that is there; give another name")
    numbers = gather(dataset, folders, tell)
    chosen = _choose(dataset, numbers, evaluation or dataset)
    sampling = SamplingWeights.open(folders[KIND], dataset)
    pictures = read_pictures(dataset, _rows(numbers, chosen), sampling)
    shown = {chosen.evaluation_rows[of] for _, of in chosen.near if of in chosen.evaluation_rows}
    others = read_pictures(evaluation or dataset, shown, None)
    data = curation_page(dataset.path.name, Page(numbers, chosen, pictures, others)).encode("utf-8")
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("xb") as file:
        file.write(data)
    return numbers


def _choose(dataset: Dataset, numbers: Numbers, evaluation: Dataset) -> Chosen:
    capped = numbers.clusters.ordered(numbers.capped)[:CAPPED_CLUSTERS]
    row_of = find_rows(dataset, {of for pairs in numbers.pairs.values() for _, of in pairs if of})
    pairs: dict[str, list[tuple[int, int]]] = {}
    with_two: dict[str, tuple[int, int]] = {}
    for kind, found in sorted(numbers.pairs.items()):
        known = [(row, row_of[of]) for row, of in found if of in row_of]
        label = labels_at(dataset, chain.from_iterable(known))
        differ = [(a, b) for a, b in known if two_labels(label[a], label[b])]
        with_two[kind] = len(known), len(differ)
        pairs[kind] = [*differ[: PAIRS // 2], *(pair for pair in known if pair not in differ)][:PAIRS]
    evaluation_rows = find_rows(evaluation, {of for _, of in numbers.near_pairs if of})
    inside = evaluation.manifest_sha256 == dataset.manifest_sha256
    # Pairs of two images first: an image of the evaluation itself is near by definition.
    near = sorted(
        numbers.near_pairs,
        key=lambda pair: evaluation_rows.get(pair[1] or "", -1) in ((-1, pair[0]) if inside else (-1,)),
    )[:NEAR_PAIRS]
    clusters = numbers.clusters.large(LARGE_CLUSTERS)
    return Chosen(clusters, capped, pairs, with_two, near, evaluation_rows)


def _rows(numbers: Numbers, chosen: Chosen) -> set[int]:
    clusters = numbers.clusters
    rows = {row for k in chosen.clusters for row in (*clusters.nearest(k), *clusters.at_random(k))}
    rows |= {row for k in chosen.capped for row in clusters.at_random(k)}
    rows |= set(chain.from_iterable(numbers.flagged.values()))
    rows |= {row for pairs in chosen.pairs.values() for pair in pairs for row in pair}
    return rows | {row for row, _ in chosen.near}


def curation_page(name: str, page: Page) -> str:
    """The whole page."""
    sections = [
        f'<section id="{key}"><h2>{text}</h2>{"".join(write(page))}</section>'
        for key, text, write in _SECTIONS
    ]
    links = "".join(f'<a href="#{key}">{text}</a>' for key, text, _ in _SECTIONS)
    version = f'<p class="facts">aqqua {__version__}.{_left_out(page.frames)}</p>'
    body = [f"<nav>{links}</nav>", *sections, version]
    return document(f"Curation of {plain(name)}", STYLE + _STYLE, body)


def _left_out(frames: Frames) -> str:
    if not frames.left_out:
        return ""
    return f" {count(frames.left_out)} pictures were left out (dotted), so that the page stays small."
