"""Tables of a suite: which images, which kinds, and on which side of a split they stand."""

import numpy as np
import pytest
from made_suite import column
from pydantic import ValidationError

from aqqua.evaluate.suites.measured import measured_traits
from aqqua.evaluate.suites.prepare import prepare
from aqqua.evaluate.suites.split import LEARNT_FROM, TESTED

HEADER = "object_id,trait_id,value,unit,method\n"
FACTS = [{"group": f"g{i // 2}", "label": "ab"[i % 2]} for i in range(40)]
TIERS = {"sample": {"holdout": 0.3}}
RELATIONS = ["protist"]


@pytest.fixture
def table(tmp_path):
    def written(*rows, name="t.csv"):
        (tmp_path / name).write_text(HEADER + "".join(f"{row}\n" for row in rows))
        return {"table": str(tmp_path / name)}

    return written


def test_values_of_the_second_data_set_and_its_kinds(hold, suite_of, table):
    first, second = hold("a", FACTS[:10]), hold("b", FACTS)
    rows = [f"o{i},gut,{i % 4},stage,eye" for i in range(12)]
    rows += [f"o{i},esd,{i + 1},um,ruler" for i in range(20)] + [f"o{i},egg,{i % 2},,eye" for i in range(5)]
    suite = suite_of(
        "one", "two", tiers=TIERS, metrics=["traits"],
        traits={**table(*rows), "dataset": "two", "log10": ["esd"]},
    )  # fmt: skip
    found = {one.trait_id: one for one in measured_traits(suite, {"one": first, "two": second}, None)}
    kinds = {name: (one.kind, one.log10, one.unit, one.metric) for name, one in found.items()}
    assert kinds == {
        "gut": ("ordinal", False, "stage", "traits"),
        "esd": ("continuous", True, "um", "traits"),
        "egg": ("binary", False, "", "traits"),
    }
    ids = [name.rpartition("/")[2] for name in column(second, "image_id")]
    assert len(found["egg"].image_N) == 5
    for number, value in zip(found["esd"].image_N, found["esd"].value_N, strict=True):
        assert ids[number - first.rows] == f"o{int(value) - 1}"


def test_sides_hold_images_without_a_label_and_keep_groups_whole(hold, suite_of, table):
    facts = [{**fact, "status": "unlabelled"} if i % 3 == 0 else fact for i, fact in enumerate(FACTS)]
    dataset = hold("a", facts)
    suite = suite_of(
        tiers=TIERS, metrics=["classification", "traits"],
        traits=table(*(f"o{i},esd,{i + 1},um,ruler" for i in range(40))),
    )  # fmt: skip
    ready = prepare(suite, {"first": dataset.path})
    (split,), (esd,) = ready.splits, ready.measured
    side = split.side_I[esd.image_N]
    assert set(side.tolist()) == {LEARNT_FROM, TESTED}
    groups = ready.images.group_I[esd.image_N]
    assert not set(groups[side == TESTED]) & set(groups[side == LEARNT_FROM])
    tested = ready.tested(split)
    assert set(split.test) < set(tested)
    assert len(tested) == (side == TESTED).sum() == ready.facts()["splits"]["sample"]["test_images"]


def test_a_copy_of_a_training_image_and_a_known_one_leave_the_test(hold, suite_of, table, tmp_path):
    suite = suite_of(
        tiers=TIERS, metrics=["traits"], traits=table(*(f"o{i},esd,{i + 1},um,ruler" for i in range(40)))
    )
    dataset = hold("a", FACTS)
    before = prepare(suite, {"first": dataset.path})
    side = before.splits[0].side_I
    one, another = int(np.flatnonzero(side == TESTED)[0]), int(np.flatnonzero(side == LEARNT_FROM)[0])
    ids = [name.rpartition("/")[2] for name in column(dataset, "image_id")]
    copied = [dict(fact) for fact in FACTS]
    copied[int(ids[one][1:])]["content"] = int(ids[another][1:])
    again = prepare(suite, {"first": hold("b", copied).path})
    assert len(again.tested(again.splits[0])) == len(before.tested(before.splits[0])) - 1
    (tmp_path / "known.txt").write_text(column(dataset, "image_id")[one])
    told = {"first": [tmp_path / "known.txt"]}
    without = prepare(suite, {"first": dataset.path}, contamination=told, leave_out_known=True)
    assert set(before.tested(before.splits[0])) - set(without.tested(without.splits[0])) == {one}


