"""Embeddings from a file and from columns, whitened; and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_atlas import write_embeddings_file

from aqqua.evaluate.probes.whiten import fit_whitening
from aqqua.explore.atlas.features import ChosenVectors, Embeddings, FileVectors, unit_features
from aqqua.store.columns import write_columns
from aqqua.store.read import Dataset


@pytest.fixture(scope="module")
def dataset(sample_dataset):
    return Dataset.open(sample_dataset)


@pytest.fixture
def file(dataset, tmp_path):
    write_embeddings_file(tmp_path / "e.parquet", dataset)
    return tmp_path / "e.parquet"


def rows_of(file):
    return np.stack(pq.read_table(file)["embedding"].to_numpy())


def test_a_file(dataset, file):
    found = Embeddings.open(file, dataset)
    assert found.facts["model_sha256"] == "m"
    assert found.facts["pooling"] == "cls"
    assert len(found.facts["sha256"]) == 64
    vectors = found.vectors
    together = np.concatenate([vectors.chunk(c) for c in range(vectors.chunks)])
    assert np.array_equal(together, rows_of(file))
    assert vectors.name_row(3).startswith("image ")


def test_columns(dataset, file, tmp_path):
    rows = rows_of(file).astype(np.float16)
    kind = pa.list_(pa.field("item", pa.float16(), False), rows.shape[1])
    fields, facts = [pa.field("embedding", kind, False)], {"model_sha256": "m", "pooling": "mean"}
    full = dataset.rows_of(0)

    def table_of(block):
        flat = pa.array(rows[block * full : (block + 1) * full].ravel())
        return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(flat, type=kind)})

    with write_columns(tmp_path / "columns", dataset, "embeddings", fields, facts, "test") as writer:
        for part in range(dataset.parts):
            writer.write_part(part, table_of)
    found = Embeddings.open(tmp_path / "columns", dataset)
    assert found.facts["pooling"] == "mean"
    chosen = ChosenVectors(found.vectors, np.array([2, 5, 140]))
    assert np.array_equal(np.concatenate([chosen.chunk(c) for c in range(chosen.chunks)]), rows[[2, 5, 140]])


def test_others_are_refused(dataset, file, tmp_path):
    table = pq.read_table(file)
    pq.write_table(table.drop_columns("embedding"), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="must have fixed_size_list<float> embedding, got None"):
        FileVectors(tmp_path / "none.parquet", dataset)
    other = table.replace_schema_metadata({"aqqua.dataset_sha256": "0" * 64})
    pq.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="must be of the dataset"):
        FileVectors(tmp_path / "other.parquet", dataset)
    pq.write_table(table.slice(0, 100), tmp_path / "short.parquet")
    with pytest.raises(ValueError, match="must be of the dataset"):
        FileVectors(tmp_path / "short.parquet", dataset)
    with pytest.raises(ValueError, match="must be a Parquet file or a folder"):
        Embeddings.open(tmp_path / "nothing", dataset)


def test_a_number_that_is_not_finite_is_named(dataset, file, tmp_path):
    rows = rows_of(file).copy()
    rows[7, 3] = np.nan
    table = pq.read_table(file)
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    pq.write_table(table.set_column(1, "embedding", column), tmp_path / "nan.parquet", row_group_size=512)
    name = table["image_id"][7].as_py()
    with pytest.raises(ValueError, match=f"finite, got nan in image {name}"):
        unit_features(FileVectors(tmp_path / "nan.parquet", dataset))


def test_chosen_rows_of_many_chunks(dataset, file, monkeypatch):
    vectors = FileVectors(file, dataset)
    monkeypatch.setattr(vectors, "chunk", lambda c: rows_of(file)[c * 40 : c * 40 + 40])
    monkeypatch.setattr(vectors, "first_row", lambda c: c * 40)
    vectors.chunks = 4
    wanted = np.array([0, 39, 40, 125, 149])
    chosen = ChosenVectors(vectors, wanted)
    assert (chosen.chunks, [chosen.first_row(c) for c in range(3)]) == (3, [0, 2, 3])
    together = np.concatenate([chosen.chunk(c) for c in range(3)])
    assert np.array_equal(together, rows_of(file)[wanted])
    assert chosen.name_row(4) == vectors.name_row(149)


def test_features_are_those_of_evaluation(dataset, file):
    rows = rows_of(file)
    told = []
    unit, whitening = unit_features(FileVectors(file, dataset), tell=told.append)
    wanted = fit_whitening(rows)(rows)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert unit.dtype == np.float16
    np.testing.assert_allclose(unit.astype(float) @ unit.T.astype(float), wanted @ wanted.T, atol=2e-3)
    assert told[-1] == len(rows)
    again, _ = unit_features(FileVectors(file, dataset), whitening)
    assert np.array_equal(unit, again)


def test_a_whitening_of_another_width(dataset, file, tmp_path):
    _, whitening = unit_features(FileVectors(file, dataset))
    write_embeddings_file(tmp_path / "wide.parquet", dataset, width=13)
    with pytest.raises(ValueError, match="must be of width 12 as those of the older map, got 13"):
        unit_features(FileVectors(tmp_path / "wide.parquet", dataset), whitening)
