"""Taking a selection out of an atlas: ids, a table of labels, weights for training, or zips for EcoTaxa.

What is selected is said by rows, by a file of ids (the page saves such), or by a condition in SQL.
Test: tests/explore/server/test_select.py.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from aqqua.explore.server.asked import AskedAtlas
from aqqua.explore.server.selected_dataset import SelectedDataset
from aqqua.store.columns import write_columns
from aqqua.store.new_file import new_file
from aqqua.store.read import Dataset
from aqqua.store.weights import KIND, WEIGHT, WEIGHT_SUM

WHO = "explore select"
KINDS = ("ids", "labels", "weights", "ecotaxa")


@dataclass(frozen=True)
class Wanted:
    """Which images: exactly one of these."""

    rows: Sequence[int] | None = None
    ids: Path | None = (
        None  # .csv with a heading image_id (and label), .parquet with image_id, or .txt with one a line
    )
    where: str | None = None  # SQL as after WHERE


@dataclass(frozen=True)
class Selected:
    """What was written."""

    path: Path
    kind: str
    images: int


@dataclass(frozen=True)
class _Chosen:
    ids: list[str]
    rows: Int64[np.ndarray, " K"]
    labels: list[str] | None  # that the file of ids proposes


def select(
    atlas: Path,
    out: Path,
    kind: str,
    wanted: Wanted,
    *,
    dataset: Path | None = None,
    label: str | None = None,
    predictions: Path | None = None,
) -> Selected:
    """Write a selection.

    Args:
        atlas: from aqqua explore build.
        out: new; .csv or .parquet for ids and labels, a folder for weights and ecotaxa.
        kind: of KINDS. ids: image_id and key. labels: image_id, the label proposed, what it was. weights: 1
            for the selected images and 0 for others, for training. ecotaxa: zips to import.
        wanted: which images.
        dataset: the atlas' one; for weights and ecotaxa.
        label: proposed for all; without, that of the file of ids, else the predicted class.
        predictions: a table of aqqua predict, whose classes go into the zips.

    Raises:
        ValueError: nothing is selected, an id is unknown, or something does not fit.
        RuntimeError: a package is missing, or the disk is full or failed.
    """
    if kind not in KINDS:
        raise ValueError(f"{WHO}: the kind must be one of {', '.join(KINDS)}, got {kind!r}; choose one")
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise ValueError(f"{WHO}: the output must not exist yet, got {out}; choose another name or remove it")
    asked = AskedAtlas(atlas)
    chosen = _chosen(asked, wanted)
    if not len(chosen.rows):
        raise ValueError(f"{WHO}: some image must be selected, got none; widen the selection")
    if kind in ("weights", "ecotaxa"):
        opened = _dataset(asked, dataset, kind)
        keys = asked.atlas.table(["key"])["key"].to_numpy()[chosen.rows]
        _write_weights(opened, keys, out) if kind == "weights" else _write_ecotaxa(
            opened, keys, out, predictions
        )
    else:
        table = _ids_table(asked, chosen) if kind == "ids" else _labels_table(asked, chosen, label)
        _write_table(table, out)
    return Selected(out, kind, len(chosen.rows))


def _chosen(asked: AskedAtlas, wanted: Wanted) -> _Chosen:
    given = [one for one in (wanted.rows, wanted.ids, wanted.where) if one is not None]
    if len(given) != 1:
        raise ValueError(
            f"{WHO}: exactly one of rows, ids and where must be given, got {len(given)}; give one"
        )
    if wanted.ids is not None:
        return _from_file(asked, wanted.ids)
    rows = np.unique(wanted.rows) if wanted.rows is not None else asked.where(wanted.where or "")
    return _Chosen(asked.ids(rows.tolist()), rows.astype(np.int64), None)


def _from_file(asked: AskedAtlas, path: Path) -> _Chosen:
    ids, labels = _read_ids(path)
    found = asked.rows_of(ids)
    if (found < 0).any():
        first = ids[int(np.flatnonzero(found < 0)[0])]
        raise ValueError(
            f"{WHO}: every id of {path} must be of the atlas, got {int((found < 0).sum())} that are not, "
            f"such as {first[:80]!r}; give ids of this atlas"
        )
    first_of = np.unique(found, return_index=True)[1]  # an id that is there twice counts once
    first_of.sort()
    kept = [ids[i] for i in first_of]
    return _Chosen(kept, found[first_of], None if labels is None else [labels[i] for i in first_of])


def _read_ids(path: Path) -> tuple[list[str], list[str] | None]:
    try:
        if path.suffix == ".parquet":
            names = pq.read_schema(path).names
            table = pq.read_table(path, columns=[name for name in ("image_id", "label") if name in names])
            columns = {name: [str(v) for v in table[name].to_pylist()] for name in table.column_names}
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
            columns = {name: [row[name] or "" for row in rows] for name in (rows[0] if rows else ())}
        else:
            columns = {
                "image_id": [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line]
            }
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{WHO}: a file of ids must be readable, got {path}: {error}; save it again"
        ) from error
    if not columns.get("image_id"):
        raise ValueError(
            f"{WHO}: {path} must have ids below a heading image_id, got {list(columns)[:5]}; add them"
        )
    return columns["image_id"], columns.get("label")


def _ids_table(asked: AskedAtlas, chosen: _Chosen) -> pa.Table:
    keys = asked.atlas.table(["key"])["key"].to_numpy()[chosen.rows]
    return pa.table({"image_id": chosen.ids, "key": pa.array(keys, pa.uint64())})


def _labels_table(asked: AskedAtlas, chosen: _Chosen, label: str | None) -> pa.Table:
    """The label proposed for each image beside what it was."""
    old = asked.atlas.table(["label", "label_status", "class"]).take(pa.array(chosen.rows))
    proposed: Sequence[str | None]
    if label is not None:
        proposed = [label.strip()] * len(chosen.ids)
    else:
        proposed = chosen.labels if chosen.labels is not None else old["class"].to_pylist()
    missing = [i for i, one in zip(chosen.ids, proposed, strict=True) if not one]
    if missing:
        raise ValueError(
            f"{WHO}: every image must get a label, got none for {len(missing)}, such as {missing[0][:80]!r}; "
            "give --label, a column label beside the ids, or an atlas with predicted classes"
        )
    return pa.table(
        {
            "image_id": chosen.ids,
            "label": list(proposed),
            "was": old["label"],
            "was_status": old["label_status"],
        }
    )


def _write_table(table: pa.Table, out: Path) -> None:
    if out.suffix not in (".csv", ".parquet"):
        raise ValueError(
            f"{WHO}: ids and labels must go to a .csv or .parquet file, got {out.name!r}; rename it"
        )
    with new_file(out, WHO) as partial:
        if out.suffix == ".parquet":
            pq.write_table(table, partial, compression="zstd")
            return
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table.column_names)
            writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _dataset(asked: AskedAtlas, path: Path | None, kind: str) -> Dataset:
    if path is None:
        raise ValueError(f"{WHO}: {kind} needs the dataset of the atlas, got none; add --dataset")
    dataset = Dataset.open(path)
    told = asked.atlas.facts.get("dataset_sha256")
    if told is not None and told != dataset.manifest_sha256:
        raise ValueError(
            f"{WHO}: {path} must be the dataset of the atlas, got another one; give the one it was built of"
        )
    return dataset


def _write_weights(dataset: Dataset, keys: np.ndarray, out: Path) -> None:
    """1 for selected images and 0 for others: an epoch is the selection, once."""
    field = pa.field(WEIGHT, pa.float32(), False, {"description": "1 selected, 0 not"})
    facts: dict[str, float] = {}
    total = 0

    def table(block: int) -> pa.Table:
        nonlocal total
        inside = np.isin(dataset.sizes(block).key, keys)
        total += int(inside.sum())
        return pa.table({WEIGHT: pa.array(inside.astype(np.float32))}, schema=pa.schema([field]))

    with write_columns(out, dataset, KIND, [field], facts, WHO) as writer:
        for part in range(dataset.parts):
            writer.write_part(part, table)
        if total != len(keys):
            raise ValueError(
                f"{WHO}: every selected image must be in the dataset, got {total} of {len(keys)}; give the "
                "dataset that the atlas was built of"
            )
        facts[WEIGHT_SUM] = float(total)


def _write_ecotaxa(dataset: Dataset, keys: np.ndarray, out: Path, predictions: Path | None) -> None:
    from aqqua.downstream.publish.ecotaxa import export_ecotaxa

    export_ecotaxa(SelectedDataset(dataset, keys), out, predictions=predictions)
