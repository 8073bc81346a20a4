"""A UVP6 project tree: vignettes and particle counts per profile, with their calibration.

Layout, after a project of github.com/juliecoust/import_uvp6_like. Aa is in µm² in the configuration
(2300) and in mm² in the project's header (0.0023); metadata is latin-1, positions are in degrees,
minutes and seconds.
"""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from aqqua.sample.archive import write_zip
from aqqua.sample.class_folders import encode
from aqqua.sample.community import UVP6_MIX
from aqqua.sample.optics import UVP6, portraits

CAMERA_REF, PROJECT = "000999LP", "uvp6_sn000999lp_2024_synthetic"
AA_UM2, EXPONENT, IMAGE_VOLUME_L, THRESHOLD = 2300.0, 1.136, 0.65, 21
PROFILES = (  # number, start, latitude, longitude
    ("01", datetime(2024, 5, 18, 10, 15, 2), "43°48 08", "009°30 37"),
    ("02", datetime(2024, 5, 19, 22, 40, 31), "43°12 51", "008°59 12"),
)
HW_CONF = {
    "Aa": f"{AA_UM2:.3f}",
    "Acquisition_mode": "1",
    "Black_level": "0",
    "Calibration_date": "20240105",
    "Camera_ref": CAMERA_REF,
    "Exp": f"{EXPONENT:.3f}",
    "Gain": "6",
    "Image_volume": f"{IMAGE_VOLUME_L:.3f}",
    "Light_ref": "000999VE",
    "Pixel_Size": "73",
    "Pressure_offset": "0.600",
    "Shutter": "75",
    "Threshold": str(THRESHOLD),
}
ACQ_CONF = {
    "Acquisition_frequency": "1.000",
    "Appendices_ratio": "1.5",
    "Configuration_name": "ACQ_LP",
    "Frames_per_bloc": "1",
    "Limit_lpm_detection_size": "2",
    "PT_mode": "3",
    "Save_images": "2",
    "Vignetting_lower_limit_size": "620",
}
VIGNETTE = """\
[vignette]
gamma=1
invert=y
scalebarsize_mm=2.0
keeporiginal=y
fontcolor=black
footerheight_px=31
scale=1
"""


