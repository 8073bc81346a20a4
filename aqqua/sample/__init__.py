"""Procedural plankton, written as real instrument files: an input for trying everything out.

Nothing here is data of nature. Twenty morphological classes are drawn by formulas with sizes in
µm, photographed by five simulated instruments, and stored byte by byte as those instruments and
their software store them, with a few defects that real files have. The same seed gives the same
bytes (with the same versions of numpy and Pillow).

Rooms: sketch (lines to density) -> cells, animals (what is drawn) -> community (who, how large)
-> optics (the camera) -> one writer per format. Test: tests/test_sample.py.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

LEAST_IMAGES = 50
# Part -> share of the images. Labelled are ifcb_labelled, isiis and the validated of ecotaxa_zooscan: 64 %.
SHARES = {
    "ifcb": 0.18,
    "ifcb_labelled": 0.18,
    "ecotaxa_zooscan": 0.30,
    "uvp6": 0.09,
    "isiis": 0.20,
    "flowcam": 0.05,
}
TRAPS_REFUSED = {  # part -> reason codes (aqqua.instruments.record) its ingest must report, one image each
    "ifcb_labelled": ["truncated_image"],
    "ecotaxa_zooscan": ["missing_image", "unlisted_image"],
    "isiis": ["empty_file"],
    "flowcam": ["not_an_organism"],
}


def write_sample(
    folder: Path, images: int = 2000, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> dict[str, Path]:
    """Write the sample: one input per instrument, ready for `aqqua ingest`.

    Args:
        folder: absent or empty; nothing is written outside it.
        images: good images in all parts together, at least 50. The defective files come on top.
        seed: another seed is another sea.
        progress: called with (images drawn, images) after each image.

    Returns:
        Part name -> the path to ingest: ifcb, ifcb_labelled, ecotaxa_zooscan, uvp6, isiis,
        flowcam.

    Raises:
        ValueError: the folder holds something, or images is under 50.
    """
    # Drawing needs Pillow: loaded here, so that `aqqua --help` stays quick.
    from aqqua.sample.class_folders import write_ifcb_labelled, write_isiis
    from aqqua.sample.flowcam_run import write_run
    from aqqua.sample.ifcb_bins import write_bins
    from aqqua.sample.uvp6_project import write_project
    from aqqua.sample.zooscan_export import write_export

    folder = _empty_folder(Path(folder), images)
    writers = {
        "ifcb": write_bins,
        "ifcb_labelled": write_ifcb_labelled,
        "ecotaxa_zooscan": write_export,
        "uvp6": write_project,
        "isiis": write_isiis,
        "flowcam": write_run,
    }
    paths = {part: folder / (f"{part}.zip" if part == "ecotaxa_zooscan" else part) for part in SHARES}
    tick = _counter(images, progress)
    generators = np.random.default_rng(seed).spawn(len(SHARES))
    for (part, count), rng in zip(part_counts(images).items(), generators, strict=True):
        writers[part](paths[part], count, rng, tick)
    readme = README.format(images=images, seed=seed)
    (folder / "README.txt").write_text(readme, encoding="utf-8", newline="\n")
    return paths


def _empty_folder(folder: Path, images: int) -> Path:
    if images < LEAST_IMAGES:
        raise ValueError(f"sample: images must be at least {LEAST_IMAGES}, got {images}; ask for more")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"sample: the folder must be absent or empty, got {folder}; name another one")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def part_counts(images: int) -> dict[str, int]:
    """Good images of each part; they sum to `images`."""
    bounds = np.cumsum([0, *SHARES.values()]) * images
    return dict(zip(SHARES, np.diff(bounds.round().astype(int)).tolist(), strict=True))


def _counter(images: int, progress: Callable[[int, int], None] | None) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, images)

    return tick


README = """\
Synthetic plankton, drawn by aqqua ({images} images, seed {seed}). No water was sampled; the
positions, dates and volumes are invented. Free to use for anything (CC0-1.0).

ifcb/                 Imaging FlowCytobot bins (.hdr .adc .roi), new style and one old style; no labels.
                      One bin is empty: legal, it saw no particle. 0.294 µm/px (not in the files).
ifcb_labelled/        <class>/<bin>_<target>.png: crops of four more bins, labelled by folder. 0.294 µm/px.
ecotaxa_zooscan.zip   EcoTaxa tables and ZooScan pictures of four net tows; most labels are validated,
                      some only predicted or dubious. 10.6 µm/px; 31 rows of footer with a scale bar.
uvp6/                 UVP6 project of two profiles: vignettes, particle counts, calibration. 73 µm/px.
isiis/                <class>/<number>.jpg: flattened shadowgraphs on white; µm/px not stated.
flowcam/              A VisualSpreadsheet run: .lst, .ctx and a collage in colour. 0.5544 µm/px.

Put in on purpose, so that an ingest has something to report:
  refused    ifcb_labelled: a PNG that ends early; isiis: a file of 0 bytes;
             ecotaxa_zooscan: a row whose picture is missing, a picture of which no row speaks;
             flowcam: the calibration picture of the run, which shows no organism.
  accepted   isiis: a name with '<', a comma and spaces; the same bytes once more under
             another label, which a duplicate check must find; ifcb: an empty bin.
"""
