"""Text files of a UVP6 project: header, metadata.ini and the frames of particules.csv.

Sources: a real project tree (sn000125hf, 2022), its HW_CTD_*.txt with the manufacturer's own
comments (units of Aa, Pixel_Size, Threshold), and EcoTaxa's DD°MM SS coordinates.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aqqua.instruments.degrees import parse_degrees
from aqqua.instruments.ini import sections
from aqqua.instruments.numbers import is_blank, number
from aqqua.instruments.ranges import LATITUDE, LONGITUDE
from aqqua.instruments.record import Reason
from aqqua.instruments.scale import UVP_PIXEL_AREA_UM2, UVP_PIXEL_UM, pixel_area_um2, pixel_size_um

_FRAME_TIME = re.compile(r"\d{8}-\d{6}(?:-\d{1,3})?$")
_LATIN = "latin-1"  # '°' is the one byte 0xB0

# What may leave the header: calibration and station. Operator, e-mails, scientists and addresses never do.
_HARDWARE_FACTS = ("threshold", "exp", "gain", "shutter", "camera_ref", "calibration_date")
_STATION_FACTS = ("cruise", "ship", "stationid", "sampletype", "firstimage", "endimg", "constantdepth")


@dataclass(frozen=True, slots=True)
class Profile:
    """What the text files say of one profile. A value that is missing or makes no sense is None."""

    um_per_px: float | None = None
    pixel_text: str = ""  # Pixel_Size as written
    aa_um2: float | None = None  # Sm [µm²] = aa_um2 * area_px ** exp
    exp: float | None = None
    image_volume_l: float | None = None  # of one frame
    time: datetime | None = None
    lat: float | None = None
    lon: float | None = None
    facts: dict[str, str] = field(default_factory=dict)
    problems: tuple[tuple[Reason, str], ...] = ()  # (reason code, detail) of values that make no sense


@dataclass(slots=True)
class Frames:
    """Depth of every frame and what the frames are worth."""

    depth_m: dict[str, float] = field(default_factory=dict)  # 'YYYYMMDD-HHMMSS-mmm' -> metres
    per_second: dict[str, list[float]] = field(default_factory=dict)  # 'YYYYMMDD-HHMMSS' -> metres
    lit: int = 0  # flash on and not over-exposed: the frames that count for volume
    dark: int = 0  # flash off, background noise only
    over_exposed: int = 0
    empty: int = 0  # lit, no particle: volume without particles
    bad_lines: list[int] = field(default_factory=list)  # 1-based

    def depth_at(self, when: str) -> float | None:
        """Depth of a frame by its name's time; with whole seconds only, the mean over that second."""
        if when in self.depth_m:
            return self.depth_m[when]
        second = self.per_second.get(when[:15])
        return sum(second) / len(second) if second else None


def calibrated_area_mm2(area_px: float, aa: float, exp: float) -> float:
    """Area of a particle in the water, mm², from its pixels: Sm = Aa · px^Exp.

    Args:
        aa: µm² (2300) or mm² (0.0023), told by its magnitude.

    Raises:
        ValueError: aa is in neither range.

    Source: UVP6 calibration, as EcoPart uses it; 100 px, Aa 0.0023, Exp 1.136 gives 0.430257 mm².
    """
    aa_um2 = pixel_area_um2(aa, UVP_PIXEL_AREA_UM2)
    if aa_um2 is None:
        limits = "100 to 50,000 µm² or 0.0001 to 0.05 mm²"
        raise ValueError(f"calibrated_area_mm2: Aa must be {limits}, got {aa}; check its unit")
    return aa_um2 * 1e-6 * area_px**exp


