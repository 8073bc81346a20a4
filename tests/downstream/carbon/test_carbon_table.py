"""Predictions and sizes to carbon: relation named, extrapolation flagged, nonsense refused by row."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_tables import CLASSES, certain, image, predictions, size, sizes

from aqqua.downstream.carbon.monte_carlo import Uncertainty
from aqqua.downstream.carbon.settings import CarbonSettings
from aqqua.downstream.carbon.table import open_carbon, write_carbon

QUICK = CarbonSettings(uncertainty=Uncertainty(draws=40))


def carbon(tmp_path, numbers, volumes, settings=QUICK, scores=None, **values):
    images = [image(i) for i in range(len(numbers))]
    scores = certain(numbers) if scores is None else scores
    measured = sizes(
        tmp_path / "s.parquet", [size(row, v, **values) for row, v in zip(images, volumes, strict=True)]
    )
    found = predictions(tmp_path / "p.parquet", images, scores)
    counts = write_carbon(found, measured, tmp_path / "c.parquet", settings, "aqqua carbon")
    return counts, pq.read_table(tmp_path / "c.parquet").to_pylist()


def test_each_class_by_its_relation(tmp_path):
    counts, rows = carbon(tmp_path, [0, 0, 1, 2, 3, 4, 1], [3000, 5000, 1000, 1e6, 1e9, 1e3, None])
    assert [row["relation"] for row in rows] == [
        *["diatom/diatom_large"] * 2,
        *("dinoflagellate", None, "marine_snow", "no carbon", "dinoflagellate"),
    ]
    wanted = [190.084, 211.735, 217.678, None, 0.99e6, 0.0, None]
    for row, value in zip(rows, wanted, strict=True):
        assert row["carbon_pg"] == (value if value is None else pytest.approx(value, rel=5e-6))
        if value:
            assert row["carbon_low_pg"] < value < row["carbon_high_pg"]
        elif value is None:
            assert row["carbon_low_pg"] is row["carbon_high_pg"] is row["extrapolated"] is None
    assert counts == {"images": 7, "known": 5, "no relation": 1, "no size": 1, "extrapolated": 0}


def test_extrapolation_is_flagged(tmp_path):
    counts, rows = carbon(tmp_path, [1, 1, 1, 3], [100, 1000, 3e5, 1e8])
    assert [row["extrapolated"] for row in rows] == [True, False, True, True]
    assert counts["extrapolated"] == 3


def test_animals_where_unverified_relations_are_allowed(tmp_path):
    settings = CarbonSettings(allow_unverified=True, uncertainty=Uncertainty(draws=40))
    _, rows = carbon(tmp_path, [2], [1e8], settings)
    assert rows[0]["relation"] == "calanoid_dry_weight"
    assert rows[0]["carbon_low_pg"] < rows[0]["carbon_pg"] < rows[0]["carbon_high_pg"]


def test_an_unsure_class_widens_the_interval(tmp_path):
    sure, unsure = np.eye(5)[[3]], np.array([[0.2, 0.2, 0, 0.6, 0]])
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, first = carbon(tmp_path / "a", [3], [1e5], scores=sure)
    _, second = carbon(tmp_path / "b", [3], [1e5], scores=unsure)
    assert first[0]["carbon_pg"] == second[0]["carbon_pg"]
    assert second[0]["carbon_low_pg"] < first[0]["carbon_low_pg"] / 2


def test_says_how_it_was_made(tmp_path):
    carbon(tmp_path, [0, 1], [1e3, 1e3])
    facts = open_carbon(tmp_path / "c.parquet").facts
    assert CarbonSettings.from_json(facts["carbon_settings"]) == QUICK
    used = {entry["id"]: entry for entry in json.loads(facts["relations"])}
    assert sorted(used) == ["diatom", "diatom_large", "dinoflagellate", "marine_snow"]
    assert used["diatom"]["doi"] == "10.4319/lo.2000.45.3.0569"
    assert facts["command"] == "aqqua carbon"
    assert facts["model_sha256"] == "m" * 64


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"area_um2": np.nan}, r"area_um2 must be above 0, or null .* got nan in row 0 \(made/image00000\)"),
        ({"volume_moberg_sosik_um3": -1.0}, "volume_moberg_sosik_um3 must be above 0"),
        ({"area_um2": 130.0}, r"in row 0 \(made/image00000\), which are of mixed units"),
        ({"volume_moberg_sosik_um3": 1e-6}, "mixed units"),
    ],
)
def test_a_size_that_makes_no_sense_is_named(tmp_path, values, match):
    with pytest.raises(ValueError, match=match):
        carbon(tmp_path, [0], [1000], **values)
    assert not (tmp_path / "c.parquet").exists()


def test_an_unknown_class_is_named(tmp_path):
    images = [image(0), image(1)]
    found = predictions(tmp_path / "p.parquet", images, certain([0, 1]))
    measured = sizes(tmp_path / "s.parquet", [size(row, 1e3) for row in images])
    table = pq.read_table(tmp_path / "p.parquet")
    words = pa.array(["Thalassiosira", "Kraken"]).dictionary_encode()
    at = table.schema.get_field_index("class")
    pq.write_table(table.set_column(at, table.schema.field(at), words), tmp_path / "p.parquet")
    with pytest.raises(ValueError, match=r"got 'Kraken' in row 1 \(made/image00001\)"):
        write_carbon(found, measured, tmp_path / "c.parquet", QUICK)


def test_refuses_sizes_of_another_dataset_or_too_few(tmp_path):
    images = [image(0), image(1)]
    found = predictions(tmp_path / "p.parquet", images, certain([0, 1]))
    other = sizes(tmp_path / "o.parquet", [size(row, 1e3) for row in images], "e" * 64)
    with pytest.raises(ValueError, match="must be of the dataset of the predictions"):
        write_carbon(found, other, tmp_path / "c.parquet", QUICK)
    few = sizes(tmp_path / "f.parquet", [size(images[0], 1e3)])
    with pytest.raises(ValueError, match="got none for made/image00001"):
        write_carbon(found, few, tmp_path / "c.parquet", QUICK)


def test_settings_travel_and_others_are_refused():
    settings = CarbonSettings("prolate", True, "ifcb-analysis", Uncertainty(7, 3, 0.1, 0.2, False))
    assert CarbonSettings.from_json(settings.to_json()) == settings
    with pytest.raises(ValueError, match="must be those of a carbon table"):
        CarbonSettings.from_json('{"volume": "sphere"}')
    assert len(CLASSES) == 5
