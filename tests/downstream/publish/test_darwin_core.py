"""Darwin Core Archives, read back by python-dwca-reader."""

import zipfile
from datetime import date
from xml.etree import ElementTree

import pytest
import yaml
from made_published import prediction_rows, sample_rows, write_predictions, write_samples

from aqqua.downstream.publish.darwin_core import COLUMNS, export_darwin_core
from aqqua.downstream.publish.darwin_core_files import DWC, OBIS, About, read_about

ABOUT = About("Copepods & <others>", "An institute", "someone@example.org", "What was\tseen.")


def read(path):
    """Core rows and extension rows by their short terms."""
    reader = pytest.importorskip("dwca.read")
    with reader.DwCAReader(str(path)) as archive:
        assert archive.descriptor.core.type == f"{DWC}Event"
        assert archive.metadata is not None
        events = [short(row.data) for row in archive.rows]
        linked = {
            kind: [short(e.data) for row in archive.rows for e in row.extensions if e.rowtype.endswith(kind)]
            for kind in ("Occurrence", "ExtendedMeasurementOrFact")
        }
    return events, linked["Occurrence"], linked["ExtendedMeasurementOrFact"]


def short(data):
    return {term.rsplit("/", 1)[-1]: value for term, value in data.items()}


@pytest.fixture
def archive(tmp_path):
    rows = sample_rows("tow 1", (3, 2, 9)) + sample_rows(
        "tow 2", (0, 1, 0), None, lat=None, lon=None, time=None
    )
    samples = write_samples(tmp_path / "samples.parquet", rows)
    done = export_darwin_core(samples, tmp_path / "a.zip", ABOUT, published=date(2026, 1, 2))
    return done, tmp_path / "a.zip"


def test_events_occurrences_and_measurements(archive):
    done, path = archive
    events, occurrences, facts = read(path)
    assert (done.events, done.occurrences, done.measurements) == (len(events), len(occurrences), len(facts))
    assert done.left_out == {"not living": 1}
    first, second = events
    assert first["eventID"] == "IFCB:tow 1"
    assert (first["eventDate"], first["decimalLatitude"]) == ("2020-06-01T12:00:00Z", "60.2")
    assert (first["sampleSizeValue"], first["sampleSizeUnit"]) == ("5", "litre")
    assert (second["eventDate"], second["decimalLatitude"], second["sampleSizeUnit"]) == ("", "", "")
    assert [(o["scientificName"], o["individualCount"]) for o in occurrences] == [
        ("Calanoida", "3"), ("Copepoda", "2"), ("Copepoda", "1")]  # fmt: skip
    assert {o["basisOfRecord"] for o in occurrences} == {"MachineObservation"}
    assert {o["identificationVerificationStatus"] for o in occurrences} == {"PredictedByMachine"}
    assert {o["identifiedBy"] for o in occurrences} == {"tiny <1>"}
    assert occurrences[0]["scientificNameID"] == "urn:lsid:marinespecies.org:taxname:1100"
    assert (occurrences[0]["taxonRank"], occurrences[0]["class"]) == ("order", "Copepoda")
    assert occurrences[1]["lifeStage"] == "egg"
    assert len({o["occurrenceID"] for o in occurrences}) == 3


def test_measurements_have_bodc_terms_and_their_occurrence(archive):
    _, occurrences, facts = read(archive[1])
    known = {o["occurrenceID"] for o in occurrences}
    by_term = {}
    for fact in facts:
        term = fact["measurementTypeID"].rstrip("/").rsplit("/", 1)[-1]
        by_term.setdefault(term, []).append(fact)
        assert (fact["occurrenceID"] in known) == (term != "VOLWBSMP")
    assert set(by_term) == {"SDBIOL01", "CVOLUKNB", "VOLWBSMP", ""}
    (volume,) = by_term["VOLWBSMP"]  # of the sample that has one
    assert (volume["measurementValue"], volume["measurementUnitID"].split("/")[-2]) == ("0.005", "MCUB")
    first = by_term["SDBIOL01"][0]
    assert (float(first["measurementValue"]), first["measurementUnitID"].split("/")[-2]) == (600, "UPMM")
    assert first["measurementAccuracy"] == "95 % interval 300 to 900"
    assert float(by_term[""][0]["measurementValue"]) == pytest.approx(6)
    assert by_term[""][0]["measurementMethod"] == "[]"


