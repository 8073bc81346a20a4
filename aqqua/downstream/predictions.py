"""The table of predictions: one row per image, the probability of every class beside what is known of it.

A Parquet file in row groups of at most 65,536 rows, written and read a row group at a time, so that memory
does not grow with the number of images. The schema's metadata says which classes the scores are of, in their
order, and what made them. Everything that comes after (sizes, carbon, samples, publishing) reads this.

Letters: I rows, C classes. Test: tests/downstream/test_predictions.py. Memory: bench/data/predictions.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from aqqua.downstream.class_list import classes_from_json, classes_to_json
from aqqua.downstream.tables import (
    PREFIX,
    ROW_GROUP,
    batches_of,
    facts_of,
    new_table,
    read_schema,
    require_schema,
)
from aqqua.store.new_file import require_no_file
from aqqua.store.schema import SCHEMA
from aqqua.taxonomy.classes import TaxonClass

CLASSES = "classes"  # key of the metadata, under PREFIX
CLASSES_KEY = PREFIX + CLASSES
FACTS = ("model_sha256", "dataset_sha256", "classifier_name", "command")  # that every table states
SUM_TOLERANCE = 1e-3  # of the scores of an image, whose sum is 1
# Columns of the dataset that come along, with its types and meanings (aqqua/store/schema.py).
KEPT = (
    *("image_id", "key", "instrument", "sample", "group", "time", "lat", "lon", "depth_m", "volume_l"),
    *("um_per_px", "source", "label", "label_status"),
)
_WORD = pa.dictionary(pa.int32(), pa.string())


def predictions_schema(classes: Sequence[TaxonClass], facts: Mapping[str, str]) -> pa.Schema:
    """Columns and metadata of a table of predictions over these classes."""
    scores = pa.list_(pa.field("item", pa.float16(), nullable=False), len(classes))
    found = [
        ("class", _WORD, False, "most probable class"),
        ("aphia_id", pa.int32(), True, "WoRMS AphiaID of `class`; null where it is no taxon"),
        ("qualifier", pa.string(), False, "of `class`: part, larva, egg, chain, dead, ...; '' is none"),
        ("living", pa.bool_(), False, "false: `class` is detritus, a bubble, a fibre or an artefact"),
        ("score", pa.float32(), False, "probability of `class`, 0 to 1"),
        ("scores", scores, False, "probability of every class, in the order of aqqua.classes"),
    ]
    fields = [SCHEMA.field(name) for name in KEPT]
    fields += [pa.field(name, kind, null, {"description": text}) for name, kind, null, text in found]
    told = {**facts, CLASSES: classes_to_json(classes)}
    return pa.schema(fields, metadata={PREFIX + name: value for name, value in told.items()})


class PredictionsWriter:
    """Writes a table of predictions to a temporary name, and renames it when it is whole.

    Use as a context manager; where its block ends by an error nothing is left.
    """

    def __init__(self, path: Path, classes: Sequence[TaxonClass], facts: Mapping[str, str]) -> None:
        """Begin a table.

        Args:
            path: new file, named .parquet.
            classes: in the order of the scores.
            facts: model_sha256, dataset_sha256, classifier_name, command, and what else is worth stating.

        Raises:
            ValueError: the file exists or is not named .parquet, a fact is missing, or a class is twice.
        """
        require_no_file(path, "predictions", ".parquet")
        if missing := [name for name in FACTS if name not in facts]:
            raise ValueError(f"predictions: facts must state {', '.join(FACTS)}, got no {missing[0]}; add it")
        # Read back at once: what no reader would take is refused before the work.
        self.classes = classes_from_json(classes_to_json(classes), "predictions")
        self.schema = predictions_schema(self.classes, facts)
        self.rows = 0
        self._path, self._until_end = path, ExitStack()
        self._waiting: list[pa.Table] = []
        self._names = pa.array([one.name for one in self.classes])
        self._aphia = pa.array([one.aphia_id for one in self.classes], pa.int32())
        self._qualifier = pa.array([one.qualifier for one in self.classes])
        self._living = pa.array([one.living for one in self.classes])

    def __enter__(self) -> "PredictionsWriter":
        self._file = self._until_end.enter_context(new_table(self._path, self.schema, "predictions"))
        return self

    def write(self, images: pa.Table, scores_IC: Float[np.ndarray, "I C"]) -> None:
        """Add rows.

        Args:
            images: the columns KEPT of a dataset (Dataset.table), in their order.
            scores_IC: probability of every class; the highest becomes `class`, of equals the first.

        Raises:
            ValueError: a score is not a probability, those of an image do not sum to 1, or rows differ.
        """
        self._check(images, scores_IC)
        best_I = scores_IC.argmax(axis=1)
        score_I = scores_IC[np.arange(len(best_I)), best_I].astype(np.float32)
        values = pa.array(scores_IC.astype(np.float16).ravel())
        found = [
            pa.DictionaryArray.from_arrays(pa.array(best_I, pa.int32()), self._names),
            self._aphia.take(pa.array(best_I)),
            self._qualifier.take(pa.array(best_I)),
            self._living.take(pa.array(best_I)),
            pa.array(score_I),
            pa.FixedSizeListArray.from_arrays(values, type=self.schema.field("scores").type),
        ]
        arrays = [*images.select(KEPT).columns, *found]
        self._waiting.append(pa.Table.from_arrays(arrays, schema=self.schema))
        self.rows += len(best_I)
        self._flush(ROW_GROUP)

    def _check(self, images: pa.Table, scores_IC: np.ndarray) -> None:
        wanted = (len(images), len(self.classes))
        if scores_IC.shape != wanted:
            raise ValueError(
                f"predictions: scores must be {wanted}, images x classes, got {scores_IC.shape}; "
                "give one row per image"
            )
        good_I = ((scores_IC >= 0) & (scores_IC <= 1 + SUM_TOLERANCE)).all(axis=1)
        good_I &= np.abs(scores_IC.sum(axis=1, dtype=np.float64) - 1) <= SUM_TOLERANCE
        if not good_I.all():
            i = int(np.flatnonzero(~good_I)[0])
            raise ValueError(
                f"predictions: scores must be 0 to 1 and sum to 1, got {scores_IC[i, :8].tolist()} for "
                f"{images['image_id'][i].as_py()}; look at the model"
            )

    def _flush(self, rows: int) -> None:
        """Write row groups while at least so many rows wait."""
        waiting = sum(len(table) for table in self._waiting)
        while waiting and waiting >= rows:
            together = pa.concat_tables(self._waiting).unify_dictionaries()
            self._file.write_table(together.slice(0, ROW_GROUP), row_group_size=ROW_GROUP)
            rest = together.slice(ROW_GROUP)
            self._waiting = [rest] if len(rest) else []
            waiting = len(rest)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._until_end.__exit__(kind, error, trace)
            return
        with self._until_end:
            self._flush(1)


class Predictions:
    """A table of predictions on disk; nothing but its footer is read before `batches`."""

    def __init__(self, path: Path, classes: tuple[TaxonClass, ...], facts: dict[str, str], rows: int) -> None:
        self.path, self.classes, self.facts, self.rows = path, classes, facts, rows

    @staticmethod
    def open(path: Path | str) -> "Predictions":
        """Open a table by its file.

        Raises:
            ValueError: no such file, no Parquet file, or not a table of predictions.
        """
        path = Path(path)
        schema, rows = read_schema(path, "predictions", "aqqua predict")
        facts = facts_of(schema, path, "predictions")
        if missing := [name for name in (CLASSES, *FACTS) if name not in facts]:
            raise ValueError(
                f"predictions: {path} must state {PREFIX}{missing[0]}, got a Parquet file without it; "
                "make it with aqqua predict"
            )
        classes = classes_from_json(facts.pop(CLASSES), f"predictions: {path}")
        require_schema(schema, predictions_schema(classes, {}), path, "predictions", "aqqua predict")
        return Predictions(path, classes, facts, rows)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows in order, at most ROW_GROUP at a time; only these columns, in this order.

        Raises:
            ValueError: there is no such column, or the file is damaged.
        """
        return batches_of(self.path, columns, "predictions")
