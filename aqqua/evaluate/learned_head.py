"""A head that fine-tuning learnt, asked like a probe: of a split's classes, or of a measured trait.

It is judged only where it can be: on images that its learning held out, of classes or traits that it knows.

Letters: M asked images, D width, K classes of a split, C classes of the head.
Test: tests/evaluate/test_learned_head.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64

from aqqua.evaluate.finetune.heads import LinearHead, TraitHead
from aqqua.evaluate.finetune.traits import Trait
from aqqua.evaluate.suites.measured import MeasuredTrait
from aqqua.taxonomy.classes import TaxonClass
from aqqua.taxonomy.level import at_level

NAME = "fine-tuned"  # of its answers, beside those of the probes


@dataclass(frozen=True)
class LearnedHead:
    """Of a classifier (aqqua finetune)."""

    head: LinearHead  # on the CPU
    classes: tuple[TaxonClass, ...]  # () where it tells traits
    traits: tuple[Trait, ...]  # () where it tells classes
    temperature: float  # logits are divided by it
    holdout: float  # share of groups that it never learnt from
    dataset_sha256: str  # of the data set it learnt from

    def probabilities(
        self,
        rows_MD: Float[np.ndarray, "M D"],
        asked: Sequence[TaxonClass],
        level: str | None,
        pass_over: Sequence[str],
    ) -> Float32[np.ndarray, "M K"]:
        """Probability of each class asked for; rows sum to 1.

        Classes of the head are joined at the level of the suite and found by name. What it says of classes
        that are not asked for is shared out in proportion, as a probe knows the asked ones alone. A class
        that it never learnt has 0.

        Raises:
            ValueError: it knows none of the classes.
        """
        joined, numbers = at_level(self.classes, level, pass_over)
        place = {one.name: k for k, one in enumerate(asked)}
        asked_C = np.array([-1 if n < 0 else place.get(joined[n].name, -1) for n in numbers], np.int64)
        if not (asked_C >= 0).any():
            raise ValueError(
                f"evaluate: a fine-tuned head must know a class that is asked for ({_some(place)}), got "
                f"{_some([one.name for one in self.classes])}; fine-tune with the label map of the suite"
            )
        logits_MC = self._outputs(rows_MD).double().numpy()[:, asked_C >= 0] / self.temperature
        weight_MC = np.exp(logits_MC - logits_MC.max(axis=1, keepdims=True, initial=-np.inf))
        found_MK = weight_MC @ np.eye(len(asked))[asked_C[asked_C >= 0]]
        return (found_MK / found_MK.sum(axis=1, keepdims=True)).astype(np.float32)

    def values(
        self, rows_MD: Float[np.ndarray, "M D"], asked: MeasuredTrait
    ) -> Float64[np.ndarray, " M"] | None:
        """A trait of each image in its unit, or the probability of a binary one; None if it learnt no such.

        Raises:
            ValueError: it learnt the trait in another unit or kind, or not by its logarithm.
        """
        number = next((t for t, one in enumerate(self.traits) if one.trait_id == asked.trait_id), None)
        if number is None:
            return None
        trait = self.traits[number]
        if (trait.unit, trait.kind) != (asked.unit, asked.kind):
            raise ValueError(
                f"evaluate: {asked.trait_id} must be {trait.kind} in {trait.unit!r}, as the fine-tuned head "
                f"learnt it, got {asked.kind} in {asked.unit!r}; correct the suite's table or kinds"
            )
        if asked.log10 and not trait.log10:
            raise ValueError(
                f"evaluate: {asked.trait_id} must be learnt by its logarithm to be judged by it, got a head "
                f"without; fine-tune with --log10 {asked.trait_id}, or take it out of log10"
            )
        assert isinstance(self.head, TraitHead)
        answer_MT = self.head.answer(self._outputs(rows_MD)).double().numpy()
        return np.asarray(trait.decode(answer_MT[:, number]), np.float64)

    @torch.no_grad()
    def _outputs(self, rows_MD: np.ndarray) -> torch.Tensor:
        return self.head(torch.from_numpy(np.ascontiguousarray(rows_MD, np.float32)))


def _some(names: Sequence[str] | dict[str, int]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")
