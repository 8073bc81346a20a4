"""Plain tables: headings with units, every value as it was."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_published import CLASSES, sample_rows, write_samples

from aqqua.downstream.predictions import Predictions
from aqqua.downstream.publish.plain import export_plain


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_of_predictions(made, tmp_path):
    assert export_plain(made.predictions, tmp_path / "p.csv", "csv", scores=True) == made.dataset.rows
    found = read(tmp_path / "p.csv")
    table = pa.concat_tables(Predictions.open(made.predictions).batches())
    rows = table.to_pylist()
    assert [row["image_id"] for row in found] == [row["image_id"] for row in rows]
    for got, want in zip(found, rows, strict=True):
        for c, one in enumerate(CLASSES):
            assert np.float16(got[f"score {one.name}"]) == want["scores"][c]
        assert (np.float32(got["score_0_to_1"]), got["class"]) == (np.float32(want["score"]), want["class"])
        assert float(got["latitude_degrees_north"]) == want["lat"]
        for name, was in (
            ("scale_um_per_px", "um_per_px"),
            ("sample_volume_l", "volume_l"),
            ("depth_m",) * 2,
        ):
            assert (got[name] == "") == (want[was] is None)
            assert want[was] is None or np.float32(got[name]) == np.float32(want[was])
        assert got["time_utc"] == (
            "" if want["time"] is None else f"{want['time']:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
        )


def test_parquet_of_samples(tmp_path):
    path = write_samples(
        tmp_path / "s.parquet", sample_rows("a", (3, 0, 1)) + sample_rows("b", (0, 1, 0), None)
    )
    assert export_plain(path, tmp_path / "out.parquet", "parquet") == 6
    table = pq.read_table(tmp_path / "out.parquet")
    assert {"latitude_degrees_north", "abundance_per_m3", "images_counted"} <= set(table.schema.names)
    assert "lat" not in table.schema.names
    assert table["abundance_per_m3"].to_pylist() == [600.0, 0.0, 200.0, None, None, None]


def test_refusals(made, tmp_path):
    (tmp_path / "no.parquet").write_text("x")
    with pytest.raises(ValueError, match="must be a Parquet file of aqqua"):
        export_plain(tmp_path / "no.parquet", tmp_path / "a", "csv")
    with pytest.raises(ValueError, match="must have scores, got none"):
        export_plain(made.sizes, tmp_path / "a", "csv", scores=True)
    (tmp_path / "there").write_text("")
    with pytest.raises(ValueError, match="must not exist yet"):
        export_plain(made.sizes, tmp_path / "there", "csv")
    assert {path.name for path in tmp_path.iterdir()} == {"no.parquet", "there"}
