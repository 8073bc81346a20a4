"""PlanktoScope: raw frames beside their metadata.json are recognised and kept out of the images.

An acquisition folder holds full camera frames (2028 × 1520 to 4056 × 3040 px) and one metadata.json.
A frame shows a field of view with many organisms or none: not_an_organism. The organisms are what
the segmenter cuts out and exports for EcoTaxa; the EcoTaxa reader reads that, with its pixel size.
A frame without metadata.json cannot be told from any other picture. See docs/formats/planktoscope.md.
"""

import json
from collections.abc import Iterator
from pathlib import PurePosixPath

from PIL import Image

from aqqua.instruments.image import FORMATS, SUFFIXES
from aqqua.instruments.record import Found, ReadOptions, Rejected
from aqqua.instruments.tree import Tree

NAME = "planktoscope"
METADATA_NAME = "metadata.json"
MAX_METADATA_BYTES = 4 << 20  # a few kB of settings; after segmentation also a list of objects
FRAME_MIN_PX = 1000  # on both sides; the smallest frame is 1520 px high


def claim(tree: Tree) -> frozenset[str]:
    """Every metadata.json of a PlanktoScope with the images beside it, unless a table lists them."""
    metadata = {name for name in tree.names(METADATA_NAME) if _is_metadata(tree, name)}
    folders = {_folder(name) for name in metadata} - {_folder(name) for name in tree.names(".tsv")}
    images = {name for name in tree.names(*SUFFIXES) if _folder(name) in folders} if folders else set()
    return frozenset(metadata | images)


def read(tree: Tree, claimed: frozenset[str], options: ReadOptions) -> Iterator[Found]:  # noqa: ARG001
    """Refusals only: frames, and smaller pictures that no table speaks of."""
    for name in sorted(claimed):
        if name.lower().endswith(SUFFIXES):
            yield _refusal(tree, name)


def _refusal(tree: Tree, name: str) -> Rejected:
    try:
        with tree.open(name) as file, Image.open(file, formats=FORMATS) as image:  # reads the header only
            width, height = image.size
    except Exception as error:  # Pillow and zipfile raise a dozen kinds on broken bytes
        return Rejected(source=name, reason="unreadable_image", detail=f"{type(error).__name__}: {error}")
    if min(width, height) >= FRAME_MIN_PX:
        return Rejected(source=name, reason="not_an_organism", detail=f"a full frame of {height}×{width} px")
    return Rejected(source=name, reason="unlisted_image", detail="not a frame, and no table beside it")


def _is_metadata(tree: Tree, name: str) -> bool:
    if PurePosixPath(name).name.lower() != METADATA_NAME or not 0 < tree.size(name) <= MAX_METADATA_BYTES:
        return False
    try:
        content = json.loads(tree.read(name))
    except Exception:  # not JSON, too deep, or a broken archive: not ours
        return False
    return isinstance(content, dict) and "planktoscope" in str(content.get("acq_instrument", "")).lower()


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
