"""The figures of an evaluation: their names for people, and which way is better.

A figure that is not named here is still kept and shown, under its own name, as one where more is better.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FigureName:
    """How a figure is shown."""

    label: str
    higher: bool = True  # is better
    main: bool = False  # a column of the leaderboard's table

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


FIGURES: dict[str, FigureName] = {
    "macro_f1": FigureName("macro-F1", main=True),
    "balanced_accuracy": FigureName("balanced accuracy", main=True),
    "accuracy": FigureName("accuracy"),
}
