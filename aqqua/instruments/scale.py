"""Which unit a pixel size or pixel area is in, told by its magnitude.

The same field holds mm in one file and µm in the next: ZooProcess PixSize 0.0106 (mm) or
process_pixel 10.6 (µm), UVP 0.088 (mm) or 73.0 (µm), UVP6 Aa 0.0023 (mm²) or 2300 (µm²). A value
has one plausible reading or none; none is unknown, never a guess.
"""

UVP_PIXEL_UM = (30.0, 500.0)  # UVP6 73; UVP5 hd 88 and sd 174 µm/px
SCANNER_PIXEL_UM = (2.0, 200.0)  # 12,700 to 127 dpi; ZooScan 2400 dpi is 10.58
UVP_PIXEL_AREA_UM2 = (100.0, 50_000.0)  # UVP6 Aa: 1375, 2300


def pixel_size_um(value: float | None, plausible_um: tuple[float, float]) -> float | None:
    """Micrometres per pixel of a value in µm or mm; None when neither reading is plausible."""
    return _one_reading(value, plausible_um, 1e3)


def pixel_area_um2(value: float | None, plausible_um2: tuple[float, float]) -> float | None:
    """Square micrometres of a value in µm² or mm²; None when neither reading is plausible."""
    return _one_reading(value, plausible_um2, 1e6)


def _one_reading(value: float | None, plausible: tuple[float, float], factor: float) -> float | None:
    if value is None:
        return None
    low, high = plausible
    if low <= value <= high:
        return value
    return value * factor if low <= value * factor <= high else None
