"""Ingest: what the readers found becomes a shuffled, checksummed Parquet dataset.

Pass 1 decodes in worker processes and spills rows by the hash of (seed, image); pass 2 sorts
bucket by bucket and writes row groups of `block_rows` images. So a block is a fair sample of the
whole, memory stays bounded, and the bytes depend on the images and the seed alone, not on the
order of the inputs or the number of workers.

Everything is built in a sibling folder `<out>.partial-…`, flushed to disk and renamed at the very
end: a crash leaves nothing at `out`.
Test: tests/store/test_write.py. Timing: bench/data/ingest.py.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from aqqua.instruments.record import Found, Record, Rejected, Sample
from aqqua.instruments.tree import Tree
from aqqua.store.crew import decode_chunks
from aqqua.store.decode import CHUNK, Chunk, Decoded, Decoding, Refused
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
        command: how the dataset was made, kept in its manifest.

    Raises:
        ValueError: `out` holds something, two inputs share a name, or there is no image at all.
        RuntimeError: the disk is full or failed, or workers keep dying. Nothing is left at `out`.
    """
    out = Path(out)
    if block_rows < 1:
        raise ValueError(f"ingest: block_rows must be at least 1, got {block_rows}; 512 is a good size")
    in_this_process = workers == 1
    workers = workers or min(_cores(), MAX_WORKERS)
    tell = progress or _silent
    with new_folder(out, "ingest") as folder:
        listing, spill = Listing(), folder / SPILL
        spill.mkdir()
        decoding, version = Decoding(seed, keep_encoded), ENCODED_VERSION if keep_encoded else PIXELS_VERSION
        spilled = _decode(listing, trees_found, spill, decoding, 0 if in_this_process else workers, tell)
        written = write_parts(folder, spill, spilled, SCHEMAS[version], block_rows, workers, tell)
        settings = {"seed": seed, "block_rows": block_rows}
        report = _finish(folder, out, version, listing, written, settings, command)
    return report


def _decode(
    listing: Listing,
    trees_found: Iterable[tuple[Tree, Iterator[Found]]],
    spill: Path,
    decoding: Decoding,
    workers: int,
    tell: Progress,
) -> list[SpillFile]:
    """Pass 1; what could not be decoded joins the listing's refusals. No workers: in this process."""
    spilled: list[SpillFile] = []
    done = 0
    # Closed whatever happens, so that no worker still writes when the folder is removed.
    with closing(decode_chunks(listing.chunks(trees_found), spill, decoding, workers)) as answers:
        for answer in answers:
            if isinstance(answer, Decoded):
                listing.refused += answer.refused.values()
                done = min(done + answer.accepted + len(answer.refused), listing.records)
                tell("decode", done, None)
            else:
                spilled += answer
    tell("decode", done, done)
    return spilled


def _cores() -> int:
    """Cores this process may use, where the system can tell (Linux); else those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    accepted, quarantined = written.rows, len(refused)
    assert listing.read == accepted + quarantined, (listing.read, accepted, quarantined)
    if accepted == 0:
        first = "; ".join(f"{r.source}: {r.reason} ({r.detail})" for r in refused[:3])
        raise ValueError(
            f"ingest: at least one image must be readable, got {listing.read} read and none "
            f"accepted: {first}{'; ...' if len(refused) > 3 else ''}; check the paths and the format"
        )
    write_quarantine(folder, refused)
    write_samples(folder, listing.samples)
    groups, two_labels = write_duplicates(folder, written.contents)
    shutil.rmtree(folder / SPILL)
    reasons = dict(sorted(Counter(r.reason for r in refused).items()))
    counts = {"read": listing.read, "accepted": accepted, "quarantined": quarantined}
    facts = {
        **settings,
        "rows": accepted,
        "blocks": written.blocks,
        "inputs": sorted(listing.inputs),
        "counts": {**counts, "quarantined_by_reason": reasons},
        "duplicates": {"groups": groups, "groups_with_two_labels": two_labels},
        "original_bytes": listing.original_bytes,
        "pixel_bytes": written.pixel_bytes,
        "instruments": written.statistics,
        **({"encoded": written.encoded} if version == ENCODED_VERSION else {}),
    }
    dataset_bytes = write_manifest(folder, version, facts, written.parts, command)
    return IngestReport(
        path=out,
        **counts,
        reasons=reasons,
        blocks=written.blocks,
        parts=len(written.parts),
        duplicate_groups=groups,
        two_label_groups=two_labels,
        original_bytes=listing.original_bytes,
        pixel_bytes=written.pixel_bytes,
        encoded=written.encoded,
        dataset_bytes=dataset_bytes,
    )
