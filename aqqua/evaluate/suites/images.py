"""The images of a suite's data sets side by side: what each is, and which must stay together.

No pixels are read. An image is known by its number I, its data set and its row there. Its group is what must
not be split: bin, frame or cast of one instrument; an image without one is a group with its exact copies, as
in aqqua.store.split. Its picture is what it shows: equal pixels, or near ones where duplicates were looked
for (`aqqua curate`).

Letter key: I images. Test: tests/evaluate/suites/test_suites_images.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from aqqua.curate.copies.duplicates import KIND as DUPLICATES
from aqqua.evaluate.suites.suite import Suite, SuiteDataset
from aqqua.store.columns import Columns
from aqqua.store.read import Dataset
from aqqua.store.schema import TRUSTED
from aqqua.store.split import NAMING
from aqqua.taxonomy.classes import TaxonClass
from aqqua.taxonomy.label_map import LabelMap
from aqqua.taxonomy.level import at_level

_COLUMNS = (
    *("image_id", "content", "instrument", "sample", "group", "time", "lat", "lon"),
    *("label", "label_status", "source"),
)
UNKNOWN_INSTRUMENT = "unknown"


@dataclass(frozen=True)
class Images:
    """All images of a suite, in the order of its data sets.

    Args:
        table: their columns; `group` as the suite has it, `instrument` as the data set has it.
        dataset_I: number of the data set, in the order of the suite.
        row_I: row in the data set.
        class_I: number in `classes`; -1 where the image is not used.
        group_I, picture_I: numbers without meaning.
        instrument_I: number in `instruments`.
        sample_I: number in `samples`; -1 unknown.
        left_out: why images are not used, and how many.
    """

    table: pa.Table
    dataset_I: np.ndarray  # int32
    row_I: np.ndarray  # int64
    class_I: np.ndarray  # int32
    group_I: np.ndarray  # int64
    picture_I: np.ndarray  # int64
    instrument_I: np.ndarray  # int32
    sample_I: np.ndarray  # int32
    classes: tuple[TaxonClass, ...]
    instruments: tuple[str, ...]
    samples: tuple[str, ...]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.row_I)

    @property
    def naming(self) -> pa.Table:
        """What aqqua.store.split draws by."""
        return self.table.select(NAMING)


def read_images(
    suite: Suite, datasets: Mapping[str, Dataset], duplicates: Mapping[str, Path] | None = None
) -> Images:
    """Put the data sets of a suite side by side.

    Args:
        datasets: for each key of the suite.
        duplicates: key -> folder of the columns `duplicates` that aqqua curate writes.

    Raises:
        ValueError: a label that a map does not name, duplicates of another data set.
    """
    tables = [_table(datasets[key], one) for key, one in suite.datasets.items()]
    sizes = [len(table) for table in tables]
    table = pa.concat_tables(tables)
    dataset_I = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    row_I = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
    instrument_I, instruments = _instruments(suite, table, dataset_I)
    content_I = _codes(table["content"])[0]
    picture_I = _pictures(suite, datasets, content_I, np.cumsum([0, *sizes]), duplicates or {})
    class_I, classes, left_out = _classes(suite, table, dataset_I, content_I)
    samples = table["sample"].to_pylist()
    named = [
        f"{instruments[i]}/{name}" if name else None for i, name in zip(instrument_I, samples, strict=True)
    ]
    sample_I, sample_names = _codes(pa.array(named, pa.string()))
    return Images(
        *(table, dataset_I, row_I, class_I, _groups(table, instrument_I), picture_I, instrument_I),
        *(sample_I.astype(np.int32), classes, instruments, tuple(sample_names), left_out),
    )


def _table(dataset: Dataset, one: SuiteDataset) -> pa.Table:
    table = dataset.table(list(_COLUMNS))
    for name in ("instrument", "sample", "group"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.string()))
    if one.group is None:
        return table
    found = re.compile(one.group.pattern)
    groups = []
    for group, text in zip(table["group"].to_pylist(), table[one.group.column].to_pylist(), strict=True):
        match = None if group else found.search(text)
        groups.append(group or ("" if match is None else match[1]))
    return table.set_column(table.schema.get_field_index("group"), "group", pa.array(groups, pa.string()))


def _codes(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, list]:
    """Number of each value, -1 for null, and the values in their order."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = whole.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], whole.type).dictionary_encode()
    values = encoded.dictionary.to_pylist()
    order = sorted(range(len(values)), key=values.__getitem__)
    place = np.empty(len(values) + 1, np.int64)
    place[order] = np.arange(len(values))
    place[-1] = -1
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return place[indices], [values[i] for i in order]


