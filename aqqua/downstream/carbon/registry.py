"""The published relations of relations.yaml, read strictly and with their units checked.

A relation is refused when its unit does not measure its quantity (a volume in mm², a weight in m/day), when
two have one id, or when a choice names one that is not there. What is marked unverified is handed out only to
who asks for it.

Test: tests/downstream/carbon/test_carbon_registry.py.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aqqua.config import first_error

FILE = Path(__file__).parent / "relations.yaml"
NO_CARBON = "none"  # a choice: what this is holds no carbon that counts (a bubble)

# Quantity -> a unit of the same dimensions; "count" is a pure number.
QUANTITIES = {
    "count": "dimensionless",
    "diameter": "um",
    "area": "um**2",
    "volume": "um**3",
    "carbon": "pg",
    "dry_weight": "pg",
    "sinking_speed": "m/day",
    "carbon_flux_per_concentration": "mg*L/m**2/day",
}
Provenance = Literal["source-read", "published", "derived", "unverified"]
Text = Annotated[str, Field(min_length=1)]
_Quantity = Literal[
    "count", "diameter", "area", "volume", "carbon", "dry_weight", "sinking_speed",
    "carbon_flux_per_concentration",
]  # fmt: skip


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Quantity(_Strict):
    """What is measured, and in which unit; of a relation's input and output."""

    quantity: _Quantity
    unit: Text = Field(description="as pint reads it")


class Valid(_Strict):
    """Values of the input that the relation was made from."""

    low: float | None = Field(default=None, ge=0, description="in the unit of the input")
    high: float | None = Field(default=None, gt=0, description="in the unit of the input")
    source: Text


class RelationEntry(_Strict):
    """A relation as it is written."""

    id: Text
    citation: Text
    doi: str | None = Field(default=None, pattern=r"^10\.\d{4,}/\S+$")
    applies_to: Text
    input: Quantity
    output: Quantity
    form: Literal["power", "log10", "constant"]
    a: float
    b: float = Field(default=0.0, description="exponent; of a constant there is none")
    per: Text = Field(description="cell, individual or particle")
    valid: Valid | None = None
    error_log10: float | None = Field(default=None, gt=0, description="standard deviation of log10 of y")
    provenance: Provenance
    note: str = ""

    @model_validator(mode="after")
    def _of_a_form(self) -> "RelationEntry":
        if (self.form == "constant") != (self.input.quantity == "count"):
            raise ValueError("a constant must be of a count, and a count must have a constant")
        if self.form != "log10" and self.a <= 0:
            raise ValueError(f"a must be above 0, got {self.a}")
        return self


class Share(_Strict):
    """Range of a factor."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)


class Conversion(_Strict):
    """A factor from one quantity to another of the same dimensions."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    id: Text
    of: _Quantity = Field(alias="from")
    to: _Quantity
    factor: Share
    provenance: Provenance
    note: str = ""


class Above(_Strict):
    """Another relation for what is larger."""

    um3: float = Field(gt=0, description="volume in µm³")
    relation: Text


class LivingRule(_Strict):
    """Of the classes whose lineage holds one of these taxa, and no finer one of another rule."""

    taxa: list[Text] = Field(min_length=1)
    relation: str | None
    above: Above | None = None
    by: str | None = Field(default=None, description="conversion to carbon")


class KindRule(_Strict):
    """Of what does not live."""

    kinds: list[Text] = Field(min_length=1)
    relation: str


class Choices(_Strict):
    living: list[LivingRule]
    not_living: list[KindRule]


class LeftOut(_Strict):
    citation: Text
    reason: Text


class Registry(_Strict):
    """The whole file."""

    relations: list[RelationEntry] = Field(min_length=1)
    conversions: list[Conversion] = []
    choices: Choices
    left_out: list[LeftOut] = []

    def entry(self, name: str, allow_unverified: bool = False) -> RelationEntry:
        """A relation by its id.

        Raises:
            ValueError: there is none, or it is unverified and not asked for.
        """
        for entry in self.relations:
            if entry.id == name:
                if entry.provenance == "unverified" and not allow_unverified:
                    raise ValueError(
                        f"carbon: a relation must be verified, got {name} ({entry.citation}), marked "
                        "unverified; check it in the paper, or allow unverified relations"
                    )
                return entry
        known = ", ".join(entry.id for entry in self.relations)
        raise ValueError(f"carbon: a relation must be one of {known}, got {name!r}; choose one of them")

    def conversion(self, name: str) -> Conversion:
        """A conversion by its id, which the registry has (checked when it was read)."""
        return next(found for found in self.conversions if found.id == name)


@cache
def load_registry(path: Path = FILE) -> Registry:
    """Read and check a registry.

    Raises:
        ValueError: the file cannot be read, a key or value is wrong, or units do not fit.
        RuntimeError: pint is missing.
    """
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        registry = Registry.model_validate(values)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"carbon: {path} must be readable YAML, got {error}; correct it") from error
    except ValidationError as error:
        first = first_error(error)
        raise ValueError(
            f"carbon: {path.name} must hold relations, got at {first.place or 'the file'}: {first.says}; "
            "correct it"
        ) from error
    _check_names(registry, path)
    for entry in registry.relations:
        _check_units(entry)
    return registry


def units() -> Any:
    """pint's registry of units.

    Raises:
        RuntimeError: pint is missing.
    """
    try:
        import pint
    except ImportError as error:
        raise RuntimeError(
            "carbon needs the package pint, got none; pip install 'aqqua[downstream]'"
        ) from error
    return pint.get_application_registry()


def factor_between(unit: str, other: str, what: str) -> float:
    """How many of `other` are one of `unit`.

    Raises:
        ValueError: one is no unit, or they measure different things.
    """
    registry = units()
    try:
        return float(registry.Quantity(1.0, unit).to(other).magnitude)
    except Exception as error:  # pint has many for a bad unit: undefined, dimensions, tokens
        raise ValueError(
            f"carbon: {what} must be in a unit such as {other}, got {unit!r}; correct the unit"
        ) from error


def _check_units(entry: RelationEntry) -> None:
    for side, stated in (("input", entry.input), ("output", entry.output)):
        what = f"{stated.quantity}, the {side} of {entry.id},"
        factor_between(stated.unit, QUANTITIES[stated.quantity], what)


def _check_names(registry: Registry, path: Path) -> None:
    ids = [entry.id for entry in registry.relations]
    if twice := {name for name in ids if ids.count(name) > 1}:
        raise ValueError(f"carbon: an id must be unique in {path.name}, got {min(twice)} twice; rename one")
    living = registry.choices.living
    named = [rule.relation for rule in living] + [rule.relation for rule in registry.choices.not_living]
    named += [rule.above.relation for rule in living if rule.above]
    if unknown := [name for name in named if name not in (None, NO_CARBON, *ids)]:
        raise ValueError(
            f"carbon: a choice must name a relation of {path.name}, got {unknown[0]}; correct the choice"
        )
    conversions = [found.id for found in registry.conversions]
    for rule in living:
        if rule.by is not None and rule.by not in conversions:
            raise ValueError(f"carbon: a choice must name a conversion, got {rule.by}; correct the choice")
        if rule.relation and registry.entry(rule.relation, True).output.quantity != "carbon" and not rule.by:
            raise ValueError(
                f"carbon: the choice {rule.relation} must become carbon, got no conversion; name one by `by`"
            )
