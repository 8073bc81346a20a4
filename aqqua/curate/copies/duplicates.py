"""Duplicates: which images show a picture that another one already shows, and which of them stays.

Exact ones have equal `content`, wherever in the dataset, whatever their labels. Near ones are the same
picture in another pose, cut, brightness or compression (looks.py, verify.py), and are looked for within a
group: the cast, frame or bin that instruments repeat themselves in; where it is unknown, within the sample,
and else among all images of the instrument that have neither. Frames that follow each other need no case of
their own where the group is a bin or a cast; where it is a single frame, `within: sample` looks through the
whole sample. Embeddings, if given, join images of a group whose cosine is large: the same animal in the
next frame.

Out of core: one pass over the columns spills a record of 306 bytes an image to buckets on disk (cells.py);
what is held in memory is a bucket's index, 20 bytes a candidate pair, 25 an image in one, and some 60 an
image that has a duplicate. A group is searched completely: what it costs where it is large says leaves.py.
The hash is for look-ups by others: nothing is decided by it here.

Test: tests/curate/copies/test_duplicates.py. Figures: bench/data/duplicates.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from aqqua.curate.copies.cells import CellSpill
from aqqua.curate.copies.keep import EMBEDDING, EXACT, KINDS, NEAR, RANK, Kept, keep_one
from aqqua.curate.copies.leaves import cell_candidates
from aqqua.curate.copies.looks import (
    LOOK,
    PAIR,
    SIGNATURE_NAMES,
    can_be_near,
    contents_of,
    first_rows,
    looks_of,
    spill_pixels,
    verified,
)
from aqqua.curate.copies.vectors import close_vectors, vector_records, vector_type
from aqqua.curate.copies.verify import SamePicture
from aqqua.store.columns import Columns, write_columns
from aqqua.store.read import Dataset

KIND = "duplicates"
FIELDS = [
    pa.field(
        "duplicate_of", pa.string(), True, {"description": "image_id of the one kept; null: it is itself"}
    ),
    pa.field("duplicate_kind", pa.string(), True, {"description": "exact, near or embedding"}),
]
_COLUMNS = ["content", "instrument", "group", "sample"]
_CONTENT = np.dtype([("cell", "u8"), ("order", "f4"), ("row", "i8"), ("content", "u8", 2)])

Tell = Callable[[str, int, int], None]


class DuplicateConfig(BaseModel):
    """What counts as a duplicate, and where it is looked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    near: bool = Field(True, description="look for near duplicates, not only for equal pixels")
    within: Literal["group", "sample"] = Field(
        "group", description="near ones are looked for within a group (else sample), or a sample (else group)"
    )
    same: SamePicture = Field(
        SamePicture.model_validate({}), description="when two images are the same picture"
    )
    cosine: float | None = Field(
        None,
        gt=0,
        le=1,
        description="least cosine of embeddings of duplicates; null: they are not used",
    )


@dataclass
class _Links:
    """Pairs of rows found, by kind."""

    a: list[np.ndarray] = field(default_factory=list)
    b: list[np.ndarray] = field(default_factory=list)
    kind: list[np.ndarray] = field(default_factory=list)

    def add(self, kind: int, a: np.ndarray, b: np.ndarray) -> None:
        self.a.append(np.asarray(a, np.int64))
        self.b.append(np.asarray(b, np.int64))
        self.kind.append(np.full(len(a), kind, np.int8))

    def joined(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        none = np.zeros(0, np.int64)
        return (
            np.concatenate([none, *self.a]),
            np.concatenate([none, *self.b]),
            np.concatenate([none.astype(np.int8), *self.kind]),
        )


def write_duplicates(
    dataset: Dataset,
    signatures: Columns,
    out: Path,
    config: DuplicateConfig,
    embeddings: Columns | None = None,
    tell: Tell = lambda *_: None,
    threads: int = 1,
) -> Columns:
    """Find the duplicates of a dataset.

    Args:
        signatures: of aqqua.curate.images.signatures.
        out: new folder, of Columns `duplicates`; scratch files lie beside it meanwhile.
        embeddings: Columns `embeddings`; used if `config.cosine` is set.
        tell: called with a stage, blocks or pairs done, and all of them.
        threads: that compare pixels; the result does not depend on them.

    Raises:
        ValueError: a cosine is asked for without embeddings, or files are damaged.
        RuntimeError: the disk is full or failed.
    """
    if config.cosine is not None and embeddings is None:
        raise ValueError(
            f"duplicates: embeddings must be given for cosine, got none with cosine {config.cosine}; give "
            "Columns made by aqqua embed, or leave cosine out"
        )
    made_from = {"signatures": signatures.sha256}
    if embeddings is not None and config.cosine is not None:
        made_from["embeddings"] = embeddings.sha256
    facts: dict[str, object] = {"config": config.model_dump(mode="json"), "made_from": made_from}
    with write_columns(out, dataset, KIND, FIELDS, facts, "duplicates") as writer:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="duplicates.partial-", dir=out.parent) as scratch:
            links = _find(dataset, signatures, config, embeddings, Path(scratch), tell, threads)
        kept = keep_one(*links.joined(), lambda rows: _ranks(dataset, rows))
        named = _image_ids(dataset, np.unique(kept.kept))
        facts["images"] = {name: int((kept.kind == k).sum()) for k, name in enumerate(KINDS)}
        first = first_rows(dataset)
        for part in range(dataset.parts):
            writer.write_part(part, lambda b: _table(kept, named, int(first[b]), dataset.rows_of(b)))
    return Columns.open(out, dataset, KIND)


