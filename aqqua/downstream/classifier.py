"""A classifier on disk: backbone, head, classes or traits, and how images are shown; one folder.

    backbone.safetensors   the backbone, any LoRA merged, as aqqua embed and aqqua export read it
    head.safetensors       the head's weights
    classifier.json        what the numbers mean, and the SHA-256 of the two files above

Nothing of it is unpickled or evaluated: whatever a stranger puts into the folder is an error in one sentence.

Letters: I images of a block, C classes, O outputs. Test: tests/downstream/test_classifier.py.
"""

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from aqqua.config import first_error
from aqqua.downstream.class_list import ClassEntry, class_entry, taxon_classes
from aqqua.evaluate.contenders.contender import Contender
from aqqua.evaluate.contenders.native import Native
from aqqua.evaluate.contenders.opening import open_contender
from aqqua.evaluate.features import Embedder, Pooling, fingerprint
from aqqua.evaluate.finetune.heads import LinearHead, SpeciesHead, TraitHead
from aqqua.evaluate.finetune.traits import Trait
from aqqua.evaluate.learned_head import LearnedHead
from aqqua.evaluate.models import load_embedder, save_embedder
from aqqua.store.manifest import file_sha256
from aqqua.store.read import Dataset
from aqqua.taxonomy.classes import TaxonClass

BACKBONE, HEAD, FACTS = "backbone.safetensors", "head.safetensors", "classifier.json"
MOST_BYTES = 64 << 20  # of classifier.json


@dataclass(frozen=True)
class Classifier:
    """What turns images into probabilities of classes, or into traits."""

    name: str
    embedder: Embedder
    head: LinearHead  # on the CPU
    classes: tuple[TaxonClass, ...]  # () where it tells traits
    traits: tuple[Trait, ...]  # () where it tells classes
    temperature: float  # logits are divided by it
    thresholds: tuple[float, ...] | None  # score of each class from which on to accept it
    facts: Mapping[str, Any]  # JSON: what it was made from, by which command, how good it was

    @cached_property
    def sha256(self) -> str:
        """Names the weights of backbone and head."""
        return fingerprint(nn.ModuleDict({"backbone": self.embedder.backbone, "head": self.head}))

    @property
    def learned(self) -> LearnedHead:
        """The head by itself, as an evaluation asks it beside the probes."""
        holdout, dataset = float(self.facts["holdout"]), str(self.facts["dataset_sha256"])
        return LearnedHead(self.head, self.classes, self.traits, self.temperature, holdout, dataset)

    @torch.no_grad()
    def outputs(self, dataset: Dataset, block: int) -> Float[Tensor, "I O"]:
        """What the head says of the images of a block, in row order."""
        features_ID = torch.from_numpy(np.ascontiguousarray(self.embedder(dataset, block), np.float32))
        return self.head(features_ID)

    def probabilities(self, dataset: Dataset, block: int) -> Float[np.ndarray, "I C"]:
        """Probability of each class for the images of a block, float32; rows sum to 1."""
        logits_IC = self.outputs(dataset, block).double() / self.temperature
        return logits_IC.softmax(dim=1).float().numpy()


