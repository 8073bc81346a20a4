"""The files of a Darwin Core Archive: its tables, meta.xml that describes them, and a minimal eml.xml.

Source: Darwin Core text guide (dwc.tdwg.org/text); EML 2.2.0 (eml.ecoinformatics.org), the elements that GBIF
requires: title, creator, metadataProvider, pubDate, abstract, intellectualRights, contact.
"""

import io
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import date, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from aqqua.config import did_you_mean

DWC = "http://rs.tdwg.org/dwc/terms/"
OBIS = "http://rs.iobis.org/obis/terms/"
_TEXT = "http://rs.tdwg.org/dwc/text/"
_EML = "https://eml.ecoinformatics.org/eml-2.2.0"
ROW_TYPES = {
    "event.txt": f"{DWC}Event",
    "occurrence.txt": f"{DWC}Occurrence",
    "extendedmeasurementorfact.txt": f"{OBIS}ExtendedMeasurementOrFact",
}
_HOW = "give title, organisation, contact_email and abstract"
_OBIS_TERMS = ("measurementTypeID", "measurementValueID", "measurementUnitID")


COLUMNS = {
    "event.txt": (
        *("id", "eventID", "eventDate", "decimalLatitude", "decimalLongitude", "geodeticDatum"),
        *("minimumDepthInMeters", "maximumDepthInMeters", "sampleSizeValue", "sampleSizeUnit"),
        "samplingProtocol",
    ),
    "occurrence.txt": (
        *("id", "eventID", "occurrenceID", "basisOfRecord", "occurrenceStatus", "scientificName"),
        *("scientificNameID", "taxonRank", "kingdom", "phylum", "class", "order", "family", "genus"),
        *("lifeStage", "individualCount", "identifiedBy", "identificationVerificationStatus"),
        "identificationRemarks",
    ),
    "extendedmeasurementorfact.txt": (
        *("id", "eventID", "occurrenceID", "measurementType", "measurementTypeID", "measurementValue"),
        *("measurementAccuracy", "measurementUnit", "measurementUnitID", "measurementMethod"),
    ),
}


@dataclass(frozen=True)
class About:
    """What people must say of a dataset that they publish."""

    title: str
    organisation: str
    contact_email: str
    abstract: str
    licence: str = "http://creativecommons.org/licenses/by/4.0/legalcode"
    language: str = "eng"

    def __post_init__(self) -> None:
        for name in ("title", "organisation", "contact_email", "abstract", "licence"):
            if not getattr(self, name).strip():
                raise ValueError(f"darwin core: {name} must be told, got nothing; OBIS and GBIF ask for it")


def read_about(path: Path) -> About:
    """What people say of their dataset, from a YAML file with the fields of About.

    Raises:
        ValueError: no readable YAML file, a field that is not known, missing or no text; names it.
    """
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())[:200]
        raise ValueError(f"darwin core: {path} must be a readable YAML file, got: {what}; {_HOW}") from error
    if not isinstance(told, dict):
        raise ValueError(f"darwin core: {path} must hold lines of `field: words`, got others; {_HOW}")
    known = {field.name: field for field in fields(About)}
    if unknown := next((str(name) for name in told if name not in known), None):
        hint = did_you_mean(unknown, list(known)) or "take it out"
        raise ValueError(
            f"darwin core: fields of {path} must be among {', '.join(known)}, got {unknown}; {hint}"
        )
    if missing := next((n for n, one in known.items() if one.default is MISSING and n not in told), None):
        raise ValueError(f"darwin core: {path} must tell {missing}, got none; add a line `{missing}: ...`")
    if wrong := next((name for name, text in told.items() if not isinstance(text, str)), None):
        raise ValueError(
            f"darwin core: {wrong} of {path} must be words, got {told[wrong]!r}; put it in quotes"
        )
    return About(**told)


def meta_xml(columns: Mapping[str, Sequence[str]]) -> bytes:
    """meta.xml of an archive whose core is event.txt; every file's first column is the event's id."""
    archive = ElementTree.Element("archive", xmlns=_TEXT, metadata="eml.xml")
    for name, terms in columns.items():
        core = name == "event.txt"
        part = ElementTree.SubElement(
            archive, "core" if core else "extension", encoding="UTF-8", fieldsTerminatedBy="\\t",
            linesTerminatedBy="\\n", fieldsEnclosedBy="", ignoreHeaderLines="1", rowType=ROW_TYPES[name],
        )  # fmt: skip
        ElementTree.SubElement(ElementTree.SubElement(part, "files"), "location").text = name
        ElementTree.SubElement(part, "id" if core else "coreid", index="0")
        for index, term in enumerate(terms):
            if term != "id":
                ElementTree.SubElement(part, "field", index=str(index), term=_uri(term))
    return ElementTree.tostring(archive, encoding="utf-8", xml_declaration=True)


def _uri(term: str) -> str:
    if term == "modified":
        return "http://purl.org/dc/terms/modified"
    return (OBIS if term in _OBIS_TERMS else DWC) + term


def eml_xml(about: About, published: date, how: str) -> bytes:
    """eml.xml: who, what, under which licence, and how the classes were found."""
    package = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{about.title}\0{about.organisation}\0{how}"))
    ElementTree.register_namespace("eml", _EML)
    root = ElementTree.Element(f"{{{_EML}}}eml", packageId=package, system="aqqua", scope="system")
    dataset = ElementTree.SubElement(root, "dataset")
    ElementTree.SubElement(dataset, "title").text = about.title
    for role in ("creator", "metadataProvider"):
        _party(ElementTree.SubElement(dataset, role), about)
    ElementTree.SubElement(dataset, "pubDate").text = published.isoformat()
    ElementTree.SubElement(dataset, "language").text = about.language
    ElementTree.SubElement(ElementTree.SubElement(dataset, "abstract"), "para").text = about.abstract
    ElementTree.SubElement(ElementTree.SubElement(dataset, "intellectualRights"), "para").text = about.licence
    _party(ElementTree.SubElement(dataset, "contact"), about)
    step = ElementTree.SubElement(ElementTree.SubElement(dataset, "methods"), "methodStep")
    ElementTree.SubElement(ElementTree.SubElement(step, "description"), "para").text = how
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _party(element: ElementTree.Element, about: About) -> None:
    ElementTree.SubElement(element, "organizationName").text = about.organisation
    ElementTree.SubElement(element, "electronicMailAddress").text = about.contact_email


@dataclass
class Lines:
    """A table of the archive, written line by line."""

    path: Path
    rows: int = 0
    _file: io.TextIOWrapper | None = None

    def __enter__(self) -> "Lines":
        self._file = self.path.open("w", encoding="utf-8", newline="")
        self._file.write("\t".join(COLUMNS[self.path.name]) + "\n")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()

    def add(self, event: str, **cells: Any) -> None:
        """A row; what is not given is empty."""
        assert self._file is not None
        cells |= {"id": event, "eventID": event}
        unknown = set(cells) - set(COLUMNS[self.path.name])
        assert not unknown, unknown
        self._file.write("\t".join(_text(cells.get(name)) for name in COLUMNS[self.path.name]) + "\n")
        self.rows += 1


def _text(value: Any) -> str:
    """A cell: no tab, no line end, which the archive's form cannot hold."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, float):
        return f"{value:.9g}"
    return " ".join(str(value).split())
