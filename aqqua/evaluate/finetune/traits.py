"""What a trait is: its unit and kind, and how its values become numbers that a head can learn.

Source of the kinds: Orenstein et al. 2022 (lno.12101). Letters: N rows.
Test: tests/evaluate/finetune/test_traits.py.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["continuous", "ordinal", "binary"]
LEAST_SPREAD = 1e-6  # of continuous values, as a share of the largest: below it, rounding is what is learned
MOST_LEVELS = 12  # of an ordinal trait that is recognised as such
_UNITLESS = ("", "1", "level", "score", "stage", "bool", "boolean")


class Trait(BaseModel):
    """One trait. Continuous ones are learnt standardised, of the logarithm where `log10` says so."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    trait_id: str = Field(min_length=1, description="as in the table")
    unit: str = Field(default="", description="of the values; '' is none")
    kind: Kind = Field(description="continuous, ordinal or binary")
    log10: bool = Field(default=False, description="learn log10 of the value, which must be above 0")
    levels: tuple[float, ...] = Field(default=(), description="of an ordinal trait, rising")
    mean: float = Field(default=0.0, description="of the training values of a continuous trait (of log10)")
    std: float = Field(default=1.0, gt=0, description="standard deviation of the same")
    error_low: float | None = Field(
        default=None, description="2.5 % quantile of truth - answer on validation images, standardised"
    )
    error_high: float | None = Field(default=None, description="97.5 % quantile of the same")

    @model_validator(mode="after")
    def _fits(self) -> "Trait":
        rising = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        if (self.kind == "ordinal") != (len(self.levels) >= 2) or not rising:
            raise ValueError(
                f"levels must be two or more, rising, of ordinal traits alone, got {self.levels}; sort them"
            )
        if self.log10 and self.kind != "continuous":
            raise ValueError(f"log10 must be of a continuous trait, got it of {self.kind}; leave it out")
        return self

    def encode(self, value_N: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Values as a head learns them: standardised, number of the level, or 0 and 1; NaN stays NaN."""
        if self.kind == "binary":
            return value_N
        if self.kind == "ordinal":
            found = np.searchsorted(self.levels, np.nan_to_num(value_N, nan=self.levels[0])).astype(float)
            return np.where(np.isnan(value_N), np.nan, found)
        return ((np.log10(value_N) if self.log10 else value_N) - self.mean) / self.std

    def decode(self, coded_N: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Back to values in the trait's unit; a level by its number, the probability of a binary trait."""
        if self.kind == "binary":
            return coded_N
        if self.kind == "ordinal":
            return np.asarray(self.levels)[np.rint(coded_N).astype(np.int64)]
        value_N = coded_N * self.std + self.mean
        return 10.0**value_N if self.log10 else value_N


def guess_kind(value_N: Float[np.ndarray, " N"], unit: str) -> Kind:
    """Binary where all values are 0 or 1, ordinal where they are few whole numbers without a unit."""
    distinct = np.unique(value_N[~np.isnan(value_N)])
    if unit.lower() not in _UNITLESS:
        return "continuous"
    if np.isin(distinct, (0, 1)).all():
        return "binary"
    return "ordinal" if len(distinct) <= MOST_LEVELS and (distinct % 1 == 0).all() else "continuous"


def define_trait(
    trait_id: str, value_N: Float[np.ndarray, " N"], unit: str, kind: Kind | None = None, log10: bool = False
) -> Trait:
    """A trait as its training values say.

    Args:
        value_N: NaN where unknown.
        kind: None guesses it.

    Raises:
        ValueError: there is nothing to learn from, or the values do not fit the kind.
    """
    known = value_N[~np.isnan(value_N)]
    if len(distinct := np.unique(known)) < 2:
        raise ValueError(
            f"trait {trait_id}: training images must have two values at least, got {distinct.tolist()}; "
            "give more examples or leave the trait out"
        )
    kind = kind or ("continuous" if log10 else guess_kind(value_N, unit))
    if kind == "binary" and not np.isin(known, (0, 1)).all():
        wrong = known[~np.isin(known, (0, 1))][0]
        raise ValueError(
            f"trait {trait_id}: values of a binary trait must be 0 or 1, got {wrong}; name its kind"
        )
    if log10 and (known <= 0).any():
        raise ValueError(
            f"trait {trait_id}: values under a logarithm must be above 0, got {known.min()}; leave out log10"
        )
    if kind != "continuous":
        levels = tuple(distinct.tolist()) if kind == "ordinal" else ()
        return Trait(trait_id=trait_id, unit=unit, kind=kind, levels=levels)
    if np.ptp(known) <= LEAST_SPREAD * np.abs(known).max():
        raise ValueError(
            f"trait {trait_id}: values must differ by more than a millionth of the largest, got "
            f"{known.min()!r} to {known.max()!r}; leave the trait out"
        )
    known = np.log10(known) if log10 else known
    std = float(known.std())
    return Trait(trait_id=trait_id, unit=unit, kind=kind, log10=log10, mean=float(known.mean()), std=std)
