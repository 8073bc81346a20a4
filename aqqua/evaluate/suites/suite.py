"""A suite: which data sets, what their labels mean, how they are split, what is asked. One YAML file.

Those of public sets come with aqqua and are named without a path. Paths inside a file are relative to it.

Test: tests/evaluate/suites/test_suite.py. For people: docs/suites.md.
"""

import re
from collections.abc import Iterable
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from aqqua.config import load_config, named_yaml, to_yaml, yaml_names
from aqqua.evaluate.finetune.traits import Kind
from aqqua.store.manifest import file_sha256
from aqqua.store.split import DEFAULT_HOLDOUT, MIN_PER_CLASS
from aqqua.taxonomy.classes import QUALIFIERS
from aqqua.taxonomy.label_map import LabelMap, known_maps

PROTOCOL = 1  # what splits and statuses mean; results of different protocols are not compared
AS_WRITTEN = "as written"
_FOLDER = files("aqqua.evaluate.suites")
_STRICT = ConfigDict(extra="forbid", frozen=True)

Metric = Literal[
    "classification",
    "plankton_only",
    "calibration",
    "hierarchical",
    "quantification",
    "novelty",
    "instrument_probe",
    "retrieval",
    "traits",
    "carbon",
]
MEASURED: tuple[Metric, ...] = ("traits", "carbon")  # judged by values of images, whatever their class
Level = Literal["kingdom", "phylum", "class", "order", "family", "genus", "species"]
TextColumn = Literal["image_id", "sample", "group", "source"]


def _pattern(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"must be a regular expression ({error})") from error
    if groups != 1:
        raise ValueError(f"must have one group in brackets, which is the name, not {groups}")
    return text


class Grouping(BaseModel):
    """Names of what must not be split, where the data set has none."""

    model_config = _STRICT

    column: TextColumn = Field("image_id", description="in which the name is found")
    pattern: str = Field(description="regular expression; its one group is the name")

    _checked = field_validator("pattern")(_pattern)


class SuiteDataset(BaseModel):
    """A data set of a suite."""

    model_config = _STRICT

    labels: str = Field(
        description="label map: the name of one that comes with aqqua, a YAML file, or `as written`"
    )
    ingest: str = Field("", description="command that makes the data set, said where it is missing")
    licence: str = Field("", description="of images and labels, for the report")
    instrument: str | None = Field(None, description="of images whose instrument is unknown")
    group: Grouping | None = Field(None, description="of images without a group")
    manifest_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="of the data set that results are compared on; null: any"
    )


class SampleTier(BaseModel):
    """Groups (bins, frames, casts) held out of the same sources, drawn by a hash of their names."""

    model_config = _STRICT

    holdout: float = Field(DEFAULT_HOLDOUT, gt=0, lt=1, description="share of groups tested on")


class RegionTier(BaseModel):
    """Whole cruises, regions or seasons held out."""

    model_config = _STRICT

    by: Literal["sample", "group", "image_id", "source", "cell", "month", "season"] = Field(
        description="what a region is: a column, a cell of latitude and longitude, a month, a quarter"
    )
    pattern: str | None = Field(None, description="of a column: its one group names the region; null: all")
    cell_degrees: float = Field(10.0, gt=0, le=90, description="side of a cell")
    holdout: float = Field(0.25, gt=0, lt=1, description="share of regions tested on, drawn by hash")
    test: list[str] = Field([], description="regions tested on, instead of a share")
    in_turn: bool = Field(False, description="every region in turn, instead of a share")

    _checked = field_validator("pattern")(_pattern)

    @model_validator(mode="after")
    def _one_way(self) -> "RegionTier":
        if self.test and self.in_turn:
            raise ValueError("regions are tested on by name or in turn, not both; take test or in_turn out")
        if self.pattern is not None and self.by in ("cell", "month", "season"):
            raise ValueError(f"a pattern belongs to a column, not to {self.by}; take it out")
        return self


class InstrumentTier(BaseModel):
    """Trained on all other instruments, tested on one, in turn."""

    model_config = _STRICT

    test: list[str] = Field([], description="instruments tested on; empty: every one")


class Tiers(BaseModel):
    """How the images are split; at least one way."""

    model_config = _STRICT

    sample: SampleTier | None = None
    region: RegionTier | None = None
    instrument: InstrumentTier | None = None

    @model_validator(mode="after")
    def _some(self) -> "Tiers":
        if not self.names:
            raise ValueError("a suite must have one of the tiers sample, region and instrument; add one")
        return self

    @property
    def names(self) -> list[str]:
        """Of the tiers that the suite has."""
        return [name for name in Tiers.model_fields if getattr(self, name) is not None]


class CarbonTable(BaseModel):
    """Measured carbon of organisms: one trait, in pg, ng, µg or mg; never values of a relation."""

    model_config = _STRICT

    table: str = Field(
        min_length=1, description="CSV or Parquet file: object_id, trait_id, value, unit, method"
    )
    dataset: str | None = Field(None, description="key of the data set of its objects; null: the only one")


