"""A FlowCam run of VisualSpreadsheet: colour particles packed into collage pictures, boxes in a .lst.

Layout, after a real VisualSpreadsheet 4.19 run: line 1 `017`, then `num-fields|n`, n lines `name|type`,
then a row per particle; image_x, image_y, image_w, image_h is its box in the collage. The .ctx holds
CalibrationConstant (µm/px) and the start in UTC; run_summary.txt has the same start in local time.
"""

import math
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from aqqua.sample.community import FLOWCAM_MIX
from aqqua.sample.optics import FLOWCAM, FLOWCAM_WATER, Portrait, portraits

RUN = "synthetic-10x-20240822"
START = datetime(2024, 8, 22, 8, 14, 1)  # UTC
LOCAL = timedelta(hours=2)
COLLAGE_PX = (964, 1292)  # rows, columns
FIELDS = {
    "id": "int32",
    "image_x": "int32",
    "image_y": "int32",
    "image_w": "int32",
    "image_h": "int32",
    "src_x": "int32",
    "src_y": "int32",
    "src_image": "int32",
    "cal_image": "int32",
    "cal_const": "double",
    "abd_area": "double",
    "abd_diameter": "double",
    "intensity": "double",
    "elapsed_time": "double",
    "timestamp": "timestamp",
    "collage_file": "string",
    "image_id": "guid",
}


def write_run(folder: Path, images: int, rng: np.random.Generator, tick: Callable[[], None]) -> None:
    """One run with `images` particles, and a calibration picture, which is not an organism."""
    path = folder / RUN / RUN
    path.parent.mkdir(parents=True)
    rows: list[dict[str, str]] = []
    collage, number, x, y, shelf = _blank(), 1, 0, 0, 0
    for portrait in portraits(rng, FLOWCAM, FLOWCAM_MIX, images, FLOWCAM_WATER):
        height, width = portrait.pixels.shape[:2]
        if x + width > COLLAGE_PX[1]:  # particles stand in shelves, as in a real collage
            x, y, shelf = 0, y + shelf + 1, 0
        if y + height > COLLAGE_PX[0]:
            _save(collage, path, number)
            collage, number, x, y, shelf = _blank(), number + 1, 0, 0, 0
        collage[y : y + height, x : x + width] = portrait.pixels
        rows.append(_row(rng, len(rows) + 1, portrait, (x, y, width, height), f"{RUN}_{number:06d}.tif"))
        x, shelf = x + width + 2, max(shelf, height)
        tick()
    _save(collage, path, number)
    background = (FLOWCAM_WATER + rng.normal(0, 1.5, COLLAGE_PX)).astype(np.uint8)
    Image.fromarray(background).save(path.parent / "cal_image_000001.tif")
    _write_texts(path, rows)


def _blank() -> np.ndarray:
    return np.zeros((*COLLAGE_PX, 3), np.uint8)


def _save(collage: np.ndarray, path: Path, number: int) -> None:
    Image.fromarray(collage).save(path.parent / f"{RUN}_{number:06d}.tif", compression="tiff_lzw")


def _row(
    rng: np.random.Generator, particle: int, portrait: Portrait, box: tuple[int, int, int, int], collage: str
) -> dict[str, str]:
    x, y, width, height = box
    area_um2 = float((portrait.density > 0.1).sum()) * FLOWCAM.um_per_px**2
    elapsed_s = particle * 0.31
    values = {
        "id": particle,
        "image_x": x,
        "image_y": y,
        "image_w": width,
        "image_h": height,
        "src_x": rng.integers(0, COLLAGE_PX[1] - width),
        "src_y": rng.integers(0, COLLAGE_PX[0] - height),
        "src_image": 32 + particle // 2,
        "cal_image": 1,
        "cal_const": f"{FLOWCAM.um_per_px:.4f}",
        "abd_area": f"{area_um2:.4f}",
        "abd_diameter": f"{2 * math.sqrt(area_um2 / math.pi):.4f}",
        "intensity": f"{portrait.pixels.mean():.4f}",
        "elapsed_time": f"{elapsed_s:.4f}",
        "timestamp": (START + LOCAL + timedelta(seconds=elapsed_s)).isoformat(timespec="milliseconds"),
        "collage_file": collage,
        "image_id": str(uuid.UUID(bytes=rng.bytes(16))).upper(),
    }
    return {name: str(value) for name, value in values.items()}


def _write_texts(path: Path, rows: list[dict[str, str]]) -> None:
    head = ["017", f"num-fields|{len(FIELDS)}", *(f"{name}|{kind}" for name, kind in FIELDS.items())]
    lines = head + ["|".join(row[name] for name in FIELDS) for row in rows]
    path.with_suffix(".lst").write_text("\r\n".join([*lines, ""]), "ascii", newline="")
    path.with_suffix(".ctx").write_text(
        "[Software]\r\nSoftwareName=VisualSpreadsheet\r\nSoftwareVersion=4.19.3\r\nCameraMagnification=10\r\n"
        "[General]\r\nTechnicianName= \r\nLocationName=drawn by aqqua, no water was sampled\r\n"
        f"RunStartTime={START:%Y-%m-%d %H:%M:%S}\r\n"
        f"[Fluid]\r\nFlowCellType=FC100\r\nSampleDilution=1\r\nCalibrationConstant={FLOWCAM.um_per_px:.4f}\r\n",
        "ascii",
        newline="",
    )
    path.with_name(f"{RUN}_run_summary.txt").write_text(
        f"Run:\r\n\tMode:  AutoImage\r\n\tStart:  {START + LOCAL:%Y-%m-%d %H:%M:%S}\r\n"
        f"\tFluid Volume Imaged: {len(rows) * 0.0002:.4f} ml\r\n\tParticle Count: {len(rows)}\r\n",
        "ascii",
        newline="",
    )