def write_project(folder: Path, images: int, rng: np.random.Generator, tick: Callable[[], None]) -> None:
    """config/, meta/ and one Images.zip and Particule.zip per profile, with `images` vignettes in all."""
    config, meta = folder / "config", folder / "meta"
    config.mkdir(parents=True)
    meta.mkdir()
    for name, facts in ((f"HW_{CAMERA_REF}.txt", HW_CONF), ("ACQ_LP.txt", ACQ_CONF)):
        (config / name).write_text(
            "".join(f"{key} = {value}\n\n" for key, value in facts.items()), "ascii", newline=""
        )
    (config / "compute_vignette.txt").write_text(VIGNETTE, "ascii", newline="")
    (meta / f"uvp6_header_{PROJECT.removeprefix('uvp6_')}.txt").write_text(_header(), "latin-1", newline="")
    shares = (math.ceil(images / 2), images // 2)
    for (number, start, lat, lon), count, own in zip(PROFILES, shares, rng.spawn(2), strict=True):
        _write_profile(folder / "ecodata" / number, (number, start, lat, lon), count, own, tick)


def _write_profile(
    folder: Path,
    profile: tuple[str, datetime, str, str],
    images: int,
    rng: np.random.Generator,
    tick: Callable[[], None],
) -> None:
    number, start, lat, lon = profile
    frames = max(images, 1) + 20
    seen_in = np.sort(rng.choice(frames, images, replace=True)).tolist()
    areas: dict[int, list[int]] = {}
    vignettes = []
    for frame, portrait in zip(seen_in, portraits(rng, UVP6, UVP6_MIX, images, 0), strict=True):
        areas.setdefault(frame, []).append(max(int((portrait.pixels > THRESHOLD).sum()), 1))
        name = f"{start + timedelta(seconds=frame):%Y%m%d-%H%M%S}_{len(areas[frame])}.png"
        vignettes.append((f"{start:%Y%m%d-%H%M%S}/{name}", encode(portrait.pixels, "PNG")))
        tick()
    lines = [_frame_line(rng, start, frame, areas.get(frame, [])) for frame in range(frames)]
    head = f"HW_CONF,{','.join(HW_CONF.values())};\n\nACQ_CONF,{','.join(ACQ_CONF.values())};\n"
    write_zip(folder / f"{number}_Images.zip", vignettes)
    write_zip(
        folder / f"{number}_Particule.zip",
        [
            ("metadata.ini", _metadata(number, start, lat, lon, frames).encode("latin-1")),
            ("particules.csv", (head + "".join(lines)).encode("ascii")),
        ],
    )


def _frame_line(rng: np.random.Generator, start: datetime, frame: int, areas: list[int]) -> str:
    """One frame: time, depth in dbar, temperature, flash, then area,n,mean,sd for each size in pixels."""
    stamp = f"{start + timedelta(seconds=frame):%Y%m%d-%H%M%S}-{(frame * 37) % 1000:03d}"
    prefix = f"{stamp},{5 + 0.8 * frame:.2f},{18 - 3 * math.tanh(frame / 60):.2f}"
    if not areas and frame % 25 == 7:
        return f"{prefix},0:EMPTY_IMAGE;\n"  # a dark frame, to measure the background
    if not areas and frame % 40 == 9:
        return f"{prefix},1:OVER_EXPOSED;\n"
    counts = {area: int(rng.poisson(900 / area**1.8)) for area in range(2, 40)}
    for area in areas:
        counts[area] = counts.get(area, 0) + 1
    cells = [
        f"{area},{n},{30 + 12 * math.log(area):.1f},{8 + 3 * math.log(area):.1f}"
        for area, n in sorted(counts.items())
        if n
    ]
    return f"{prefix},1:{';'.join(cells)};\n"


def _metadata(number: str, start: datetime, lat: str, lon: str, frames: int) -> str:
    sample = {
        "cruise": "synthetic",
        "ship": "drawn by aqqua, no water was sampled",
        "filename": f"{start:%Y%m%d-%H%M%S}",
        "profileid": number,
        "bottomdepth": "nan",
        "ctdrosettefilename": f"ctd{number}",
        "latitude": lat,
        "longitude": lon,
        "firstimage": "0",
        "endimg": str(frames - 1),
        "stationid": f"CTD{number}",
        "sampletype": "P",
        "sampledatetime": f"{start:%Y%m%d-%H%M%S}-000",
    }
    sections = {"HW_CONF": HW_CONF, "ACQ_CONF": ACQ_CONF, "sample_metadata": sample}
    return "\r\n".join(
        f"[{title}]\r\n" + "".join(f"{key}={value}\r\n" for key, value in facts.items())
        for title, facts in sections.items()
    )


def _header() -> str:
    columns = (
        "cruise;ship;filename;profileid;bottomdepth;ctdrosettefilename;latitude;longitude;firstimage;volimage;aa;exp;"
        "dn;winddir;windspeed;seastate;nebuloussness;comment;endimg;yoyo;stationid;sampletype;integrationtime;argoid;"
        "pixelsize;sampledatetime;constantdepth"
    )
    rows = [
        f"synthetic;none;{start:%Y%m%d-%H%M%S};{number};nan;ctd{number};{lat};{lon};0;{IMAGE_VOLUME_L:.3f};"
        f"{AA_UM2 / 1e6:g};{EXPONENT};;nan;nan;nan;nan;;;;CTD{number};P;nan;;73;{start:%Y%m%d-%H%M%S}-000;"
        for number, start, lat, lon in PROFILES
    ]
    return "\n".join([columns, *rows, ""])
