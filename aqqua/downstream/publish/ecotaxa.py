"""Images with their predictions as zips that EcoTaxa imports, and that our own ingest reads back.

Each zip holds one table, ecotaxa_<number>.tsv in UTF-8 with BOM (EcoTaxa takes latin-1 otherwise), and its
pictures as PNG. Large datasets become several zips. Everything is streamed, a block at a time, into a folder
that gets its name when it is whole.
Test: tests/downstream/publish/test_publish_ecotaxa.py.
"""

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from aqqua.downstream.predictions import Predictions
from aqqua.downstream.publish.ecotaxa_columns import (
    CARBON,
    SIZES,
    Column,
    Shown,
    annotation,
    cell,
    columns,
    file_name,
    object_id,
)
from aqqua.downstream.publish.keyed_table import KeyedTable
from aqqua.store.new_folder import new_folder
from aqqua.store.read import Dataset

WHO = "ecotaxa"
IDS = "object_ids.csv"
MAX_ROWS = 50_000  # of a zip
MAX_BYTES = 450_000_000  # of a zip: EcoTaxa's web page takes 500 MB
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # the same images make the same zip
_IMAGE = (
    *("image_id", "key", "instrument", "sample", "group", "time", "lat", "lon", "depth_m", "volume_l"),
    *("um_per_px", "label", "label_status", "aphia_id", "licence"),
)


@dataclass(frozen=True)
class EcotaxaExport:
    """What was written."""

    path: Path
    zips: int
    images: int
    by_status: dict[str, int]  # images by annotation status; '' is without
    shortened_ids: int  # ids too long for EcoTaxa, told in object_ids.csv


@dataclass(frozen=True)
class Bounds:
    """How large one zip may be."""

    rows: int = MAX_ROWS
    bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        if self.rows < 1 or self.bytes < 1:
            raise ValueError(f"{WHO}: a zip must hold something, got {self}; give bounds of at least 1")


def export_ecotaxa(
    dataset: Dataset,
    out: Path,
    *,
    predictions: Path | None = None,
    sizes: Path | None = None,
    carbon: Path | None = None,
    ids: Mapping[str, int] | None = None,
    trust_folders: bool = False,
    bounds: Bounds | None = None,
    progress: Callable[[int], None] | None = None,
) -> EcotaxaExport:
    """Write a dataset with what is known of its images as zips to import.

    Args:
        dataset: the images.
        out: new folder; gets ecotaxa_0001.zip and so on.
        predictions: table of aqqua predict; images that people validated keep what people said.
        sizes: table of aqqua sizes.
        carbon: table of aqqua carbon.
        ids: class name -> category id of EcoTaxa; without, EcoTaxa asks for the names it does not know.
        trust_folders: labels that came from the names of folders leave as validated.
        bounds: of a zip.
        progress: called with the images done.

    Raises:
        ValueError: a table is of another dataset, or an image cannot be expressed; the message names it.
        RuntimeError: the disk is full or failed.
    """
    if predictions is not None:
        _require_same(Predictions.open(predictions), dataset, predictions)
    tables = {
        "prediction": _table(predictions, ("class", "score", "aphia_id")),
        "size": _table(sizes, (*SIZES, "flag")),
        "carbon": _table(carbon, (*CARBON, "relation")),
    }
    wanted = columns(
        predicted=predictions is not None, sized=sizes is not None, weighed=carbon is not None,
        ids=ids or {}, trust_folders=trust_folders,
    )  # fmt: skip
    with new_folder(out, WHO) as folder:
        zips = _Zips(folder, wanted, bounds or Bounds())
        by_status: Counter[str] = Counter()
        shortened: list[tuple[str, str]] = []
        for number in range(dataset.blocks):
            for show, pixels in _block(dataset, number, tables):
                zips.add(show, pixels)
                by_status[annotation(show, trust_folders)[1] or ""] += 1
                if object_id(show.image).startswith("aqqua:"):
                    shortened.append((object_id(show.image), show.image["image_id"]))
            if progress is not None:
                progress(zips.images)
        zips.close()
        _write_ids(folder, shortened)
    return EcotaxaExport(out, zips.number, zips.images, dict(by_status), len(shortened))


