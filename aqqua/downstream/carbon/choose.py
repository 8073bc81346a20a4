"""Which relation holds for a class: by the finest taxon of its lineage that a rule names.

Living and not living are told apart first: detritus is marine snow, a bubble is nothing. Animals that no
relation was made for, and what is not identified, get none, and their carbon stays unknown.

Test: tests/downstream/carbon/test_carbon_choose.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aqqua.downstream.carbon.registry import NO_CARBON, LivingRule, Registry
from aqqua.downstream.carbon.relation import Relation
from aqqua.taxonomy.classes import TaxonClass

WHOLE = (
    "",
    "larva",
    "juvenile",
    "dead",
    "like",
)  # qualifiers of what relations of whole cells or bodies are for
Diatoms = Literal["iRfcb", "ifcb-analysis"]  # the two public codes that disagree below 3000 µm³


@dataclass(frozen=True)
class Choice:
    """What a class takes."""

    below: Relation | None  # None: it holds no carbon that counts
    above: Relation | None = None  # for volumes above split_um3
    split_um3: float = float("inf")
    factor: tuple[float, float] = (1.0, 1.0)  # range of the factor from the relation's output to carbon
    flagged: bool = False  # the relation is of whole organisms, the class of parts, eggs or chains

    @property
    def name(self) -> str:
        """For the column `relation`."""
        if self.below is None:
            return "no carbon"
        names = [self.below.entry.id, *([self.above.entry.id] if self.above else [])]
        return "/".join(names)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the relations it may use."""
        return tuple(found.entry.id for found in (self.below, self.above) if found is not None)


def choose(
    classes: Sequence[TaxonClass],
    registry: Registry,
    allow_unverified: bool = False,
    diatoms: Diatoms = "iRfcb",
) -> list[Choice | None]:
    """A choice for each class; None where no relation, or only an unverified one, is known.

    Args:
        allow_unverified: take relations that nobody checked in the paper yet.
        diatoms: up to 3000 µm³ iRfcb takes the relation of all diatoms, ifcb-analysis that of other protists.
    """
    return [_choice(one, registry, allow_unverified, diatoms) for one in classes]


def _choice(one: TaxonClass, registry: Registry, allow_unverified: bool, diatoms: Diatoms) -> Choice | None:
    if not one.living:
        return _of_kind(one, registry, allow_unverified)
    rule = _rule(one, registry)
    if rule is None or rule.relation is None:
        return None
    name = "protist" if rule.relation == "diatom" and diatoms == "ifcb-analysis" else rule.relation
    below = _relation(name, registry, allow_unverified)
    above = _relation(rule.above.relation, registry, allow_unverified) if rule.above else None
    conversion = registry.conversion(rule.by) if rule.by else None
    if below is None or (rule.above is not None and above is None):
        return None
    if conversion is not None and conversion.provenance == "unverified" and not allow_unverified:
        return None
    return Choice(
        below,
        above,
        rule.above.um3 if rule.above else float("inf"),
        (conversion.factor.low, conversion.factor.high) if conversion else (1.0, 1.0),
        one.qualifier not in WHOLE,
    )


def _of_kind(one: TaxonClass, registry: Registry, allow_unverified: bool) -> Choice | None:
    kind = one.qualifier or one.name
    for rule in registry.choices.not_living:
        if kind in rule.kinds:
            if rule.relation == NO_CARBON:
                return Choice(None)
            relation = _relation(rule.relation, registry, allow_unverified)
            return None if relation is None else Choice(relation)
    return None


def _rule(one: TaxonClass, registry: Registry) -> LivingRule | None:
    """Of the finest named taxon; the class's own name counts as finer than its lineage."""
    taxa = {taxon: rule for rule in registry.choices.living for taxon in rule.taxa}
    for name in (one.name, *reversed(one.lineage)):
        if name is not None and name in taxa:
            return taxa[name]
    return None


def _relation(name: str, registry: Registry, allow_unverified: bool) -> Relation | None:
    entry = registry.entry(name, allow_unverified=True)
    if entry.provenance == "unverified" and not allow_unverified:
        return None
    return Relation(entry)