def _instruments(suite: Suite, table: pa.Table, dataset_I: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    of_set = [one.instrument or UNKNOWN_INSTRUMENT for one in suite.datasets.values()]
    written = table["instrument"].to_pylist()
    told = [
        of_set[d] if name == UNKNOWN_INSTRUMENT else name for name, d in zip(written, dataset_I, strict=True)
    ]
    instrument_I, names = _codes(pa.array(told, pa.string()))
    return instrument_I.astype(np.int32), tuple(names)


def _groups(table: pa.Table, instrument_I: np.ndarray) -> np.ndarray:
    """Equal groups of one instrument; without a group, equal pixels."""
    written, groups, contents = (table[name].to_pylist() for name in NAMING)
    keys = [
        b"%d\0g" % i + f"{name}\0{group}".encode() if group else b"%d\0c" % i + content
        for i, name, group, content in zip(instrument_I.tolist(), written, groups, contents, strict=True)
    ]
    return _codes(pa.array(keys, pa.binary()))[0]


def _pictures(
    suite: Suite,
    datasets: Mapping[str, Dataset],
    content_I: np.ndarray,
    first: np.ndarray,
    duplicates: Mapping[str, Path],
) -> np.ndarray:
    """The smallest content that an image, or one that it is a duplicate of, has."""
    unknown = sorted(set(duplicates) - set(suite.datasets))
    if unknown:
        raise ValueError(
            f"suite: duplicates must be of one of {', '.join(suite.datasets)}, got {unknown[0]}; leave it out"
        )
    parent = np.arange(content_I.max(initial=-1) + 1)
    for number, key in enumerate(suite.datasets):
        if key not in duplicates:
            continue
        dataset, start = datasets[key], int(first[number])
        columns = Columns.open(duplicates[key], dataset, DUPLICATES)
        row_of = {name: row for row, name in enumerate(dataset.table(["image_id"])["image_id"].to_pylist())}
        kept = [
            one
            for block in range(dataset.blocks)
            for one in columns.block(block, ["duplicate_of"])["duplicate_of"].to_pylist()
        ]
        for row, name in enumerate(kept):
            if name is not None:
                a, b = (_root(parent, int(content_I[start + i])) for i in (row, row_of[name]))
                parent[max(a, b)] = min(a, b)
    roots = np.array([_root(parent, i) for i in range(len(parent))], np.int64)
    return roots[content_I]


def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def _classes(
    suite: Suite, table: pa.Table, dataset_I: np.ndarray, content_I: np.ndarray
) -> tuple[np.ndarray, tuple[TaxonClass, ...], dict[str, int]]:
    """Class of each image, the classes, and why images have none."""
    written, status = table["label"].to_pylist(), table["label_status"].to_pylist()
    ids = table["image_id"].to_pylist()
    used = [(label is not None) and one in TRUSTED for label, one in zip(written, status, strict=True)]
    names: list[set[str]] = [set() for _ in suite.datasets]
    for label, ok, d in zip(written, used, dataset_I.tolist(), strict=True):
        if ok:
            names[d].add(label)
    maps = [suite.label_map(key, some) for key, some in zip(suite.datasets, names, strict=True)]
    given = [one for mapped in maps for one in mapped.classes]
    classes, numbers = at_level(given, suite.level, suite.pass_over)
    number = dict(zip(given, numbers, strict=True))
    number_of = [_numbers(mapped, number, suite.level) for mapped in maps]
    class_I = np.full(len(written), -1, np.int32)
    why: dict[str, int] = {}
    meant: dict[int, set[int]] = {}  # content -> what its labels mean; -2: left out
    for i, (label, ok, d) in enumerate(zip(written, used, dataset_I.tolist(), strict=True)):
        if not ok:
            reason = "no label" if label is None else "label not trusted"
        else:
            if label not in number_of[d]:
                _unknown_label(maps[d], label, ids[i])
            place, reason = number_of[d][label]
            class_I[i] = max(place, -1)
            if place != -1:
                meant.setdefault(int(content_I[i]), set()).add(place)
        if class_I[i] < 0:
            why[reason] = why.get(reason, 0) + 1
    torn = np.array([content for content, some in meant.items() if len(some) > 1], np.int64)
    two = np.isin(content_I, torn) & (class_I >= 0)
    class_I[two] = -1
    if two.any():
        why["equal pixels under two labels"] = int(two.sum())
    return class_I, classes, why


def _numbers(
    mapped: LabelMap, number: Mapping[TaxonClass, int], level: str | None
) -> dict[str, tuple[int, str]]:
    """label -> number of its class and why it has none: -1 too coarse, -2 left out by the map."""
    found = {}
    for label, one in mapped.labels.items():
        if one is None:
            found[label] = (-2, f"label {label} left out: {mapped.reason(label)}")
        else:
            found[label] = (number[one], f"label coarser than {level}")
    return found


def _unknown_label(mapped: LabelMap, label: str, image_id: str) -> None:
    try:
        mapped.class_of(label)
    except ValueError as error:
        raise ValueError(f"{error}: first of image {image_id}") from error
