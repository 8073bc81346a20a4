"""The classes of a classifier as JSON, in the order of its scores, and back with everything checked.

Test: tests/downstream/test_predictions.py.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from aqqua.config import first_error
from aqqua.taxonomy.classes import TaxonClass


class ClassEntry(BaseModel):
    """A TaxonClass as it is written."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(min_length=1)
    aphia_id: int | None = Field(ge=1, le=2**31 - 1)
    lineage: list[str | None]
    qualifier: str = ""
    living: bool = True
    plankton: bool = True


_ENTRIES = TypeAdapter(list[ClassEntry])


def class_entry(one: TaxonClass) -> ClassEntry:
    """A class as it is written."""
    return ClassEntry(**{**asdict(one), "lineage": list(one.lineage)})


def classes_to_json(classes: Sequence[TaxonClass]) -> str:
    """A JSON list of objects with the fields of TaxonClass."""
    return json.dumps([asdict(one) for one in classes], ensure_ascii=False)


def classes_from_json(text: str | bytes, what: str) -> tuple[TaxonClass, ...]:
    """The classes that classes_to_json wrote.

    Args:
        what: the file or field it came from, for the error.

    Raises:
        ValueError: no such list, an unknown field, no class, or two of one name.
    """
    try:
        return taxon_classes(_ENTRIES.validate_json(text), what)
    except ValidationError as error:
        first = first_error(error)
        raise ValueError(
            f"{what}: classes must be a JSON list of classes, got at {first.place or 'the list'}: "
            f"{first.says}; make the file again"
        ) from error


def taxon_classes(entries: Sequence[ClassEntry], what: str) -> tuple[TaxonClass, ...]:
    """Checked entries as classes.

    Raises:
        ValueError: there is none, or two have one name.
    """
    names = [entry.name for entry in entries]
    if not names or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        got = "none" if twice is None else f"{twice!r} twice"
        raise ValueError(f"{what}: classes must be at least one, each of another name, got {got}; rename it")
    return tuple(TaxonClass(**{**entry.model_dump(), "lineage": tuple(entry.lineage)}) for entry in entries)
