"""Questions to an atlas: answers against its table; and DuckDB is shut off from all else."""

import duckdb
import numpy as np
import pytest
from made_explorer import made_atlas

from aqqua.explore.server.asked import AskedAtlas
from aqqua.explore.server.connection import connect


def test_it_says_what_is_in_it_and_leaves_out_what_is_unknown(asked):
    about = asked.about()
    names = [column["name"] for column in about["columns"]]
    assert about["rows"] == asked.rows
    assert about["facts"]["numbers"]["purity_label"] == 0.83
    assert {"label", "depth_m", "time", "species"} <= set(names)
    assert not {"area_um2", "thumbnail", "key", "neighbours"} & set(names)


def test_details_neighbours_and_pictures_are_those_of_the_row(asked):
    table = asked.atlas.table(asked.atlas.columns)
    for row in (0, 17, asked.rows - 1):
        true = table.slice(row, 1).to_pylist()[0]
        told = asked.details(row)
        assert told["image_id"] == true["image_id"]
        assert told["label"] == true["label"]
        assert told["depth_m"] == true["depth_m"]
        near = asked.neighbours(row)
        assert near["near"] == true["neighbours"]
        assert near["foreign"] == true["foreign"]
        assert np.allclose(near["cosine"], np.array(true["neighbour_similarity"], float), atol=1e-3)
        assert asked.thumbnails([row]) == [true["thumbnail"]]
    for wrong in (-1, asked.rows):
        for ask in (asked.details, asked.neighbours, lambda row: asked.thumbnails([row])):
            with pytest.raises(ValueError, match="a row must be 0 to"):
                ask(wrong)


def test_search_takes_any_text_as_text(asked):
    assert asked.search("IMG_0000012")[0] == 12
    labels = asked.atlas.table(["label"])["label"].to_pylist()
    assert all("calan" in (labels[row] or "").lower() for row in asked.search("calan"))
    assert len(asked.search("img")) == 200
    for text in ("%", "_'", "' OR 1=1 --", "\\", "a" * 5000, "\x00", " "):
        assert len(asked.search(text)) <= 200
    assert asked.search("%%") == []


def test_atlases_are_linked_by_id(asked, second_path):
    second = AskedAtlas(second_path)
    link = asked.link(second)
    assert link[:500].tolist() == list(range(500))
    assert (link[500:] == -1).all()
    assert second.link(asked).tolist() == list(range(500))


def test_duckdb_reads_this_file_and_nothing_else(atlas_path, tmp_path):
    connection = connect(atlas_path)
    assert connection.execute("SELECT count(*) FROM atlas").fetchone() == (3000,)
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for query in (
        f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
        f"COPY atlas TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/new.db'",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/']",
        "INSTALL httpfs",
        "SELECT * FROM 'https://example.invalid/x.parquet'",
        "SELECT * FROM glob('/*')",
    ):
        with pytest.raises(duckdb.Error):
            connection.execute(query).fetchall()
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_a_name_that_is_a_pattern_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none of \* \? \[ \], got"):
        AskedAtlas(made_atlas(tmp_path / "a[1].parquet", 10))
