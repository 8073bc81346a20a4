"""Predictions to objects that are in EcoTaxa already: the best classes of each, with their scores.

A journal beside the predictions tells which objects the server has taken, so that a push that was cut off
goes on where it was, and objects that came into the project later are told by the next one. Telling an object
twice changes nothing: the server keeps the same classes.
Test: tests/downstream/publish/test_ecotaxa_push.py.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from aqqua.downstream.predictions import Predictions
from aqqua.downstream.publish.ecotaxa_api import WHO, Server, require_safe
from aqqua.downstream.publish.ecotaxa_columns import object_id
from aqqua.taxonomy.classes import TaxonClass

BATCH = 1000  # objects of a call
BEST = 5  # classes of an object


@dataclass(frozen=True)
class Batch:
    """One call: objects by their own ids, and for each its best classes."""

    object_ids: list[str]
    categories: list[list[int]]
    scores: list[list[float]]


@dataclass(frozen=True)
class Pushed:
    """What became of the predictions."""

    told: int  # objects of this push
    told_before: int  # by the journal
    changed: int  # by the server's count
    not_in_project: int
    without_category: int  # their best class has none; nothing is told of them


def push(
    predictions: Path,
    project: int,
    ids: Mapping[str, int],
    server: str,
    *,
    connect: Callable[[], Server],
    journal: Path,
    dry_run: bool = False,
    batch: int = BATCH,
    best: int = BEST,
    progress: Callable[[int], None] | None = None,
) -> Pushed:
    """Tell a project of EcoTaxa what its objects are.

    Args:
        predictions: of aqqua predict, for images exported with aqqua export --format ecotaxa.
        project: its number.
        ids: class name -> category id; at least one class must have one. An object whose best class has none
            is not told: its next best class would be a loser. Other classes without one are left out.
        server: its address, https.
        connect: makes the connection.
        journal: where it is kept which objects are told; a file of one server, project, predictions, ids and
            best.
        dry_run: ask for the objects, but change nothing, neither there nor in the journal.
        batch: objects of a call.
        best: classes told of each object.
        progress: called with the predictions looked at.

    Raises:
        ValueError: the address is not safe, no class has a category, the token is refused, or the journal is
            of another push.
        RuntimeError: the server did not answer.
    """
    require_safe(server)
    opened = Predictions.open(predictions)
    _require_categories(opened.classes, ids)
    what = f"{server.rstrip('/')} {project} {file_digest(predictions)} {_ids_digest(ids)} {best}"
    diary = Journal(journal, what)
    told = told_before = changed = absent = seen = without = 0
    with connect() as there:
        numbers = there.object_ids(project)
        for one, lost in batches(opened, ids, batch, best):
            without += lost
            known = [(numbers[name], i) for i, name in enumerate(one.object_ids) if name in numbers]
            new = [(number, i) for number, i in known if number not in diary.told]
            absent += len(one.object_ids) - len(known)
            told_before += len(known) - len(new)
            told += len(new)
            seen += len(one.object_ids) + lost
            if new and not dry_run:
                diary.begin()
                objects = [number for number, _ in new]
                changed += there.classify(
                    objects, [one.categories[i] for _, i in new], [one.scores[i] for _, i in new]
                )
                diary.note(objects)
            if progress is not None:
                progress(seen)
    return Pushed(told, told_before, changed, absent, without)


def batches(
    opened: Predictions, ids: Mapping[str, int], batch: int, best: int
) -> Iterator[tuple[Batch, int]]:
    """Batches in the order of the table, always the same, and the images of each that cannot be told."""
    names: list[str] = []
    categories: list[list[int]] = []
    scores: list[list[float]] = []
    without = 0
    for table in opened.batches(["image_id", "key", "scores"]):
        for image, its_categories, its_scores in _told(table, opened.classes, ids, best):
            if its_categories:
                names.append(object_id(image))
                categories.append(its_categories)
                scores.append(its_scores)
            else:
                without += 1
            if len(names) == batch:
                yield Batch(names, categories, scores), without
                names, categories, scores, without = [], [], [], 0
    if names or without:
        yield Batch(names, categories, scores), without


def _told(
    table: pa.Table, classes: Sequence[TaxonClass], ids: Mapping[str, int], best: int
) -> Iterator[tuple[dict, list[int], list[float]]]:
    """Each image with its best categories and their scores; none where its best class has no category."""
    category_C = [ids.get(one.name) for one in classes]
    score_MC = _scores(table, len(classes))
    order_MC = np.argsort(-score_MC, axis=1, kind="stable")[:, :best]
    for image, row, order in zip(
        table.select(["image_id", "key"]).to_pylist(), score_MC, order_MC, strict=True
    ):
        if category_C[order[0]] is None:
            yield image, [], []
            continue
        told = [(category_C[c], float(row[c])) for c in order.tolist() if category_C[c] is not None]
        unique = {category: score for category, score in reversed(told)}  # two classes may share one category
        pairs = sorted(unique.items(), key=lambda pair: -pair[1])
        yield image, [c for c, _ in pairs if c is not None], [min(max(s, 0.0), 1.0) for _, s in pairs]


def _scores(table: pa.Table, classes: int) -> np.ndarray:
    parts = [
        c.flatten().to_numpy(zero_copy_only=False).reshape(len(c), classes) for c in table["scores"].chunks
    ]
    return np.concatenate([np.zeros((0, classes), np.float16), *parts]).astype(np.float32)


def _require_categories(classes: Sequence[TaxonClass], ids: Mapping[str, int]) -> None:
    """At least one class has a category; without any, there is nothing to tell."""
    if not any(one.name in ids for one in classes):
        raise ValueError(
            f"{WHO}: at least one class must have a category of EcoTaxa, got none for {classes[0].name!r} "
            "and the others; give a file of 'class name: category id'"
        )


def _ids_digest(ids: Mapping[str, int]) -> str:
    """SHA-256 of the categories, whatever their order."""
    return hashlib.sha256(json.dumps(sorted(ids.items())).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Journal:
    """Which objects a server has been told: a line for what is pushed, then a line for each call.

    Lines are only ever added. A line that was cut off while it was written is passed over: its objects are
    told once more, which changes nothing.
    """

    def __init__(self, path: Path, what: str) -> None:
        """Read what there is; nothing is written.

        Raises:
            ValueError: the file is of another push.
        """
        self._path, self._head = path, {"push": what}
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        found = [one for line in text.split("\n") if (one := _read(line)) is not None]
        torn = json.dumps(self._head).startswith(text)  # the first line, or nothing at all
        if not torn and (not found or found[0] != self._head):
            raise ValueError(
                f"{WHO}: the journal must be of this push (server, project, predictions, categories, best), "
                f"got {path} of another one; remove it to tell everything anew, or name another"
            )
        self._begun, self._whole = bool(found), text == "" or text.endswith("\n")
        self.told = {number for one in found for number in one.get("told", [])}

    def begin(self) -> None:
        """Say what is pushed, where the file does not yet; fails before the server is told, not after."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._begun:
            self._add(self._head)
            self._begun = True

    def note(self, numbers: Sequence[int]) -> None:
        """The server has taken these objects, by its own numbers."""
        self._add({"told": list(numbers)})
        self.told.update(numbers)

    def _add(self, line: dict) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(("" if self._whole else "\n") + json.dumps(line) + "\n")
        self._whole = True


def _read(line: str) -> dict | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