class _File(BaseModel):
    """classifier.json."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["aqqua classifier"] = "aqqua classifier"
    version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=200)
    pooling: Pooling
    classes: list[ClassEntry]
    traits: list[Trait]
    temperature: float = Field(gt=0)
    thresholds: list[float] | None
    facts: dict[str, JsonValue]
    sha256: dict[str, str]


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Write a classifier to a new folder, whole or not at all.

    Raises:
        ValueError: the folder exists.
    """
    if folder.exists():
        raise ValueError(
            f"classifier: the folder must not exist yet, got {folder}; choose another name or remove it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        save_embedder(classifier.embedder, temporary / BACKBONE)
        state = {name: t.contiguous() for name, t in classifier.head.state_dict().items()}
        save_file(state, temporary / HEAD)
        file = _File(
            name=classifier.name,
            pooling=classifier.embedder.pooling,
            classes=[class_entry(one) for one in classifier.classes],
            traits=list(classifier.traits),
            temperature=classifier.temperature,
            thresholds=None if classifier.thresholds is None else list(classifier.thresholds),
            facts=dict(classifier.facts),
            sha256={name: file_sha256(temporary / name) for name in (BACKBONE, HEAD)},
        )
        (temporary / FACTS).write_text(file.model_dump_json(indent=1) + "\n", encoding="utf-8")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_classifier(folder: Path) -> Classifier:
    """The classifier that save_classifier wrote, on the best device.

    Raises:
        ValueError: no such folder, or a file of it is missing, damaged, or not what it must be.
    """
    file = _read(folder)
    for name in (BACKBONE, HEAD):
        if not (folder / name).is_file():
            raise ValueError(f"classifier: {folder} must hold {name}, got none; copy the whole folder again")
        if file_sha256(folder / name) != file.sha256.get(name):
            raise ValueError(
                f"classifier: {folder / name} must have the SHA-256 of {FACTS}, got another; "
                "copy the whole folder again"
            )
    embedder = load_embedder(folder / BACKBONE, file.pooling)
    classes = taxon_classes(file.classes, f"classifier: {folder / FACTS}") if file.classes else ()
    width, traits = embedder.width, tuple(file.traits)
    head = TraitHead(width, traits) if traits else SpeciesHead(width, len(classes))
    _fill(head, folder / HEAD)
    thresholds = None if file.thresholds is None else tuple(file.thresholds)
    what = classes, traits, file.temperature, thresholds
    return Classifier(file.name, embedder, head.eval(), *what, file.facts)


def open_judged(spec: str, pooling: Pooling = "cls") -> Contender:
    """As aqqua.evaluate.contenders.opening.open_contender; the folder of a classifier brings its head.

    Args:
        pooling: of all others; a classifier has its own.

    Raises:
        ValueError: as open_contender; or the classifier does not say what it learnt from.
        RuntimeError: a package is missing.
    """
    if not (Path(spec) / FACTS).is_file():
        return open_contender(spec, pooling)
    classifier = load_classifier(Path(spec))
    if missing := [name for name in ("holdout", "dataset_sha256") if name not in classifier.facts]:
        raise ValueError(
            f"classifier: {spec} must say what it learnt from to be judged, got no {missing[0]}; make it "
            "with aqqua finetune"
        )
    return Native(classifier.embedder, spec, head=classifier.learned)


def _read(folder: Path) -> _File:
    path = folder / FACTS
    if not path.is_file():
        raise ValueError(
            f"classifier: the folder must hold {FACTS}, got {folder}; make it with aqqua finetune"
        )
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"classifier: {path} must be at most {MOST_BYTES} bytes, got {size}; make it again")
    try:
        file = _File.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = first_error(error)
        raise ValueError(
            f"classifier: {path} must be as aqqua finetune writes it, got at {first.place or 'the file'}: "
            f"{first.says}; make it again"
        ) from error
    if bool(file.classes) == bool(file.traits):
        raise ValueError(
            f"classifier: {path} must have either classes or traits, got both or none; make it again"
        )
    if file.thresholds is not None and len(file.thresholds) != len(file.classes):
        raise ValueError(
            f"classifier: {path} must have a threshold for each of {len(file.classes)} classes, got "
            f"{len(file.thresholds)}; make it again"
        )
    return file


def _fill(head: LinearHead, path: Path) -> None:
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"classifier: {path} must be a whole safetensors file, got: {error}; copy it again"
        ) from error
    wanted = {name: (tuple(t.shape), t.dtype) for name, t in head.state_dict().items()}
    got = {name: (tuple(t.shape), t.dtype) for name, t in state.items()}
    if wanted != got:
        odd = next(name for name in (*wanted, *got) if wanted.get(name) != got.get(name))
        raise ValueError(
            f"classifier: {path} must fit {FACTS}, got {odd} of {got.get(odd)} instead of {wanted.get(odd)}; "
            "copy the whole folder again"
        )
    if odd := next((name for name, t in state.items() if not t.isfinite().all()), ""):
        raise ValueError(f"classifier: {path} must hold finite numbers, got others in {odd}; make it again")
    head.load_state_dict(state)
