"""The data path's table of bench/README.md: what each part does, its goal, and who else did what."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Line(NamedTuple):
    """One line of the table."""

    part: str
    targets: tuple[str, ...]  # names in bench/targets.toml of what it is held against
    measured: str
    beside: str  # in the same run
    row: Row  # that it was read from


def lines_of(folder: Path) -> Iterator[Line]:
    """Of the newest row of each benchmark; of each size where it is run for several."""
    for name, (say, key) in PARTS.items():
        path = folder / f"{name}.jsonl"
        if not path.exists():  # not measured yet
            continue
        found = {row.get(key): row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
        for value in sorted(found, key=lambda value: value or 0):
            yield from say(found[value])


def _ingest(r: Row) -> Iterator[Line]:
    yield Line(
        f"ingest, workers: {r['workers']}",
        ("ingest_speed", "ingest_bytes") if r["workers"] == 2 else (),
        f"{r['images_per_s']:,} images/s, {r['bytes_per_image']:,.0f} bytes an image",
        f"PNG {r['png_bytes_per_image']:,.0f} bytes, original {r['original_bytes_per_image']:,.0f}",
        r,
    )


def _plan(r: Row) -> Iterator[Line]:
    ours, theirs = (r[name]["views_per_core_s"] / 1e6 for name in ("native", "reference"))
    yield Line(
        "plan views",
        ("plan_speed", "plan_views_times"),
        f"{ours:.1f} M views/s a core",
        f"specification in vectorised NumPy {theirs:.2f} M ({r['native']['times_reference']:.1f} ×)",
        r,
    )


def _pack(r: Row) -> Iterator[Line]:
    native = r["native"]
    yield Line(
        f"plan a pack of {r['pack_tokens']:,} tokens",
        ("pack_time", "pack_times", "masks_times") if r["pack_tokens"] == 65536 else (),
        f"{native['mean_ms']:.2f} ms, at worst {native['worst_ms']:.2f}; fill {r['fill']:.4f}",
        f"specification {r['reference']['mean_ms']:.1f} ms; masks alone {r['masks_ms']:.3f} beside "
        f"{r['masks_reference_ms']:.2f} ms",
        r,
    )


def _order(r: Row) -> Iterator[Line]:
    yield Line(
        f"order of {r['images']:,} images",
        ("order_first_pack", "order_memory", "order_complete"),
        f"{r['first_pack_s_after_process_start']:.2f} s; {r['resident_mb_peak']:.0f} MB at most; "
        f"{r['resident_mb_slope_per_1000_packs']:+.4f} MB per 1,000 of {r['packs']:,} packs",
        "every block once an epoch" if r["blocks_once_an_epoch"] else "blocks are missed or repeated",
        r,
    )


def _tiles(r: Row) -> Iterator[Line]:
    for tile in (64, 128):
        inputs = [case for case in r["inputs"].values() if f"arrange_{tile}" in case]

        def worst(who: str, inputs: list = inputs, tile: int = tile) -> str:
            found = [case[f"{who}_{tile}"] for case in inputs]
            return f"{min(f['fill'] for f in found):.4f}, {min(f['m_per_core_s'] for f in found):.0f} M/s"

        peers = {"next_fit": "next fit", "best_fit": "best fit", "first_fit_tree": "first fit"}
        yield Line(
            f"tiles of {tile} rows, worst of {len(inputs)} inputs",
            (f"tiles_fill_{tile}", f"tiles_speed_{tile}"),
            worst("arrange"),
            "; ".join(f"{name} {worst(who)}" for who, name in peers.items()),
            r,
        )


def _render(r: Row) -> Iterator[Line]:
    peers = {
        "reference": "PyTorch specification",
        "cv2_same_maps": "OpenCV warpAffine",
        "pillow_same_maps": "Pillow",
        "pillow_224_98": "Pillow, ten crops of 224 and 98 px",
    }
    yield Line(
        f"render 10 views, {'grey' if r['channels'] == 1 else 'RGB'}",
        ("render_speed", "render_times") if r["channels"] == 1 else (),
        f"{r['native']['images_per_core_s']:,.0f} images/s a core",
        "; ".join(f"{name} {r[who]['images_per_core_s']:,.0f}" for who, name in peers.items()),
        r,
    )


def _read(r: Row) -> Iterator[Line]:
    ours, bare = (r[name]["images_per_s"] for name in ("reader_2", "bare_2"))
    one = r["reader_1"]["images_per_s"] / r["bare"]["images_per_s"]
    yield Line(
        "read blocks",
        ("read_two", "read_core"),
        f"{ours:,} images/s with two threads",
        f"bare pyarrow with two threads {bare:,} ({ours / bare:.0%}); with one thread {one:.0%}",
        r,
    )


def _encoded(r: Row) -> Iterator[Line]:
    speed, share = r["images_per_core_s"], r["share_of_equal_images"]
    peers = [f"{name} {speed[name]:,} ({share[name]:.0%} equal)" for name in share]
    yield Line(
        f"images from original {' and '.join(r['formats'])} files",
        (),
        f"{speed['encoded']:,} images/s a core, {r['encoded_dataset_bytes_per_image']:,.0f} bytes an image",
        f"stored pixels {speed['pixels']:,}, {r['pixels_dataset_bytes_per_image']:,.0f} bytes; files alone: "
        + "; ".join(peers + [f"{name} not run" for name in r["not_run"]]),
        r,
    )


def _end_to_end(r: Row) -> Iterator[Line]:
    grey, rgb = r["ours_grey"], r["ours_rgb"]
    yield Line(
        "dataset to patch rows, 2 cores",
        ("load_time",),
        f"{grey['images_per_s']:,.0f} images/s grey, {rgb['images_per_s']:,.0f} RGB",
        f"Pillow and ten RandomResizedCrop {r['plain']['images_per_s']:,.0f} "
        f"({grey['times_plain']:.0f} × grey, {rgb['times_plain']:.0f} × RGB); "
        f"with DINOv2's colour and blur {r['dinov2']['images_per_s']:,.0f}",
        r,
    )


# Benchmark -> what says its lines, and the field of which every value has a line.
PARTS: dict[str, tuple[Callable[[Row], Iterator[Line]], str]] = {
    "ingest": (_ingest, "workers"),
    "read": (_read, ""),
    "encoded": (_encoded, "input"),
    "order": (_order, ""),
    "plan": (_plan, ""),
    "pack": (_pack, "pack_tokens"),
    "tiles": (_tiles, ""),
    "render": (_render, "channels"),
    "end_to_end": (_end_to_end, ""),
}