def _require_same(opened: Predictions, dataset: Dataset, path: Path) -> None:
    told = opened.facts.get("dataset_sha256")
    if told and told != dataset.manifest_sha256:
        raise ValueError(
            f"{WHO}: {path} must be predictions of {dataset.path}, got those of another dataset; predict "
            f"again"
        )


def _table(path: Path | None, wanted: tuple[str, ...]) -> KeyedTable | None:
    return None if path is None else KeyedTable(path, wanted, WHO)


def _block(
    dataset: Dataset, number: int, tables: Mapping[str, KeyedTable | None]
) -> Iterator[tuple[Shown, np.ndarray]]:
    """Each image of a block with its rows of the tables."""
    block, images = dataset.block_with(number, _IMAGE)
    keys, names = images["key"].to_numpy(), images["image_id"].to_pylist()
    joined = {
        name: _rows(table.take(keys, names)) if table is not None else [None] * len(block)
        for name, table in tables.items()
    }
    for i, image in enumerate(_exact(images)):
        yield Shown(image, **{name: rows[i] for name, rows in joined.items()}), block.pixels(i)


def _rows(taken: pa.Table) -> list[dict[str, Any] | None]:
    return [row if row["image_id"] is not None else None for row in _exact(taken)]


def _exact(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as dictionaries; float32 stays float32, so that it is written with its own digits."""
    rows: list[dict[str, Any]] = table.to_pylist()
    for single in [f.name for f in table.schema if f.type == pa.float32()]:
        for row in rows:
            row[single] = None if row[single] is None else np.float32(row[single])
    return rows


def _write_ids(folder: Path, shortened: list[tuple[str, str]]) -> None:
    if not shortened:
        return
    with (folder / IDS).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("object_id", "image_id"), *shortened])


@dataclass
class _Zips:
    """The zips of an export, one open at a time."""

    folder: Path
    columns: list[Column]
    bounds: Bounds
    number: int = 0
    images: int = 0
    _zip: zipfile.ZipFile | None = None
    _rows: int = 0
    _bytes: int = 0
    _text: io.TextIOWrapper | None = field(default=None, repr=False)

    def add(self, show: Shown, pixels: np.ndarray) -> None:
        """One image with its row."""
        cells = [cell(column, show) for column in self.columns]
        picture = _png(pixels, show)
        if self._rows >= self.bounds.rows or (self._rows and self._bytes + len(picture) > self.bounds.bytes):
            self.close()
        if self._zip is None:
            self._open()
        assert self._zip is not None
        assert self._text is not None
        self._zip.writestr(zipfile.ZipInfo(file_name(show.image), _FIXED_DATE), picture)
        self._write_row(cells)
        self._bytes += len(picture) + sum(len(text.encode()) + 1 for text in cells)
        self._rows += 1
        self.images += 1

    def close(self) -> None:
        """Put the table into the open zip and finish it."""
        if self._zip is None or self._text is None:
            return
        self._text.close()
        name = f"ecotaxa_{self.number:04d}.tsv"
        info = zipfile.ZipInfo(name, _FIXED_DATE)
        info.compress_type = zipfile.ZIP_DEFLATED
        with self._table.open("rb") as source, self._zip.open(info, "w", force_zip64=True) as member:
            while chunk := source.read(1 << 20):
                member.write(chunk)
        self._zip.close()
        self._table.unlink()
        self._zip = self._text = None

    @property
    def _table(self) -> Path:
        return self.folder / "rows.tmp"

    def _open(self) -> None:
        self.number += 1
        self._rows = self._bytes = 0
        self._zip = zipfile.ZipFile(self.folder / f"ecotaxa_{self.number:04d}.zip", "w")
        self._text = self._table.open("w", encoding="utf-8-sig", newline="")
        self._write_row([column.name for column in self.columns])
        self._write_row([f"[{column.kind}]" for column in self.columns])

    def _write_row(self, cells: list[str]) -> None:
        assert self._text is not None
        csv.writer(self._text, delimiter="\t", lineterminator="\n").writerow(cells)


def _png(pixels: np.ndarray, show: Shown) -> bytes:
    """The picture without loss, 8 or 16 bit."""
    if pixels.ndim == 3 and pixels.dtype == np.uint16:
        raise ValueError(
            f"{WHO}: a picture must be grey or of 8 bits, got 16-bit colour for image "
            f"{show.image['image_id'][:80]!r}; leave such images out"
        )
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
