"""The leaderboard's page: what it holds, and what it does in a browser without a network."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from made_entries import CLASSES, made_entry

from aqqua.evaluate.entry import write_entry
from aqqua.explore.leaderboard.page import leaderboard_page, write_leaderboard

MODELS = (
    *(("ViT-S", 0.8, "aqqua", 4.6), ("dinov2", 0.6, "timm", 46.0)),
    *(("pixels", 0.3, "pixels", None), ("handcrafted", 0.5, "handcrafted", 0.01)),
)


def entries():
    board = [made_entry(name, skill, kind=kind, gflops=cost) for name, skill, kind, cost in MODELS]
    return [*board, made_entry("alone", suite="isiis")]


def test_entries_become_one_file_that_holds_all_of_them(tmp_path):
    for n, entry in enumerate(entries()):
        write_entry(entry, tmp_path / "in" / f"{n}.json")
    assert write_leaderboard([tmp_path / "in"], tmp_path / "out" / "page.html") == 5
    text = (tmp_path / "out" / "page.html").read_text()
    data = json.loads(re.search(r'id="entries">(.*?)</script>', text).group(1))
    assert [(b["name"], len(b["entries"])) for b in data["boards"]] == [("isiis", 1), ("mix", 4)]
    asks = re.findall(r"(?:src|href)\s*=|url\(|https?://[^\"]*|@import", text)
    assert asks == ["http://www.w3.org/2000/svg"]  # a name, never fetched
    with pytest.raises(ValueError, match="must not exist yet"):
        write_leaderboard([tmp_path / "in"], tmp_path / "out" / "page.html")


def test_the_same_entries_make_the_same_page():
    assert leaderboard_page(entries()) == leaderboard_page(entries())


def test_suites_of_the_same_name_and_other_data_are_told_apart():
    page = leaderboard_page([made_entry("a"), made_entry("a", data="e" * 64)])
    names = re.findall(r'"name": "(mix[^"]*)", "entries"', page)
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"mix \([0-9a-f]{8}\)", name) for name in names)


def test_nothing_of_an_entry_can_end_the_script_it_stands_in():
    page = leaderboard_page([made_entry("</script><script>alert(1)</script><!--")])
    assert page.count("</script>") == 2
    assert "<!--" not in page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium; apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api")
    path = tmp_path_factory.mktemp("board") / "page.html"
    path.write_text(leaderboard_page([*entries(), made_entry("<img src=x onerror=alert(1)>", 0.1)]))
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_context(offline=True, viewport={"width": 1300, "height": 1000}).new_page()
        opened.set_default_timeout(20_000)
        opened.said = []
        opened.on("console", lambda message: opened.said.append(message.text))
        opened.on("pageerror", lambda error: opened.said.append(str(error)))
        opened.on("request", lambda request: opened.said.append(request.url))
        opened.goto(path.as_uri())
        opened.wait_for_selector("body[data-ready=yes]")
        opened.select_option("#suite", label="mix")
        yield opened
        if pictures := os.environ.get("AQQUA_SCREENSHOTS"):
            opened.screenshot(path=Path(pictures) / "leaderboard.png", full_page=True)
        browser.close()


def first_column(page):
    return page.locator("#table tbody summary").all_inner_texts()


def test_the_page_runs_and_fetches_nothing_but_itself(page):
    assert [said for said in page.said if not said.endswith("page.html")] == []
    assert page.locator("#table tbody tr").count() == 5
    assert page.locator("img").count() == 0  # a name is text


def test_rows_are_sorted_by_any_heading_and_back(page):
    names = ["ViT-S", "dinov2", "handcrafted", "pixels", "<img src=x onerror=alert(1)>"]
    page.select_option("#metric", "macro_f1")
    assert first_column(page) == names
    heading = page.get_by_role("button", name=re.compile("macro-F1"))
    heading.click()
    assert first_column(page) == names[::-1]
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("macro-F1")
    page.get_by_role("button", name=re.compile("operations")).click()
    assert first_column(page)[0] == "handcrafted"
    assert first_column(page)[-1] == "pixels"  # what is not known comes last
    page.get_by_role("button", name=re.compile("operations")).press("Enter")  # by keyboard too
    assert first_column(page)[0] == "dinov2"
    assert first_column(page)[-1] == "pixels"


def test_another_tier_has_other_figures(page):
    cell = page.locator("#table tbody tr").first.locator("td.best").first
    page.select_option("#metric", "macro_f1")
    page.select_option("#tier", "sample")
    easy = float(cell.inner_text().split()[0])
    page.select_option("#tier", "instrument")
    hard = float(cell.inner_text().split()[0])
    page.select_option("#tier", "sample")
    want = made_entry("ViT-S", 0.8).tiers
    assert easy == pytest.approx(want["sample"].probes["logistic"].metrics["macro_f1"].value, abs=6e-4)
    assert hard == pytest.approx(want["instrument"].probes["logistic"].metrics["macro_f1"].value, abs=6e-4)


def test_the_plot_has_a_mark_for_each_entry_with_a_cost(page):
    page.select_option("#cost", "gflops_per_image")
    assert page.locator("#plot .point").count() == 4
    assert "1 of 5" in page.locator("#plot-note").inner_text()
    places = page.evaluate(
        "() => Object.fromEntries([...document.querySelectorAll('#plot .point')].map(p =>"
        " [p.querySelector('text').textContent,"
        "  (({ x, y }) => ({ x, y }))(p.querySelector('path').getBBox())]))"
    )
    assert places["dinov2"]["x"] > places["ViT-S"]["x"] > places["handcrafted"]["x"]
    assert places["ViT-S"]["y"] < places["dinov2"]["y"] < places["handcrafted"]["y"]


def test_classes_of_two_models_stand_side_by_side(page):
    page.select_option("#first", label="ViT-S")
    page.select_option("#second", label="dinov2")
    rows = page.locator("#classes tbody tr")
    assert rows.count() == len(CLASSES)
    cells = {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows.all()}
    mine, other = (made_entry(n, s).tiers["sample"].probes["logistic"].classes for n, s, *_ in MODELS[:2])
    for a, b in zip(mine, other, strict=True):
        support, recall, precision, recall_b, ahead = cells[a.name]
        assert int(support) == a.support
        assert float(recall) == pytest.approx(a.recall, abs=6e-4)
        assert float(precision) == pytest.approx(a.precision, abs=6e-4)
        assert float(recall_b) == pytest.approx(b.recall, abs=6e-4)
        assert float(ahead) == pytest.approx(a.recall - b.recall, abs=6e-4)


def test_confusions_are_listed_and_drawn(page):
    page.select_option("#first", label="ViT-S")
    probe = made_entry("ViT-S", 0.8).tiers["sample"].probes["logistic"]
    wrong = max((pair for pair in probe.confusion if pair[0] != pair[1]), key=lambda pair: pair[2])
    first = page.locator("#confused li").first.inner_text()
    assert f": {wrong[2]} of " in first
    size = page.evaluate("() => document.getElementById('matrix').width")
    page.locator("#matrix").hover(position={"x": size / 10, "y": size / 10})  # the first cell
    right = next(images for a, b, images in probe.confusion if a == b == 0)
    assert f"{CLASSES[0]} → {CLASSES[0]}: {right} of" in page.locator("#at").inner_text()


def test_a_row_opens_to_how_it_was_made(page):
    page.locator("#table summary", has_text="ViT-S").click()
    assert page.get_by_text("command: aqqua evaluate --model runs/first --suite mix").first.is_visible()
