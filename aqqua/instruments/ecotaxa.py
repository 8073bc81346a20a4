"""EcoTaxa exports and import folders: tab-separated tables beside the images they name.

Also what ZooProcess, UVPapp and the PlanktoScope segmenter write, which is made for EcoTaxa. A
table is known by its columns object_id and img_file_name, whatever its name: EcoTaxa itself asks
for `ecotaxa*` in lower case, recent PlanktoScopes write `Ecotaxa_*`. Personal columns (annotator,
e-mail, operator) are never read. docs/formats/ecotaxa.md lists every rule with its source.

Accounting: candidates are the rows that hold anything, the images in a table's folder that no row
names, and, once each, tables that cannot be read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath

from aqqua.instruments import ecotaxa_cells as cells
from aqqua.instruments.ecotaxa_names import ImageFinder, ObjectIds
from aqqua.instruments.ecotaxa_table import Row, header, names_images, read_rows
from aqqua.instruments.footer import FOOTER_PX, FooterImage
from aqqua.instruments.image import SUFFIXES, EncodedImage
from aqqua.instruments.record import (
    Found,
    PixelSource,
    ReadOptions,
    Record,
    Rejected,
    RejectedInputError,
    Sample,
)
from aqqua.instruments.registry import facts
from aqqua.instruments.tree import Tree

NAME = "ecotaxa"
TABLE_SUFFIXES = (".tsv", ".txt")
PACKED_SUFFIXES = (".tsv.gz", ".txt.gz")


def claim(tree: Tree) -> frozenset[str]:
    """Tables of objects, files named as such, and all images in and below the tables' folders."""
    with_images = {name for name in tree.names(*TABLE_SUFFIXES) if names_images(header(tree, name))}
    named = {name for name in tree.names(*TABLE_SUFFIXES, *PACKED_SUFFIXES) if _is_named_table(name)}
    folders = {_folder(name) for name in with_images}
    images = {
        name for name in tree.names(*SUFFIXES) if any(above in folders for above in _folders_above(name))
    }
    return frozenset(with_images | named | images)


def read(tree: Tree, claimed: frozenset[str], options: ReadOptions) -> Iterator[Found]:
    """All rows of all tables in order of name, then the images nobody names, then the samples."""
    finder = ImageFinder.over(tree, (name for name in claimed if name.lower().endswith(SUFFIXES)))
    ids = ObjectIds()
    samples: dict[str, _SampleSum] = {}
    for name in sorted(claimed):
        if name.lower().endswith(PACKED_SUFFIXES):
            yield Rejected(source=name, reason="unsupported_format", detail="gunzip it beside its images")
        elif name.lower().endswith(TABLE_SUFFIXES):
            yield from _read_table(_Reading(tree, name, options, finder, ids, samples))
    for name in sorted(finder.images - finder.named):
        yield Rejected(source=name, reason="unlisted_image", detail="no row of an EcoTaxa table names it")
    for sample, total in samples.items():
        yield total.sample(sample)


@dataclass
class _SampleSum:
    """What the rows of one sample add up to."""

    instrument: str
    source: str
    images: int = 0
    time: datetime | None = None
    lat: float | None = None
    lon: float | None = None
    volumes: dict[str, float | None] = field(default_factory=dict)  # by acquisition

    def add(self, record: Record, acquisition: str) -> None:
        self.images += 1
        if record.time is not None and (self.time is None or record.time < self.time):
            self.time = record.time
        if self.lat is None and self.lon is None:
            self.lat, self.lon = record.lat, record.lon
        self.volumes.setdefault(acquisition, record.volume_l)

    def sample(self, name: str) -> Sample:
        """A sample scanned in parts with different splits has no one volume; the parts stand in facts."""
        known = set(self.volumes.values())
        parts = {
            f"volume_l {acq}": f"{v:g}" for acq, v in self.volumes.items() if v is not None and len(known) > 1
        }
        return Sample(
            sample=name,
            instrument=self.instrument,
            images=self.images,
            volume_l=known.pop() if len(known) == 1 else None,
            time=self.time,
            lat=self.lat,
            lon=self.lon,
            source=self.source,
            facts=parts,
        )


@dataclass(frozen=True)
class _Reading:
    """One table being read, with what all tables of the input share."""

    tree: Tree
    table: str
    options: ReadOptions
    finder: ImageFinder
    ids: ObjectIds
    samples: dict[str, _SampleSum]


def _read_table(reading: _Reading) -> Iterator[Found]:
    reading.ids.start_table(_folder(reading.table), reading.table)
    rows = 0
    try:
        for row in read_rows(reading.tree, reading.table, cells.COLUMNS, cells.OPTIONAL):
            rows += 1
            yield _read_row(reading, row)
        if not rows:
            yield Rejected(source=reading.table, reason="bad_table", detail="a header without a row")
    except RejectedInputError as error:
        yield Rejected(source=reading.table, reason=error.reason, detail=error.detail)


def _read_row(reading: _Reading, row: Row) -> Record | Rejected:
    try:
        member = reading.finder.find(_folder(reading.table), row)
        record = _record(reading, row, member)
    except RejectedInputError as error:
        return Rejected(source=f"{reading.table}#{row.line}", reason=error.reason, detail=error.detail)
    if record.sample:
        total = reading.samples.setdefault(record.sample, _SampleSum(record.instrument, reading.table))
        total.add(record, row.get("acq_id"))
    return record


def _record(reading: _Reading, row: Row, member: str) -> Record:
    """The row as a record."""
    name = reading.options.instrument or cells.instrument(row)
    label, status = cells.label(row)
    folder = _folder(reading.table)
    return Record(
        pixels=_pixels(row, member, name),
        instrument=name,
        um_per_px=cells.um_per_px(row, name, reading.options),
        sample=row.get("sample_id"),
        group=row.get(cells.OWN.group)
        or row.get("sample_id")
        or row.get("acq_id")
        or folder
        or PurePosixPath(reading.table).stem,
        time=cells.when(row),
        lat=cells.coordinate(row, "object_lat"),
        lon=cells.coordinate(row, "object_lon"),
        depth_m=cells.depth_m(row),
        volume_l=cells.volume_l(row, name),
        label=label,
        label_status=status,
        aphia_id=cells.aphia_id(row),
        licence=reading.options.licence or row.get(cells.OWN.licence) or None,
        source=member,
        # Last, so that a row refused for a bad value does not take the id from a good one.
        object_id=reading.ids.take(row, member),
    )


def _pixels(row: Row, member: str, instrument: str) -> PixelSource:
    """Without a footer where the picture has one; pictures of an unknown instrument are looked at too."""
    usual = FOOTER_PX if instrument == "unknown" else facts(instrument).footer_px
    rows = cells.number(row, "process_footerheight_px") or usual
    if rows:
        return FooterImage(member, int(rows) if 1 <= rows <= 200 else FOOTER_PX)
    return EncodedImage(member)


def _is_named_table(name: str) -> bool:
    return PurePosixPath(name).name.lower().startswith("ecotaxa")


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _folders_above(name: str) -> Iterator[str]:
    while name:
        name = _folder(name)
        yield name
