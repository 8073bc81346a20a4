"""From a dataset to predictions: of classes as one row per image, of traits as one row per image and trait.

Block by block, so that memory does not grow with the number of images. Letters: I images of a block.
Test: tests/downstream/test_predict.py.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.downstream.classifier import Classifier
from aqqua.downstream.predictions import KEPT, PredictionsWriter
from aqqua.downstream.tables import PREFIX, ROW_GROUP, new_table
from aqqua.evaluate.finetune.heads import TraitHead
from aqqua.evaluate.finetune.traits import Trait
from aqqua.progress import silent
from aqqua.store.read import Dataset

_WORD = pa.dictionary(pa.int32(), pa.string())
_TRAIT_COLUMNS = (
    ("object_id", pa.string(), False, "image_id of the dataset"),
    ("trait_id", _WORD, False, "what is told"),
    ("value", pa.float64(), False, "in `unit`; of a binary trait the probability of 1"),
    ("unit", _WORD, False, "of the value; '' is none"),
    ("method", _WORD, False, "name of the model"),
    ("low", pa.float64(), True, "lower end of the 95 % interval; null where none is known"),
    ("high", pa.float64(), True, "upper end of it"),
)
TRAITS_SCHEMA = pa.schema(
    [pa.field(name, kind, null, {"description": text}) for name, kind, null, text in _TRAIT_COLUMNS]
)


def predict(
    classifier: Classifier,
    dataset: Dataset,
    out: Path,
    command: str,
    progress: Callable[[int], None] = silent,
) -> int:
    """Write the predictions of all images of a dataset; returns the number of rows.

    A classifier of classes makes a table of predictions (aqqua.downstream.predictions), one of traits a long
    table (TRAITS_SCHEMA).

    Raises:
        ValueError: `out` exists or is not named .parquet.
    """
    facts = {
        "model_sha256": classifier.sha256,
        "dataset_sha256": dataset.manifest_sha256,
        "classifier_name": classifier.name,
        "command": command,
    }
    if classifier.traits:
        return _write_traits(classifier, dataset, out, facts, progress)
    if classifier.thresholds is not None:
        facts["thresholds"] = json.dumps(classifier.thresholds)
    with PredictionsWriter(out, classifier.classes, facts) as writer:
        for block in range(dataset.blocks):
            known = dataset.table(KEPT, blocks=[block])
            writer.write(known, classifier.probabilities(dataset, block))
            progress(writer.rows)
    return writer.rows


def _write_traits(
    classifier: Classifier,
    dataset: Dataset,
    out: Path,
    facts: dict[str, str],
    progress: Callable[[int], None],
) -> int:
    schema = TRAITS_SCHEMA.with_metadata({PREFIX + name: value for name, value in facts.items()})
    images = 0
    waiting = pa.Table.from_batches([], schema=schema)
    with new_table(out, schema, "predict") as writer:
        for block in range(dataset.blocks):
            ids = dataset.table(["image_id"], blocks=[block])["image_id"]
            tables = _trait_tables(classifier, dataset, block, ids, schema)
            waiting = _write_whole_groups(writer, pa.concat_tables([waiting, *tables]))
            progress(images := images + len(ids))
        if len(waiting):
            writer.write_table(waiting.unify_dictionaries())
    return images * len(classifier.traits)


def _write_whole_groups(writer: pq.ParquetWriter, table: pa.Table) -> pa.Table:
    """Write as many row groups as are full; what is left waits for more."""
    full = len(table) - len(table) % ROW_GROUP
    if full:
        table = table.unify_dictionaries()
        writer.write_table(table.slice(0, full), row_group_size=ROW_GROUP)
    return table.slice(full)


def _trait_tables(
    classifier: Classifier, dataset: Dataset, block: int, ids: pa.ChunkedArray, schema: pa.Schema
) -> Iterator[pa.Table]:
    answer_IT = _answers(classifier, dataset, block)
    for t, trait in enumerate(classifier.traits):
        answer_I = answer_IT[:, t]
        words = (_same(word, len(ids)) for word in (trait.trait_id, trait.unit, classifier.name))
        trait_id, unit, method = words
        low, high = (_bound(trait, answer_I, error) for error in (trait.error_low, trait.error_high))
        columns = [ids, trait_id, pa.array(trait.decode(answer_I)), unit, method, low, high]
        yield pa.Table.from_arrays(columns, schema=schema)


def _answers(classifier: Classifier, dataset: Dataset, block: int) -> np.ndarray:
    head = classifier.head
    assert isinstance(head, TraitHead)
    return head.answer(classifier.outputs(dataset, block)).double().numpy()


def _same(word: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([word]))


def _bound(trait: Trait, answer_I: np.ndarray, error: float | None) -> pa.Array:
    """One end of the interval, null where validation said nothing."""
    if error is None:
        return pa.nulls(len(answer_I), pa.float64())
    return pa.array(trait.decode(answer_I + error))
