"""From a dataset and what is known of its images to a classifier: `aqqua finetune species|trait|carbon`.

Groups that are held out (aqqua.store.split) are never learnt from, so that `aqqua evaluate` can ask for them.
Letters: N images learnt from, T traits. Test: tests/downstream/test_learn.py.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aqqua.downstream.classifier import Classifier, save_classifier
from aqqua.evaluate.features import fingerprint
from aqqua.evaluate.finetune.carbon_table import CARBON, measured_carbon, require_positive
from aqqua.evaluate.finetune.config import FinetuneConfig
from aqqua.evaluate.finetune.objective import Objective, SpeciesObjective, TraitObjective
from aqqua.evaluate.finetune.train import Advance, finetune, unwatched
from aqqua.evaluate.finetune.trait_table import Measured, measured, read_traits
from aqqua.evaluate.finetune.traits import Kind, define_trait
from aqqua.evaluate.models import load_embedder, run_config
from aqqua.store.read import Dataset
from aqqua.store.schema import TRUSTED
from aqqua.store.split import DEFAULT_HOLDOUT, MIN_PER_CLASS, held_out
from aqqua.taxonomy.classes import TaxonClass

UNKNOWN_LINEAGE = (None,) * 7


@dataclass(frozen=True)
class Request:
    """What every fine-tuning is asked for."""

    model: Path  # run, checkpoint or exported file
    data: Path  # dataset
    out: Path  # new folder
    config: FinetuneConfig
    command: str  # as it was typed, for the record
    holdout: float | None = None  # share of groups never learnt from; None: the run's, else 0.2
    name: str = ""  # of the classifier; "" is that of `out`
    advance: Advance = unwatched  # progress


@dataclass(frozen=True)
class Labelled:
    """Images whose class is known."""

    row_N: np.ndarray
    label_N: np.ndarray
    classes: tuple[TaxonClass, ...]
    left_out: dict[str, int]  # why images are not used


def finetune_species(
    request: Request,
    labels: Mapping[str, TaxonClass | None] | None = None,
) -> Classifier:
    """Learn classes from the trusted labels of a dataset, and save the classifier.

    Args:
        labels: class of each label as written, None to leave it out (LabelMap.labels); without it every label
            is a class of its own, of which no taxonomy is known.

    Raises:
        ValueError: a label that `labels` does not have, too few labelled images, or `out` exists.
        RuntimeError: the loss is not finite.
    """
    dataset, kept_N = _open(request)
    found = labelled(dataset, kept_N, labels)
    objective = SpeciesObjective(found.label_N, len(found.classes), request.config)
    facts = {"task": "species", "left_out": found.left_out}
    return _learn(request, dataset, found.row_N, objective, found.classes, facts)


def finetune_traits(
    request: Request,
    table: Path,
    kinds: Mapping[str, Kind] | None = None,
    log10: Collection[str] = (),
) -> Classifier:
    """Learn every trait of a table (aqqua.evaluate.finetune.trait_table), and save the classifier.

    Args:
        kinds: of traits whose values do not say it: continuous, ordinal or binary.
        log10: continuous traits whose logarithm is learnt.

    Raises:
        ValueError: a bad row, too few values, a trait named that is not in the table, or `out` exists.
        RuntimeError: the loss is not finite.
    """
    dataset, kept_N = _open(request)
    require_positive(table, read_traits(table), log10)
    found = measured(table, dataset)
    kinds = kinds or {}
    if unknown := [name for name in (*kinds, *log10) if name not in found.trait_ids]:
        raise ValueError(
            f"finetune: traits must be among {', '.join(found.trait_ids)}, got {unknown[0]}; correct the name"
        )
    return _learn_traits(request, dataset, kept_N, found, kinds, log10, "trait")


def finetune_carbon(
    request: Request,
    table: Path,
    relations: Collection[str] = (),
) -> Classifier:
    """Learn log10 of the carbon of an organism, in pg, from measured values alone, and save the classifier.

    Args:
        table: of one trait, in pg, ng, µg or mg, of carbon.
        relations: ids of published relations; a value whose method names one was never measured.

    Raises:
        ValueError: a bad row, another trait or unit, a value that came from a relation, or `out` exists.
        RuntimeError: the loss is not finite.
    """
    dataset, kept_N = _open(request)
    found = measured_carbon(table, dataset, relations)
    kinds: dict[str, Kind] = {CARBON: "continuous"}
    return _learn_traits(request, dataset, kept_N, found, kinds, (CARBON,), "carbon")


def labelled(
    dataset: Dataset, kept_N: np.ndarray, labels: Mapping[str, TaxonClass | None] | None
) -> Labelled:
    """The images with a trusted label whose class has MIN_PER_CLASS of them.

    Args:
        kept_N: True for rows of the dataset that may be used.
        labels: see finetune_species.

    Raises:
        ValueError: a trusted label is not in `labels`, or fewer than two classes are left.
    """
    found, left_out = _trusted(dataset, kept_N, labels)
    counts = Counter(one for _, one in found)
    classes = tuple(sorted((c for c in counts if counts[c] >= MIN_PER_CLASS), key=lambda c: c.name))
    left_out[f"class with under {MIN_PER_CLASS} images"] = len(found) - sum(counts[c] for c in classes)
    if len(classes) < 2:
        raise ValueError(
            f"finetune: at least two classes must have {MIN_PER_CLASS} labelled images, got {len(classes)} "
            f"of {len(found)} images; give a dataset with labels, or a smaller holdout"
        )
    number = {one: c for c, one in enumerate(classes)}
    rows = [(row, number[one]) for row, one in found if one in number]
    row_N, label_N = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Labelled(row_N, label_N, classes, dict(left_out))


def _trusted(
    dataset: Dataset, kept_N: np.ndarray, labels: Mapping[str, TaxonClass | None] | None
) -> tuple[list[tuple[int, TaxonClass]], Counter[str]]:
    """Row and class of the images with a trusted label, and why the others are left out."""
    table = dataset.table(["label", "label_status"])
    written, status = table["label"].to_pylist(), table["label_status"].to_pylist()
    class_of, left_out = labels, Counter[str]()
    if class_of is None:
        class_of = {
            name: TaxonClass(name, None, UNKNOWN_LINEAGE) for name in set(written) if name is not None
        }
    found: list[tuple[int, TaxonClass]] = []
    for row, (name, trust) in enumerate(zip(written, status, strict=True)):
        if not kept_N[row] or name is None or trust not in TRUSTED:
            left_out["held out" if not kept_N[row] else "no trusted label"] += 1
        elif name not in class_of:
            raise ValueError(
                f"finetune: every label must be in the label map, got {name!r} in row {row} of "
                f"{dataset.path}; add it, or say there why it is left out"
            )
        elif (one := class_of[name]) is None:
            left_out["left out by the label map"] += 1
        else:
            found.append((row, one))
    return found, left_out


def _open(request: Request) -> tuple[Dataset, np.ndarray]:
    """The dataset, and which of its rows may be learnt from."""
    if request.out.exists():
        raise ValueError(f"finetune: the output must not exist yet, got {request.out}; choose another name")
    dataset, share = Dataset.open(request.data), holdout_of(request)
    if not 0 <= share < 1:
        raise ValueError(f"finetune: holdout must be 0 to below 1, got {share}; 0.2 is a fifth of the groups")
    held = [held_out(dataset, block, share) for block in range(dataset.blocks)]
    return dataset, ~np.concatenate(held)


def holdout_of(request: Request) -> float:
    """Share of groups never learnt from, as aqqua evaluate takes it."""
    if request.holdout is not None:
        return request.holdout
    config = run_config(request.model)
    return (config.data.holdout if config else 0) or DEFAULT_HOLDOUT


def _pretraining_holdout(model: Path) -> float | None:
    """Share of groups that pretraining did not see; None where nobody can tell."""
    config = run_config(model)
    return None if config is None or config.init is not None else config.data.holdout


def _learn_traits(
    request: Request,
    dataset: Dataset,
    kept_N: np.ndarray,
    found: Measured,
    kinds: Mapping[str, Kind],
    log10: Collection[str],
    task: str,
) -> Classifier:
    kept = kept_N[found.row_N]
    row_N, value_NT = found.row_N[kept], found.value_NT[kept]
    traits = tuple(
        define_trait(name, value_NT[:, t], unit, kinds.get(name), name in log10)
        for t, (name, unit) in enumerate(zip(found.trait_ids, found.units, strict=True))
    )
    objective = TraitObjective(value_NT, traits)
    facts = {"task": task, "left_out": {"held out": int((~kept).sum())}}
    return _learn(request, dataset, row_N, objective, (), facts)


def _learn(
    request: Request,
    dataset: Dataset,
    row_N: np.ndarray,
    objective: Objective,
    classes: tuple[TaxonClass, ...],
    facts: Mapping[str, Any],
) -> Classifier:
    embedder = load_embedder(request.model, request.config.pooling)
    learnt = finetune(embedder, dataset, row_N, objective, request.config, request.advance)
    classifier = Classifier(
        name=request.name or request.out.name,
        embedder=replace(embedder, backbone=learnt.backbone),
        head=learnt.head,
        classes=classes,
        traits=learnt.traits,
        temperature=learnt.temperature,
        thresholds=learnt.thresholds,
        facts={
            **facts,
            "command": request.command,
            "dataset_sha256": dataset.manifest_sha256,
            "backbone_sha256": fingerprint(embedder.backbone),
            "holdout": holdout_of(request),
            "pretraining_holdout": _pretraining_holdout(request.model),
            "config": request.config.model_dump(mode="json"),
            "metrics": learnt.metrics,
        },
    )
    save_classifier(classifier, request.out)
    return classifier
