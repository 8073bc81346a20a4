"""The page of an atlas in a browser without a network: from a folder, and from a server on this machine."""

import csv
import os
import shutil
import socket
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from made_explorer import HOSTILE, hostile_names, made_atlas, made_table

from aqqua.explore.atlas_page.page import SCRIPTS, folder_page, served_page, single_page
from aqqua.explore.server.export import export_file, export_folder
from aqqua.explore.server.serve import prepare

POINTS, OTHERS, MANY = 6_000, 3_000, 50_000  # of the two atlases; of a large one
ARGUMENTS = (
    *("--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-sync"),
    *("--enable-unsafe-swiftshader", "--use-angle=swiftshader"),
)
# The share of a canvas that is not its background, read back by drawing it into another one.
DRAWN = """(selector) => new Promise((done) => requestAnimationFrame(() => {
  const from = document.querySelector(selector), to = document.createElement('canvas');
  to.width = from.width; to.height = from.height;
  const pen = to.getContext('2d');
  pen.drawImage(from, 0, 0);
  const data = pen.getImageData(0, 0, to.width, to.height).data, seen = new Set();
  let drawn = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] !== data[0] || data[i + 1] !== data[1] || data[i + 2] !== data[2]) drawn += 1;
    seen.add((data[i] >> 4) * 256 + (data[i + 1] >> 4) * 16 + (data[i + 2] >> 4));
  }
  done([drawn / (data.length / 4), seen.size]);
}))"""

