"""What is learnt: the loss of an image, and the score that says when to stop.

Letters: N labelled images, B of them in a pack, M validation images, C classes, T traits.
Test: tests/evaluate/finetune/test_objective.py.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as nnf

from aqqua.evaluate.finetune.balance import inverse_frequency, log_prior
from aqqua.evaluate.finetune.config import FinetuneConfig
from aqqua.evaluate.finetune.heads import LinearHead, SpeciesHead, TraitHead
from aqqua.evaluate.finetune.traits import Trait

FEWEST_SCORED = 5  # validation values of a trait below which its score says nothing
LOSS_NAME = "minus the loss"  # the score where no trait has enough of them: the higher the better


@runtime_checkable  # for the check of shapes and types in tests (make shapes)
class Objective(Protocol):
    """What train.py needs to know of a task; index_B counts the labelled images."""

    score_name: str

    @property
    def label_N(self) -> Int[np.ndarray, " N"]:
        """Class of each image; all 0 where there are none."""

    def make_head(self, width: int) -> LinearHead: ...
    def learn_from(self, train: Int[np.ndarray, " n"]) -> None:
        """Which images are trained on: what frequencies are counted over."""

    def stop_by(self, validation: Int[np.ndarray, " M"]) -> None:
        """Which images say when to stop; after this `score_name` is settled."""

    def repeats(self) -> Float[np.ndarray, " N"] | None:
        """How often an image should be shown in an epoch; None: once."""

    def loss(self, head: LinearHead, out_BO: Tensor, index_B: np.ndarray) -> Float[Tensor, " B"]: ...
    def score(self, head: LinearHead, out_MO: Tensor, index_M: np.ndarray) -> float:
        """The higher the better."""


@dataclass
class SpeciesObjective:
    """Softmax over classes; stops by macro-F1."""

    label_N: Int[np.ndarray, " N"]
    classes: int
    config: FinetuneConfig
    score_name: str = "macro-F1"

    def __post_init__(self) -> None:
        self._weight_C, self._shift_C = torch.ones(self.classes), torch.zeros(self.classes)
        self._repeats: np.ndarray | None = None

    def make_head(self, width: int) -> LinearHead:
        return SpeciesHead(width, self.classes)

    def learn_from(self, train: Int[np.ndarray, " n"]) -> None:
        label_n, balance = self.label_N[train], self.config.balance
        weight_C = inverse_frequency(label_n, self.classes)
        if balance == "weights":
            self._weight_C = torch.from_numpy(weight_C).float()
        elif balance == "sampler":
            self._repeats = weight_C[self.label_N]
        elif balance == "logit_adjustment":
            shift_C = self.config.adjustment_tau * log_prior(label_n, self.classes)
            self._shift_C = torch.from_numpy(shift_C).float()

    def stop_by(self, validation: Int[np.ndarray, " M"]) -> None:
        """Every image has a class: macro-F1 can always be told."""

    def repeats(self) -> Float[np.ndarray, " N"] | None:
        return self._repeats

    def loss(self, head: LinearHead, out_BO: Tensor, index_B: np.ndarray) -> Float[Tensor, " B"]:
        del head
        label_B = torch.from_numpy(self.label_N[index_B]).to(out_BO.device)
        logits_BC = out_BO + self._shift_C.to(out_BO.device)
        smoothing = self.config.label_smoothing
        loss_B = nnf.cross_entropy(logits_BC, label_B, reduction="none", label_smoothing=smoothing)
        return loss_B * self._weight_C.to(out_BO.device)[label_B]

    def score(self, head: LinearHead, out_MO: Tensor, index_M: np.ndarray) -> float:
        from sklearn.metrics import f1_score

        del head
        truth_M, found_M = self.label_N[index_M], out_MO.argmax(dim=1).cpu().numpy()
        present = np.unique(truth_M)
        return float(f1_score(truth_M, found_M, labels=present, average="macro", zero_division=0))


@dataclass
class TraitObjective:
    """Traits with values missing here and there; stops by the mean over traits of R² (of AP where binary).

    Where the validation images have too few values of every trait for that, it stops by their loss.
    """

    value_NT: Float[np.ndarray, "N T"]  # NaN where unknown
    traits: tuple[Trait, ...]
    score_name: str = "mean R² or AP"

    def __post_init__(self) -> None:
        coded = [trait.encode(self.value_NT[:, t]) for t, trait in enumerate(self.traits)]
        self.coded_NT = torch.from_numpy(np.stack(coded, axis=1)).float()

    @property
    def label_N(self) -> Int[np.ndarray, " N"]:
        """No classes."""
        return np.zeros(len(self.value_NT), np.int64)

    def make_head(self, width: int) -> LinearHead:
        return TraitHead(width, self.traits)

    def learn_from(self, train: Int[np.ndarray, " n"]) -> None:
        """The traits know what they were defined by."""

    def stop_by(self, validation: Int[np.ndarray, " M"]) -> None:
        """Choose between R² or AP and the loss.

        Raises:
            ValueError: no validation image has a value.
        """
        truth_MT = self.coded_NT[torch.from_numpy(validation)].numpy()
        if np.isnan(truth_MT).all():
            raise ValueError(
                f"finetune: a validation image must have a value of a trait, got none in {len(validation)} "
                "images; raise validation_share, or measure images of more groups"
            )
        if not any(_enough(truth_MT[:, t]) for t in range(len(self.traits))):
            self.score_name = LOSS_NAME

    def repeats(self) -> Float[np.ndarray, " N"] | None:
        return None

    def loss(self, head: LinearHead, out_BO: Tensor, index_B: np.ndarray) -> Float[Tensor, " B"]:
        assert isinstance(head, TraitHead)
        return head.loss(out_BO, self.coded_NT[torch.from_numpy(index_B)].to(out_BO.device))

    def score(self, head: LinearHead, out_MO: Tensor, index_M: np.ndarray) -> float:
        """Mean over the traits that enough validation images have; where none has, minus the loss of an image
        that has a value."""
        if scores := self.scores(head, out_MO, index_M):
            return float(np.mean(list(scores.values())))
        known_M = ~self.coded_NT[torch.from_numpy(index_M)].isnan().all(dim=1)
        loss_M = self.loss(head, out_MO, index_M).detach().cpu()
        return -float(loss_M[known_M].double().mean())

    def scores(self, head: LinearHead, out_MO: Tensor, index_M: np.ndarray) -> dict[str, float]:
        """Average precision of a binary trait; R² of the coded values of the others."""
        from sklearn.metrics import average_precision_score, r2_score

        assert isinstance(head, TraitHead)
        answer_MT = head.answer(out_MO).cpu().numpy()
        truth_MT, found = self.coded_NT[torch.from_numpy(index_M)].numpy(), {}
        for t, trait in enumerate(self.traits):
            known = ~np.isnan(truth_MT[:, t])
            truth, answer = truth_MT[known, t], answer_MT[known, t]
            if not _enough(truth):
                continue
            judge = average_precision_score if trait.kind == "binary" else r2_score
            found[trait.trait_id] = float(judge(truth, answer))
        return found


def _enough(truth_M: Float[np.ndarray, " M"]) -> bool:
    """Whether R² or AP of these values, NaN where unknown, says something."""
    known = truth_M[~np.isnan(truth_M)]
    return len(known) >= FEWEST_SCORED and len(np.unique(known)) >= 2
