"""Which way from the disk to patch rows to choose: the section of bench/README.md on bench/data/dali.py.

The advice is worked out from the figures, so that new figures may change it.
Test: tests/test_bench_report.py.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from data_path import Row

INTRO = """## Which path from files to patch rows

`python bench/data/dali.py --input FILES` takes each way with the images of a run's first packs: images/s of
one core, 10 views of each. What the ways are is said there; what else speaks for one, in
[docs/dali.md](../docs/dali.md).

"""
PATHS = {
    "pixels, native": "pixels stored, `data.renderer=native`",
    "files by Pillow, native": "files, `data.backend=parquet`, native",
    "files by DALI, native": "files, `data.backend=dali`, native",
    "all by DALI": "files, `data.backend=dali`, `data.renderer=dali`",
}
BARE = {"dali_1": "to pages alone: DALI", "strict": "Pillow, checked", "pillow": "Pillow", "cv2": "OpenCV"}


def choosing(folder: Path) -> str:
    """The section; nothing where it was not measured yet. Of each input the newest row counts."""
    path = folder / "dali.jsonl"
    if not path.exists():
        return ""
    rows = {row["input"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    advice = "".join(f"- {line}\n" for line in _advice(rows))
    return f"{INTRO}{_figures(rows.values())}\n{advice}\n"


def _figures(rows: Iterable[Row]) -> str:
    head = ("files", "bytes a file", *PATHS.values(), *BARE.values(), "commit")
    lines: list[tuple[str, ...]] = [head, ("---",) * len(head)]
    for row in rows:
        pages, whole = row["pages"], row["decode_and_render"]
        bare = [_speed(pages[name]) if name in pages else "not run" for name in BARE]
        kind = f"{row['input']} ({', '.join(row['formats'])})"
        size = f"{row['file_bytes_per_image']:,}"
        lines.append((kind, size, *(_speed(whole[name]) for name in PATHS), *bare, row["commit"][:10]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _advice(rows: Mapping[str, Row]) -> Iterator[str]:
    for name, row in rows.items():
        speed = {path: row["decode_and_render"][path]["images_per_core_s"] for path in PATHS}
        stored, pillow, dali, rendered = speed.values()
        backend, best, other = ("dali", dali, pillow) if dali > pillow else ("parquet", pillow, dali)
        disk = (
            f"stored pixels are {stored / best:.1f} times as fast, so keep files where bytes matter more"
            if stored > best
            else f"they are {best / stored:.1f} times as fast as stored pixels, so keep them"
        )
        yield (
            f"{name}: where rows hold files, `data.backend={backend}` ({best / other:.2f} times the other); "
            f"{disk}. `data.renderer=dali` reaches 1/{best / rendered:.0f} of the best: a second opinion on "
            "what is rendered, not a way to train."
        )
    if rows and all("dali_mixed" in row["not_run"] for row in rows.values()):
        yield "On a GPU none of this has been measured: JPEG is decoded there, PNG and TIFF are not."


def _speed(found: Row) -> str:
    return f"{found['images_per_core_s']:,}"
