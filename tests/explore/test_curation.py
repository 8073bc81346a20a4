"""The page of a curation: complete, self-contained, the same every time, and deaf to hostile names."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from made_curation import label, make_dataset, make_folders

from aqqua.curate.balance.census import WeightsConfig
from aqqua.curate.balance.weights import make_weights
from aqqua.curate.clusters.assign import ClustersConfig, cluster_images
from aqqua.curate.copies.contamination import ContaminationConfig, write_contamination
from aqqua.curate.copies.duplicates import DuplicateConfig, write_duplicates
from aqqua.curate.copies.evaluation_set import EvaluationSet
from aqqua.curate.images.quality import QualityConfig, write_quality
from aqqua.curate.images.signatures import write_signatures
from aqqua.evaluate.contenders.pixels import pixel_features
from aqqua.explore.curation import write_curation_page
from aqqua.explore.curation_sections import _emptied
from aqqua.explore.curation_tables import LISTED
from aqqua.ingest import ingest_paths
from aqqua.instruments.record import ReadOptions
from aqqua.store.columns import Columns, write_columns
from aqqua.store.read import Dataset

HOSTILE = "</title></bdi><script>alert(\"µ\")</script><img src=http://x.y/z onerror='a()'>&\x1b\u202e"
SEEN = HOSTILE.translate({0x1B: "\ufffd", 0x202E: "\ufffd"})
SECTIONS = ["summary", "shares", "clusters", "duplicates", "quality", "contamination", "capped"]


@pytest.fixture(scope="module")
def page(curated_dataset, curated_folders, tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("page") / "page.html"
    write_curation_page(curated_dataset, curated_folders, out)
    return out.read_text(encoding="utf-8")


def sections(text: str) -> dict[str, ET.Element]:
    """By id; a page that is not well-formed fails here."""
    document = ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    return {section.get("id"): section for section in document.iter("section")}


def words(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).replace("\u00a0", " ").split())


def tables(element: ET.Element) -> Iterator[dict[str, list[str]]]:
    """Rows of each table by their name."""
    for table in element.iter("table"):
        rows = [[words(cell) for cell in row.findall("td")] for row in table.iter("tr")][1:]
        yield {name: cells for name, *cells in rows}


class Tags(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_numbers_are_those_counted_by_hand(page):
    found = sections(page)
    assert list(found) == SECTIONS
    facts = [words(cell) for cell in found["summary"].iter("dd")]
    assert facts[:4] == [
        "100",
        "89 (89.0 %)",
        "2 near an evaluation set; 3 duplicate; 2 quality; 1 capped; 3 other",
        "77.5; one image at most 2",
    ]
    by_instrument, by_depth, by_province, by_season, by_class = tables(found["shares"])
    assert by_instrument == {
        "UVP6": ["75", "75.0 %", "43.2 %", "× 0.576", ""],
        "ISIIS": ["25", "25.0 %", "56.8 %", "× 2.27", ""],
    }
    assert list(by_depth) == ["unknown", "0 to 100 m", "below 100 m"]
    assert len(by_province) == len(by_season) == 2
    assert [by_class[name][0] for name in ("snow", "copepod")] == ["50", "25"]
    assert list(next(tables(found["clusters"]))) == ["UVP6 2", "UVP6 3", "ISIIS 0"]
    assert "3 images, 3.0 %; weights times 0" in words(found["quality"])
    assert "2 images, 2.0 %. By reason: near 2." in words(found["contamination"])
    assert "at most 10.0 % of the uses" in words(found["capped"])
    assert "Capped clusters: 1; they hold 30.0 % of the images and get 10.0 % of the uses." in words(
        found["capped"]
    )


def test_every_section_says_how_to_read_it_and_what_to_set(page):
    for name, section in sections(page).items():
        paragraph = section.find("p[@class='read']")
        assert paragraph is not None, name
        assert paragraph.find("code") is not None, name


def test_pairs_stand_side_by_side_and_two_labels_are_marked(page):
    found = sections(page)
    pairs = [e for e in found["duplicates"].iter("div") if e.get("class", "").startswith("pair ")] + [
        e for e in found["duplicates"].iter("div") if e.get("class") == "pair"
    ]
    shown = {
        tuple(figure.find("img").get("alt") for figure in pair.findall("figure")): "two labels" in words(pair)
        for pair in pairs
    }
    # 5 has a label and 50 has none; 6 has none; 4 and 40 have the same.
    assert shown == {
        ("made/4", "made/40"): False,
        ("made/5", "made/50"): label(5) != label(50) and None not in (label(5), label(50)),
        ("made/6", "made/60"): False,
    }
    near = [
        [figure.find("img").get("alt") for figure in pair.findall("figure")]
        for pair in found["contamination"].iter("div")
        if pair.get("class") == "pair"
    ]
    assert sorted(near) == [["made/0", "made/70"], ["made/1", "made/71"]]


def test_two_labels_of_a_pair(tmp_path):
    other = make_dataset(tmp_path / "dataset", lambda i: f"class {i}")
    write_curation_page(other, make_folders(tmp_path / "columns", other), tmp_path / "page.html")
    section = sections((tmp_path / "page.html").read_text())["duplicates"]
    assert sum(e.get("class") == "pair differ" for e in section.iter("div")) == 3
    assert "2 of 2 looked into have two labels" in words(section)


def test_what_is_never_used_is_said_and_long_tables_are_cut(tmp_path):
    dataset = make_dataset(tmp_path / "dataset", lambda i: f"class {i:02}")
    folders = make_folders(tmp_path / "columns", dataset)
    write_curation_page(dataset, folders, tmp_path / "page.html")
    shares = sections((tmp_path / "page.html").read_text())["shares"]
    assert "Never used, by class: class 00 (1 image), class 01 (1 image)" in words(shares)
    assert "and 3 more" in words(shares)
    *_, by_class = tables(shares)
    assert len(by_class) == LISTED + 1
    assert by_class["the other 60"][:2] == ["60", "60.0 %"]


def test_stages_that_were_not_run_are_named(curated_dataset, curated_folders, tmp_path):
    for name in ("clusters", "duplicates", "quality", "contamination"):
        given = {kind: path for kind, path in curated_folders.items() if kind != name}
        write_curation_page(curated_dataset, given, tmp_path / f"{name}.html")
        found = sections((tmp_path / f"{name}.html").read_text())
        assert {key for key in SECTIONS if "was not given to this report" in words(found[key])} == {name}
    write_curation_page(curated_dataset, {"weights": curated_folders["weights"]}, tmp_path / "least.html")
    assert list(sections((tmp_path / "least.html").read_text())) == SECTIONS


def test_names_from_other_people_s_files_stay_text(tmp_path):
    dataset = make_dataset(tmp_path / "dataset", lambda i: HOSTILE[: -1 if i < 10 else None], prefix=HOSTILE)
    folders = make_folders(tmp_path / "columns", dataset, prefix=HOSTILE, flag=HOSTILE)
    write_curation_page(dataset, folders, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    found = sections(text)
    browser = Tags(text)
    assert not browser.tags & {"script", "iframe", "object", "embed", "link", "form"}
    assert not any(name.startswith("on") for name, _ in browser.attributes)
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert browser.text.count(SEEN) > 20  # class, labels of clusters, captions, ids of pairs, a flag
    assert f"Never used, by class: {SEEN[:-1]} (10 images)" in words(found["shares"])
    assert SEEN in [bdi.text for bdi in found["quality"].iter("bdi")]
    assert f"made/{SEEN}4" in [image.get("alt") for image in found["duplicates"].iter("img")]


def test_nothing_is_fetched(page):
    browser = Tags(page)
    links = [value for name, value in browser.attributes if name in ("href", "src", "action", "data")]
    assert len(links) > 40
    assert all(re.match(r"data:image/(png|webp);base64,|#", link) for link in links)
    assert {link[1:] for link in links if link[0] == "#"} == set(SECTIONS)
    assert "script" not in browser.tags
    assert not any(name.startswith("on") for name, _ in browser.attributes)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>' in page
    assert 'name="viewport"' in page


def test_the_same_columns_make_the_same_bytes(curated_dataset, curated_folders, page, tmp_path):
    write_curation_page(curated_dataset, curated_folders, tmp_path / "new" / "again.html")
    assert (tmp_path / "new" / "again.html").read_text(encoding="utf-8") == page
    assert str(curated_dataset.path.parent) not in page
    with pytest.raises(FileExistsError, match="must be new"):
        write_curation_page(curated_dataset, curated_folders, tmp_path / "new" / "again.html")
    assert (tmp_path / "new" / "again.html").read_text(encoding="utf-8") == page


def test_another_dataset_may_hold_the_evaluation(curated_dataset, curated_folders, tmp_path):
    """Its images are shown; ids that it lacks leave ours alone."""
    other = make_dataset(tmp_path / "dataset", lambda _: "theirs")
    write_curation_page(curated_dataset, curated_folders, tmp_path / "page.html", evaluation=other)
    section = sections((tmp_path / "page.html").read_text())["contamination"]
    assert words(section).count("theirs") == 2
    assert "used" not in words(next(f for f in section.iter("figure") if "theirs" in words(f)))
    lacking = make_dataset(tmp_path / "lacking", prefix="x")
    write_curation_page(curated_dataset, curated_folders, tmp_path / "alone.html", evaluation=lacking)
    section = sections((tmp_path / "alone.html").read_text())["contamination"]
    assert "not at hand" in words(section)
    assert sorted(image.get("alt") for image in section.iter("img")) == ["made/0", "made/1"]


def test_real_images_through_the_real_stages(real_data, tmp_path):
    source = real_data / "uvp6" / "uvpec.zip"
    ingest_paths([str(source)], tmp_path / "dataset", ReadOptions(instrument="UVP6"), workers=1)
    dataset = Dataset.open(tmp_path / "dataset")
    signatures = write_signatures(dataset, tmp_path / "signatures")
    write_quality(dataset, signatures, tmp_path / "quality", QualityConfig.model_validate({}))
    write_duplicates(dataset, signatures, tmp_path / "duplicates", DuplicateConfig.model_validate({}))
    ids = frozenset(dataset.table(["image_id"], [0])["image_id"].to_pylist()[:40])
    # Of an evaluation inside the dataset, pairs of two images come before its images themselves.
    own = EvaluationSet(dataset, signatures, ids)
    write_contamination(
        dataset, signatures, own, tmp_path / "contamination", ContaminationConfig.model_validate({})
    )
    cluster_images(
        write_embeddings(dataset, tmp_path / "embeddings"),
        tmp_path / "clusters",
        ClustersConfig.model_validate({"hierarchy": {"members": [40, 5]}}),
    )
    folders = {n: tmp_path / n for n in ("clusters", "duplicates", "quality", "contamination")}
    config = WeightsConfig.model_validate({"cap": {"labels": True}})
    facts = make_weights(dataset, tmp_path / "weights", config, folders)
    folders |= {"weights": tmp_path / "weights", "signatures": tmp_path / "signatures"}
    write_curation_page(dataset, folders, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 10_000_000
    found = sections((tmp_path / "page.html").read_text())
    unused = words(found["summary"])
    assert all(f"{count} {reason}" in unused for reason, count in facts["unused"].items() if count)
    assert re.search(r"exact: [5-9]\d images", words(found["duplicates"]))
    assert sum(e.get("class") == "pair differ" for e in found["duplicates"].iter("div")) > 0
    assert len(list(found["clusters"].iter("img"))) > 50
    near = [e for e in found["contamination"].iter("div") if e.get("class") in ("pair", "pair differ")]
    assert 0 < len(near) <= facts["unused"]["near an evaluation set"] - 40
    assert f"Capped clusters: {facts['capped']['number']}" in words(found["capped"])
    assert "scale unknown" not in words(found["clusters"])  # UVP6 knows its scale


def write_embeddings(dataset: Dataset, out: Path) -> Columns:
    """Raw pixels in the place of a model's features."""

    def table(block: int) -> pa.Table:
        values = np.ascontiguousarray(pixel_features(dataset, block)[:, ::8], np.float16)
        return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 128)})

    field = pa.field("embedding", pa.list_(pa.float16(), 128), False)
    with write_columns(out, dataset, "embeddings", [field], {}, "test") as writer:
        for part in range(dataset.parts):
            writer.write_part(part, table)
    return Columns.open(out, dataset, "embeddings")


def test_strata_that_caps_leave_nothing_are_named():
    said = "".join(_emptied(["UVP6 | <deep>", "ISIIS"], 3))
    assert "No uses at all</strong> get 3 strata" in said
    assert "UVP6 | &lt;deep&gt;; ISIIS; and 1 more" in said
    assert list(_emptied([], 0)) == list(_emptied(None, None)) == []
