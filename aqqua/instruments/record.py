"""What a reader tells the store: images found, samples seen, inputs refused.

A reader lists cheaply and serially; pixels are loaded later, in parallel, through
`Record.pixels.load(tree)`. Every image candidate ends as exactly one accepted row or one
`Rejected`: read = accepted + quarantined.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from aqqua.instruments.tree import Tree

Reason = Literal[
    "empty_file",  # 0 bytes where data must be
    "unreadable_image",  # the decoder refuses the bytes
    "truncated_image",  # the header is good, the pixels end early
    "image_too_large",  # declared size over the cap; refused before decoding
    "unsupported_image",  # a mode, depth or layout that is not grey/RGB 8/16 bit
    "missing_image",  # a table names an image that is not there
    "missing_file",  # a companion file (.roi, .hdr, ...) is not there
    "out_of_bounds",  # a byte range or box leaves its file or collage
    "duplicate_id",  # the same object id twice in one input
    "bad_table",  # a table that cannot be parsed, or a row of the wrong shape
    "bad_metadata",  # a value that cannot be true (latitude 95, µm/px -1, ...)
    "ambiguous_scale",  # µm/px whose unit cannot be told
    "unlisted_image",  # an image no table speaks of and no reader claims
    "not_an_organism",  # mask, full frame, calibration or background picture
    "unsafe_path",  # absolute, '..', NUL, over-long: a name that leaves its folder
    "link",  # symbolic link or device
    "archive_bomb",  # ratio, size, count or overlap over the caps
    "bad_archive",  # not a readable archive
    "unsupported_format",  # an unknown layout or a file type never loaded (pickle, RData)
    "io_error",  # the disk or the network failed
]

LabelStatus = Literal["validated", "predicted", "dubious", "discarded", "folder", "unlabelled"]


class RejectedInputError(Exception):
    """Raised while loading pixels: this image goes to quarantine with a reason code."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # crosses process borders whole
        return type(self), (self.reason, self.detail)


@runtime_checkable  # for the check of shapes and types in tests (make shapes)
class PixelSource(Protocol):
    """Where the pixels of one image are; small and picklable (aqqua.instruments.image)."""

    def load(self, tree: Tree) -> np.ndarray:
        """Pixels as acquired: (H, W) or (H, W, 3), uint8 or uint16.

        Raises:
            RejectedInputError: with the reason code for quarantine.
        """
        ...


@runtime_checkable
class FileSource(PixelSource, Protocol):
    """Pixels that may be all that an image file holds."""

    def load_with_file(self, tree: Tree) -> tuple[np.ndarray, bytes | None]:
        """What `load` gives, and the bytes of the file if it holds just that image; else None.

        Raises:
            RejectedInputError: as `load`.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One image with all that its source says of it. Unknown is None, never 0 or a guess."""

    object_id: str  # as the instrument or table names it; the store keeps one of an input
    pixels: PixelSource
    instrument: str  # a name of registry.yaml, or "unknown"
    um_per_px: float | None  # 0.01 to 1000
    sample: str  # what was sampled: net tow, bin, profile; "" if unknown
    group: str  # what must not be split between train and test: bin, frame, cast, sample; "" if unknown
    time: datetime | None = None  # UTC, timezone-aware
    lat: float | None = None  # degrees north, -90 to 90
    lon: float | None = None  # degrees east, -180 to 180
    depth_m: float | None = None  # below the surface, positive down
    volume_l: float | None = None  # sampled water volume of the whole sample, litres
    label: str | None = None  # as written
    label_status: LabelStatus = "unlabelled"
    aphia_id: int | None = None  # WoRMS
    licence: str | None = None
    source: str = ""  # member of the tree, with '#row' where one member holds many images


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Counts and volume of one sample, so that abundance needs no raw file again."""

    sample: str
    instrument: str
    images: int  # images listed
    triggers: int | None = None  # all triggers, images or not (IFCB)
    volume_l: float | None = None
    time: datetime | None = None
    lat: float | None = None
    lon: float | None = None
    source: str = ""
    facts: dict[str, str] = field(default_factory=dict)  # other calibrations, e.g. UVP6 Aa, Exp


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """One input that did not become an image, and why."""

    source: str
    reason: Reason
    detail: str


Found = Record | Sample | Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What the user says on the command line; it overrides what files and registry say."""

    instrument: str | None = None
    um_per_px: float | None = None
    licence: str | None = None
    table: str | None = None  # folder reader: the member with one row per image
    columns: dict[str, str] = field(default_factory=dict)  # folder reader: Record field -> column name
    label_from_folder: bool = True  # folder reader: class = name of the folder the image is in
