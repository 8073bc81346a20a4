"""Splits are honest in every tier: no group, and no picture, is on both sides."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_suite import column

from aqqua.evaluate.suites.images import Images, read_images
from aqqua.evaluate.suites.split import regions_of, splits_of
from aqqua.evaluate.suites.suite import RegionTier, Suite
from aqqua.store.split import held_out
from aqqua.taxonomy.classes import TaxonClass, lineage_of


def check(images: Images, split) -> None:
    """What every split must be."""
    train, test = set(split.train.tolist()), set(split.test.tolist())
    assert train
    assert test
    assert not train & test
    assert not set(images.group_I[split.train]) & set(images.group_I[split.test])
    assert not set(images.picture_I[split.train]) & set(images.picture_I[split.test])
    used = int((images.class_I >= 0).sum())
    assert len(train) + len(test) + sum(split.left_out.values()) == used
    np.testing.assert_array_equal(split.classes[split.train_label], images.class_I[split.train])
    np.testing.assert_array_equal(split.classes[split.test_label], images.class_I[split.test])
    assert set(split.train_label) == set(range(len(split.classes)))


def suite_of_tier(tier: str, options: dict) -> Suite:
    return Suite.model_validate(
        {"name": "s", "description": "d", "datasets": {"d": {"labels": "isiis"}}, "tiers": {tier: options}}
    )


@st.composite
def tables(draw) -> Images:
    """Images of random groups, contents, instruments, classes and regions."""
    count = draw(st.integers(4, 60))
    numbers = st.integers(0, draw(st.integers(1, 12)))

    def column_of(values):
        return draw(st.lists(values, min_size=count, max_size=count))

    instrument = column_of(st.sampled_from(["IFCB", "UVP6", "ISIIS"]))
    group = column_of(numbers.map(lambda n: f"g{n}" if n % 3 else ""))
    content = [bytes([n]) * 16 for n in column_of(st.integers(0, 40))]
    sample = column_of(st.sampled_from(["north1", "north2", "south1", "south2", ""]))
    table = pa.table({"instrument": instrument, "group": group, "content": content, "sample": sample})
    names = sorted(set(instrument))
    keys = [
        (i, g or c) for i, g, c in zip(instrument, group, content, strict=True)
    ]  # as aqqua.store.split sees it
    number = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    picture = {c: n for n, c in enumerate(dict.fromkeys(content))}
    classes = tuple(TaxonClass(name, None, lineage_of(["Animalia", name])) for name in ("P", "Q"))
    return Images(
        table,
        np.zeros(count, np.int32),
        np.arange(count),
        np.array(column_of(st.integers(-1, 1)), np.int32),
        np.array([number[key] for key in keys]),
        np.array([picture[c] for c in content]),
        np.array([names.index(name) for name in instrument], np.int32),
        np.full(count, -1, np.int32),
        classes,
        tuple(names),
        (),
        {},
    )


TIERS = {
    "sample": [{"holdout": 0.3}, {"holdout": 0.6}],
    "region": [
        {"by": "sample"},
        {"by": "sample", "in_turn": True},
        {"by": "sample", "pattern": "^([a-z]+)", "in_turn": True},
        {"by": "group", "holdout": 0.5},
    ],
    "instrument": [{}],
}


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from([(tier, one) for tier, some in TIERS.items() for one in some]))
def test_no_group_and_no_picture_is_on_both_sides(images, chosen):
    tier, options = chosen
    try:
        splits, skipped = splits_of(images, suite_of_tier(tier, options), tier)
    except ValueError as error:
        if not str(error).startswith("split: "):  # cannot be made, and says so
            raise
        return
    assert len({split.name for split in splits} | set(skipped)) == len(splits) + len(skipped)
    for split in splits:
        assert split.tier == tier
        check(images, split)


def test_the_sample_tier_is_the_holdout_of_pretraining(hold, suite_of):
    facts = [{"group": f"g{i % 40}", "content": i % 300, "label": "ab"[i % 300 % 2]} for i in range(400)]
    dataset = hold("d", facts)
    images = read_images(suite_of(tiers={"sample": {"holdout": 0.3}}), {"first": dataset})
    (split,), skipped = splits_of(images, suite_of(tiers={"sample": {"holdout": 0.3}}), "sample")
    tested = np.concatenate([held_out(dataset, block, 0.3) for block in range(dataset.blocks)])
    seen = set(column(dataset, "content")[~tested])  # pretraining saw these pictures, labelled or not
    fresh = np.array([content not in seen for content in column(dataset, "content")])
    used = images.class_I >= 0
    np.testing.assert_array_equal(split.train, np.flatnonzero(used & ~tested))
    np.testing.assert_array_equal(split.test, np.flatnonzero(used & tested & fresh))
    assert split.left_out == {"copy of a training image": int((used & tested & ~fresh).sum())}
    assert split.left_out["copy of a training image"] > 0
    assert skipped == {}
    check(images, split)


def test_labels_as_written_are_the_evaluation_of_a_data_set_alone(hold):
    facts = [{"group": f"g{i % 40}", "label": ("Copepoda", "x y", "77")[i % 3]} for i in range(200)]
    dataset = hold("d", facts)
    suite = Suite.of_labels(0.3)
    images = read_images(suite, {"data": dataset})
    (split,), _ = splits_of(images, suite, "sample")
    tested = np.concatenate([held_out(dataset, block, 0.3) for block in range(dataset.blocks)])
    names = [images.classes[c].name for c in split.classes]
    assert names == ["77", "Copepoda", "x y"]
    np.testing.assert_array_equal(split.test, np.flatnonzero(tested))
    assert [names[k] for k in split.test_label] == column(dataset, "label")[tested].tolist()
    assert suite.sha256 == Suite.of_labels(0.3).sha256 != Suite.of_labels(0.2).sha256


def test_rare_classes_are_not_asked_for(hold, suite_of):
    dataset = hold("d", [{} for _ in range(60)] + [{"label": "b"}] + [{"label": "o"} for _ in range(6)])
    suite = suite_of(tiers={"sample": {"holdout": 0.4}}, min_train_images=10)
    images = read_images(suite, {"first": dataset})
    (split,), _ = splits_of(images, suite, "sample")
    assert [images.classes[c].name for c in split.classes] == ["Calanoida"]
    assert split.left_out["class with too few images"] == 7


MONTHS = [{"group": f"g{i}", "month": 1 + i % 6, "label": "ab"[i % 7 % 2]} for i in range(60)]


def test_regions_by_month(hold, suite_of):
    dataset = hold("d", [*MONTHS, {"label": "a"}])
    suite = suite_of(tiers={"region": {"by": "month", "test": ["2026-02", "2026-05"]}})
    images = read_images(suite, {"first": dataset})
    (split,), _ = splits_of(images, suite, "region")
    check(images, split)
    assert split.held_out == ("2026-02", "2026-05")
    months = np.array([time and time.month for time in column(dataset, "time")], object)
    assert set(months[split.test]) == {2, 5}
    assert set(months[split.train]) == {1, 3, 4, 6}
    assert split.left_out == {"region unknown": 1}
    suite = suite_of(tiers={"region": {"by": "season", "in_turn": True}})
    splits, _ = splits_of(images, suite, "region")
    assert [one.name for one in splits] == ["region 2026-Q1", "region 2026-Q2"]


def test_regions_by_cell_and_by_name(hold, suite_of):
    facts = [
        {
            "lat": lat,
            "lon": lon,
            "sample": f"cruise{i % 2}_cast{i}",
            "label": "ab"[k % 2],
            "content": 10 * i + k,
        }
        for i, (lat, lon) in enumerate([(43.5, 7.2), (49.9, -0.1), (-0.5, 7.2)])
        for k in range(8)
    ]
    images = read_images(suite_of(tiers={"sample": {}}), {"first": hold("d", facts)})
    cells = regions_of(images, RegionTier(by="cell", cell_degrees=10))
    assert Counter(cells) == {"lat 40, lon 0": 8, "lat 40, lon -10": 8, "lat -10, lon 0": 8}
    cruises = regions_of(images, RegionTier(by="sample", pattern="^(cruise.)"))
    assert Counter(cruises) == {"cruise0": 16, "cruise1": 8}


def test_a_group_that_crosses_a_border_lies_on_one_side(hold, suite_of):
    facts = [{"group": "night", "month": 5}, {"group": "night", "month": 6}, {"group": "night"}, {"month": 7}]
    images = read_images(suite_of(tiers={"sample": {}}), {"first": hold("d", facts)})
    assert Counter(regions_of(images, RegionTier(by="month"))) == {"2026-05": 3, "2026-07": 1}


@pytest.mark.parametrize(
    ("tier", "facts", "said"),
    [
        ({"by": "cell"}, [{}] * 3, "by cell needs images with lat and lon, got none of 3; choose another"),
        ({"by": "month"}, [{}] * 3, "by month needs images with a time, got none of 3"),
        ({"by": "sample"}, [{}] * 3, "by sample needs images with a sample"),
        (
            {"by": "sample", "pattern": "cruise_(.)"},
            [{"sample": "cruise-7"}] * 3,
            r"must match a sample, got no match of 'cruise_\(\.\)' in any of 3, such as 'cruise-7'",
        ),
        ({"by": "month"}, [{"month": 3}] * 3, "must have at least 2 regions, got 2026-03 alone"),
        ({"by": "month", "test": ["2026-09"]}, MONTHS, "must be among 2026-01, .* got 2026-09; correct test"),
        ({"by": "month", "holdout": 0.001}, MONTHS, "on both sides, got 60 images to learn from and 0 to"),
    ],
)
def test_a_tier_of_regions_that_cannot_be_made(hold, suite_of, tier, facts, said):
    dataset = hold("d", facts)
    suite = suite_of(tiers={"region": tier})
    with pytest.raises(ValueError, match=said):
        splits_of(read_images(suite, {"first": dataset}), suite, "region")


def imagers(**labels: str) -> list[dict]:
    return [
        {"instrument": name, "label": label, "group": f"g{k}", "content": 1000 * i + k}
        for i, (name, some) in enumerate(labels.items())
        for k, label in enumerate(some * 6)
    ]


def test_instruments_in_turn(hold, suite_of):
    dataset = hold("d", imagers(IFCB="ab", UVP6="od", ISIIS="bd", FlowCam="c"))
    suite = suite_of(tiers={"instrument": {}}, level="class")
    images = read_images(suite, {"first": dataset})
    splits, skipped = splits_of(images, suite, "instrument")
    instrument = column(dataset, "instrument")
    assert {split.name for split in splits} == {"instrument IFCB", "instrument UVP6", "instrument ISIIS"}
    assert skipped == {}  # FlowCam has no class at this level
    for split in splits:
        check(images, split)
        assert set(instrument[split.test]) == set(split.held_out)
        assert not set(instrument[split.train]) & set(split.held_out)
        assert set(split.test_label) == set(split.train_label)
    names = {s.name: [images.classes[c].name for c in s.classes] for s in splits}
    assert names["instrument UVP6"] == ["Copepoda", "detritus"]
    assert names["instrument IFCB"] == ["Copepoda", "Hydrozoa"]


def test_an_instrument_that_shares_no_class_is_skipped_with_the_reason(hold, suite_of):
    dataset = hold("d", imagers(IFCB="a", UVP6="a", ISIIS="b"))
    suite = suite_of(tiers={"instrument": {}})
    splits, skipped = splits_of(read_images(suite, {"first": dataset}), suite, "instrument")
    assert [split.name for split in splits] == ["instrument IFCB", "instrument UVP6"]
    assert skipped == {"instrument ISIIS": "0 images to learn from and 0 to test on"}


@pytest.mark.parametrize(
    ("test", "facts", "said"),
    [
        ([], imagers(IFCB="ab"), "at least 2 instruments, got IFCB; add a data set"),
        ([], imagers(IFCB="a", UVP6="b"), "choose a coarser level, so that instruments share classes"),
        (["LOKI"], imagers(IFCB="a", UVP6="a"), "must be among IFCB, UVP6, got LOKI"),
    ],
)
def test_a_tier_of_instruments_that_cannot_be_made(hold, suite_of, test, facts, said):
    dataset = hold("d", facts)
    suite = suite_of(tiers={"instrument": {"test": test}})
    with pytest.raises(ValueError, match=said):
        splits_of(read_images(suite, {"first": dataset}), suite, "instrument")
