"""How long the page of an atlas takes in a browser: to its first picture, and for what a person does then.

Atlases are made up (bench/made_explorer.py), served on this machine, opened in headless Chromium with
software rendering: a computer with a graphics card draws faster. Times are by the browser's clock, so they
also hold what else the machine does.

    python bench/explore_page.py            # 100,000 and 1,000,000 points, and 3,000,000 as density
    python bench/explore_page.py 100000
"""

import json
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "data"))
from made_explorer import made_atlas
from measure import append_result, machine

from aqqua.explore.server.serve import prepare

SIZES = (100_000, 1_000_000, 3_000_000)
ARGUMENTS = ("--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-sync")
DRAWING = ("--enable-unsafe-swiftshader", "--use-angle=swiftshader")
TIMED = """async (act) => {
  const before = performance.now();
  await eval(act)();
  return performance.now() - before;
}"""
# What a person does; each waits until it is drawn.
FRAME = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
ACTS = {
    "colour_depth": f"async () => {{ byId('colour').value = 'depth_m'; await recolour(); await {FRAME}; }}",
    "colour_label": f"async () => {{ byId('colour').value = 'label'; await recolour(); await {FRAME}; }}",
    "filter": f"async () => {{ state.filters.set('instrument', {{column: 'instrument', names: ['IFCB']}}); "
    f"await filtered(); await {FRAME}; }}",
    "unfilter": f"async () => {{ state.filters.clear(); await filtered(); await {FRAME}; }}",
    "choose": "async () => { await choose(0, 1234 + Math.floor(Math.random() * 50000)); }",
    "search": "async () => { await state.atlases[0].search('img_0000042'); }",
    "hover_image": "async () => { await state.atlases[0].pictures([Math.floor(Math.random() * 90000)]); }",
    "zoom_frame": f"async () => {{ state.views[0].move(0.01, 0, 1.05); await {FRAME}; }}",
    "select_in_view": "async () => { await selectInView(); }",
}
REPEATS = 3


@contextmanager
def served(path: Path) -> Iterator[str]:
    """The address of the atlas' page."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = uvicorn.Server(uvicorn.Config(prepare(path).app, log_level="error"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        while not running.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        running.should_exit = True
        thread.join()


def measured(browser: Any, address: str) -> dict[str, float]:
    """Milliseconds."""
    page = browser.new_context(viewport={"width": 1366, "height": 768}).new_page()
    page.set_default_timeout(240_000)
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]")
    found = {"first_paint_ms": float(page.evaluate("document.body.dataset.firstPaintMs"))}
    found["ready_ms"] = float(page.evaluate("performance.now()"))
    for name, act in ACTS.items():
        times = [page.evaluate(TIMED, act) for _ in range(REPEATS)]
        found[f"{name}_ms"] = round(statistics.median(times), 1)
    found["page_heap_mb"] = round(page.evaluate("performance.memory.usedJSHeapSize") / 1e6)
    page.context.close()
    return found


def main() -> None:
    """Measure each size and append a row."""
    from playwright.sync_api import sync_playwright

    sizes = tuple(int(word) for word in sys.argv[1:]) or SIZES
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        for rows in sizes:
            path = made_atlas(Path(folder) / f"{rows}.parquet", rows)
            browser = playwright.chromium.launch(executable_path=chromium, args=[*ARGUMENTS, *DRAWING])
            with served(path) as address:
                found = measured(browser, address)
            version = browser.version
            browser.close()
            path.unlink()
            row = {**machine("duckdb", "starlette", "uvicorn"), "chromium": version, "points": rows, **found}
            print(json.dumps(row))
            append_result("explore_page", row)


if __name__ == "__main__":
    main()
