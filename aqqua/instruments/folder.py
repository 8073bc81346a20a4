"""A folder (or zip) of images, one folder per class if there are labels, with or without a table.

The workhorse for CPICS, ISIIS, SPC, PWSSC, Plankton Imager, DSPC, LOKI, VPR, Planktivore and
whatever else can be exported as images. Source of what folders look like: public sets of these
instruments (see docs/formats/folder.md). Every image file ends as one Record or one Rejected;
every table row that names no image, or an image another row has named, ends as one Rejected.
Tests: tests/instruments/test_folder.py.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from aqqua.instruments.footer import FOOTER_PX, FooterImage
from aqqua.instruments.image import SUFFIXES, EncodedImage
from aqqua.instruments.image_table import (
    BadValueError,
    Row,
    TableError,
    TableImages,
    read_rows,
    record_values,
)
from aqqua.instruments.name_patterns import NameFacts, name_facts
from aqqua.instruments.record import FileSource, Found, LabelStatus, ReadOptions, Record, Rejected
from aqqua.instruments.registry import UM_PER_PX_RANGE, facts, registry
from aqqua.instruments.tree import ARCHIVE_SUFFIXES, Tree

NAME = "folder"

# Pictures beside the organisms. Background.tif: PlanktonAnalytics/PlanktonClassification;
# mask_*: ecotaxa/ZooProcess-lib; scalebar_*: alan-turing-institute/plankton-dsg-challenge;
# cal_image_*: FlowCam VisualSpreadsheet; full_frames: eqmh/plankton_imaging (CPICS).
NOT_ORGANISMS = re.compile(r"(background|masks?|scale_?bar|cal_image|calibration)(?![a-z])", re.IGNORECASE)
FRAME_FOLDERS = frozenset({"full_frames"})
# Folders that hold classes or images but are no class themselves.
PLAIN_FOLDERS = frozenset(
    {"images", "image", "imgs", "img", "rois", "roi", "vignettes", "crops", "data", "raw"}
)


def claim(tree: Tree) -> frozenset[str]:
    """All image members."""
    return frozenset(tree.names(*SUFFIXES))


def read(tree: Tree, claimed: frozenset[str], options: ReadOptions) -> Iterator[Found]:
    """One Record or Rejected per image; with a table, an image it does not list is refused.

    Refused, because accepting it would lose its label and position in silence: read the folder
    without the table to have all images.

    Raises:
        ValueError: the options name a table, column, field or µm/px that cannot be: a mistake of
            the user, not of the data.
    """
    low, high = UM_PER_PX_RANGE
    if options.um_per_px is not None and not low <= options.um_per_px <= high:
        raise ValueError(
            f"um_per_px: must be {low:g} to {high:g}, got {options.um_per_px:g}; give µm per pixel"
        )
    if options.columns and options.table is None:
        raise ValueError("columns: a column map needs a table, got none; name the table too")
    if options.table is None:
        for member in sorted(claimed):
            yield _found(member, None, "", options)
    elif options.table not in tree.members:
        raise ValueError(f"table: must be a file of {tree.root}, got {options.table}; name it from there")
    else:
        yield from _read_with_table(tree, claimed, options.table, options)


def _read_with_table(
    tree: Tree, claimed: frozenset[str], table: str, options: ReadOptions
) -> Iterator[Found]:
    finder = TableImages(claimed, table)
    seen: set[str] = set()
    detail = f"not in {table}"
    try:
        for number, row in read_rows(tree, table, options.columns):
            source = f"{table}#{number}"
            image = finder.find(row["file"]) if row and row["file"] else None
            if row is None:
                yield Rejected(source=source, reason="bad_table", detail="not as many cells as the header")
            elif image is None:
                problem = f"{row['file']!r} names no image, or several" if row["file"] else "no file name"
                yield Rejected(source=source, reason="missing_image", detail=problem)
            elif image in seen:
                yield Rejected(source=source, reason="duplicate_id", detail=f"{image} is in an earlier row")
            else:
                seen.add(image)
                yield _found(image, row, source, options)
    except TableError as error:
        yield Rejected(source=table, reason="bad_table", detail=str(error))
        detail = f"{table} could not be read to its end"
    for member in sorted(claimed - seen):
        yield _not_an_organism(member) or Rejected(source=member, reason="unlisted_image", detail=detail)


def _found(member: str, row: Row | None, row_source: str, options: ReadOptions) -> Record | Rejected:
    refused = _not_an_organism(member)
    if refused:
        return refused
    try:
        told = record_values(row) if row is not None else {}
    except BadValueError as error:
        return Rejected(source=member, reason="bad_metadata", detail=f"{row_source}: {error}")
    return _record(member, told, name_facts(PurePosixPath(member).stem), options)


def _not_an_organism(member: str) -> Rejected | None:
    path = PurePosixPath(member)
    if not (NOT_ORGANISMS.match(path.name) or FRAME_FOLDERS.intersection(path.parts[:-1])):
        return None
    return Rejected(
        source=member, reason="not_an_organism", detail="a background, mask, scale bar or frame by name"
    )


def _record(member: str, told: dict[str, Any], named: NameFacts, options: ReadOptions) -> Record:
    """Options go before the table, the table before the file name, the name before the registry."""
    instrument = options.instrument or told.get("instrument") or named.instrument or "unknown"
    known = facts(instrument)
    label, status = _label(member, told, named, options)
    return Record(
        object_id=told.get("object_id") or member,
        pixels=_pixels(member, instrument),
        instrument=instrument,
        um_per_px=options.um_per_px or told.get("um_per_px") or known.um_per_px,
        sample=told.get("sample") or named.sample,
        group=told.get("group") or named.group or told.get("sample") or "",
        time=told.get("time") or named.time,
        lat=told.get("lat"),
        lon=told.get("lon"),
        depth_m=told.get("depth_m"),
        volume_l=told.get("volume_l"),
        label=label,
        label_status=status,
        aphia_id=told.get("aphia_id"),
        licence=options.licence or told.get("licence"),
        source=member,
    )


def _pixels(member: str, instrument: str) -> FileSource:
    """The whole picture of an instrument that burns no strip under it; else what is above the strip, if any.

    Of an unknown instrument nobody knows, and a scale bar would tell a model who made the picture.
    """
    footer_px = facts(instrument).footer_px if instrument in registry() else FOOTER_PX
    return FooterImage(member, footer_px) if footer_px else EncodedImage(member)


def _label(
    member: str, told: dict[str, Any], named: NameFacts, options: ReadOptions
) -> tuple[str | None, LabelStatus]:
    """A table with labels goes before folders; without a status column nobody says who validated."""
    if "label" in told:
        label = told["label"]
        return label, ((told.get("label_status") or "folder") if label else "unlabelled")
    folder = _class_folder(member) if options.label_from_folder else None
    if folder is None or (named.group and (folder in named.group or named.group in folder)):
        return None, "unlabelled"  # a bin's or frame's own folder is not a class
    return folder, "folder"


def _class_folder(member: str) -> str | None:
    """The folder an image is in, as written; of an archive per class, the archive's name."""
    folder = PurePosixPath(member).parent.name
    if folder.lower().endswith(ARCHIVE_SUFFIXES):
        folder = folder[:-4]
    return folder if folder and folder.lower() not in PLAIN_FOLDERS else None
