"""Blob masks and v4 features of a real IFCB bin, as WHOI's code made them."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

BIN = "IFCB5_2012_028_081515"


def masks(real_data: Path) -> dict[int, np.ndarray]:
    """ROI number -> mask of all its blobs."""
    with zipfile.ZipFile(golden(real_data) / f"{BIN}_blobs_v4.zip") as file:
        return {
            int(name.removesuffix(".png").rsplit("_", 1)[1]): np.array(
                Image.open(io.BytesIO(file.read(name)))
            )
            > 0
            for name in file.namelist()
        }


def features(real_data: Path) -> dict[tuple[int, int], dict[str, float]]:
    """(ROI number, blob number from 1, the largest) -> features."""
    found = {(int(row["roi_number"]), 1): row for row in rows(golden(real_data) / f"{BIN}_features_v4.csv")}
    multi = rows(golden(real_data) / "multiblob" / f"{BIN}_multiblob_v4.csv")
    found |= {(int(row["roi_number"]), int(row["blob_number"])): {**row} for row in multi}
    return {place: {name: float(value) for name, value in row.items()} for place, row in found.items()}


def summed(real_data: Path) -> dict[int, dict[str, float]]:
    """ROI number -> features with the sums over all blobs."""
    table = rows(golden(real_data) / f"{BIN}_features_v4.csv")
    return {int(row["roi_number"]): {name: float(value) for name, value in row.items()} for row in table}


def golden(real_data: Path) -> Path:
    return real_data / "ifcb" / "ifcb-features-golden" / "golden"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
