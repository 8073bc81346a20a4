"""An EcoTaxa archive of ZooScan samples: TSV tables with a type row, JPEG with a burnt-in scale bar.

Facts: github.com/ecotaxa/ecotaxa_back, py/BO/TSVFile.py. Tables are latin-1; measures are in pixels
(esd = 2·√(area/π)); pictures are grey stored as RGB JPEG, at least 114 px wide, with 31 rows of
footer below.
"""

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from aqqua.sample.archive import write_zip
from aqqua.sample.community import ZOOSCAN_MIX
from aqqua.sample.optics import ZOOSCAN, Portrait, portraits

FOOTER_PX, LEAST_WIDTH_PX = 31, 114
BAR_PX = round(1000 / ZOOSCAN.um_per_px)  # 1 mm
GLYPHS = {  # 5×7 dots; drawn here, because fonts differ between machines
    "1": ("..#..", ".##..", "..#..", "..#..", "..#..", "..#..", ".###."),
    "m": (".....", ".....", "##.#.", "#.#.#", "#.#.#", "#.#.#", "#.#.#"),
    " ": (".....",) * 7,
}
STATUSES = (("validated", 0.88), ("predicted", 0.09), ("dubious", 0.03))
# EcoTaxa writes child<parent where a name alone would be ambiguous.
CATEGORIES = {"fiber": "fiber<detritus", "egg": "egg<other"}


@dataclass(frozen=True, slots=True)
class Net:
    """One net tow: id, position as written, EcoTaxa date and time, towed depth, filtered volume."""

    name: str
    lat: str
    lon: str
    date: str
    time: str
    depth_max_m: int
    volume_m3: float


NETS = (
    Net("baie_2024_03_12", "43.6853", "7.3156", "20240312", "084500", 75, 18.9),
    Net("baie_2024_05_18", "43.6853", "7.3156", "20240518", "091000", 75, 21.4),
    Net("large_2024_05_19", "43°22 30", "7°48 0", "20240519", "0215", 200, 55.2),  # degrees° minutes seconds
    Net("mindelo_2024_08_21", "16.9021", "-25.0312", "20240821", "140230", 100, 26.0),
)
MEASURES = (
    "object_area",
    "object_mean",
    "object_%area",
    "object_major",
    "object_minor",
    "object_esd",
    "object_width",
    "object_height",
)
COLUMNS = {  # name -> EcoTaxa type; the coordinates of a table in degrees and minutes are text
    "img_file_name": "[t]",
    "img_rank": "[f]",
    "object_id": "[t]",
    "object_lat": "[f]",
    "object_lon": "[f]",
    "object_date": "[t]",
    "object_time": "[t]",
    "object_depth_min": "[f]",
    "object_depth_max": "[f]",
    "object_annotation_category": "[t]",
    "object_annotation_status": "[t]",
    **dict.fromkeys(MEASURES, "[f]"),
    "acq_id": "[t]",
    "acq_instrument": "[t]",
    "acq_sub_part": "[f]",
    "process_id": "[t]",
    "process_particle_pixel_size_mm": "[f]",
    "sample_id": "[t]",
    "sample_ship": "[t]",
    "sample_tot_vol": "[f]",
    "sample_comment": "[t]",
}


def write_export(path: Path, images: int, rng: np.random.Generator, tick: Callable[[], None]) -> None:
    """One zip with a table and a folder of pictures per net; `images` good pictures in all.

    Two traps on top: a row whose picture is not in the archive, a picture of which no row speaks.
    """
    shares = [int(n) for n in np.diff(np.linspace(0, images, len(NETS) + 1).round())]
    write_zip(path, _members(shares, rng, tick))


