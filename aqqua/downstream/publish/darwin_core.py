"""Samples as a Darwin Core Archive for OBIS and GBIF: events, occurrences, measurements.

Every record that a machine made says so: basisOfRecord MachineObservation, identificationVerificationStatus
PredictedByMachine (tdwg/dwc-qa#185). Only living taxa with an AphiaID leave; others are counted.
Measurements carry BODC terms as EcoTaxa's own export does (ecotaxa_back, BO/Vocabulary.py): SDBIOL01 in
UPMM, CVOLUKNB in CMCM, VOLWBSMP in MCUB. Carbon per volume has no agreed P01 term there: its type is text,
and says the relation.
Test: tests/downstream/publish/test_darwin_core.py.
"""

import zipfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aqqua.downstream.class_list import classes_from_json, classes_to_json
from aqqua.downstream.predictions import CLASSES_KEY, Predictions
from aqqua.downstream.publish.darwin_core_files import COLUMNS, About, Lines, eml_xml, meta_xml
from aqqua.store.new_file import new_file
from aqqua.taxonomy.classes import RANKS, TaxonClass

WHO = "darwin core"
LSID = "urn:lsid:marinespecies.org:taxname:"
_P01, _P06 = (f"http://vocab.nerc.ac.uk/collection/{name}/current/" for name in ("P01", "P06"))
# Column of the samples table -> measurementType, its P01 term, unit, its P06 term.
MEASURED = {
    "abundance_per_m3": (
        "Abundance of biological entity specified elsewhere per unit volume of the water body",
        f"{_P01}SDBIOL01/", "Number per cubic metre", f"{_P06}UPMM/",
    ),
    "biovolume_mm3_per_m3": (
        "Biovolume of biological entity specified elsewhere per unit volume of the water body",
        f"{_P01}CVOLUKNB/", "Cubic millimetres per cubic metre", f"{_P06}CMCM/",
    ),
    "carbon_mg_per_m3": (
        "Carbon biomass of biological entity specified elsewhere per unit volume of the water body, "
        "estimated "
        "from its size", "", "Milligrams per cubic metre", f"{_P06}UMMC/",
    ),
}  # fmt: skip
VOLUME = ("Volume sampled of the water body", f"{_P01}VOLWBSMP/", "Cubic metres", f"{_P06}MCUB/")
_NEEDED = (
    *("sample", "instrument", "time", "lat", "lon", "depth_m", "volume_l", "class", "aphia_id", "living"),
    *("images", "abundance_low_per_m3", "abundance_high_per_m3", *MEASURED),
)
_LIFE_STAGES = {"egg": "egg", "larva": "larva"}


@dataclass(frozen=True)
class Archived:
    """What an archive holds, and what was left out."""

    events: int
    occurrences: int
    measurements: int
    left_out: dict[str, int]  # why rows or images did not become occurrences


def export_darwin_core(
    samples: Path,
    out: Path,
    about: About,
    *,
    predictions: Path | None = None,
    published: date | None = None,
    absences: bool = False,
) -> Archived:
    """Write an archive (.zip).

    Args:
        samples: table of samples and classes.
        out: new file.
        about: of the dataset.
        predictions: with it every image is an occurrence of its own, told by a person where it was validated;
            without, every sample and class is one.
        published: day of publication, today by default.
        absences: classes that a sample does not hold are told too, as absent (not with predictions).

    Raises:
        ValueError: a table is wrong, or a row of it has no sample.
    """
    file, classes, facts = _open(samples, predictions)
    with new_file(out, WHO) as partial, TemporaryDirectory(dir=out.parent) as folder:
        with ExitStack() as stack:
            tables = {name: stack.enter_context(Lines(Path(folder) / name)) for name in COLUMNS}
            writing = _Writing(tables, classes, facts, aggregated=predictions is None, absences=absences)
            for batch in file.iter_batches(columns=list(_NEEDED)):
                for row in batch.to_pylist():
                    writing.add(row)
            if predictions is not None:
                writing.add_images(Predictions.open(predictions))
        _pack(partial, Path(folder), about, published or date.today(), facts)
    events, occurrences, measurements = (tables[name].rows for name in COLUMNS)
    return Archived(events, occurrences, measurements, dict(writing.left_out))


