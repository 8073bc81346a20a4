"""How well carbon per sample was foretold, against what was measured in bottles, traps or filters.

A target that was itself computed from size by a relation of the registry only tells how well the relation is
imitated. It is refused: such a score is circular.

Test: tests/downstream/carbon/test_carbon_judge.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aqqua.downstream.carbon.registry import load_registry
from aqqua.evaluate.finetune.carbon_table import comes_from


@dataclass(frozen=True)
class Measured:
    """Carbon of one sample, measured."""

    sample: str
    carbon: float  # in the unit of the predictions, above 0
    method: str  # "CHN analyser", "bottle POC", ...; an id of the registry is refused


@dataclass(frozen=True)
class CarbonScore:
    """Of log10 (predicted / measured) over samples."""

    log_rmse: float  # root mean square
    bias: float  # mean; above 0 is too much
    samples: int
    not_predicted: tuple[str, ...]  # measured, but without a prediction


def judge_carbon(predicted: Mapping[str, float], measured: Sequence[Measured]) -> CarbonScore:
    """Score predictions of carbon per sample.

    Args:
        predicted: sample -> carbon, above 0.
        measured: one a sample, in the same unit.

    Raises:
        ValueError: a target came from a relation, a value is not above 0, a sample is twice or in none.
    """
    _check_targets(measured)
    common = [target for target in measured if target.sample in predicted]
    if not common:
        raise ValueError("judge_carbon: samples must be in both, got none in common; compare their names")
    for target in common:
        value = predicted[target.sample]
        if not (np.isfinite(value) and value > 0):
            raise ValueError(
                f"judge_carbon: a prediction must be above 0, got {value} for {target.sample!r}; leave it out"
            )
    ratio = np.log10([predicted[target.sample] / target.carbon for target in common])
    return CarbonScore(
        log_rmse=float(np.sqrt((ratio**2).mean())),
        bias=float(ratio.mean()),
        samples=len(common),
        not_predicted=tuple(target.sample for target in measured if target.sample not in predicted),
    )


def _check_targets(measured: Sequence[Measured]) -> None:
    relations = {entry.id for entry in load_registry().relations}
    seen: set[str] = set()
    for row, target in enumerate(measured):
        if comes_from(target.method, relations):
            raise ValueError(
                f"judge_carbon: a target must be measured, got one made by the relation {target.method!r} in "
                f"row {row} ({target.sample}); to judge by it is circular: give bottle or trap carbon"
            )
        if not target.method.strip():
            raise ValueError(
                f"judge_carbon: a target must name its method, got none in row {row} ({target.sample}); "
                "add it"
            )
        if not (np.isfinite(target.carbon) and target.carbon > 0):
            raise ValueError(
                f"judge_carbon: a target must be above 0, got {target.carbon} in row {row} "
                f"({target.sample}); leave it out"
            )
        if target.sample in seen:
            raise ValueError(
                f"judge_carbon: a sample must be measured once, got {target.sample!r} twice; average first"
            )
        seen.add(target.sample)