def _find(
    dataset: Dataset,
    signatures: Columns,
    config: DuplicateConfig,
    embeddings: Columns | None,
    scratch: Path,
    tell: Tell,
    threads: int,
) -> _Links:
    contents = CellSpill(scratch, "content", _CONTENT, dataset.rows)
    looks = CellSpill(scratch, "look", LOOK, dataset.rows if config.near else 0)
    vectors = None
    if config.cosine is not None and embeddings is not None:
        width = embeddings.schema.field("embedding").type.list_size
        vectors = CellSpill(scratch, "vector", vector_type(width), dataset.rows)
    first = first_rows(dataset)
    for block in range(dataset.blocks):
        table, sizes = dataset.table(_COLUMNS, [block]), dataset.sizes(block)
        rows = first[block] + np.arange(len(sizes))
        content, cell = contents_of(table), _cells(table, config.within)
        contents.add(_content_records(content, rows))
        if config.near:
            signed = signatures.block(block, SIGNATURE_NAMES)
            records = looks_of(signed, sizes, content, rows)
            records["cell"] = cell
            looks.add(records[can_be_near(signed, sizes, config.same)])
        if vectors is not None and embeddings is not None:
            vectors.add(vector_records(embeddings, block, vectors.dtype, cell, rows))
        tell("spill", block + 1, dataset.blocks)
    links = _Links()
    _add_exact(links, contents)
    if config.near:
        _add_near(links, dataset, looks, config.same, scratch, tell, threads)
    if vectors is not None and config.cosine is not None:
        for a, b in close_vectors(vectors, config.cosine):
            links.add(KINDS.index(EMBEDDING), a, b)
    return links


def _add_exact(links: _Links, spill: CellSpill) -> None:
    for records, places in spill.sorted_buckets():
        content = records["content"][places]
        order = np.lexsort((records["row"][places], content[:, 1], content[:, 0]))
        content, row = content[order], records["row"][places][order]
        equal = (content[1:] == content[:-1]).all(axis=1)
        links.add(KINDS.index(EXACT), row[:-1][equal], row[1:][equal])


def _add_near(
    links: _Links,
    dataset: Dataset,
    looks: CellSpill,
    rule: SamePicture,
    scratch: Path,
    tell: Tell,
    threads: int,
) -> None:
    found = [np.zeros(0, PAIR)]
    for records, places in looks.cells():
        found += cell_candidates(records, places, rule, threads)
    pairs = np.concatenate(found)
    pairs = pairs[np.lexsort((pairs["b"], pairs["a"]))]
    tell("compare", 0, len(pairs))
    rows = np.unique(np.concatenate([pairs["a"], pairs["b"]]))
    pixels = spill_pixels(dataset, rows, scratch / "pixels.bin")
    same = pairs[verified(pairs, pixels, pixels, rule, threads)]
    links.add(KINDS.index(NEAR), same["a"], same["b"])
    tell("compare", len(pairs), len(pairs))


def _content_records(content: np.ndarray, rows: np.ndarray) -> np.ndarray:
    records = np.zeros(len(rows), _CONTENT)
    records["cell"], records["row"], records["content"] = content[:, 0], rows, content
    return records


def _cells(table: pa.Table, within: str) -> np.ndarray:
    """A number for the group, sample or instrument that each image is compared within: uint64 [I]."""
    order = ("group", "sample") if within == "group" else ("sample", "group")
    words = [table[name].to_pylist() for name in ("instrument", *order)]
    named = [(i, 0, a) if a else (i, 1, b) for i, a, b in zip(*words, strict=True)]
    number = {name: _hashed(name) for name in set(named)}
    return np.array([number[name] for name in named], np.uint64)


def _hashed(name: tuple[str, int, str]) -> int:
    text = "\0".join(str(word) for word in name)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _ranks(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    ranks = np.zeros(len(rows), RANK)
    for block, places, within in _by_block(dataset, rows):
        table = dataset.table(["key", "height", "width", "label_status"], [block]).take(pa.array(within))
        ranks["key"][places] = table["key"].to_numpy()
        ranks["area"][places] = table["height"].to_numpy().astype(np.int64) * table["width"].to_numpy()
        ranks["validated"][places] = np.array(table["label_status"].to_pylist()) == "validated"
    return ranks


def _image_ids(dataset: Dataset, rows: np.ndarray) -> dict[int, str]:
    named: dict[int, str] = {}
    for block, places, within in _by_block(dataset, rows):
        ids = dataset.table(["image_id"], [block])["image_id"].take(pa.array(within)).to_pylist()
        named.update(zip(rows[places].tolist(), ids, strict=True))
    return named


def _by_block(dataset: Dataset, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Blocks that hold some of the rows, which of them, and where in the block."""
    first = first_rows(dataset)
    block_of = np.searchsorted(first, rows, side="right") - 1
    for block in np.unique(block_of).tolist():
        places = np.flatnonzero(block_of == block)
        yield block, places, rows[places] - first[block]


def _table(kept: Kept, named: dict[int, str], first: int, count: int) -> pa.Table:
    of: list[str | None] = [None] * count
    kind: list[str | None] = [None] * count
    begin, end = np.searchsorted(kept.row, [first, first + count])
    for k in range(begin, end):
        i = int(kept.row[k]) - first
        of[i], kind[i] = named[int(kept.kept[k])], KINDS[int(kept.kind[k])]
    return pa.table({"duplicate_of": of, "duplicate_kind": kind}, schema=pa.schema(FIELDS))