# The middle of the cell with the most points, in pixels of the box of the first map.
FULLEST = """async () => {
  const view = state.views[0], { width, height } = view.box.getBoundingClientRect();
  const cells = [width, height].map((side) => Math.round(side / CELL));
  const { shades } = await view.atlas.density(view.window(), ...cells, []), at = shades.indexOf(255);
  return [((at % cells[0]) + 0.5) * width / cells[0], (Math.floor(at / cells[0]) + 0.5) * height / cells[1]];
}"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlases")
    return made_atlas(folder / "first.parquet", POINTS, hostile=True), made_atlas(
        folder / "second.parquet", OTHERS, seed=5
    )


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "page"
    assert export_folder(files[0], out, files[1]) == POINTS + OTHERS
    return (out / "index.html").as_uri()


@pytest.fixture(scope="module")
def server(files):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        served = prepare(*files)
        running = uvicorn.Server(uvicorn.Config(served.app, log_level="error"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        while not running.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        running.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium; apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield started
        started.close()


def opened(browser, address, scheme="light"):
    """The page when it is ready; `said` has what it asked for and complained of."""
    size = {"width": 1366, "height": 768}
    offline = address.startswith("file:")
    page = browser.new_context(
        viewport=size, color_scheme=scheme, offline=offline, accept_downloads=True
    ).new_page()
    page.set_default_timeout(30_000)
    page.said, page.asked = [], []
    page.on("console", lambda m: page.said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("dialog", lambda dialog: (page.said.append("dialog"), dialog.dismiss()))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]")
    return page


@pytest.fixture(scope="module", params=["folder", "server"])
def page(request, browser):
    shown = opened(browser, request.getfixturevalue(request.param))
    yield shown
    shown.context.close()


# Where both sources run the same code, one is looked at.
from_a_folder = pytest.mark.parametrize("page", ["folder"], indirect=True)


@pytest.fixture(autouse=True)
def afresh(request):
    """Every test begins with nothing selected or filtered."""
    if "page" not in request.fixturenames:
        return
    page = request.getfixturevalue("page")
    page.evaluate(
        "async () => { state.filters.clear(); await filtered(); await select(null); setMode('pan'); }"
    )


def picture(page, name):
    if place := os.environ.get("AQQUA_SCREENSHOTS"):
        page.screenshot(path=Path(place) / f"atlas_{name}.png")


def lasso(page, map_number=0, reach=0.2):
    """Draw around the middle of a map; the number selected."""
    box = page.locator(".map").nth(map_number).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    r = reach * min(box["width"], box["height"])
    page.locator("#lasso").click()
    page.mouse.move(x - r, y - r)
    page.mouse.down()
    for across, down in ((r, -r), (r, r), (-r, r), (-r, -r)):
        page.mouse.move(x + across, y + down, steps=3)
    page.mouse.up()
    page.wait_for_function("() => Number(document.body.dataset.selected) > 0")
    return int(page.evaluate("document.body.dataset.selected"))


def value(page, expression):
    return page.evaluate(expression)


def test_it_loads_without_a_network_and_draws_every_point(page):
    shares = [page.evaluate(DRAWN, f".map:nth-child({n}) .points") for n in (1, 2)]
    assert all(share > 0.02 and colours > 8 for share, colours in shares)
    assert value(page, "state.views.map((v) => v.plot.get('points').length)") == [POINTS, OTHERS]
    assert "0.83" in page.locator("#numbers").inner_text()  # purity stands beside the map
    picture(page, "two_maps")


def test_50_000_points_are_drawn_and_answer(browser, tmp_path):
    made_atlas(tmp_path / "large.parquet", MANY)
    assert export_folder(tmp_path / "large.parquet", tmp_path / "page") == MANY
    page = opened(browser, (tmp_path / "page" / "index.html").as_uri())
    assert value(page, "state.views[0].plot.get('points').length") == MANY
    share, colours = page.evaluate(DRAWN, ".points")
    assert share > 0.05
    assert colours > 8
    assert lasso(page) > 1000
    page.evaluate("() => { byId('colour').value = 'novelty'; return recolour(); }")
    page.evaluate("() => choose(0, 49_999)")
    assert page.locator("#near button").count() == 20
    picture(page, "50000")
    page.context.close()


def test_another_colour_is_another_picture_with_its_legend(page):
    for name, kind in (("instrument", "#legend li"), ("depth_m", "#legend .ramp"), ("time", "#legend .ramp")):
        page.select_option("#colour", name)
        page.wait_for_selector(f"body[data-colour={name}]")
        page.locator(kind).first.wait_for()
    assert page.evaluate(DRAWN, ".points")[1] > 20  # shades of a scale
    page.select_option("#colour", "label")
    page.wait_for_selector("body[data-colour=label]")
    rows = page.locator("#legend li").all_inner_texts()
    assert len(rows) == 14  # twelve, the others, and what is unknown
    assert "more" in rows[12]
    assert "unknown" in rows[13]


def test_a_lasso_fills_the_wall_and_the_other_map(page):
    count = lasso(page)
    rows = value(page, "Array.from(state.selection.rows)")
    assert count == len(rows) == len(set(rows))
    x, y = (value(page, f"Array.from(state.views[0].at.{axis})") for axis in "xy")
    inside = sum(abs(x[row]) < 0.6 and abs(y[row]) < 0.6 for row in rows)
    assert inside == count  # nothing far from the middle
    assert page.locator("#wall img").count() == 60
    page.keyboard.press("n")
    page.wait_for_function("() => document.getElementById('page').textContent.startsWith('2 ')")
    shown = set(value(page, "state.views[1].plot.get('selectedPoints')"))
    assert shown == {row for row in rows if row < OTHERS}  # the same images by id
    picture(page, "lasso")


@from_a_folder
def test_a_lasso_on_the_second_map_selects_the_same_images_on_the_first(page):
    lasso(page, map_number=1)
    rows = value(page, "Array.from(state.selection.rows)")
    assert value(page, "state.selection.atlas") == 1
    assert set(value(page, "state.views[0].plot.get('selectedPoints')")) == set(rows)


def test_the_image_under_the_pointer_shows(page):
    place = value(page, "state.views[0].screen(7)")
    box = page.locator(".map").first.bounding_box()
    page.mouse.move(box["x"] + place[0] - 3, box["y"] + place[1])
    page.mouse.move(box["x"] + place[0], box["y"] + place[1], steps=3)
    page.wait_for_function("() => !document.getElementById('hover').hidden")
    page.wait_for_function("() => document.querySelector('#hover img')?.naturalWidth > 10")
    picture(page, "hover")
    page.mouse.move(5, 5)
    page.wait_for_function("() => document.getElementById('hover').hidden")


def test_a_chosen_image_shows_its_facts_and_neighbours(page):
    page.evaluate("() => choose(0, 123)")
    page.wait_for_selector("body[data-chosen='0/123']")
    assert "img_0000123" in page.locator("#image").inner_text()
    facts = page.locator("#facts").inner_text()
    assert "pixel size" in facts
    assert "IFCB" in facts or "ISIIS" in facts or "UVP6" in facts or "ZooScan" in facts
    near = page.locator("#near button").evaluate_all("(all) => all.map((one) => Number(one.dataset.row))")
    assert near == list(range(124, 144))
    foreign = page.locator("#foreign button").evaluate_all(
        "(all) => all.map((one) => Number(one.dataset.row))"
    )
    assert foreign == list(range(224, 234))
    assert "0.99" in page.locator("#near button").first.inner_text()
    page.locator("#near button").nth(2).click()
    page.wait_for_selector("body[data-chosen='0/126']")
    picture(page, "neighbours")


def test_filters_narrow_points_histograms_and_the_wall(page):
    labels = value(page, "state.atlases[0].column('instrument').then((c) => [c.names, c.counts])")
    page.locator("#cards [data-column=instrument] input[type=checkbox]").first.check()
    page.wait_for_function(f"() => document.body.dataset.kept === '{labels[1][0]}'")
    assert value(page, "state.views[0].plot.get('filteredPoints').length") == labels[1][0]
    page.locator("#cards [data-column=depth_m] input[data-edge=to]").fill("100")
    page.keyboard.press("Tab")
    page.wait_for_function(f"() => Number(document.body.dataset.kept) < {labels[1][0]}")
    depth = value(page, "state.atlases[0].column('depth_m').then((c) => Array.from(c.values))")
    codes = value(page, "state.atlases[0].column('instrument').then((c) => Array.from(c.values))")
    right = sum(c == 0 and d is not None and d <= 100 for c, d in zip(codes, depth, strict=True))
    assert int(value(page, "document.body.dataset.kept")) == right
    other = page.locator("#cards [data-column=instrument] .count").nth(1).inner_text()
    assert other == "0"  # the histograms are linked
    assert lasso(page) > 0
    picture(page, "filters")
    page.locator("#unfilter").click()
    page.wait_for_function(f"() => document.body.dataset.kept === '{POINTS}'")


def test_a_selection_is_saved_as_ids_and_as_labels(page, tmp_path):
    count = lasso(page, reach=0.05)
    for button, heading in (("#ids", ["image_id"]), ("#labels", ["image_id", "label"])):
        page.locator("#proposed").fill('Oithona "sp", new')
        with page.expect_download() as waiting:
            page.locator(button).click()
        waiting.value.save_as(tmp_path / "saved.csv")
        with (tmp_path / "saved.csv").open(newline="", encoding="utf-8") as file:
            first, *rows = csv.reader(file)
        assert first == heading
        assert len(rows) == count
        assert rows[0][0].startswith("img_")
        assert heading == ["image_id"] or rows[0][1] == 'Oithona "sp", new'


def test_search_finds_ids_and_labels(page):
    for text, least in (("img_0000042", 1), ("chaetog", 100)):
        page.locator("#search").fill(text)
        page.keyboard.press("Enter")
        page.wait_for_function(f"() => Number(document.body.dataset.selected) >= {least}")
    assert "200 or more found" in page.locator("#found").inner_text()
    page.keyboard.press("Escape")  # out of the field
    page.keyboard.press("Escape")  # and the selection away
    page.wait_for_function("() => document.body.dataset.selected === '0'")


@from_a_folder
def test_places_are_drawn_and_select(page):
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("g")
    page.wait_for_function("() => geography?.at.length > 5000")
    assert page.evaluate(DRAWN, "#earth-points")[0] > 0.01
    row, x, y = value(page, "geography.at[5]")
    box = page.locator("#earth-points").bounding_box()
    page.mouse.click(box["x"] + x, box["y"] + y)
    page.wait_for_function("() => Number(document.body.dataset.selected) > 0")
    assert row in value(page, "Array.from(state.selection.rows)")
    picture(page, "geography")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("g")


@from_a_folder
def test_the_keyboard_moves_zooms_and_selects(page):
    page.locator(".points").first.focus()
    before = value(
        page, "[...state.views[0].plot.get('cameraTarget'), state.views[0].plot.get('cameraDistance')]"
    )
    for key in ("ArrowRight", "ArrowUp", "+", "+", "+"):
        page.keyboard.press(key)
    after = value(
        page, "[...state.views[0].plot.get('cameraTarget'), state.views[0].plot.get('cameraDistance')]"
    )
    assert after[0] > before[0]
    assert after[1] > before[1]
    assert after[2] < before[2]
    page.keyboard.press("v")
    page.wait_for_function("() => Number(document.body.dataset.selected) > 0")
    rows = value(page, "Array.from(state.selection.rows)")
    inside = "([x, y]) => x >= -1 && y >= -1 && x <= box.clientWidth + 1 && y <= box.clientHeight + 1"
    page.wait_for_function(  # once the move is drawn
        f"() => {{ const {{ box }} = state.views[0], inside = {inside}; "
        "return [...state.selection.rows].every((row) => inside(state.views[0].screen(row))); }"
    )
    assert 0 < len(rows) < POINTS
    page.keyboard.press("r")
    assert value(page, "state.views[0].plot.get('cameraTarget')") == [0, 0]


@from_a_folder
def test_words_of_others_are_shown_and_never_run(page):
    page.locator("#cards [data-column=label] li").first.wait_for()
    texts = page.locator("#cards [data-column=label] bdi").all_inner_texts()
    for word in HOSTILE:
        assert word.replace("\u202e", "\ufffd").replace("\u202c", "\ufffd") in texts
    page.locator("#search").fill("<img")
    page.keyboard.press("Enter")
    page.wait_for_function("() => Number(document.body.dataset.selected) > 0")
    page.evaluate("() => document.activeElement.blur()")
    assert page.locator("body svg, img[onerror], #wall script").count() == 0


@pytest.mark.parametrize("as_file", [True, False], ids=["file", "folder"])
def test_300_hostile_names_are_only_words(browser, tmp_path, as_file):
    names = hostile_names(300)
    table = made_table(300)
    for column in ("label", "image_id", "sample", "instrument", "class"):
        place, field = table.schema.get_field_index(column), table.schema.field(column)
        table = table.set_column(place, field, pa.array(names, field.type))
    pq.write_table(table, tmp_path / "<b>a.parquet")
    (export_file if as_file else export_folder)(tmp_path / "<b>a.parquet", tmp_path / "out.html")
    address = (tmp_path / "out.html" if as_file else tmp_path / "out.html" / "index.html").as_uri()
    page = opened(browser, address)
    page.evaluate("() => { globalThis.bad = () => { globalThis.ran = true; }; return selectKept(); }")
    shown = []
    for _ in range(5):
        page.wait_for_timeout(150)
        shown += page.locator("#wall bdi").all_text_contents()
        page.keyboard.press("n")
    visible = [name.replace("\u202e", "\ufffd") for name in names]
    assert shown == visible
    for row in range(0, 300, 29):
        page.evaluate(f"() => choose(0, {row})")
        assert page.locator("#image h2").text_content() == visible[row]
    assert page.evaluate("globalThis.ran") is None
    assert page.said == []
    assert page.locator("iframe, #wall script, #image svg, a, img[onerror]").count() == 0
    page.context.close()


def test_it_asks_nobody_else_and_complains_of_nothing(page):
    start = page.url.removesuffix("index.html").split("?")[0]
    assert [url for url in page.asked if not url.startswith((start, "blob:", "data:"))] == []
    assert [said for said in page.said if "GL Driver" not in said and "GPU stall" not in said] == []


def test_dark_and_projector(browser, folder):
    page = opened(browser, folder, scheme="dark")
    page.evaluate("() => choose(0, 9)")
    lasso(page)
    assert value(page, "document.body.dataset.chosen") == "0/9"  # where a lasso ends, nothing is chosen
    picture(page, "dark")
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.wait_for_timeout(300)
    assert value(page, "document.documentElement.scrollWidth <= innerWidth")
    picture(page, "projector")
    page.set_viewport_size({"width": 1024, "height": 768})
    page.wait_for_timeout(300)
    assert value(page, "document.documentElement.scrollWidth <= innerWidth")
    picture(page, "small")
    page.context.close()


def _over_the_fullest_cell(page):
    """What is said of the cell where the map is strongest."""
    page.mouse.move(5, 5)
    page.wait_for_function("() => document.getElementById('hover').hidden")
    box = page.locator(".map").first.bounding_box()
    x, y = value(page, FULLEST)
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.wait_for_function("() => !document.getElementById('hover').hidden")
    page.wait_for_function("() => document.querySelector('#hover img')?.naturalWidth > 10")
    return page.locator("#hover span").inner_text()


def test_many_points_are_drawn_as_their_density(browser, server):
    page = opened(browser, server + "#density")
    page.wait_for_function("() => state.views[0].picture")
    share, colours = page.evaluate(DRAWN, ".points")
    assert share > 0.005
    assert colours > 4
    count = lasso(page)
    assert 0 < count < POINTS
    picture(page, "density")
    said = _over_the_fullest_cell(page)
    assert int(said.split(" image")[0]) > 1
    assert "%" in said  # of the commonest label
    picture(page, "density_hover")
    before = page.evaluate(DRAWN, ".points")
    page.select_option("#colour", "depth_m")
    page.wait_for_function("() => document.body.dataset.colour === 'depth_m'")
    assert page.evaluate(DRAWN, ".points")[1] != before[1]
    assert "depth mean" in _over_the_fullest_cell(page)
    page.evaluate("() => { state.views[0].zoom(4, state.views[0].centre); }")
    page.wait_for_function("() => state.views[0].shown.right - state.views[0].shown.left < 1")
    assert value(page, "document.getElementById('hover').hidden")  # another cell is under the pointer
    picture(page, "density_zoomed")
    page.locator("#cards [data-column=instrument] input[type=checkbox]").first.check()
    page.wait_for_function("() => !document.getElementById('unfilter').disabled")
    assert page.said == []
    page.context.close()


@pytest.mark.parametrize("made", [folder_page(["a"]), single_page(["a"], {}), served_page(["a"])[0]])
def test_a_page_names_no_other_place(made):
    ours = made.replace("http://get.webgl.org", "").replace(
        "https://www.npmjs.com/package/glsl-read-float", ""
    )
    assert "http:" not in ours
    assert "https:" not in ours
    assert made.count("</script>") == 2


def test_scripts_stay_short():
    import aqqua.explore.atlas_page as package

    room = Path(package.__file__).parent
    assert sorted(path.name for path in room.glob("*.js")) == sorted(SCRIPTS)
    assert all(len((room / name).read_text().splitlines()) < 250 for name in SCRIPTS)
