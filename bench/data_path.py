"""The data path's table of bench/README.md: what each part does, its bar, and who else did what."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Line(NamedTuple):
    """One line of the table."""

    part: str
    bar: str
    measured: str
    beside: str  # in the same run
    met: bool | None  # whether the bar is; None where it has none of its own
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
        "3,000 images/s on 2 cores, no larger than PNG" if r["workers"] == 2 else "",
        f"{r['images_per_s']:,} images/s, {r['bytes_per_image']:,.0f} bytes an image",
        f"PNG {r['png_bytes_per_image']:,.0f} bytes, original {r['original_bytes_per_image']:,.0f}",
        r["images_per_s"] >= 3000 and r["bytes_per_image"] <= r["png_bytes_per_image"]
        if r["workers"] == 2
        else None,
        r,
    )


def _plan(r: Row) -> Iterator[Line]:
    ours, theirs = (r[name]["views_per_core_s"] / 1e6 for name in ("native", "reference"))
    yield Line(
        "plan views",
        "1.5 M views/s a core, 40 × the reference",
        f"{ours:.1f} M views/s a core",
        f"specification in vectorised NumPy {theirs:.2f} M ({r['native']['times_reference']:.1f} ×)",
        ours >= 1.5 and r["native"]["times_reference"] >= 40,
        r,
    )


def _pack(r: Row) -> Iterator[Line]:
    native = r["native"]
    yield Line(
        f"plan a pack of {r['pack_tokens']:,} tokens",
        "20 ms (65,536)",
        f"{native['mean_ms']:.2f} ms, at worst {native['worst_ms']:.2f}; fill {r['fill']:.4f}",
        f"specification {r['reference']['mean_ms']:.1f} ms; masks alone {r['masks_ms']:.3f} beside "
        f"{r['masks_reference_ms']:.2f} ms",
        native["mean_ms"] < 20,
        r,
    )


def _order(r: Row) -> Iterator[Line]:
    yield Line(
        f"order of {r['images']:,} images",
        "first pack in 1 s, 100 MB, flat over 100,000 packs",
        f"{r['first_pack_s_after_process_start']:.2f} s; {r['resident_mb_peak']:.0f} MB at most; "
        f"{r['resident_mb_slope_per_1000_packs']:+.4f} MB per 1,000 of {r['packs']:,} packs",
        "every block once an epoch" if r["blocks_once_an_epoch"] else "blocks are missed or repeated",
        r["first_pack_s_after_process_start"] < 1
        and r["resident_mb_peak"] < 100
        and r["blocks_once_an_epoch"],
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
            "fill .99, 30 M sequences/s a core",
            worst("arrange"),
            "; ".join(f"{name} {worst(who)}" for who, name in peers.items()),
            all(
                case[f"arrange_{tile}"]["fill"] >= 0.99 and case[f"arrange_{tile}"]["m_per_core_s"] >= 30
                for case in inputs
            ),
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
        "10,000 images/s a core (grey)",
        f"{r['native']['images_per_core_s']:,.0f} images/s a core",
        "; ".join(f"{name} {r[who]['images_per_core_s']:,.0f}" for who, name in peers.items()),
        r["native"]["images_per_core_s"] >= 10_000 if r["channels"] == 1 else None,
        r,
    )


def _read(r: Row) -> Iterator[Line]:
    ours, bare = (r[name]["images_per_s"] for name in ("reader_2", "bare_2"))
    one = r["reader_1"]["images_per_s"] / r["bare"]["images_per_s"]
    yield Line(
        "read blocks",
        "80 % of bare pyarrow",
        f"{ours:,} images/s with two threads",
        f"bare pyarrow with two threads {bare:,} ({ours / bare:.0%}); with one thread {one:.0%}",
        ours / bare >= 0.8,
        r,
    )


def _encoded(r: Row) -> Iterator[Line]:
    speed, share = r["images_per_core_s"], r["share_of_equal_images"]
    peers = [f"{name} {speed[name]:,} ({share[name]:.0%} equal)" for name in share]
    yield Line(
        f"images from original {' and '.join(r['formats'])} files",
        "",
        f"{speed['encoded']:,} images/s a core, {r['encoded_dataset_bytes_per_image']:,.0f} bytes an image",
        f"stored pixels {speed['pixels']:,}, {r['pixels_dataset_bytes_per_image']:,.0f} bytes; files alone: "
        + "; ".join(peers + [f"{name} not run" for name in r["not_run"]]),
        None,
        r,
    )


def _end_to_end(r: Row) -> Iterator[Line]:
    grey, rgb = r["ours_grey"], r["ours_rgb"]
    yield Line(
        "dataset to patch rows, 2 cores",
        "20 × DINOv2's loader",
        f"{grey['images_per_s']:,.0f} images/s grey, {rgb['images_per_s']:,.0f} RGB",
        f"Pillow and ten RandomResizedCrop {r['plain']['images_per_s']:,.0f} "
        f"({grey['times_plain']:.0f} × grey, {rgb['times_plain']:.0f} × RGB); "
        f"with DINOv2's colour and blur {r['dinov2']['images_per_s']:,.0f}",
        rgb["times_plain"] >= 20,
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