def parse_time(text: str) -> datetime | None:
    """'YYYYMMDD-HHMMSS' with or without '-mmm', UTC (the UVP6 clock is set to UTC)."""
    if not _FRAME_TIME.match(text):
        return None
    try:
        whole = datetime.strptime(text[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return whole.replace(microsecond=int(text[16:] or 0) * 1000)


def header_rows(data: bytes) -> Iterator[tuple[int, dict[str, str] | None]]:
    """Rows of uvp6_header_*.txt as (line, {column: value}); None for a row of the wrong width."""
    lines = data.decode(_LATIN).splitlines()
    columns = [name.strip().lower() for name in lines[0].split(";")] if lines else []
    width = len(columns) - (not columns[-1]) if columns else 0  # the header line ends in ';' or not
    for at, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.split(";")]
        if line.strip():
            yield at, dict(zip(columns, cells, strict=False)) if len(cells) >= width else None


def parse_profile(ini: bytes | None, header: dict[str, str] | None, hardware: bytes | None) -> Profile:
    """Facts of one profile: metadata.ini first, then the header's row, then config/HW_*.txt.

    The ini was written beside the data it describes; the header may be older and list fewer profiles.
    """
    found = sections((ini or b"").decode(_LATIN))
    camera = sections((hardware or b"").decode(_LATIN))[""] | found.get("hw_conf", {})
    row = header or {}
    station = row | {k: v for k, v in found.get("sample_metadata", {}).items() if v}
    # The header has its own names; the camera's configuration wins over it.
    values = {"pixel_size": row.get("pixelsize"), "image_volume": row.get("volimage")}
    values |= {k: row.get(k) for k in ("aa", "exp")} | {k: v for k, v in camera.items() if v}
    return _judge(values, station)


def _judge(values: dict[str, str | None], station: dict[str, str]) -> Profile:
    problems: list[tuple[Reason, str]] = []

    def checked(reason: Reason, name: str, text: str | None, value: float | None) -> float | None:
        if value is None and text and text.lower() != "nan":
            problems.append((reason, f"{name} must make sense, got {text[:40]!r}"))
        return value

    aa, pixel, volume = values.get("aa"), values.get("pixel_size"), values.get("image_volume")
    lat, lon = station.get("latitude"), station.get("longitude")
    aa_um2 = checked("ambiguous_scale", "Aa", aa, pixel_area_um2(number(aa), UVP_PIXEL_AREA_UM2))
    um_per_px = checked("ambiguous_scale", "Pixel_Size", pixel, pixel_size_um(number(pixel), UVP_PIXEL_UM))
    exp = number(values.get("exp"))
    litres = number(volume)
    litres = litres if litres and litres > 0 else None
    facts = {name: str(values[name]) for name in _HARDWARE_FACTS if values.get(name)}
    facts |= {name: station[name] for name in _STATION_FACTS if not is_blank(station.get(name, ""))}
    if aa_um2 is not None:
        facts["aa_um2"] = f"{aa_um2:.10g}"
    return Profile(
        um_per_px=um_per_px,
        pixel_text=pixel or "",
        aa_um2=aa_um2,
        exp=checked("bad_metadata", "Exp", values.get("exp"), exp if exp and 0 < exp <= 2 else None),
        image_volume_l=checked("bad_metadata", "Image_volume", volume, litres),
        time=parse_time(station.get("sampledatetime", "")),
        lat=checked("bad_metadata", "latitude", lat, parse_degrees(lat or "", LATITUDE)),
        lon=checked("bad_metadata", "longitude", lon, parse_degrees(lon or "", LONGITUDE)),
        facts=facts,
        problems=tuple(problems),
    )


def parse_frames(data: bytes) -> Frames:
    """Frames of particules.csv: `time,depth,temperature,flash:area,n,grey,sd;...` after two header lines.

    The pressure column is in dbar and is taken as metres: 1 dbar is 0.99 m of sea water near the
    surface, 0.98 m at 2,000 dbar, and EcoTaxa imports it as depth in the same way.
    """
    frames = Frames()
    for at, line in enumerate(io.TextIOWrapper(io.BytesIO(data), _LATIN), start=1):
        line = line.strip()
        if line and not line.startswith(("HW_CONF", "ACQ_CONF")) and not _add_frame(frames, line):
            frames.bad_lines.append(at)
    return frames


def _add_frame(frames: Frames, line: str) -> bool:
    cells = line.split(",", 3)
    depth = number(cells[1]) if len(cells) == 4 else None
    if depth is None or not _FRAME_TIME.match(cells[0]):
        return False
    frames.depth_m[cells[0]] = depth
    frames.per_second.setdefault(cells[0][:15], []).append(depth)
    flash, content = cells[3][:2], cells[3]
    if flash == "0:":
        frames.dark += 1
    elif "OVER_EXPOSED" in content:
        frames.over_exposed += 1
    else:
        frames.lit += 1
        frames.empty += "EMPTY_IMAGE" in content
    return True
