"""Predictions of IFCB images as one `<bin>_class.h5` per bin, which IFCB dashboards and iRfcb read.

Fields as in real files (class_scores v3; SMHI's ifcb-algaware): output_scores float64 [N, C], class_labels
[C], roi_numbers int32 [N], class_name and class_name_auto [N], thresholds float64 [C], classifier_name [1];
texts are variable-length UTF-8. class_name_auto is the class of the highest score; class_name is that class
where its score reaches the class's threshold, else "unclassified". Source: real file
D20250714T110535_IFCB134_class.h5 (field by field in the test); class_scores v3 of ifcbdb.
Test: tests/downstream/publish/test_ifcb_class_h5.py.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float16, Int

from aqqua.downstream.predictions import Predictions
from aqqua.downstream.publish.packages import needed
from aqqua.instruments.ifcb import LID
from aqqua.store.new_folder import new_folder

WHO = "ifcb class scores"
UNCLASSIFIED = "unclassified"
_NAME = re.compile(rf"(?:.*/)?(?P<bin>{LID.pattern})_(?P<roi>\d{{5,}})", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class _Rows:
    """Where every prediction belongs: rows in the order of bin, then ROI."""

    bins: list[str]  # sorted
    starts: Int[np.ndarray, " B1"]  # first row of each bin, then the number of rows
    rois: Int[np.ndarray, " N"]
    place_N: Int[np.ndarray, " N"]  # row of the table -> place in this order


def export_ifcb_class_h5(
    predictions: Path,
    out: Path,
    thresholds: Mapping[str, float] | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write a folder of class files; how many.

    Args:
        predictions: of aqqua predict, of IFCB images only.
        out: new folder.
        thresholds: class name -> least score, 0 to 1; classes that are not named have 0.
        progress: called with the rows read.

    Raises:
        ValueError: an image is not of an IFCB or there twice (its row is named), or a threshold is wrong.
        RuntimeError: h5py is missing, or the disk is full or failed.
    """
    h5py = needed("h5py", WHO)
    opened = Predictions.open(predictions)
    names = [one.name for one in opened.classes]
    least_C = _thresholds(names, thresholds or {})
    rows = _bins(opened)
    with new_folder(out, WHO) as folder:
        scores_NC = _in_order(opened, rows, folder / "scores.tmp", progress)
        for number, name in enumerate(rows.bins):
            part = slice(rows.starts[number], rows.starts[number + 1])
            _write(
                h5py,
                folder / f"{name}_class.h5",
                scores_NC[part],
                rows.rois[part],
                names=names,
                thresholds_C=least_C,
                classifier=opened.facts.get("classifier_name", ""),
            )
        del scores_NC  # before its file goes
        (folder / "scores.tmp").unlink()
    return len(rows.bins)


def bin_and_roi(image_id: str) -> tuple[str, int] | None:
    """The bin and the ROI number that an image of an IFCB is named by; None for other names."""
    found = _NAME.fullmatch(image_id)
    return None if found is None else (found["bin"], int(found["roi"]))


def _thresholds(names: list[str], given: Mapping[str, float]) -> Float[np.ndarray, " C"]:
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(
            f"{WHO}: thresholds must be of classes of the classifier, got {unknown[0]!r}; it has "
            f"{names[:8]} ..."
        )
    wrong = [(name, least) for name, least in given.items() if not 0 <= least <= 1]
    if wrong:
        raise ValueError(
            f"{WHO}: a threshold must be 0 to 1, got {wrong[0][1]} for {wrong[0][0]!r}; correct it"
        )
    return np.array([given.get(name, 0.0) for name in names])


def _bins(opened: Predictions) -> _Rows:
    codes: dict[str, int] = {}
    bin_N, roi_N = np.zeros(opened.rows, np.int64), np.zeros(opened.rows, np.int64)
    row = 0
    for table in opened.batches(["image_id", "instrument"]):
        pairs = zip(table["image_id"].to_pylist(), table["instrument"].to_pylist(), strict=True)
        for image_id, instrument in pairs:
            found = bin_and_roi(image_id)
            if instrument != "IFCB" or found is None:
                raise ValueError(
                    f"{WHO}: every image must be of an IFCB and named <bin>_<roi>, got {image_id[:200]!r} of "
                    f"{instrument!r} in row {row + 1}; predict IFCB images by themselves"
                )
            bin_N[row], roi_N[row] = codes.setdefault(found[0], len(codes)), found[1]
            row += 1
    names = sorted(codes)
    rank = np.empty(len(codes), np.int64)
    rank[[codes[name] for name in names]] = np.arange(len(names))
    bin_N = rank[bin_N]
    order = np.lexsort((roi_N, bin_N))
    _require_once(bin_N[order], roi_N[order], order, names)
    place_N = np.empty(opened.rows, np.int64)
    place_N[order] = np.arange(opened.rows)
    starts = np.concatenate([[0], np.bincount(bin_N, minlength=len(names)).cumsum()])
    return _Rows(names, starts, roi_N[order].astype(np.int32), place_N)


def _require_once(bin_N: np.ndarray, roi_N: np.ndarray, order: np.ndarray, names: list[str]) -> None:
    twice = np.flatnonzero((bin_N[1:] == bin_N[:-1]) & (roi_N[1:] == roi_N[:-1]))
    if len(twice):
        at = int(twice[0])
        raise ValueError(
            f"{WHO}: every ROI must be there once, got {names[bin_N[at]]}_{roi_N[at]:05d} in rows "
            f"{order[at] + 1} and "
            f"{order[at + 1] + 1}; ingest each bin once"
        )


def _in_order(
    opened: Predictions, rows: _Rows, file: Path, progress: Callable[[int], None] | None
) -> Float16[np.ndarray, "N C"]:
    """All scores by bin and ROI, in a file: the rows of a bin may lie anywhere in a shuffled dataset."""
    scores_NC = np.memmap(file, np.float16, "w+", shape=(max(opened.rows, 1), len(opened.classes)))
    row = 0
    for table in opened.batches(["scores"]):
        for chunk in table["scores"].chunks:
            values = chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), len(opened.classes))
            scores_NC[rows.place_N[row : row + len(chunk)]] = values
            row += len(chunk)
        if progress is not None:
            progress(row)
    return scores_NC


def _write(
    h5py: Any,
    path: Path,
    scores_NC: Float16[np.ndarray, "N C"],
    rois: np.ndarray,
    *,
    names: list[str],
    thresholds_C: Float[np.ndarray, " C"],
    classifier: str,
) -> None:
    best_N = np.asarray(scores_NC).argmax(axis=1)
    sure_N = scores_NC[np.arange(len(best_N)), best_N] >= thresholds_C[best_N]
    auto = [names[best] for best in best_N]
    final = [name if sure else UNCLASSIFIED for name, sure in zip(auto, sure_N, strict=True)]
    with h5py.File(path, "w") as file:
        text = h5py.string_dtype("utf-8")
        file.create_dataset("output_scores", data=np.asarray(scores_NC).astype(np.float64))
        file.create_dataset("class_labels", data=names, dtype=text)
        file.create_dataset("roi_numbers", data=rois)
        file.create_dataset("class_name", data=final, dtype=text)
        file.create_dataset("class_name_auto", data=auto, dtype=text)
        file.create_dataset("classifier_name", data=[classifier], dtype=text)
        file.create_dataset("thresholds", data=thresholds_C)