def _open(
    samples: Path, predictions: Path | None
) -> tuple[pq.ParquetFile, dict[str, TaxonClass], dict[str, str]]:
    try:
        file = pq.ParquetFile(samples)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{WHO}: samples must be a table of aqqua, got {samples}: {error}") from error
    metadata = {k.decode(): v.decode() for k, v in (file.schema_arrow.metadata or {}).items()}
    missing = [name for name in _NEEDED if name not in file.schema_arrow.names]
    if predictions is not None and CLASSES_KEY not in metadata:
        metadata[CLASSES_KEY] = classes_to_json(Predictions.open(predictions).classes)
    if missing or CLASSES_KEY not in metadata:
        raise ValueError(
            f"{WHO}: samples must have classes and the columns {list(_NEEDED)}, got {samples} without "
            f"{missing or [CLASSES_KEY]}; make the table anew, or give the predictions too"
        )
    classes = classes_from_json(metadata[CLASSES_KEY], f"{WHO}: {samples}")
    facts = {k.removeprefix("aqqua."): v for k, v in metadata.items() if k.startswith("aqqua.")}
    return file, {one.name: one for one in classes}, facts


def _pack(path: Path, folder: Path, about: About, published: date, facts: dict[str, str]) -> None:
    how = (
        f"Images were classified by the classifier {facts.get('classifier_name', 'unknown')!r} of aqqua "
        f"(SHA-256 of the model {facts.get('model_sha256', 'unknown')}). "
        f"Made by: {facts.get('command', 'unknown')}"
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.xml", meta_xml(COLUMNS))
        archive.writestr("eml.xml", eml_xml(about, published, how))
        for name in COLUMNS:
            archive.write(folder / name, name)


@dataclass
class _Writing:
    """An archive being written."""

    tables: dict[str, Lines]
    classes: dict[str, TaxonClass]
    facts: dict[str, str]
    aggregated: bool
    absences: bool
    left_out: Counter[str] = field(default_factory=Counter)
    _events: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def add(self, row: dict[str, Any]) -> None:
        """A row of the samples table."""
        event = self._event(row)
        if not self.aggregated:
            return
        one = self._class_of(row["class"])
        if row["images"] == 0 and not self.absences:
            return
        reason = _why_not(one)
        if reason:
            self.left_out[reason] += 1
            return
        occurrence = f"{event}:{one.aphia_id}:{one.qualifier or 'whole'}:{one.name}"
        self.tables["occurrence.txt"].add(
            event, occurrenceID=occurrence, individualCount=row["images"],
            occurrenceStatus="present" if row["images"] else "absent", **self._by_machine(), **_taxon(one),
        )  # fmt: skip
        self._measure(event, occurrence, row)

    def add_images(self, opened: Predictions) -> None:
        """Every image as an occurrence."""
        wanted = ["image_id", "instrument", "sample", "class", "score", "label", "label_status"]
        for table in opened.batches(wanted):
            for row in table.to_pylist():
                self._image(row)

    def _image(self, row: dict[str, Any]) -> None:
        event = _event_id(row)
        if event not in self._events:
            self.left_out["of a sample that the samples table leaves out"] += 1
            return
        human = row["label_status"] == "validated" and row["label"] is not None
        name = row["label"] if human else row["class"]
        if human and name not in self.classes:  # the machine's class would contradict a person
            self.left_out["validated as what is no class here"] += 1
            return
        one = self._class_of(name)
        reason = _why_not(one)
        if reason:
            self.left_out[reason] += 1
            return
        who = {"basisOfRecord": "MachineObservation", "identificationVerificationStatus": "ValidatedByHuman"}
        if not human:
            who = {**self._by_machine(), "identificationRemarks": f"score {row['score']:.4f}"}
        occurrence = {"occurrenceID": row["image_id"], "individualCount": 1, "occurrenceStatus": "present"}
        self.tables["occurrence.txt"].add(event, **occurrence, **who, **_taxon(one))

    def _by_machine(self) -> dict[str, Any]:
        return {
            "basisOfRecord": "MachineObservation",
            "identificationVerificationStatus": "PredictedByMachine",
            "identifiedBy": self.facts.get("classifier_name"),
        }

    def _class_of(self, name: str) -> TaxonClass:
        if name not in self.classes:
            raise ValueError(f"{WHO}: a class must be one of the table's, got {name!r}; make the table anew")
        return self.classes[name]

    def _event(self, row: dict[str, Any]) -> str:
        event = _event_id(row)
        told = tuple(row[name] for name in ("time", "lat", "lon", "depth_m", "volume_l"))
        if self._events.setdefault(event, told) != told:
            raise ValueError(
                f"{WHO}: all rows of a sample must tell the same place, time and volume, got {told} and "
                f"{self._events[event]} for {event!r}; make the table anew"
            )
        if len(self._events) > self.tables["event.txt"].rows:
            self._new_event(event, row)
        return event

    def _new_event(self, event: str, row: dict[str, Any]) -> None:
        depth, volume_l = row["depth_m"], row["volume_l"]
        self.tables["event.txt"].add(
            event, eventDate=row["time"], decimalLatitude=row["lat"], decimalLongitude=row["lon"],
            geodeticDatum=None if row["lat"] is None else "EPSG:4326", minimumDepthInMeters=depth,
            maximumDepthInMeters=depth, sampleSizeValue=volume_l,
            sampleSizeUnit=None if volume_l is None else "litre", samplingProtocol=row["instrument"],
        )  # fmt: skip
        if volume_l is not None:
            self._fact(event, None, VOLUME, volume_l / 1000)

    def _measure(self, event: str, occurrence: str, row: dict[str, Any]) -> None:
        for name, told in MEASURED.items():
            if row[name] is None:
                continue
            accuracy = None
            if name == "abundance_per_m3" and row["abundance_low_per_m3"] is not None:
                accuracy = (
                    f"95 % interval {row['abundance_low_per_m3']:.6g} to {row['abundance_high_per_m3']:.6g}"
                )
            self._fact(event, occurrence, told, row[name], accuracy)

    def _fact(
        self,
        event: str,
        occurrence: str | None,
        told: Sequence[str],
        value: float,
        accuracy: str | None = None,
    ) -> None:
        kind, kind_id, unit, unit_id = told
        method = self.facts.get("relations") if told is MEASURED["carbon_mg_per_m3"] else None
        self.tables["extendedmeasurementorfact.txt"].add(
            event, occurrenceID=occurrence, measurementType=kind, measurementTypeID=kind_id,
            measurementValue=float(value), measurementAccuracy=accuracy, measurementUnit=unit,
            measurementUnitID=unit_id, measurementMethod=method,
        )  # fmt: skip


def _event_id(row: dict[str, Any]) -> str:
    if not row["sample"]:
        raise ValueError(
            f"{WHO}: every row must name its sample, got none; ingest with samples, or leave such out"
        )
    return f"{row['instrument']}:{row['sample']}"


def _why_not(one: TaxonClass) -> str:
    if not one.living:
        return "not living"
    return "" if one.aphia_id is not None else "without AphiaID"


def _taxon(one: TaxonClass) -> dict[str, Any]:
    """Name, LSID and lineage. The name is the finest known: a class may be called 'Copepoda (egg)'."""
    known = [(rank, name) for rank, name in zip(RANKS, one.lineage, strict=True) if name]
    rank, name = known[-1] if known else (None, one.name)
    cells: dict[str, Any] = {rank: name for rank, name in known if rank != "species"}
    return cells | {
        "scientificName": name,
        "scientificNameID": f"{LSID}{one.aphia_id}",
        "taxonRank": rank,
        "lifeStage": _LIFE_STAGES.get(one.qualifier),
    }
