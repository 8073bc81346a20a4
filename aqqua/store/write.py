"""Ingest: what the readers found becomes a shuffled, checksummed Parquet dataset.

Pass 1 decodes in worker processes and spills rows by the hash of (seed, image); pass 2 sorts
bucket by bucket and writes row groups of `block_rows` images. So a block is a fair sample of the
whole, memory stays bounded, and the bytes depend on the images and the seed alone, not on the
order of the inputs or the number of workers.

On several machines the same is done in pieces (machines.py), and comes to the same bytes.

Everything is built in a sibling folder `<out>.partial-…`, flushed to disk and renamed at the very
end: a crash leaves nothing at `out`.
Test: tests/store/test_write.py. Timing: bench/data/ingest.py.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from aqqua.instruments.record import Found, Record, Rejected, Sample
from aqqua.instruments.tree import Tree
from aqqua.spread import Engine, cores
from aqqua.store.crew import decode_chunks
from aqqua.store.decode import CHUNK, Chunk, Decoded, Decoding, Refused
from aqqua.store.machines import decode_on_machines, write_parts_on_machines
from aqqua.store.manifest import write_manifest
from aqqua.store.new_folder import new_folder
from aqqua.store.parts import Written, write_parts
from aqqua.store.schema import BLOCK_ROWS, ENCODED_VERSION, PIXELS_VERSION, SCHEMAS
from aqqua.store.shuffle import SpillFile
from aqqua.store.tables import write_duplicates, write_quarantine, write_samples

MAX_WORKERS = 32  # beyond it the listing and pass 2, each one process, set the pace
SPILL = "spill"  # folder of what is on its way, gone before the rename

Progress = Callable[[str, int, int | None], None]
"""Called with the stage, images done, and images in all.

First 'decode', whose total is None until its last step, as listing goes on meanwhile; then 'write',
whose total is known. Each stage counts up to its own total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """How an ingest ended; read = accepted + quarantined."""

    path: Path
    read: int  # images and image candidates listed
    accepted: int  # rows of the dataset
    quarantined: int
    reasons: dict[str, int]  # quarantined by reason
    blocks: int
    parts: int
    duplicate_groups: int  # contents that occur more than once
    two_label_groups: int  # of these, under more than one label
    original_bytes: int  # of the files the images were read from
    pixel_bytes: int  # of the pixels, uncompressed
    encoded: dict[str, dict[str, int]]  # images and bytes of the original files kept, by format
    dataset_bytes: int  # of everything in the dataset's folder


@dataclass(slots=True)
class Listing:
    """What the readers found, counted while chunks of records go by."""

    read: int = 0
    records: int = 0  # of `read`, images to decode
    original_bytes: int = 0
    inputs: dict[str, Path] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    samples: list[tuple[str, Sample]] = field(default_factory=list)

    def chunks(self, trees_found: Iterable[tuple[Tree, Iterator[Found]]]) -> Iterator[Chunk]:
        for tree, found in trees_found:
            self._enter(tree)
            records: list[Record] = []
            last_member: str | None = None
            for item in found:
                if isinstance(item, Record):
                    last_member = self._count_bytes(tree, item, last_member)
                    records.append(item)
                    if len(records) == CHUNK:
                        yield self._counted(tree, records)
                        records = []
                elif isinstance(item, Rejected):
                    self.read += 1
                    self.refused.append(Refused(tree.label, item.source, item.reason, item.detail))
                else:
                    self.samples.append((tree.label, item))
            if records:
                yield self._counted(tree, records)

    def _enter(self, tree: Tree) -> None:
        known = self.inputs.setdefault(tree.label, tree.root)
        if known != tree.root:
            raise ValueError(
                f"ingest: inputs must have different names, got {known} and {tree.root}, both "
                f"{tree.label!r}; rename one, or give it another label"
            )

    def _counted(self, tree: Tree, records: list[Record]) -> Chunk:
        self.read += len(records)
        self.records += len(records)
        return tree, records

    def _count_bytes(self, tree: Tree, record: Record, last: str | None) -> str | None:
        """Add the size of the record's file, once where one file holds a run of images (collage, .roi)."""
        member = getattr(record.pixels, "member", None)
        if isinstance(member, str) and member != last and member in tree.members:
            self.original_bytes += tree.size(member)
        return member


def ingest(
    trees_found: Iterable[tuple[Tree, Iterator[Found]]],
    out: Path,
    *,
    block_rows: int = BLOCK_ROWS,
    seed: int = 0,
    keep_encoded: bool = False,
    workers: int | None = None,
    engine: Literal["local", "ray"] = "local",
    progress: Progress | None = None,
    command: str = "",
) -> IngestReport:
    """Write one dataset from any number of inputs.

    Args:
        trees_found: each input with what its reader lists (aqqua.instruments). A reader reports
            refused members itself, as `Rejected`.
        out: the dataset's folder; must be absent or empty.
        block_rows: images in a row group.
        seed: of the shuffle.
        keep_encoded: hold JPEG, PNG and TIFF files as they are, instead of their pixels, where decoding
            them gives just these (aqqua.instruments.original).
        workers: decoding processes, then writing threads; None is one per available core. A script
            needs the usual `if __name__ == "__main__":` guard, as the processes are spawned. 1 decodes
            in this very process: no guard and no start-up time, but an image that crashes or hangs
            its decoder takes the ingest with it.
        engine: processes of this machine, or `workers` of a Ray cluster, each with a process that decodes;
            its machines must see the inputs and `out` under the same names.
        command: how the dataset was made, kept in its manifest.

    Raises:
        ValueError: `out` holds something, two inputs share a name, there is no image at all, or it is not
            said how many are to work on Ray.
        RuntimeError: the disk is full or failed, workers keep dying, or one on Ray died. Nothing is left at
            `out`.
    """
    out = Path(out)
    if block_rows < 1:
        raise ValueError(f"ingest: block_rows must be at least 1, got {block_rows}; 512 is a good size")
    crew = _Crew.of(engine, workers)
    tell = progress or _silent
    with new_folder(out, "ingest") as folder:
        listing, spill = Listing(), folder / SPILL
        spill.mkdir()
        decoding, version = Decoding(seed, keep_encoded), ENCODED_VERSION if keep_encoded else PIXELS_VERSION
        spilled = _decode(listing, crew.decode(listing.chunks(trees_found), spill, decoding), tell)
        written = crew.write(folder, spill, spilled, SCHEMAS[version], block_rows, tell)
        settings = {"seed": seed, "block_rows": block_rows}
        report = _finish(folder, out, version, listing, written, settings, command)
    return report


