"""IFCB bins as the instrument writes them: .hdr, .adc, .roi, in the new and in the old style.

Layout, after the test bins of github.com/joefutrelle/pyifcb: the new style has 24 columns and first
offset 0; the old style 15 columns with a trailing comma, first offset 1, and one byte left at the
end. Rows of 0×0 are triggers without an image.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from aqqua.sample.community import IFCB_MIX
from aqqua.sample.optics import IFCB, portraits

IMAGER = 124
OLD_BIN = "IFCB5_2012_141_093012"
STARTS = tuple(
    datetime(2024, month, day, hour, minute, 17)
    for month, day, hour, minute in (
        (3, 12, 9, 41),
        (3, 12, 10, 5),
        (5, 18, 11, 20),
        (5, 18, 11, 44),
        (8, 21, 7, 2),
    )
)
EMPTY_START = datetime(
    2024, 8, 21, 7, 26, 17
)  # a bin that saw no trigger at all: legal, 0-byte .adc and .roi
ADC_FORMAT = (
    "trigger#, ADC_time, PMTA, PMTB, PMTC, PMTD, peakA, peakB, peakC, peakD, time of flight, grabtimestart, "
    "grabtimeend, ROIx, ROIy, ROIwidth, ROIheight, start_byte, comparator_out, STartPoint, SignalLength, "
    "status, runTime, inhibitTime"
)
RUN_S = 1170.0  # a syringe of nearly 5 mL at 0.25 mL/min
INHIBITED_S = 0.0985  # per trigger, while the camera reads out


def bin_name(start: datetime) -> str:
    """The new-style bin id: D<date>T<time>_IFCB<number>."""
    return f"D{start:%Y%m%dT%H%M%S}_IFCB{IMAGER}"


def write_bins(folder: Path, images: int, rng: np.random.Generator, tick: Callable[[], None]) -> None:
    """Five new-style bins, one empty one and one old-style bin, with `images` ROIs in all."""
    shares = [int(n) for n in np.diff(np.linspace(0, images, len(STARTS) + 2).round())]
    for start, count, own in zip(STARTS, shares[:-1], rng.spawn(len(STARTS)), strict=True):
        _write_new_bin(folder, start, count, own, tick)
    _write_new_bin(folder, EMPTY_START, 0, rng, tick, triggers_per_image=0)
    _write_old_bin(folder, shares[-1], rng, tick)


def _write_new_bin(
    folder: Path,
    start: datetime,
    images: int,
    rng: np.random.Generator,
    tick: Callable[[], None],
    triggers_per_image: int = 3,
) -> None:
    path = folder / f"D{start:%Y}" / f"D{start:%Y%m%d}" / bin_name(start)
    path.parent.mkdir(parents=True, exist_ok=True)
    triggers = images * triggers_per_image
    with_image = set(rng.choice(triggers, images, replace=False).tolist())
    ready = portraits(rng, IFCB, IFCB_MIX, images, rng.uniform(168, 212))
    rows, rasters, offset = [], [], 0
    for trigger in range(triggers):
        height = width = 0
        if trigger in with_image:
            pixels = next(ready).pixels
            height, width = pixels.shape
            rasters.append(pixels.tobytes())
            tick()
        rows.append(_new_row(rng, trigger, (trigger + 1) * RUN_S / triggers, (width, height, offset)))
        offset += width * height
    path.with_suffix(".adc").write_text("".join(rows), encoding="ascii", newline="")
    path.with_suffix(".roi").write_bytes(b"".join(rasters))
    path.with_suffix(".hdr").write_text(_new_header(start, triggers), encoding="ascii", newline="")


def _new_row(rng: np.random.Generator, trigger: int, run_s: float, raster: tuple[int, int, int]) -> str:
    width, height, offset = raster
    signal = rng.lognormal(-4, 1, 8)
    x, y = (int(rng.integers(1, 1380 - width)), int(rng.integers(1, 1034 - height))) if width else (0, 0)
    fields = [str(trigger + 1), f"{run_s - 0.06:.6f}", *(f"{value:.5f}" for value in signal), "-999.00000"]
    fields += [f"{run_s - 0.06:.6f}", f"{run_s:.6f}", *map(str, (x, y, width, height, offset))]
    fields += ["-999.000000", "0", "0", "0", f"{run_s:.6f}", f"{(trigger + 1) * INHIBITED_S:.6f}"]
    return ",".join(fields) + "\r\n"


def _new_header(start: datetime, triggers: int) -> str:
    facts = {
        "sampleTime": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "imagerID": IMAGER,
        "DataFilePath": "c:/Data",
        "imageResizeFactor": 8,
        "minimumBlobArea": 2000,
        "blobXgrowAmount": 20,
        "blobYgrowAmount": 1,
        "PMTAhighVoltage": "0.450000",
        "SyringeSampleVolume": "5.000000",
        "runType": "NORMAL",
        "runTime": f"{RUN_S:.13f}",
        "inhibitTime": f"{triggers * INHIBITED_S:.13f}",
        "temperature": "21.400000",
        "humidity": "18.700000",
        "ADCFileFormat": ADC_FORMAT,
        "sampleType": "synthetic: drawn by aqqua, no water was sampled",
    }
    first = "softwareVersion: Imaging FlowCytobot Acquisition Software version 2.0, build 380; May 2010\r\n"
    return first + "".join(f"{key}: {value}\r\n" for key, value in facts.items())


def _write_old_bin(folder: Path, images: int, rng: np.random.Generator, tick: Callable[[], None]) -> None:
    path = folder / OLD_BIN.rsplit("_", 1)[0] / OLD_BIN
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, rasters, offset, trigger = [], [b"\0"], 1, 0
    for row, portrait in enumerate(portraits(rng, IFCB, IFCB_MIX, images, rng.uniform(150, 175))):
        height, width = portrait.pixels.shape
        trigger += row != 2  # rows 2 and 3 share a trigger: one flash, two bodies
        if row % 4 == 3:
            rows.append(_old_row(rng, trigger, 0, 0, offset))
            trigger += 1
        rows.append(_old_row(rng, trigger, width, height, offset))
        rasters.append(portrait.pixels.tobytes())
        offset += width * height
        tick()
    path.with_suffix(".adc").write_text("".join(rows), encoding="ascii", newline="")
    path.with_suffix(".roi").write_bytes(b"".join([*rasters, b"\0"]))
    path.with_suffix(".hdr").write_text(
        '"Imaging FlowCytobot Acquisition Software version 1.0; October 2005"\r\n'
        '"Synthetic: drawn by aqqua, no water was sampled"\r\n'
        '"SyringeStatus =  0"\r\n'
        '"Temp Humidity BinarizeThresh PMT1hv(ssc) PMT2hv(chl) BlobSizeThresh"\r\n'
        '" 11.47"," 32.16"," 30"," .675"," .6"," 10"\r\n',
        encoding="ascii",
        newline="",
    )


def _old_row(rng: np.random.Generator, trigger: int, width: int, height: int, offset: int) -> str:
    # The second body of a shared flash lies far from the first, so the pair is not to be stitched.
    x, y = (40 + 700 * int(rng.integers(2)), int(rng.integers(1, 900))) if width else (-11, -11)
    seconds = [f"{trigger * 0.19 + late:.7f}".lstrip("0") for late in (0.0, -0.11, -0.05)]
    signal = [f"{value:.14f}" for value in rng.normal(-0.5, 0.4, 5)]
    fields = [str(trigger), seconds[0], *signal, *seconds[1:], *map(str, (x, y, width, height, offset))]
    return ",".join([*fields, "-.27557373046875", ""]) + "\r\n"


def later_bins(count: int) -> list[str]:
    """Names of further bins of the same cruise, of which only labelled pictures are left."""
    return [bin_name(STARTS[-1] + timedelta(minutes=24 * (i + 2))) for i in range(count)]
