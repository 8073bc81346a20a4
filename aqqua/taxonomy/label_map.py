"""Label maps: what the labels of a data set, as written at its source, mean.

One YAML file a set, strict: an unknown key, a label twice, or two classes of one name that differ are
refused. Those of public sets come with aqqua (aqqua/taxonomy/maps). A label that must not be used is named
too, with the reason; a label that the file does not name is an error for whoever meets it.

Test: tests/taxonomy/test_label_map.py, test_maps.py.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aqqua.config import load_config, named_yaml, yaml_names
from aqqua.taxonomy.classes import TaxonClass, lineage_of

_FOLDER = files("aqqua.taxonomy") / "maps"
_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


class Entry(BaseModel):
    """A label and its class."""

    model_config = _STRICT

    label: str = Field(min_length=1, description="exactly as written at the source")
    name: str = Field(min_length=1, description="of the class; two labels of one name are one class")
    aphia_id: int | None = Field(default=None, gt=0, description="WoRMS AphiaID; leave out what is not sure")
    lineage: list[str | None] = Field(default=[], description="kingdom, phylum, ...; null is unknown")
    qualifier: str = Field(default="", description="what of the taxon is seen, or what else it is")
    living: bool = True
    plankton: bool = Field(default=True, description="counts in plankton-only scores")
    note: str = Field(default="", description="why this entry is not what a source table says")

    @property
    def taxon_class(self) -> TaxonClass:
        """The class of the label."""
        return TaxonClass(
            *(self.name, self.aphia_id, lineage_of(self.lineage), self.qualifier, self.living, self.plankton)
        )


class LeftOut(BaseModel):
    """A label whose images are not used."""

    model_config = _STRICT

    label: str = Field(min_length=1)
    reason: str = Field(min_length=1, description="why, for the report")


class MapFile(BaseModel):
    """A label map as its file has it."""

    model_config = _STRICT

    name: str = Field(min_length=1, description="of the data set")
    description: str = Field(min_length=1)
    sources: list[str] = Field(min_length=1, description="tables and pages that the classes come from")
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="when they were looked at")
    table_dataset: str = Field(default="", description="name of the set in a taxonomy table of several")
    labels: list[Entry] = Field(min_length=1)
    leave_out: list[LeftOut] = []

    @model_validator(mode="after")
    def _sound(self) -> "MapFile":
        classes: dict[str, TaxonClass] = {}
        for entry in self.labels:
            one = entry.taxon_class
            if classes.setdefault(one.name, one) != one:
                raise ValueError(
                    f"classes of one name must be the same, got two of {one.name} (label {entry.label}); "
                    "give one another name"
                )
        written = [entry.label for entry in self.labels] + [one.label for one in self.leave_out]
        twice = sorted({label for label in written if written.count(label) > 1})
        if twice:
            raise ValueError(f"every label must be there once, got {twice[0]} twice; take one out")
        return self


@dataclass(frozen=True)
class LabelMap:
    """label as written -> its class, or None with the reason why it is left out."""

    file: MapFile

    @staticmethod
    def load(source: Path | str) -> "LabelMap":
        """A map by its file, or by the name of one that comes with aqqua.

        Raises:
            ValueError: no such map, or its file is not as it must be.
        """
        return LabelMap(load_config(MapFile, named_yaml("label map", source, _FOLDER)))

    @staticmethod
    def as_written(labels: Iterable[str]) -> "LabelMap":
        """Every label its own class, of no known taxon: for a set that nobody has made a map of."""
        entries = [Entry(label=label, name=label) for label in sorted(set(labels))]
        # Not checked: there may be no label at all, and nobody looked anything up.
        file = MapFile.model_construct(
            name="as written", description="labels as they are", sources=[], date="", table_dataset="",
            labels=entries, leave_out=[],
        )  # fmt: skip
        return LabelMap(file)

    @property
    def name(self) -> str:
        """Of the data set."""
        return self.file.name

    @cached_property
    def classes(self) -> tuple[TaxonClass, ...]:
        """Every class once, in the order of the file."""
        return tuple(dict.fromkeys(entry.taxon_class for entry in self.file.labels))

    @cached_property
    def labels(self) -> dict[str, TaxonClass | None]:
        """Every label with its class; None for what is left out."""
        return {
            **{entry.label: entry.taxon_class for entry in self.file.labels},
            **{one.label: None for one in self.file.leave_out},
        }

    def reason(self, label: str) -> str:
        """Why a label is left out.

        Raises:
            ValueError: the map does not leave it out.
        """
        for one in self.file.leave_out:
            if one.label == label:
                return one.reason
        raise ValueError(f"label map: {label} must be left out by {self.name}, got a label that is used")

    def class_of(self, label: str) -> TaxonClass | None:
        """The class of a label; None where it is left out.

        Raises:
            ValueError: the map does not name the label.
        """
        labels = self.labels
        if label not in labels:
            near = difflib.get_close_matches(label, labels, 1)
            hint = f"the nearest is {near[0]}; " if near else ""
            raise ValueError(
                f"label map: every label must be in the map {self.name}, got {label!r}; {hint}add it under "
                "labels or leave_out"
            )
        return labels[label]


def known_maps() -> list[str]:
    """Names of the maps that come with aqqua."""
    return yaml_names(_FOLDER)
