"""One evaluation: frozen features of a model and its baselines, the same split, the same probes."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

import aqqua
from aqqua.evaluate.features import Embedder, Pooling, all_features, fingerprint, pixel_features
from aqqua.evaluate.interval import macro_f1_margin
from aqqua.evaluate.knn import knn_predict
from aqqua.evaluate.linear import FITS, linear_predict
from aqqua.evaluate.metrics import Scores, score
from aqqua.evaluate.models import load_embedder, run_config, untrained
from aqqua.evaluate.whiten import fit_whitening
from aqqua.progress import Bar
from aqqua.store.read import Dataset
from aqqua.store.split import held_out

NEIGHBOURS = (1, 5, 20)
MIN_PER_CLASS = 2  # training images a class needs to be asked for
TRUSTED = ("validated", "folder")  # label statuses that count as truth
DEFAULT_HOLDOUT = 0.2


@dataclass(frozen=True)
class Split:
    """Labelled images of a dataset, divided by group."""

    train: np.ndarray  # row numbers
    test: np.ndarray
    label: np.ndarray  # class number of every row of the dataset, -1 where none counts
    names: list[str]
    left_out: dict[str, int]  # why images are not used


@dataclass(frozen=True)
class Result:
    """Scores of each contender under each probe."""

    about: dict[str, Any]
    scores: dict[str, dict[str, Scores]]  # contender -> probe -> scores
    margins: dict[str, dict[str, tuple[float, float]]]  # baseline -> probe -> 95 % interval of model minus it

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        scores = {
            name: {probe: asdict(s) for probe, s in probes.items()} for name, probes in self.scores.items()
        }
        return {**self.about, "scores": scores, "macro_f1_margins": self.margins}

    def lines(self) -> list[str]:
        """For people."""
        about = self.about
        head = (
            f"{about['test_images']} test images of {about['classes_tested']} classes, "
            f"{about['train_images']} labelled images of {about['classes']} classes to learn from"
        )
        if not about["test_images_unseen_in_pretraining"]:
            head += "\nnote: pretraining may have seen test images (without labels); see data.holdout"
        columns = f"{'macro-F1':>9} {'accuracy':>9} {'balanced':>9}"
        table = [f"{'':10} {'probe':19} {columns}   model ahead in macro-F1 by (95 %)"]
        for name, probes in self.scores.items():
            for probe, s in probes.items():
                numbers = f"{s.macro_f1:9.3f} {s.accuracy:9.3f} {s.balanced_accuracy:9.3f}"
                low, high = self.margins.get(name, {}).get(probe, (None, None))
                lead = self.scores["model"][probe].macro_f1 - s.macro_f1
                ahead = "" if low is None else f"   {lead:+.3f} ({low:+.3f} to {high:+.3f})"
                table.append(f"{name:10} {probe:19} {numbers}{ahead}")
        return [head, *table]


def evaluate(
    model: Path,
    data: Path,
    *,
    against: Sequence[str] = ("untrained",),
    holdout: float | None = None,
    pooling: Pooling = "cls",
    linear: bool = True,
) -> Result:
    """Judge a model by its frozen features on labelled images it never trained on.

    Args:
        model: folder of a run, or an exported file.
        data: dataset with labels.
        against: baselines, `untrained` and `pixels`.
        holdout: share of groups tested on; with more than the run held out, it has seen some of them.
            None takes the run's.
        linear: also fit the linear probe.

    Raises:
        ValueError: no labelled images on both sides of the split.
    """
    embedder, dataset, config = load_embedder(model, pooling), Dataset.open(data), run_config(model)
    if holdout is not None and not 0 < holdout < 1:
        raise ValueError(f"evaluate: holdout must be between 0 and 1, got {holdout}; 0.2 is a fifth")
    if holdout is None:
        holdout = (config.data.holdout if config else 0) or DEFAULT_HOLDOUT
    split = split_labelled(dataset, holdout)
    makers: dict[str, Callable[[Dataset, int], np.ndarray]] = {"model": embedder}
    if "untrained" in against:
        makers["untrained"] = untrained(embedder, config.seed if config else 0)
    if "pixels" in against:
        makers["pixels"] = pixel_features
    predictions = {}
    for name, make in makers.items():
        with Bar(f"features of {name}", dataset.rows, "images") as bar:
            features = all_features(make, dataset, lambda done, bar=bar: bar.update(done))  # type: ignore[misc]
        predictions[name] = probe(features, split, linear=linear)
    # A smaller share holds out a part of the same groups; a larger one takes groups that were trained on.
    # What the weights of an `init` have seen, nobody can tell.
    unseen = config is not None and config.init is None and holdout <= config.data.holdout
    return Result(_about(embedder, dataset, split, holdout, unseen), *_judge(predictions, split))


def probe(features_ND: np.ndarray, split: Split, *, linear: bool = True) -> dict[str, np.ndarray]:
    """Classes of the test rows, as each probe finds them.

    kNN for each of NEIGHBOURS, on the features as they are and whitened, and the linear probe.
    """
    train, test = features_ND[split.train], features_ND[split.test]
    labels = split.label[split.train]
    whiten = fit_whitening(train)
    found = {}
    for kind, rows in {"kNN": (train, test), "whitened kNN": (whiten(train), whiten(test))}.items():
        train_ND, test_MD = (torch.from_numpy(side).float() for side in rows)
        for k in NEIGHBOURS:
            predicted = knn_predict(train_ND, torch.from_numpy(labels), test_MD, k, len(split.names))
            found[f"{kind} k={k}"] = predicted.numpy()
    if linear:
        with Bar("linear probe", FITS, "fits") as bar:
            found["linear"], _ = linear_predict(
                train, labels, test, seed=0, advance=lambda done: bar.update(done)
            )
    return found


def _judge(
    predictions: dict[str, dict[str, np.ndarray]], split: Split
) -> tuple[dict[str, dict[str, Scores]], dict[str, dict[str, tuple[float, float]]]]:
    """Scores of each contender under each probe, and by how much the model is ahead of each baseline."""
    truth = split.label[split.test]
    scores = {
        name: {kind: score(truth, found, split.names) for kind, found in probes.items()}
        for name, probes in predictions.items()
    }
    model = predictions["model"]
    margins = {
        name: {
            kind: macro_f1_margin(truth, model[kind], found, len(split.names), seed=0)
            for kind, found in probes.items()
        }
        for name, probes in predictions.items()
        if name != "model"
    }
    return scores, margins


def split_labelled(dataset: Dataset, holdout: float) -> Split:
    """Rows with trusted labels, by group into train and test; copies of training images leave the test.

    Raises:
        ValueError: one side would be empty.
    """
    table = dataset.table(["label", "label_status", "content"])
    status = np.array(table["label_status"].to_pylist(), object)
    written = table["label"].to_pylist()
    trusted = np.isin(status, TRUSTED) & np.array([name is not None for name in written])
    tested = np.concatenate([held_out(dataset, block, holdout) for block in range(dataset.blocks)])
    train_counts: dict[str, int] = {}
    for row in np.flatnonzero(trusted & ~tested):
        train_counts[written[row]] = train_counts.get(written[row], 0) + 1
    names = sorted(name for name, count in train_counts.items() if count >= MIN_PER_CLASS)
    number = {name: i for i, name in enumerate(names)}
    label = np.array([number.get(name, -1) if ok else -1 for name, ok in zip(written, trusted, strict=True)])
    train = np.flatnonzero((label >= 0) & ~tested)
    # Pretraining saw every image of the training groups, labelled or not.
    seen = set(table["content"].filter(pa.array(~tested)).to_pylist())
    test = np.flatnonzero((label >= 0) & tested)
    copies = np.array([content in seen for content in table["content"].take(test).to_pylist()], bool)
    left_out = {
        "no label": int(sum(name is None for name in written)),
        "label not trusted": int((~trusted).sum()) - sum(name is None for name in written),
        f"class with under {MIN_PER_CLASS} training images": int((trusted & (label < 0)).sum()),
        "exact copy of a training image": int(copies.sum()),
    }
    test = test[~copies]
    if not len(train) or not len(test):
        raise ValueError(
            f"evaluate: both sides of the split must hold labelled images, got {len(train)} to learn from "
            f"and {len(test)} to test on; choose another --holdout or a dataset with labels"
        )
    return Split(train, test, label, names, left_out)


def _about(
    embedder: Embedder, dataset: Dataset, split: Split, holdout: float, unseen: bool
) -> dict[str, Any]:
    test_ids = hashlib.sha256(split.test.tobytes()).hexdigest()
    return {
        "protocol": 2,
        "aqqua": aqqua.__version__,
        "model_sha256": fingerprint(embedder.backbone),
        "dataset_sha256": dataset.manifest_sha256,
        "test_rows_sha256": test_ids,
        "holdout": holdout,
        "test_images_unseen_in_pretraining": unseen,
        "pooling": embedder.pooling,
        "train_images": len(split.train),
        "test_images": len(split.test),
        "classes": len(split.names),
        "classes_tested": len(np.unique(split.label[split.test])),
        "left_out": split.left_out,
    }
