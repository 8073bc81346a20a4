"""Which reader reads what of an input: every format of a mixed folder in one pass.

Rule. Readers are asked in the order of READERS; what one claims the next does not see. The
folder reader comes last and takes the images of areas no other reader works in. An area is a
folder with everything below it: a folder in which a format was claimed (say a TSV) belongs to
that format with all its subfolders, and an image there that the format does not speak of is
`unlisted_image`, not a picture whose class is the name of its folder. Read it with
`only="folder"` if it is meant to be one.

So read = accepted + quarantined: what the tree refused, what readers found and refused, images
left over and archives that cannot be opened all come out once. Two readers, or two copies of one
folder, may name an image alike: the store keeps the first and refuses the others as
`duplicate_id` (aqqua.store.parts), which needs no list of all ids in memory. Tests:
tests/instruments/test_detect.py, tests/test_ingest.py.
"""

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import PurePosixPath
from typing import Protocol, cast

from aqqua.instruments.image import SUFFIXES
from aqqua.instruments.record import Found, ReadOptions, Reason, Rejected
from aqqua.instruments.tree import Tree

# Most particular first. planktoscope before ecotaxa: its export is an EcoTaxa zip with more in it.
READERS = ("ifcb", "lmdb", "uvp6", "planktoscope", "flowcam", "zooscan", "ecotaxa", "folder")
CATCH_ALL = "folder"
CLOSED_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


class Reader(Protocol):
    """What a module of aqqua.instruments must have to be a reader."""

    NAME: str

    def claim(self, tree: Tree) -> frozenset[str]:
        """Members it accounts for; empty if the input holds nothing of its format. Cheap."""
        ...

    def read(self, tree: Tree, claimed: frozenset[str], options: ReadOptions) -> Iterator[Found]:
        """Records, samples and refusals of the claimed members. Bad input never raises."""
        ...


def find(tree: Tree, options: ReadOptions, only: str | None = None) -> Iterator[Found]:
    """All images, samples and refusals of an input.

    Args:
        tree: the input.
        options: what the user says.
        only: the one reader to use, in any case; images it does not claim come out as `unlisted_image`.

    Raises:
        ValueError: `only` names no reader, or a reader finds a mistake in the options.
    """
    if only is not None and only.lower() not in READERS:
        raise ValueError(
            f"format: must be one of {', '.join(READERS)}, got {only}; leave it out to detect it"
        )
    return _find(tree, options, (only.lower(),) if only else READERS)


def _find(tree: Tree, options: ReadOptions, names: tuple[str, ...]) -> Iterator[Found]:
    for refusal in tree.refused:
        yield Rejected(source=refusal.name, reason=cast(Reason, refusal.reason), detail=refusal.detail)
    visible = tree  # what no reader has claimed yet
    areas: set[str] = set()
    for name in names:
        reader = load_reader(name)
        claimed = reader.claim(visible)
        if name == CATCH_ALL:
            claimed = frozenset(m for m in claimed if not areas.intersection(_folders(m)))
        if claimed:
            yield from _read(reader, visible, claimed, options)
            areas.update(next(_folders(member)) for member in claimed)
            visible = _without(visible, claimed)
    yield from _left_over(visible, anything=bool(areas or tree.refused), names=names)


def _read(reader: Reader, tree: Tree, claimed: frozenset[str], options: ReadOptions) -> Iterator[Found]:
    try:
        yield from reader.read(tree, claimed, options)
    except OSError as error:  # a disk that fails while listing must not end the ingest
        detail = f"{reader.NAME} reader stopped, {len(claimed)} files may be unread: {error}"
        yield Rejected(source=tree.label, reason="io_error", detail=detail)


def _left_over(tree: Tree, anything: bool, names: tuple[str, ...]) -> Iterator[Rejected]:
    """Images no reader took, closed archives, and an input in which nothing is known at all."""
    why = f"not claimed by: {', '.join(names)}"
    if len(names) > 1:
        why = "in a folder of another format that does not list it; or read the input as 'folder'"
    for member in tree.names(*SUFFIXES):
        anything = True
        yield Rejected(source=member, reason="unlisted_image", detail=why)
    for member in tree.names(*CLOSED_ARCHIVES):
        anything = True
        yield Rejected(
            source=member, reason="unsupported_format", detail="not opened; unpack it or make it a zip"
        )
    if not anything:
        yield Rejected(
            source=tree.label, reason="unsupported_format", detail=f"nothing for: {', '.join(names)}"
        )


def load_reader(name: str) -> Reader:
    """The reader module of that name, imported when first needed (lmdb and pyarrow are slow)."""
    return cast(Reader, import_module(f"aqqua.instruments.{name}"))


def _folders(member: str) -> Iterator[str]:
    """The folder a member is in, then each one around it ('.' is the top)."""
    for folder in PurePosixPath(member).parents:
        yield folder.as_posix()


def _without(tree: Tree, claimed: frozenset[str]) -> Tree:
    return replace(tree, members={name: m for name, m in tree.members.items() if name not in claimed})
