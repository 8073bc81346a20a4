"""Names in an EcoTaxa table: which image of the tree a row means, and an id no other row has."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from aqqua.instruments.ecotaxa_table import Row
from aqqua.instruments.record import Reason, RejectedInputError
from aqqua.instruments.tree import Tree

ARCHIVE_SUFFIX = ".zip"


@dataclass
class ImageFinder:
    """Resolves img_file_name and remembers which images were named."""

    tree: Tree
    images: set[str]  # that the reader answers for
    named: set[str] = field(default_factory=set)
    _archives: dict[str, list[str]] = field(default_factory=dict)  # folder -> archives with images in it
    _any_case: dict[str, list[str]] = field(default_factory=dict)
    _refused: dict[str, Reason] = field(default_factory=dict)

    @classmethod
    def over(cls, tree: Tree, images: Iterable[str]) -> "ImageFinder":
        finder = cls(tree, set(images))
        for image in finder.images:
            finder._any_case.setdefault(image.casefold(), []).append(image)
        for archive in sorted({archive for image in finder.images for archive in _archives_of(image)}):
            finder._archives.setdefault(archive.rpartition("/")[0], []).append(archive)
        finder._refused = {refusal.name: cast(Reason, refusal.reason) for refusal in tree.refused}
        return finder

    def find(self, folder: str, row: Row) -> str:
        """The member a row means: beside the table or below it, in any case, or in an archive beside it.

        Raises:
            RejectedInputError: bad_table, unsafe_path, missing_image, or the reason why the tree
                refuses that name (link, ...).
        """
        name = row.get("img_file_name").replace("\\", "/").removeprefix("./")
        if not name:
            raise RejectedInputError("missing_image", "the row names no image")
        if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
            raise RejectedInputError(
                "unsafe_path", f"an image must be in the table's folder, got {name[:200]!r}"
            )
        beside = f"{folder}/{name}" if folder else name
        if beside in self._refused:
            raise RejectedInputError(self._refused[beside], f"{beside[:200]!r} is never opened")
        found = self._present(beside) or self._in_archive(folder, name)
        if found is None:
            if row.problem:
                raise RejectedInputError("bad_table", row.problem)
            raise RejectedInputError("missing_image", f"no image {beside[:200]!r}")
        self.named.add(found)
        if row.problem:  # after its image is known: that image then counts with its row
            raise RejectedInputError("bad_table", row.problem)
        return found

    def _present(self, name: str) -> str | None:
        if name in self.tree.members:
            return name
        others = self._any_case.get(name.casefold(), [])
        return others[0] if len(others) == 1 else None

    def _in_archive(self, folder: str, name: str) -> str | None:
        """In an archive beside the table, at its top or in its one folder of the same name."""
        found = set()
        for archive in self._archives.get(folder, []):
            wrapper = archive.rpartition("/")[2][: -len(ARCHIVE_SUFFIX)]
            found |= {self._present(f"{archive}/{name}"), self._present(f"{archive}/{wrapper}/{name}")}
        found.discard(None)
        return found.pop() if len(found) == 1 else None


def _archives_of(image: str) -> Iterable[str]:
    parts = image.split("/")
    for count, part in enumerate(parts[:-1], start=1):
        if part.lower().endswith(ARCHIVE_SUFFIX):
            yield "/".join(parts[:count])


@dataclass
class ObjectIds:
    """Ids unique within one input: `<object_id>`, `<object_id>#<rank>` for further images of an object.

    The same id in a later table is another object (tables of several samples may each count from
    1): it gets the table's folder, or else the table itself, in front. Within one table the same
    image of an object twice, or the same stated rank twice, is a duplicate.
    """

    _taken: set[str] = field(default_factory=set)
    _ranks: dict[str, set[int]] = field(default_factory=dict)  # of the current table, as the next two
    _files: set[tuple[str, str]] = field(default_factory=set)
    _prefixes: tuple[str, ...] = ("",)

    def start_table(self, folder: str, table: str) -> None:
        self._ranks, self._files = {}, set()
        self._prefixes = ("", f"{folder}/", f"{table}/")

    def take(self, row: Row, member: str) -> str:
        """The id of a row's image.

        Raises:
            RejectedInputError: bad_table without an id, bad_metadata for a bad rank, duplicate_id.
        """
        object_id = row.get("object_id")
        if not object_id:
            raise RejectedInputError("bad_table", "a row must have an object_id")
        ranks = self._ranks.setdefault(object_id, set())
        rank = _rank(row.get("img_rank"))
        if (object_id, member) in self._files or rank in ranks:
            raise RejectedInputError(
                "duplicate_id", f"object {object_id[:200]!r} with this image or rank came before"
            )
        if rank is None:
            rank = next(free for free in range(len(ranks) + 1) if free not in ranks)
        name = f"{object_id}#{rank}" if rank else object_id
        free_names = [prefix + name for prefix in self._prefixes if prefix + name not in self._taken]
        if not free_names:
            raise RejectedInputError("duplicate_id", f"id {name[:200]!r} came before")
        ranks.add(rank)
        self._files.add((object_id, member))
        self._taken.add(free_names[0])
        return free_names[0]


def _rank(text: str) -> int | None:
    """A stated rank; None where the cell is empty, so that the next free one is given."""
    if not text or text.lower() == "nan":
        return None
    if not re.fullmatch(r"\d{1,9}(\.0*)?", text):
        raise RejectedInputError("bad_metadata", f"img_rank must be a whole number from 0, got {text[:40]!r}")
    return int(float(text))