@dataclass(frozen=True)
class _Crew:
    """Who does both passes."""

    processes: int  # of this machine, that decode; 0: this one
    threads: int  # of this machine, that write
    machines: Engine | None  # which do it instead

    @staticmethod
    def of(engine: str, workers: int | None) -> "_Crew":
        if engine == "local":
            threads = workers or min(cores(), MAX_WORKERS)
            return _Crew(0 if workers == 1 else threads, threads, None)
        if workers is None:
            raise ValueError(f"ingest: workers must be given with engine {engine}, got none; set 16, say")
        return _Crew(0, 0, Engine.model_validate({"name": engine, "workers": workers}))

    def decode(
        self, chunks: Iterator[Chunk], spill: Path, decoding: Decoding
    ) -> Generator[Decoded | list[SpillFile], None, None]:
        if self.machines is None:
            return decode_chunks(chunks, spill, decoding, self.processes)
        return decode_on_machines(chunks, spill, decoding, self.machines)

    def write(
        self,
        folder: Path,
        spill: Path,
        spilled: list[SpillFile],
        schema: pa.Schema,
        block_rows: int,
        tell: Progress,
    ) -> Written:
        if self.machines is None:
            return write_parts(folder, spill, spilled, schema, block_rows, self.threads, tell)
        return write_parts_on_machines(folder, spill, spilled, schema, block_rows, self.machines, tell)


def _decode(
    listing: Listing, found: Generator[Decoded | list[SpillFile], None, None], tell: Progress
) -> list[SpillFile]:
    """Pass 1; what could not be decoded joins the listing's refusals."""
    spilled: list[SpillFile] = []
    done = 0
    # Closed whatever happens, so that no worker still writes when the folder is removed.
    with closing(found) as answers:
        for answer in answers:
            if isinstance(answer, Decoded):
                listing.refused += answer.refused.values()
                done = min(done + answer.accepted + len(answer.refused), listing.records)
                tell("decode", done, None)
            else:
                spilled += answer
    tell("decode", done, done)
    return spilled


def _silent(_stage: str, _done: int, _total: int | None) -> None:
    """Progress that nobody watches."""


def _finish(
    folder: Path,
    out: Path,
    version: int,
    listing: Listing,
    written: Written,
    settings: dict[str, int],
    command: str,
) -> IngestReport:
    """The tables beside the parts, the manifest, and the sum that must hold."""
    refused = listing.refused + written.refused
    _check_sums(listing, written, refused)
    write_quarantine(folder, refused)
    write_samples(folder, listing.samples)
    groups, two_labels = write_duplicates(folder, written.contents)
    shutil.rmtree(folder / SPILL)
    statistics, encoded = written.statistics.summary(), written.statistics.encoded()
    counts = {"read": listing.read, "accepted": written.rows, "quarantined": len(refused)}
    reasons = dict(sorted(Counter(r.reason for r in refused).items()))
    said: dict[str, Any] = {
        "blocks": written.blocks,
        "original_bytes": listing.original_bytes,
        "pixel_bytes": sum(facts["pixel_bytes"] for facts in statistics.values()),
    }
    facts = {
        **settings,
        **said,
        "rows": written.rows,
        "inputs": sorted(listing.inputs),
        "counts": {**counts, "quarantined_by_reason": reasons},
        "duplicates": {"groups": groups, "groups_with_two_labels": two_labels},
        "instruments": statistics,
        **({"encoded": encoded} if version == ENCODED_VERSION else {}),
    }
    dataset_bytes = write_manifest(folder, version, facts, written.parts, command)
    return IngestReport(
        path=out, **counts, **said, reasons=reasons, parts=len(written.parts), duplicate_groups=groups,
        two_label_groups=two_labels, encoded=encoded, dataset_bytes=dataset_bytes,
    )  # fmt: skip


def _check_sums(listing: Listing, written: Written, refused: list[Refused]) -> None:
    """
    Raises:
        ValueError: not one image was accepted.
    """
    assert listing.read == written.rows + len(refused), (listing.read, written.rows, len(refused))
    if written.rows == 0:
        first = "; ".join(f"{r.source}: {r.reason} ({r.detail})" for r in refused[:3])
        raise ValueError(
            f"ingest: at least one image must be readable, got {listing.read} read and none "
            f"accepted: {first}{'; ...' if len(refused) > 3 else ''}; check the paths and the format"
        )
