"""How carbon is computed: settings that travel in the metadata of what they made."""

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from aqqua.downstream.carbon.choose import Diatoms
from aqqua.downstream.carbon.monte_carlo import Uncertainty

Volume = Literal["sphere", "prolate", "moberg_sosik"]


@dataclass(frozen=True)
class CarbonSettings:
    """How carbon is computed."""

    volume: Volume = "moberg_sosik"  # column of the sizes that relations of volume take
    allow_unverified: bool = False  # relations that nobody checked in the paper: all of animals
    diatoms: Diatoms = "iRfcb"  # which of the two codes that disagree up to 3000 µm³
    uncertainty: Uncertainty = field(default_factory=Uncertainty)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "CarbonSettings":
        """What `to_json` gave.

        Raises:
            ValueError: it is not.
        """
        try:
            values = json.loads(text)
            return CarbonSettings(**{**values, "uncertainty": Uncertainty(**values["uncertainty"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"carbon: the settings must be those of a carbon table, got {text[:200]}"
            ) from error

    @property
    def size_columns(self) -> tuple[str, ...]:
        """Of a table of sizes, that a relation may take or a check needs."""
        return ("key", "area_um2", self.volume_column, "area_px", "um_per_px")

    @property
    def volume_column(self) -> str:
        return f"volume_{self.volume}_um3"