def test_carbon_is_judged_by_what_was_measured_alone(hold, suite_of, table):
    dataset = hold("a", FACTS)
    rows = [f"o{i},poc,{i + 1},ng C,CHN analyser" for i in range(40)]
    suite = suite_of(tiers=TIERS, metrics=["carbon"], carbon=table(*rows))
    (found,) = measured_traits(suite, {"first": dataset}, RELATIONS)
    assert (found.metric, found.trait_id, found.unit, found.log10) == ("carbon", "carbon", "pg", True)
    assert sorted(found.value_N) == [1000.0 * (i + 1) for i in range(40)]
    with pytest.raises(ValueError, match="published relations must be known to judge carbon, got none"):
        prepare(suite, {"first": dataset.path})
    table(*rows[:-1], "o39,poc,9,ng C,protist")
    with pytest.raises(ValueError, match=r"row 41: carbon must be measured, got .* relation protist"):
        measured_traits(suite, {"first": dataset}, RELATIONS)


@pytest.mark.parametrize(
    ("rows", "traits", "said"),
    [
        (["o1,esd,0,um,ruler"], {"log10": ["esd"]}, r"row 2: esd must be above 0 .* got 0\.0"),
        (["o1,esd,1,um,ruler"], {"log10": ["area"]}, "must be among esd, got area; correct kinds or log10"),
        (["o1,esd,3,um,ruler"], {"kinds": {"esd": "binary"}}, "binary trait esd must be 0 or 1, got 3"),
        (["o99,esd,3,um,ruler"], {}, "row 2: object_id must be an image of"),
    ],
)
def test_a_table_that_does_not_fit(hold, suite_of, table, rows, traits, said):
    suite = suite_of(tiers=TIERS, metrics=["traits"], traits={**table(*rows), **traits})
    with pytest.raises(ValueError, match=said):
        prepare(suite, {"first": hold("a", FACTS).path})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"metrics": ["traits"]}, "metric traits needs a table"),
        ({"traits": {"table": "t.csv"}}, "metric traits must be among metrics to be judged"),
        ({"metrics": ["carbon"], "carbon": {"table": "t", "dataset": "x"}}, "must be one of first, not x"),
    ],
)
def test_the_form_is_strict(suite_of, values, said):
    with pytest.raises(ValidationError, match=said):
        suite_of(tiers=TIERS, **values)


def test_other_values_are_another_suite(suite_of, table):
    traits = table("o1,esd,1,um,ruler")
    suite = suite_of(tiers=TIERS, metrics=["traits"], traits=traits)
    before = suite.sha256
    assert before == suite.sha256
    assert suite_of(tiers=TIERS, metrics=["traits"], traits={**traits, "log10": ["esd"]}).sha256 != before
    table("o1,esd,2,um,ruler")
    assert suite.sha256 != before


def test_a_split_that_tests_no_value_is_refused(hold, suite_of, table):
    dataset = hold("a", FACTS)
    some = prepare(suite_of(tiers=TIERS), {"first": dataset.path})
    ids = [name.rpartition("/")[2] for name in column(dataset, "image_id")]
    kept = [ids[n] for n in np.flatnonzero(some.splits[0].side_I == LEARNT_FROM)]
    suite = suite_of(tiers=TIERS, metrics=["traits"], traits=table(*(f"{o},esd,3,um,r" for o in kept)))
    with pytest.raises(ValueError, match="every split must test an image, got none for sample"):
        prepare(suite, {"first": dataset.path})