class TraitTable(CarbonTable):
    """Measured traits of images."""

    kinds: dict[str, Kind] = Field({}, description="of traits whose values do not say it")
    log10: list[str] = Field([], description="continuous traits that are judged by their logarithm")


class Suite(BaseModel):
    """What a model is judged on."""

    model_config = _STRICT

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="of the suite, in results and tables")
    protocol: Literal[1] = Field(1, description="meaning of splits; raised when results cannot be compared")
    description: str = Field(min_length=1)
    datasets: dict[str, SuiteDataset] = Field(min_length=1, description="key -> data set")
    level: Level | None = Field(None, description="rank at which classes are joined; null: as labelled")
    pass_over: list[str] = Field([], description="qualifiers that make no difference at a level")
    tiers: Tiers
    min_train_images: int = Field(MIN_PER_CLASS, ge=1, description="a class needs to be asked for")
    min_test_images: int = Field(0, ge=0, description="a class needs to be asked for")
    metrics: list[Metric] = Field(["classification"], min_length=1, description="asked for")
    traits: TraitTable | None = Field(None, description="measured traits, for the metric traits")
    carbon: CarbonTable | None = Field(None, description="measured carbon, for the metric carbon")

    @field_validator("pass_over")
    @classmethod
    def _known_qualifiers(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in QUALIFIERS:
                raise ValueError(f"every qualifier must be one of {', '.join(QUALIFIERS[1:])}, not {name}")
        return names

    @model_validator(mode="after")
    def _tables(self) -> "Suite":
        for metric, part in (("traits", self.traits), ("carbon", self.carbon)):
            if (metric in self.metrics) != (part is not None):
                wanted = "needs a table" if part is None else "must be among metrics to be judged"
                raise ValueError(f"metric {metric} {wanted}; give both {metric} and the metric, or neither")
            if part is None:
                continue
            if part.dataset is None and len(self.datasets) > 1:
                raise ValueError(f"{metric} must say of which dataset its objects are; add {metric}.dataset")
            if part.dataset is not None and part.dataset not in self.datasets:
                raise ValueError(
                    f"{metric}.dataset must be one of {', '.join(self.datasets)}, not {part.dataset}"
                )
        return self

    @property
    def asks_classes(self) -> bool:
        """Whether anything but measured values is asked for."""
        return bool(set(self.metrics) - set(MEASURED))

    def measured_table(self, metric: Metric) -> CarbonTable | None:
        """The part of one of MEASURED."""
        return self.traits if metric == "traits" else self.carbon

    @staticmethod
    def load(source: Path | str) -> "Suite":
        """A suite by its file, or by the name of one that comes with aqqua.

        Raises:
            ValueError: no such suite, or its file is not as it must be.
        """
        path = named_yaml("suite", source, _FOLDER)
        return _resolved(load_config(Suite, path), path.parent)

    @staticmethod
    def of_labels(holdout: float) -> "Suite":
        """A suite of one data set, key `data`, whose labels are the classes as written, without a map."""
        values = {
            "name": "labels",
            "description": "a data set with its labels as written",
            "datasets": {"data": {"labels": AS_WRITTEN}},
            "tiers": {"sample": {"holdout": holdout}},
        }
        return Suite.model_validate(values)

    def label_map(self, key: str, labels: Iterable[str] = ()) -> LabelMap:
        """What the labels of a data set mean.

        Args:
            labels: that it has, for maps `as written`.
        """
        source = self.datasets[key].labels
        if source.lower().replace("_", " ").replace("-", " ") == AS_WRITTEN != source:
            raise ValueError(
                f"suite: labels of {key} without a map must be {AS_WRITTEN!r}, got {source!r}; correct it"
            )
        return LabelMap.as_written(labels) if source == AS_WRITTEN else LabelMap.load(source)

    @property
    def sha256(self) -> str:
        """Names the suite: what it says, and what its label maps say."""
        maps = {key: self.label_map(key) for key in self.datasets}
        # Where the files lie makes no difference.
        named = {k: d.model_copy(update={"labels": maps[k].name}) for k, d in self.datasets.items()}
        tables: dict[str, CarbonTable] = {
            metric: part.model_copy(update={"table": file_sha256(Path(part.table))})
            for metric in MEASURED
            if (part := self.measured_table(metric)) is not None
        }
        text = to_yaml(self.model_copy(update={"datasets": named, **tables}))
        return sha256("".join([text, *(to_yaml(one.file) for one in maps.values())]).encode()).hexdigest()


def known_suites() -> list[str]:
    """Names of the suites that come with aqqua."""
    return yaml_names(_FOLDER)


def _resolved(suite: Suite, folder: Path) -> Suite:
    """The same with every path independent of the working folder."""

    known = known_maps()
    maps = {
        key: one.model_copy(update={"labels": str(folder / one.labels)})
        if one.labels not in known and Path(one.labels).suffix in (".yaml", ".yml")
        else one
        for key, one in suite.datasets.items()
    }
    tables: dict[str, CarbonTable] = {
        metric: part.model_copy(update={"table": str(folder / part.table)})
        for metric in MEASURED
        if (part := suite.measured_table(metric)) is not None
    }
    return suite.model_copy(update={"datasets": maps, **tables})