def test_the_metadata_is_xml_whatever_people_write(archive):
    with zipfile.ZipFile(archive[1]) as opened:
        eml = ElementTree.fromstring(opened.read("eml.xml"))
        meta = ElementTree.fromstring(opened.read("meta.xml"))
        names = set(opened.namelist())
    assert eml.find("dataset/title").text == "Copepods & <others>"
    assert "'tiny <1>'" in eml.find("dataset/methods/methodStep/description/para").text
    assert names == {"meta.xml", "eml.xml", *COLUMNS}
    fields = {field.get("term") for field in meta.iter() if field.tag.endswith("field")}
    assert {f"{DWC}eventID", f"{OBIS}measurementTypeID", f"{DWC}measurementType"} <= fields
    assert not any(term.endswith("/id") for term in fields)


def test_absences_on_demand(tmp_path):
    samples = write_samples(tmp_path / "s.parquet", sample_rows("tow", (3, 0, 1)))
    export_darwin_core(samples, tmp_path / "a.zip", ABOUT, absences=True)
    statuses = [(o["scientificName"], o["occurrenceStatus"]) for o in read(tmp_path / "a.zip")[1]]
    assert statuses == [("Calanoida", "present"), ("Copepoda", "absent")]


def test_images_as_occurrences(made, tmp_path):
    images = prediction_rows(made.dataset)
    for row in images:
        row["sample"] = "tow"
    predictions = write_predictions(tmp_path / "p.parquet", images)
    rows = [
        row
        for name in {i["instrument"] for i in images}
        for row in sample_rows("tow", (1, 1, 1), instrument=name)
    ]
    samples = write_samples(tmp_path / "s.parquet", rows)
    done = export_darwin_core(samples, tmp_path / "a.zip", ABOUT, predictions=predictions)
    _, occurrences, _ = read(tmp_path / "a.zip")
    assert done.occurrences + sum(done.left_out.values()) == len(images)
    by_id = {row["image_id"]: row for row in images}
    statuses = set()
    for one in occurrences:
        row = next(r for i, r in by_id.items() if " ".join(i.split()) == one["occurrenceID"])
        human = row["label_status"] == "validated"
        statuses.add(one["identificationVerificationStatus"])
        assert one["identificationVerificationStatus"] == (
            "ValidatedByHuman" if human else "PredictedByMachine"
        )
        assert one["scientificName"] == ((row["label"] if human else row["class"]).removesuffix(" (egg)"))
        assert human or one["identificationRemarks"] == f"score {row['score']:.4f}"
    assert statuses == {"ValidatedByHuman", "PredictedByMachine"}
    assert done.left_out["validated as what is no class here"] > 0


def test_refusals(made, tmp_path):
    samples = write_samples(tmp_path / "s.parquet", sample_rows("", (3, 0, 1)))
    with pytest.raises(ValueError, match="every row must name its sample"):
        export_darwin_core(samples, tmp_path / "a.zip", ABOUT)
    twice = sample_rows("tow", (3, 0, 1)) + sample_rows("tow", (1, 0, 1), 7.0)
    with pytest.raises(ValueError, match="must tell the same place, time and volume"):
        export_darwin_core(write_samples(tmp_path / "t.parquet", twice), tmp_path / "a.zip", ABOUT)
    with pytest.raises(ValueError, match="samples must have classes and the columns"):
        export_darwin_core(made.sizes, tmp_path / "a.zip", ABOUT)
    with pytest.raises(ValueError, match="title must be told"):
        About(" ", "a", "b", "c")
    assert {path.name for path in tmp_path.iterdir()} == {"s.parquet", "t.parquet"}


GOOD_ABOUT = {"title": "Copepods", "organisation": "An institute", "contact_email": "a@example.org"}


def test_about_is_read_from_a_file(tmp_path):
    path = tmp_path / "about.yaml"
    path.write_text(yaml.safe_dump({**GOOD_ABOUT, "abstract": "What was seen."}))
    assert read_about(path) == About("Copepods", "An institute", "a@example.org", "What was seen.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "must be a readable YAML file, got: No such file"),
        ("title: [", "must be a readable YAML file, got"),
        ("just words", "must hold lines of `field: words`"),
        (yaml.safe_dump({**GOOD_ABOUT, "abstrct": "x"}), r"got abstrct; did you mean abstract\?"),
        (yaml.safe_dump(GOOD_ABOUT), "must tell abstract, got none; add a line `abstract: ...`"),
        (yaml.safe_dump({**GOOD_ABOUT, "abstract": 2024}), "abstract of .* must be words, got 2024"),
    ],
)
def test_what_is_wrong_with_about_is_named(tmp_path, text, said):
    path = tmp_path / "about.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_about(path)
