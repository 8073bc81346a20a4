"""Embeddings on disk: a file for people, columns beside the dataset for curation."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from drawn_images import BLOCK

from aqqua.cli import main
from aqqua.evaluate.embeddings import KIND, write_embedding_columns, write_embeddings
from aqqua.evaluate.features import Embedder, all_features, fingerprint
from aqqua.evaluate.models import save_embedder
from aqqua.plan.view_config import ViewConfig
from aqqua.spread import Engine
from aqqua.store.columns import Columns


def test_embeddings_file(dataset, backbone, tmp_path):
    embedder, out = Embedder(backbone, ViewConfig(), "mean"), tmp_path / "new" / "e.parquet"
    seen: list[int] = []
    assert write_embeddings(embedder, dataset, out, seen.append) == 49
    assert seen == [16, 32, 48, 49]
    table = pq.read_table(out)
    facts = ["image_id", "instrument", "group", "label", "label_status", "aphia_id", "um_per_px"]
    assert table.column_names == [*facts, "embedding"]
    for name in facts:
        assert table[name].to_pylist() == dataset.table([name])[name].to_pylist()
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist()), all_features(embedder, dataset))
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert about["aqqua.pooling"] == "mean"
    assert about["aqqua.model_sha256"] == fingerprint(backbone)
    assert about["aqqua.dataset_sha256"] == dataset.manifest_sha256
    assert [path.name for path in out.parent.iterdir()] == ["e.parquet"]


def test_an_existing_file_is_refused(dataset, backbone, tmp_path):
    out = tmp_path / "e.parquet"
    out.write_text("mine")
    with pytest.raises(ValueError, match="must not exist yet"):
        write_embeddings(Embedder(backbone, ViewConfig()), dataset, out)
    assert out.read_text() == "mine"


def test_a_failure_half_way_leaves_nothing(dataset, backbone, tmp_path):
    def fail(done: int) -> None:
        if done > BLOCK:
            raise OSError("the disk is full")

    with pytest.raises(RuntimeError, match="disk is full"):
        write_embeddings(Embedder(backbone, ViewConfig()), dataset, tmp_path / "e.parquet", fail)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def model(backbone, tmp_path):
    path = tmp_path / "model.safetensors"
    save_embedder(Embedder(backbone, ViewConfig()), path)
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_columns_are_the_features_in_half_precision(dataset, backbone, model, tmp_path, workers):
    rows = write_embedding_columns(model, "mean", dataset, tmp_path / "e", Engine(workers=workers))
    assert rows == dataset.rows
    columns = Columns.open(tmp_path / "e", dataset, KIND)
    facts = {"model_sha256": fingerprint(backbone), "pooling": "mean", "patch_px": 8, "width": 32}
    assert columns.facts == facts
    got = [columns.block(block, ["embedding"])["embedding"] for block in range(dataset.blocks)]
    got_ID = np.concatenate([np.array(rows.to_pylist(), np.float16) for rows in got])
    want_ID = all_features(Embedder(backbone, ViewConfig(), "mean"), dataset)
    np.testing.assert_allclose(got_ID, want_ID.astype(np.float16), rtol=2e-3, atol=2e-3)


def test_features_beyond_half_precision_are_refused(dataset, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(Embedder, "__call__", lambda *_: np.full((BLOCK, 32), 1e5, np.float32))
    path = tmp_path / "model.safetensors"
    save_embedder(Embedder(backbone, ViewConfig()), path)
    with pytest.raises(ValueError, match="must be finite and within float16"):
        write_embedding_columns(path, "cls", dataset, tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_embed_makes_a_file_or_a_folder(dataset, model, tmp_path, capsys):
    command = ["embed", str(model), "--data", str(dataset.path), "--out"]
    assert main([*command, str(tmp_path / "e.parquet")]) == 0
    assert main([*command, str(tmp_path / "folder")]) == 0
    assert Columns.open(tmp_path / "folder", dataset, KIND).verify() == []
    assert main([*command, str(tmp_path / "f.parquet"), "--workers", "2"]) == 2
    assert "one file is written by one process" in capsys.readouterr().err
