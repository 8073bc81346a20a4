"""ZooProcess (.pid) and ZooImage (.zid) scans: one table of objects and one JPG for each object.

A .pid may come without its vignettes: it is then one Sample with counts and facts. Vignettes are
`<Label>_<Item>.jpg` beside or below the .pid. A .zid is a zip of vignettes, a `_dat1.zim` table and
an .RData, which is never opened. Full scans, masks and drawings of a scan are no organisms.

ZooProcess coordinates are kept as written, in the facts: its own convention is degrees.minutes with
west positive (47.5076, 15.2622 is 47.846 N, 15.437 W in its EcoTaxa table), users also enter
decimal degrees with west negative, and one file does not tell which.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from aqqua.instruments.companion import read_companion
from aqqua.instruments.footer import FooterImage
from aqqua.instruments.image import SUFFIXES, EncodedImage
from aqqua.instruments.record import FileSource, Found, ReadOptions, Record, Rejected, Sample
from aqqua.instruments.registry import Instrument, facts
from aqqua.instruments.scale_bar import BarImage
from aqqua.instruments.tree import Tree
from aqqua.instruments.zooscan_table import ObjectTable, parse_table

NAME = "ZooScan"
ZOOIMAGE = "ZooImage"  # any scanner or camera, through the ZooImage software

_TABLE = re.compile(r"(?P<label>.+?)(?:_dat\d+)?(?: \(\d+\))?\.(?P<kind>pid|zim)$", re.IGNORECASE)
_ECOTAXA = re.compile(r"ecotaxa.*\.(tsv|txt)$")
# ZooProcess: <scan>_sep.gif separation lines, _msk1.gif masks, _out1.gif outlines, _vis1.tif whole scans
_WHOLE_SCAN = re.compile(r"(_(?:sep|msk\d*|out\d*|vis\d*|seg\d*)|_raw_\d+)$", re.IGNORECASE)


@dataclass(slots=True)
class _Scan:
    """One table and the pictures that may belong to it."""

    table: str  # member
    label: str  # from the file name; object names come from the table
    zooimage: bool
    pictures: dict[str, str] = field(default_factory=dict)  # stem -> member

    @property
    def folder(self) -> str:
        parent = str(PurePosixPath(self.table).parent)
        return "" if parent == "." else f"{parent}/"


def claim(tree: Tree) -> frozenset[str]:
    """Every .pid and .zim, the pictures of their scans, and all that lies in a .zid."""
    scans = _scans(tree.names())
    tables = {scan.table for scan in scans}
    pictures = {member for scan in scans for member in scan.pictures.values()}
    archives = {scan.folder for scan in scans if scan.zooimage}
    companions = {name for name in tree.names(".rdata", ".zis") if name.startswith(tuple(archives))}
    whole = {name for name in tree.names(".gif", ".tif") if _WHOLE_SCAN.search(PurePosixPath(name).stem)}
    in_projects = {name for name in whole if any(not scan.zooimage for scan in scans)}
    return frozenset(tables | pictures | companions | in_projects)


def read(tree: Tree, claimed: frozenset[str], options: ReadOptions) -> Iterator[Found]:
    """Scans in order: a Record for each object with a picture, one Sample; then what is left over."""
    used: set[str] = set()
    labels: set[str] = set()
    for scan in _scans(sorted(claimed)):
        data = read_companion(tree, scan.table)
        if isinstance(data, Rejected):
            yield data
        elif scan.label in labels:
            yield Rejected(
                source=scan.table, reason="duplicate_id", detail=f"{scan.label} has a table already"
            )
        else:
            labels.add(scan.label)
            yield from _read_scan(scan, parse_table(data), used, options)
    for name in sorted(claimed - used):
        yield from _left_over(name)


def _scans(names: Iterator[str] | list[str]) -> list[_Scan]:
    """The tables, each with the pictures named '<label>_<number>' in its folder or below."""
    names = list(names)
    scans = []
    for name in names:
        match = _TABLE.match(PurePosixPath(name).name)
        if match:
            scans.append(_Scan(name, match["label"], match["kind"].lower() == "zim"))
    by_label: dict[str, list[_Scan]] = {}
    for scan in scans:
        by_label.setdefault(scan.label, []).append(scan)
    # An EcoTaxa table in the same folder says more of its vignettes (labels): they are not taken.
    told = {str(PurePosixPath(n).parent) for n in names if _ECOTAXA.match(PurePosixPath(n).name)}
    archives = {scan.folder: scan for scan in scans if scan.zooimage}
    for name in names:
        path = PurePosixPath(name)
        label, _, item = path.stem.rpartition("_")
        if not name.lower().endswith(SUFFIXES) or str(path.parent) in told:
            continue
        archive = archives.get(f"{path.parent}/")
        owners = [s for s in by_label.get(label, []) if name.startswith(s.folder)] if item.isdigit() else []
        for scan in owners or ([archive] if archive else []):
            scan.pictures.setdefault(path.stem, name)
    return scans


def _read_scan(scan: _Scan, table: ObjectTable, used: set[str], options: ReadOptions) -> Iterator[Found]:
    used.add(scan.table)
    yield from _problems(scan, table)
    images = 0
    ids: set[str] = set()
    for at, item, label in table.objects:
        picture = scan.pictures.get(f"{label}_{item}")
        source = f"{scan.table}#{at}"
        object_id = f"{label}_{item}"
        if object_id in ids:
            yield Rejected(source=source, reason="duplicate_id", detail=f"{object_id} twice")
            continue
        ids.add(object_id)
        if picture is not None:
            images += 1
            used.add(picture)
            yield _record(scan, table, object_id, label, picture, options)
        elif scan.pictures:  # a table alone is a count; a table with some of its pictures lacks the rest
            yield Rejected(
                source=source, reason="missing_image", detail=f"no {object_id}.jpg beside the table"
            )
    yield _sample(scan, table, images, options)


def _problems(scan: _Scan, table: ObjectTable) -> Iterator[Rejected]:
    if not table.has_table:
        yield Rejected(source=scan.table, reason="bad_table", detail="no [Data] section with a line '!Item…'")
    for at, why in table.bad_rows:
        yield Rejected(source=f"{scan.table}#{at}", reason="bad_table", detail=why)
    rows = len(table.objects) + len(table.bad_rows)
    if table.has_table and table.analysed is not None and rows < table.analysed:
        detail = f"{table.analysed} objects were analysed, the table has {rows} rows"
        yield Rejected(source=scan.table, reason="bad_table", detail=detail)
    if table.pixel_text and table.um_per_px is None:
        detail = f"PixSize {table.pixel_text[:40]} is no pixel of a scanner in mm nor in µm"
        yield Rejected(source=scan.table, reason="ambiguous_scale", detail=detail)


def _group(scan: _Scan, table: ObjectTable) -> str:
    """What was sampled: fractions and replicates of one net tow stay together."""
    return table.facts.get("sample_id") or (scan.label.partition("+")[0] if scan.zooimage else scan.label)


def _record(
    scan: _Scan, table: ObjectTable, object_id: str, label: str, picture: str, options: ReadOptions
) -> Record:
    name = options.instrument or (ZOOIMAGE if scan.zooimage else NAME)
    known = facts(name)
    return Record(
        object_id=object_id,
        pixels=_pixels(picture, scan, known),
        instrument=name,
        um_per_px=options.um_per_px or table.um_per_px or (None if table.pixel_text else known.um_per_px),
        sample=label,
        group=_group(scan, table),
        time=table.time,
        depth_m=table.depth_m,
        volume_l=table.volume_l,
        licence=options.licence,
        source=picture,
    )


def _pixels(picture: str, scan: _Scan, known: Instrument) -> FileSource:
    """ZooProcess burns a strip under a picture, ZooImage a scale bar into it."""
    if scan.zooimage:
        return BarImage(picture)
    return FooterImage(picture, known.footer_px) if known.footer_px else EncodedImage(picture)


def _sample(scan: _Scan, table: ObjectTable, images: int, options: ReadOptions) -> Sample:
    scale = {} if table.um_per_px is None else {"um_per_px": f"{table.um_per_px:.10g}"}
    return Sample(
        sample=table.objects[0][2] if table.objects else scan.label,
        instrument=options.instrument or (ZOOIMAGE if scan.zooimage else NAME),
        images=images,
        triggers=len(table.objects),
        volume_l=table.volume_l,
        time=table.time,
        source=scan.table,
        facts=table.facts | scale,
    )


def _left_over(name: str) -> Iterator[Rejected]:
    """A claimed file that is no object of a table; text files need no word."""
    if name.lower().endswith(".rdata"):
        yield Rejected(source=name, reason="unsupported_format", detail="R objects are never loaded")
    elif name.lower().endswith(SUFFIXES) and _WHOLE_SCAN.search(PurePosixPath(name).stem):
        yield Rejected(source=name, reason="not_an_organism", detail="a whole scan, a mask or its outlines")
    elif name.lower().endswith(SUFFIXES):
        yield Rejected(source=name, reason="unlisted_image", detail="no row of the table names this picture")
