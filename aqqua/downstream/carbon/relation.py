"""A relation applied to numbers in a stated unit. Test: tests/downstream/carbon/test_carbon_relation.py."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from aqqua.downstream.carbon.registry import RelationEntry, factor_between


@dataclass(frozen=True)
class Relation:
    """log10 y = intercept + slope·log10 x, with x in the entry's input unit and y in its output unit.

    Every form of the registry is this one; a constant has slope 0.
    """

    entry: RelationEntry

    @property
    def intercept(self) -> float:
        return self.entry.a if self.entry.form == "log10" else float(np.log10(self.entry.a))

    @property
    def slope(self) -> float:
        return 0.0 if self.entry.form == "constant" else self.entry.b

    def evaluate(
        self, x_I: Float64[np.ndarray, " I"], unit: str, output_unit: str | None = None
    ) -> Float64[np.ndarray, " I"]:
        """y of each x.

        Args:
            x_I: sizes, 0 or above; of a constant, counts.
            unit: of x_I; another one of the same kind is converted.
            output_unit: of the result; None is the relation's own.

        Raises:
            ValueError: a unit that does not measure the quantity, or a size below 0 or not finite.
        """
        entry = self.entry
        scaled_I = np.asarray(x_I, np.float64) * self.input_factor(unit)
        bad_I = ~(np.isfinite(scaled_I) & (scaled_I >= 0))
        if bad_I.any():
            row = int(np.flatnonzero(bad_I)[0])
            raise ValueError(
                f"carbon: {entry.input.quantity} for {entry.id} must be 0 or above and finite, got "
                f"{np.ravel(x_I)[row]} in row {row}; leave the image out"
            )
        y_I = entry.a * scaled_I if entry.form == "constant" else 10**self.intercept * scaled_I**self.slope
        return y_I if output_unit is None else y_I * self.output_factor(output_unit)

    def input_factor(self, unit: str) -> float:
        """From `unit` to the relation's input unit.

        Raises:
            ValueError: the unit measures something else.
        """
        what = f"{self.entry.input.quantity} for {self.entry.id}"
        return factor_between(unit, self.entry.input.unit, what)

    def output_factor(self, unit: str) -> float:
        """From the relation's output unit to `unit`.

        Raises:
            ValueError: the unit measures something else.
        """
        return 1 / factor_between(
            unit, self.entry.output.unit, f"{self.entry.output.quantity} of {self.entry.id}"
        )

    def extrapolated(self, x_I: Float64[np.ndarray, " I"], unit: str) -> Bool[np.ndarray, " I"]:
        """Where x lies outside what the relation was made from; nowhere if that is not known."""
        valid = self.entry.valid
        scaled_I = np.asarray(x_I, np.float64) * self.input_factor(unit)
        low = 0.0 if valid is None or valid.low is None else valid.low
        high = np.inf if valid is None or valid.high is None else valid.high
        return (scaled_I < low) | (scaled_I > high)
