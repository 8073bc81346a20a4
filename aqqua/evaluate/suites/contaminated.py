"""Which images of a suite a model's pretraining set held, or was near to.

`aqqua curate PRETRAINING --evaluation DATASET` looks for them and writes, beside the pretraining set, the
evaluation image that each of its images is near (aqqua/curate/copies/contamination.py). That folder is read
here without the pretraining set, which need not be at hand. Where one pretraining image is near several, it
names one; so all images of the same picture count as known.

Test: tests/evaluate/suites/test_contaminated.py.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from aqqua.curate.copies.contamination import KIND
from aqqua.evaluate.suites.images import Images
from aqqua.evaluate.suites.suite import Suite
from aqqua.store.columns import MANIFEST
from aqqua.store.manifest import seal_of
from aqqua.store.read import Dataset


def contaminated(
    images: Images,
    suite: Suite,
    datasets: Mapping[str, Dataset],
    sources: Mapping[str, Sequence[Path]],
) -> np.ndarray:
    """True for the images that pretraining knew, bool [I].

    Args:
        sources: key -> folders of contamination, or text files with an image id a line.

    Raises:
        ValueError: no such data set in the suite, a folder that is not of it, an id that it does not have.
    """
    known_I = np.zeros(len(images), bool)
    for key, paths in sources.items():
        if key not in suite.datasets:
            raise ValueError(
                f"suite: contamination must be of one of {', '.join(suite.datasets)}, got {key}; leave it out"
            )
        number = list(suite.datasets).index(key)
        rows = np.flatnonzero(images.dataset_I == number)
        ids = images.table["image_id"].take(rows).to_pylist()
        place = dict(zip(ids, rows.tolist(), strict=True))
        for path in paths:
            for name in _names(Path(path), datasets[key], key):
                if name not in place:
                    near = difflib.get_close_matches(name, ids[:10_000], 1)
                    hint = f"the nearest is {near[0]}" if near else "it is of another data set"
                    raise ValueError(f"suite: {path} must hold image ids of {key}, got {name}; {hint}")
                known_I[place[name]] = True
    return np.isin(images.picture_I, np.unique(images.picture_I[known_I]))


def _names(path: Path, dataset: Dataset, key: str) -> set[str]:
    if path.is_file() and path.suffix == ".txt":
        return {line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()}
    if not (path / MANIFEST).is_file():
        raise ValueError(
            f"suite: contamination of {key} must be a folder that aqqua curate wrote, or a .txt file of "
            f"image ids, got {path}; make it with: aqqua curate PRETRAINING --evaluation DATASET"
        )
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        kind, parts = manifest["kind"], [part["name"] for part in manifest["parts"]]
        of = manifest["facts"]["made_from"]["evaluation_dataset"] if kind == KIND else None
        sound = manifest["seal"] == seal_of(manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"suite: {path / MANIFEST} must be sound, got {error!r}; make it again") from error
    if kind != KIND or of != dataset.manifest_sha256 or not sound:
        what = kind if kind != KIND else "that of another data set" if sound else "a changed manifest"
        raise ValueError(
            f"suite: {path} must be contamination of {key}, got {what}; make it from {dataset.path}"
        )
    found: set[str] = set()
    for name in parts:
        column = pq.read_table(path / Path(name).name, columns=["evaluation_id"])["evaluation_id"]
        found.update(one for one in column.unique().to_pylist() if one is not None)
    return found
