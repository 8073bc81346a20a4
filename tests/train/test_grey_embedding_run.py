"""Runs of grey and colour images together, each kind with its patch embedding: end to end, resumed, ranks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from crew import train_well
from same_run import assert_same_run, numbers, saved

from aqqua.cli import main
from aqqua.evaluate.features import all_features
from aqqua.evaluate.models import load_embedder
from aqqua.render import choose
from aqqua.store.read import Dataset
from aqqua.train.loop import pretrain
from aqqua.train.run import open_run
from aqqua.train.settings import PretrainConfig

STEPS = 5
MakeConfig = Callable[..., PretrainConfig]
Make = Callable[..., PretrainConfig]


@pytest.fixture(scope="module")
def make(make_config: MakeConfig, sample_dataset: Path) -> Make:
    """Several instruments, one of them in colour."""

    def config(folder: Path, stop: int = STEPS, **views: object) -> PretrainConfig:
        return make_config(
            folder, data={"path": sample_dataset}, model={"channels": 3, "grey_embedding": True},
            views=views, train={"max_steps": stop, "images": 2000},
        )  # fmt: skip

    return config


@pytest.fixture(scope="module")
def both(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that others are compared with."""
    folder = tmp_path_factory.mktemp("both") / "run"
    pretrain(make(folder))
    return folder


def test_a_pack_has_both_and_grey_rows_are_those_of_a_grey_model(make, tmp_path):
    run = open_run(make(tmp_path, noise=(0.0, 0.0)))
    data = run.feeder.step(run.lanes, 0)
    pack, batch = data.packs[0], data.batches[0]
    grey_V = batch.student.grey_V
    assert grey_V.any()
    assert not grey_V.all()
    assert grey_V.tolist() == [bool(pack.sizes.channels[i] == 1) for i in pack.image_V]
    assert torch.equal(batch.teacher.grey_V, grey_V[: batch.teacher.views])
    blocks = {b: run.dataset.block(b) for b in np.unique(pack.block_I).tolist()}
    places = zip(pack.block_I.tolist(), pack.row_I.tolist(), strict=True)
    _, render = choose("native")
    one_NG = render(pack, [blocks[b].pixels(r) for b, r in places], pack.patch_px, 1)
    grey_N = grey_V[batch.student.view_N]
    torch.testing.assert_close(batch.patches_NF[grey_N][:, ::3], one_NG[grey_N], rtol=1e-5, atol=1e-5)


def test_both_embeddings_learn_and_a_resumed_run_is_the_run(both, make, tmp_path):
    assert np.isfinite([row["loss"]["total"] for row in numbers(both)]).all()
    tensors = saved(both).tensors
    for name in ("patch_embed", "patch_embed_grey"):
        key = f"backbone.embed.{name}.weight"
        assert not torch.equal(tensors[f"student.{key}"], tensors[f"teacher.{key}"])
    for stop in (2, STEPS):
        pretrain(make(tmp_path / "run", stop))
    assert_same_run(tmp_path / "run", both)


def test_two_ranks_are_the_same_run(both, make, tmp_path):
    train_well(2, make(tmp_path / "run"))
    assert_same_run(tmp_path / "run", both)


def test_an_exported_model_embeds_as_the_run(both, sample_dataset, tmp_path):
    out, dataset = tmp_path / "m.safetensors", Dataset.open(sample_dataset)
    assert main(["export", str(both), "--out", str(out)]) == 0
    run, file = (
        all_features(load_embedder(path, device=torch.device("cpu")), dataset) for path in (both, out)
    )
    np.testing.assert_array_equal(run, file)
