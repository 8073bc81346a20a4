"""Predictions and sizes to a table of carbon: one row per image, with the relation named.

`carbon_pg` is what the relation of the predicted class gives for the measured size; the interval also draws
what else the image may be (aqqua.downstream.carbon.monte_carlo), so under scores of many classes it can lie
to one side. Unknown is null: no size, no scale, or no relation for the class.

Test: tests/downstream/carbon/test_carbon_table.py. Memory and speed: bench/data/downstream.py.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aqqua.downstream.carbon.choose import Choice, choose
from aqqua.downstream.carbon.monte_carlo import CHUNK, CarbonModel, CarbonSizes, interval
from aqqua.downstream.carbon.registry import QUANTITIES, load_registry
from aqqua.downstream.carbon.relation import Relation
from aqqua.downstream.carbon.settings import CarbonSettings
from aqqua.downstream.checked import (
    PredictionsLike,
    class_numbers,
    require_same_dataset,
    score_rows,
    sizes_of,
)
from aqqua.downstream.join import joined
from aqqua.downstream.tables import Column, Table, new_table, schema_of
from aqqua.taxonomy.classes import TaxonClass

_WORD = pa.dictionary(pa.int32(), pa.string())
COLUMNS: tuple[Column, ...] = (
    ("image_id", pa.string(), False, "as in the dataset"),
    ("key", pa.uint64(), False, "as in the dataset"),
    ("class", _WORD, False, "as predicted"),
    ("relation", _WORD, True, "id in the registry; 'no carbon' for a bubble; null: none holds for the class"),
    ("carbon_pg", pa.float64(), True, "carbon by this relation, pg; null is unknown"),
    ("carbon_low_pg", pa.float64(), True, "2.5 % of the draws of size, class and relation"),
    ("carbon_high_pg", pa.float64(), True, "97.5 % of them"),
    (
        "extrapolated",
        pa.bool_(),
        True,
        "outside what the relation is made from: sizes, whole organisms",
    ),
)
PREDICTED = ("image_id", "key", "class", "scores")


def model_of(classes: Sequence[TaxonClass], settings: CarbonSettings) -> CarbonModel:
    """The relations of these classes, from the registry.

    Raises:
        ValueError: the registry is wrong.
        RuntimeError: pint is missing.
    """
    choices = choose(classes, load_registry(), settings.allow_unverified, settings.diatoms)
    return CarbonModel(choices, settings.uncertainty)


def write_carbon(
    predictions: PredictionsLike,
    sizes: Table,
    out: Path,
    settings: CarbonSettings | None = None,
    command: str = "",
    progress: Callable[[int], None] = lambda _done: None,
) -> dict[str, int]:
    """Carbon of every predicted image, a row group in memory at a time.

    Args:
        sizes: of the same dataset (open_sizes).
        out: new file, named .parquet.
        progress: told the images done so far.

    Returns:
        Images with carbon, without a relation, without a size, and extrapolated.

    Raises:
        ValueError: the tables are not of one dataset, an image has no sizes, a size or class makes no sense.
        RuntimeError: a package is missing, or the disk failed.
    """
    settings = settings or CarbonSettings()
    require_same_dataset(predictions, sizes)
    model = model_of(predictions.classes, settings)
    schema = schema_of(COLUMNS, _facts(predictions, model, settings, command))
    counts = dict.fromkeys(("images", "known", "no relation", "no size", "extrapolated"), 0)
    pairs = joined(predictions.batches(PREDICTED), sizes.batches(settings.size_columns), "sizes")
    with new_table(out, schema, "carbon") as writer:
        for images, measured in pairs:
            class_I = class_numbers(images, predictions.classes, counts["images"])
            sizes_I = sizes_of(images, measured, settings, counts["images"])
            table = _carbon_of(images, class_I, sizes_I, model, schema)
            writer.write_table(table)
            _count(counts, table)
            progress(counts["images"])
    return counts


def open_carbon(path: Path | str) -> Table:
    """Open a table of carbon.

    Raises:
        ValueError: the file is none.
    """
    return Table.open(path, COLUMNS, "carbon", "aqqua carbon")


def _facts(
    predictions: PredictionsLike, model: CarbonModel, settings: CarbonSettings, command: str
) -> dict[str, str]:
    used = {
        relation.entry.id: relation.entry
        for choice in model.choices
        if choice is not None
        for relation in (choice.below, choice.above)
        if relation is not None
    }
    return {
        **predictions.facts,
        "command": command,
        "carbon_settings": settings.to_json(),
        "relations": json.dumps([entry.model_dump() for entry in used.values()], ensure_ascii=False),
    }


def _carbon_of(
    images: pa.Table, class_I: np.ndarray, sizes: CarbonSizes, model: CarbonModel, schema: pa.Schema
) -> pa.Table:
    carbon_I = model.estimate(class_I, sizes)
    low_high_2I = np.concatenate(
        [
            interval(model.draw(key_I, class_IK, part))
            for key_I, class_IK, part in drawn(images, class_I, sizes, model)
        ],
        axis=1,
    )
    low_high_2I[:, np.isnan(carbon_I)] = np.nan
    names = np.array([choice.name if choice else None for choice in model.choices], object)
    arrays = [
        images["image_id"],
        images["key"],
        images["class"].cast(pa.string()).combine_chunks().dictionary_encode(),
        pa.array(names[class_I].tolist(), pa.string()).dictionary_encode(),
        *[pa.array(values, pa.float64(), mask=np.isnan(values)) for values in (carbon_I, *low_high_2I)],
        pa.array(extrapolated(class_I, sizes, model.choices), pa.bool_(), mask=np.isnan(carbon_I)),
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def drawn(
    images: pa.Table, class_I: np.ndarray, sizes: CarbonSizes, model: CarbonModel
) -> Iterator[tuple[np.ndarray, np.ndarray, CarbonSizes]]:
    """Keys, drawn classes [I, K] and sizes of CHUNK images at a time."""
    for at in range(0, len(images), CHUNK):
        rows = images.slice(at, CHUNK)
        key_I = rows["key"].to_numpy()
        class_IK = model.draw_classes(key_I, class_I[at : at + CHUNK], score_rows(rows, len(model.choices)))
        part = CarbonSizes(sizes.volume_um3_I[at : at + CHUNK], sizes.area_um2_I[at : at + CHUNK])
        yield key_I, class_IK, part


def extrapolated(class_I: np.ndarray, sizes: CarbonSizes, choices: Sequence[Choice | None]) -> np.ndarray:
    """Where the relation of the predicted class was not made from such sizes, or from such parts."""
    result_I = np.zeros(len(class_I), bool)
    for number in np.unique(class_I):
        choice = choices[number]
        if choice is None or choice.below is None:
            continue
        of_it_I = class_I == number
        result_I[of_it_I] |= choice.flagged
        larger_I = of_it_I & (sizes.volume_um3_I > choice.split_um3)
        result_I[of_it_I & ~larger_I] |= _outside(choice.below, sizes, of_it_I & ~larger_I)
        if choice.above is not None:
            result_I[larger_I] |= _outside(choice.above, sizes, larger_I)
    return result_I


def _outside(relation: Relation, sizes: CarbonSizes, rows_I: np.ndarray) -> np.ndarray:
    quantity = relation.entry.input.quantity
    by_quantity = {
        "volume": sizes.volume_um3_I,
        "area": sizes.area_um2_I,
        "diameter": 2 * np.sqrt(sizes.area_um2_I / np.pi),
        "count": np.ones_like(sizes.area_um2_I),
    }
    return relation.extrapolated(by_quantity[quantity][rows_I], QUANTITIES[quantity])


def _count(counts: dict[str, int], table: pa.Table) -> None:
    known = pc.is_valid(table["carbon_pg"])
    related = pc.is_valid(table["relation"])
    counts["images"] += len(table)
    counts["known"] += pc.sum(known).as_py() or 0
    counts["no relation"] += table["relation"].null_count
    counts["no size"] += pc.sum(pc.and_(related, pc.invert(known))).as_py() or 0
    counts["extrapolated"] += pc.sum(table["extrapolated"]).as_py() or 0