def _members(
    shares: list[int], rng: np.random.Generator, tick: Callable[[], None]
) -> Iterator[tuple[str, bytes]]:
    picture = b""
    for net, count, own in zip(NETS, shares, rng.spawn(len(NETS)), strict=True):
        rows = []
        for number, portrait in enumerate(portraits(own, ZOOSCAN, ZOOSCAN_MIX, count, 255), start=1):
            status = str(own.choice([name for name, _ in STATUSES], p=[share for _, share in STATUSES]))
            rows.append(_row(net, number, portrait, status))
            picture = _stamp(portrait.pixels)
            yield rows[-1]["img_file_name"], picture
            tick()
        if net is NETS[-1] and rows:
            rows.append({**rows[-1], **_names(net, count + 1)})
        yield f"ecotaxa_{net.name}.tsv", _table(net, rows)
    yield f"{NETS[0].name}/not_in_the_table.jpg", picture


def _names(net: Net, number: int) -> dict[str, str]:
    return {"img_file_name": f"{net.name}/{net.name}_{number}.jpg", "object_id": f"{net.name}_{number}"}


def _row(net: Net, number: int, portrait: Portrait, status: str) -> dict[str, str]:
    return {
        **_names(net, number),
        "img_rank": "0",
        "object_lat": net.lat,
        "object_lon": net.lon,
        "object_date": net.date,
        "object_time": net.time,
        "object_depth_min": "0",
        "object_depth_max": str(net.depth_max_m),
        "object_annotation_category": CATEGORIES.get(portrait.label, portrait.label),
        "object_annotation_status": status,
        **_measures(portrait),
        "acq_id": f"scan_{net.name}",
        "acq_instrument": "zooscan",
        "acq_sub_part": "8",
        "process_id": f"zooprocess_{net.name}",
        "process_particle_pixel_size_mm": f"{ZOOSCAN.um_per_px / 1000:g}",
        "sample_id": net.name,
        "sample_ship": "synthétique",
        "sample_tot_vol": f"{net.volume_m3:g}",
        "sample_comment": "drawn by aqqua, no water was sampled",
    }


def _measures(portrait: Portrait) -> dict[str, str]:
    """Area, mean grey and the axes of the ellipse with the same moments, in pixels as ZooProcess has it."""
    y, x = np.nonzero(portrait.density > 0.05)
    if len(y) < 3:  # too faint for the threshold: a gap in the table, as real ones have
        return dict.fromkeys(MEASURES, "")
    spread = np.linalg.eigvalsh(np.cov(np.stack([x, y]))).clip(0.05)
    minor, major = 4 * np.sqrt(spread)
    width, height = int(np.ptp(x)) + 1, int(np.ptp(y)) + 1
    area, esd = len(y), 2 * math.sqrt(len(y) / math.pi)
    mean_grey = portrait.pixels[y, x].mean()
    values = (area, mean_grey, 100 * area / (width * height), major, minor, esd, width, height)
    return {name: f"{value:.6g}" for name, value in zip(MEASURES, values, strict=True)}


def _table(net: Net, rows: list[dict[str, str]]) -> bytes:
    text_coordinates = "°" in net.lat
    types = [
        "[t]" if text_coordinates and name in ("object_lat", "object_lon") else kind
        for name, kind in COLUMNS.items()
    ]
    lines = [list(COLUMNS), types, *([row[name] for name in COLUMNS] for row in rows)]
    return "".join("\t".join(line) + "\r\n" for line in lines).encode("latin-1")


def _stamp(pixels: np.ndarray) -> bytes:
    """The picture as ZooProcess exports it: widened to 114 px, footer with '1 mm' and its bar below."""
    height, width = pixels.shape
    canvas = np.full((height + FOOTER_PX, max(width, LEAST_WIDTH_PX)), 255, np.uint8)
    left = (canvas.shape[1] - width) // 2
    canvas[:height, left : left + width] = pixels
    for place, letter in enumerate("1 mm"):
        dots = np.array([[dot == "#" for dot in line] for line in GLYPHS[letter]])
        cell = canvas[height + 12 : height + 19, 10 + 6 * place : 15 + 6 * place]
        cell[dots] = 0
    canvas[height + 22 : height + 24, 10 : 10 + BAR_PX] = 0
    file = io.BytesIO()
    Image.fromarray(canvas).convert("RGB").save(file, "JPEG", quality=88)
    return file.getvalue()
