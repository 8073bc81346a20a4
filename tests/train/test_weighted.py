"""Sampling weights decide how often `pretrain` sees an image: as stated, on any ranks, over a resume."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damaged_files import damaged_copy
from made_weights import mixed, write_weights
from same_run import assert_same_run, numbers, saved
from scipy.stats import chi2

from aqqua.config import to_yaml
from aqqua.cost.plan import Question, make_plan
from aqqua.cost.sizes import planned_tokens
from aqqua.explore.shown import show
from aqqua.plan.order import COPY_SHIFT
from aqqua.store.read import Dataset
from aqqua.store.split import held_out
from aqqua.train.batch import Shape
from aqqua.train.data import Feeder
from aqqua.train.loop import pretrain
from aqqua.train.run import open_run
from aqqua.train.settings import PretrainConfig

EPOCHS = 60
MakeConfig = Callable[..., PretrainConfig]


@pytest.fixture(scope="module")
def weights(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "w", dataset, mixed)


def feeder(config: PretrainConfig, rank: int = 0, ranks: int = 1) -> Feeder:
    shape = Shape.of(config.model, config.views, torch.float32)
    rooms = (Dataset.open(config.data.path), config.data, config.views, config.masks, shape)
    return Feeder(*rooms, seed=config.seed, rank=rank, ranks=ranks)


def seen(config: PretrainConfig, ranks: int) -> Counter[tuple[int, int]]:
    """How often (key, epoch) comes in the packs of all ranks, over the first EPOCHS epochs."""
    found: Counter[tuple[int, int]] = Counter()
    for rank in range(ranks):
        one = feeder(config, rank, ranks)
        for number, packer in one.packers.items():
            state = one.start()[number]
            while min(epoch for _, epoch in packer.lane.blocks(state.window)) < EPOCHS:
                pack, state = packer.next_pack(state)
                epoch_I = (pack.visit_I & np.uint64((1 << COPY_SHIFT) - 1)).tolist()
                found.update(zip(pack.sizes.key.tolist(), epoch_I, strict=True))
        one.close()
    return Counter({(key, epoch): n for (key, epoch), n in found.items() if epoch < EPOCHS})


def test_images_are_seen_as_often_as_their_weights_say(make_config, tmp_path, weights):
    """Every image, chi-square over all: floor or ceil of its weight in each epoch, its weight on average."""
    config = make_config(tmp_path, data={"weights": weights, "lanes": 4, "holdout": 0.1})
    dataset = Dataset.open(config.data.path)
    counts = [seen(config, ranks) for ranks in (1, 2, 4)]
    assert counts[0] == counts[1] == counts[2]
    statistic, freedom = 0.0, 0
    for block in range(dataset.blocks):
        key_I = dataset.sizes(block).key
        weight_I = mixed(key_I).astype(np.float32) * ~held_out(dataset, block, 0.1)
        uses_IE = np.array([[counts[0][key, epoch] for epoch in range(EPOCHS)] for key in key_I.tolist()])
        assert (uses_IE >= np.floor(weight_I)[:, None]).all()
        assert (uses_IE <= np.ceil(weight_I)[:, None]).all()
        part_I = weight_I - np.floor(weight_I)
        drawn = part_I > 0
        off = (uses_IE.sum(axis=1) - EPOCHS * weight_I)[drawn]
        statistic += float((off**2 / (EPOCHS * part_I * (1 - part_I))[drawn]).sum())
        freedom += int(drawn.sum())
    assert freedom > 150
    assert chi2.ppf(0.001, freedom) < statistic < chi2.ppf(0.999, freedom)


def test_images_of_weight_0_are_never_seen(make_config, tmp_path, dataset, weights):
    config = make_config(tmp_path, data={"weights": weights, "holdout": 0.0})
    opened = Dataset.open(dataset)
    never = {k for b in range(opened.blocks) for k in opened.sizes(b).key.tolist() if k % 3 == 0}
    keys = {key for key, _epoch in seen(config, 1)}
    assert len(never) > 50
    assert not never & keys
    assert len(keys) == opened.rows - len(never)


@pytest.mark.parametrize("is_bad", [False, True])
def test_a_run_with_weights_resumes_exactly(make_config, dataset, tmp_path, is_bad):
    data: dict[str, Any] = {"path": dataset, "max_bad_share": 1.0}
    if is_bad:
        data["path"] = damaged_copy(dataset, tmp_path / "bad", [3])
    data["weights"] = write_weights(tmp_path / "w", dataset, mixed)

    def run(folder: Path, steps: int, **changes: Any) -> None:
        pretrain(make_config(folder, data={**data, **changes}, train={"max_steps": steps}))

    run(tmp_path / "whole", 9)
    for steps in (4, 9):
        run(tmp_path / "cut", steps, read_threads=steps % 3, prefetch=steps == 9)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    run(tmp_path / "unweighted", 9, weights=None)
    assert numbers(tmp_path / "unweighted") != numbers(tmp_path / "whole")


def test_a_resume_keeps_its_weights_and_a_run_says_which(make_config, dataset, tmp_path, weights):
    other = write_weights(tmp_path / "other", dataset, lambda key_I: 1.0 + key_I % 2)
    run = pretrain(make_config(tmp_path / "run", data={"weights": weights}, train={"max_steps": 1}))
    sha256 = run.feeder.sampling.sha256
    assert saved(tmp_path / "run").state["weights"] == sha256
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["weights_sha256"] == sha256
    for wrong in (None, other):
        config = make_config(tmp_path / "run", data={"weights": wrong}, train={"max_steps": 2})
        with pytest.raises(ValueError, match="resume: the sampling weights must be those the run began with"):
            pretrain(config)
    moved = weights.rename(weights.with_name("moved"))
    try:
        pretrain(make_config(tmp_path / "run", data={"weights": moved}, train={"max_steps": 2}))
    finally:
        moved.rename(weights)


def test_an_epoch_is_as_long_as_the_weights_sum(make_config, dataset, tmp_path):
    double = write_weights(tmp_path / "double", dataset, lambda key_I: np.full(len(key_I), 2.0))
    train = {"images": None, "epochs": 3}
    config = make_config(tmp_path / "run", data={"weights": double, "holdout": 0.1}, train=train)
    assert open_run(config).images_total == int(300 * 2 * 0.9 * 3)
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    assert make_plan(Question(file)).images_total == pytest.approx(300 * 2 * 0.9 * 3)


def test_a_plan_counts_the_tokens_of_what_is_used(make_config, dataset, tmp_path):
    opened = Dataset.open(dataset)
    sizes = [opened.sizes(block) for block in range(opened.blocks)]
    large = {
        key for s in sizes for key, side in zip(s.key.tolist(), s.height.tolist(), strict=True) if side > 50
    }
    assert len(large) > 30
    only = write_weights(
        tmp_path / "large", dataset, lambda key_I: np.array([float(key in large) for key in key_I.tolist()])
    )
    tokens = [
        planned_tokens(opened, make_config(tmp_path, data={"weights": path})).student.tokens
        for path in (None, only)
    ]
    assert tokens[1] > 1.3 * tokens[0]


def test_who_shows_or_plans_takes_the_weights_too(make_config, dataset, tmp_path, weights):
    config = make_config(tmp_path / "run", data={"weights": weights, "holdout": 0.0})
    opened = Dataset.open(dataset)
    shown = show(opened, config, 20)
    key_of = {
        name: key
        for name, key in zip(*(opened.table([n])[n].to_pylist() for n in ("image_id", "key")), strict=True)
    }
    assert all(key_of[image.image_id] % 3 for image in shown.images)
    file = tmp_path / "config.yaml"
    wrong = make_config(tmp_path / "run", data={"weights": tmp_path})
    file.write_text(to_yaml(wrong))
    assert any("data.weights must be of the dataset" in line for line in make_plan(Question(file)).blockers)


def test_weights_of_another_dataset_are_refused_before_anything_is_written(
    make_config, other_dataset, tmp_path, weights
):
    config = make_config(tmp_path / "run", data={"path": other_dataset, "weights": weights})
    with pytest.raises(ValueError, match="must be of the dataset"):
        pretrain(config)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_damaged_weights_end_a_run_without_loss(make_config, dataset, tmp_path):
    weights = write_weights(tmp_path / "w", dataset, mixed)
    data = {"weights": weights}
    pretrain(make_config(tmp_path / "run", data=data, train={"max_steps": 2}))
    part = weights / "part-00000.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:20] + bytes([whole[20] ^ 1]) + whole[21:])
    with pytest.raises(ValueError, match=r"columns: .*part-00000\.parquet must be readable"):
        pretrain(make_config(tmp_path / "run", data=data, train={"max_steps": 8}))
    part.write_bytes(whole)
    pretrain(make_config(tmp_path / "run", data=data, train={"max_steps": 8}))
    pretrain(make_config(tmp_path / "whole", data=data, train={"max_steps": 8}))
    assert_same_run(tmp_path / "run", tmp_path / "whole")
