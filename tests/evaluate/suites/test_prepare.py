"""A suite made ready: everything counted, everything named, every mistake said."""

import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_suite import column

from aqqua.evaluate.suites.prepare import prepare
from aqqua.evaluate.suites.suite import Suite

TIERS = {"sample": {"holdout": 0.3}, "instrument": {}}
FACTS = [{"instrument": ("IFCB", "UVP6")[i % 2], "group": f"g{i}", "label": "abd"[i % 3]} for i in range(120)]


def test_splits_of_all_tiers(hold, suite_of):
    dataset = hold("d", FACTS)
    ready = prepare(suite_of(tiers=TIERS), {"first": dataset.path})
    assert [split.name for split in ready.splits] == ["sample", "instrument IFCB", "instrument UVP6"]
    assert [split.name for split in ready.tier("instrument")] == ["instrument IFCB", "instrument UVP6"]
    assert [
        split.tier for split in prepare(ready.suite, {"first": dataset.path}, tiers=["sample"]).splits
    ] == ["sample"]
    split = ready.splits[0]
    ((where, rows, places),) = ready.rows(split.test)
    assert where.path == dataset.path
    np.testing.assert_array_equal(rows, split.test)
    np.testing.assert_array_equal(places, np.arange(len(split.test)))


def test_a_tier_that_is_not_there_names_the_nearest(hold, suite_of):
    dataset = hold("d", FACTS)
    with pytest.raises(ValueError, match=r"among sample, instrument .*, got sampel; did you mean sample\?"):
        prepare(suite_of(tiers=TIERS), {"first": dataset.path}, tiers=["sampel"])
    with pytest.raises(ValueError, match="got region; add it to the suite's file"):
        prepare(suite_of(tiers=TIERS), {"first": dataset.path}, tiers=["region"])


@pytest.mark.parametrize("labels", ["as_written", "as-written", "As written"])
def test_labels_as_written_are_hinted_at(hold, suite_of, labels):
    suite = suite_of(tiers=TIERS, dataset={"labels": labels})
    with pytest.raises(ValueError, match=f"of first without a map must be 'as written', got '{labels}'"):
        prepare(suite, {"first": hold("d", FACTS).path})


def test_the_facts_are_json_and_the_same_again(hold, suite_of):
    dataset = hold("d", FACTS)
    facts = prepare(suite_of(tiers=TIERS), {"first": dataset.path}).facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts == prepare(suite_of(tiers=TIERS), {"first": str(dataset.path)}).facts()
    assert facts["datasets"]["first"]["sha256"] == dataset.manifest_sha256
    sample = facts["splits"]["sample"]
    assert sample["train_images"] + sample["test_images"] == 120
    assert sample["test_images_known"] is None
    assert facts["contamination"] is None


def test_what_pretraining_knew_is_reported_and_can_leave_the_test(hold, suite_of, tmp_path):
    dataset = hold("d", FACTS)
    ready = prepare(suite_of(tiers=TIERS), {"first": dataset.path})
    ids = column(dataset, "image_id")
    known = [*ids[ready.splits[0].test[:3]], *ids[ready.splits[0].train[:5]]]
    (tmp_path / "known.txt").write_text("\n".join(known))
    told = {"first": [tmp_path / "known.txt"]}
    again = prepare(ready.suite, {"first": dataset.path}, contamination=told)
    facts = again.facts()
    assert facts["contamination"] == {"first": 8}
    assert facts["splits"]["sample"]["test_images_known"] == 3
    np.testing.assert_array_equal(again.splits[0].test, ready.splits[0].test)
    without = prepare(ready.suite, {"first": dataset.path}, contamination=told, leave_out_known=True)
    np.testing.assert_array_equal(without.splits[0].test, ready.splits[0].test[3:])
    np.testing.assert_array_equal(without.splits[0].test_label, ready.splits[0].test_label[3:])
    assert without.splits[0].left_out["known from pretraining"] == 3
    (tmp_path / "known.txt").write_text("\n".join(ids))
    with pytest.raises(ValueError, match=r"must be unknown to the model, got \d+ that pretraining knew"):
        prepare(ready.suite, {"first": dataset.path}, contamination=told, leave_out_known=True)


def test_mistakes_are_said(hold, suite_of):
    dataset = hold("d", FACTS)
    suite = suite_of(tiers=TIERS, dataset={"ingest": "aqqua ingest cast --out first"})
    with pytest.raises(ValueError, match="got no first; make it with: aqqua ingest cast --out first"):
        prepare(suite, {})
    with pytest.raises(ValueError, match=r"must be one of first \(made\), got second"):
        prepare(suite, {"first": dataset.path, "second": dataset.path})
    with pytest.raises(ValueError, match=r"tiers must be among sample, instrument \(made\), got region"):
        prepare(suite, {"first": dataset.path}, tiers=["region"])
    other = suite_of(tiers=TIERS, dataset={"manifest_sha256": "0" * 64})
    with pytest.raises(ValueError, match="first must be the data set 000000000000, got "):
        prepare(other, {"first": dataset.path})


def some_of(archive: Path, out: Path) -> Path:
    """An archive of the small pictures alone, at most 30 of a class, which are read in a second."""
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(out, "w") as some:
        taken = Counter()
        for one in whole.infolist():
            if one.file_size < 8000 and taken[Path(one.filename).parent] < 30:
                taken[Path(one.filename).parent] += 1
                some.writestr(one, whole.read(one))
    return out


def ingested(source: Path, out: Path, **options) -> Path:
    from aqqua.ingest import ingest_paths
    from aqqua.instruments.record import ReadOptions

    ingest_paths([str(source)], out, ReadOptions(**options), workers=1)
    return out


def test_real_suites(real_data, tmp_path):
    """Of UVP6, pictures under two labels count for neither; of PWSSC, whole months are held out."""
    paths = {
        "uvp6": ingested(real_data / "uvp6" / "uvpec.zip", tmp_path / "uvp6", instrument="UVP6"),
        "pwssc": ingested(some_of(real_data / "pwssc.zip", tmp_path / "some.zip"), tmp_path / "pwssc"),
    }
    uvp6 = prepare(Suite.load("uvp6"), {"uvp6": paths["uvp6"]})
    reasons = dict(uvp6.images.left_out)
    assert reasons.pop("equal pixels under two labels") == 57
    assert list(reasons.values()) == [57]
    assert len(uvp6.splits[0].classes) == 9
    pwssc = prepare(Suite.load("pwssc"), {"pwssc": paths["pwssc"]})
    assert [split.tier for split in pwssc.splits] == ["sample", "region"]
    months = pwssc.splits[1].held_out
    assert months
    assert all(month.startswith("2016-") for month in months)
    whole = Suite.load("mix")
    both = whole.model_copy(
        update={
            "datasets": {key: whole.datasets[key] for key in paths},
            "tiers": whole.tiers.model_copy(
                update={"instrument": whole.tiers.instrument.model_copy(update={"test": []})}
            ),
        }
    )
    turns = prepare(both, paths, tiers=["instrument"])
    shared = {split.name: [turns.classes[c].name for c in split.classes] for split in turns.splits}
    assert shared["instrument UVP6"] == ["Copepoda", "detritus"]
