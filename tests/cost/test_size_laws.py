import json
from pathlib import Path

import numpy as np
import pytest

from aqqua.cost.sizes import NAMED, planned_tokens, smallest_pack, stated_tokens
from aqqua.cost.tokens import role_of
from aqqua.store.read import Dataset
from aqqua.train.settings import PretrainConfig

LENGTHS = Path(__file__).parents[2] / "bench" / "kernels" / "lengths.json"
REGISTERS = 4  # for which the useful shares of tiles are


def run(path: Path, **sections: dict) -> PretrainConfig:
    values = {"run": path / "run", "data": {"path": path, "pack_tokens": 4096}, "train": {"images": 100}}
    for name, fields in sections.items():
        values[name] = {**values.get(name, {}), **fields}
    return PretrainConfig.model_validate(values)


def test_planned_as_training_plans(sample_dataset):
    config = run(sample_dataset, views={"locals": 3}, data={"lanes": 2})
    tokens = planned_tokens(Dataset.open(sample_dataset), config)
    assert tokens.known == "measured"
    assert (tokens.globals_.views, tokens.locals_.views) == (2, 3)
    prefix, views = config.model.prefix, config.views
    assert views.min_tokens[1] <= tokens.locals_.mean - prefix <= views.max_tokens[1]
    assert tokens.locals_.mean < tokens.globals_.mean <= views.max_tokens[0] + prefix
    assert 0 < tokens.masked < 0.3 * tokens.globals_.patches(prefix)
    assert 0.8 < tokens.fill <= 1
    assert "planned as in training" in tokens.source


def test_what_is_held_out_is_not_planned(sample_dataset):
    dataset = Dataset.open(sample_dataset)
    without = planned_tokens(dataset, run(sample_dataset, data={"holdout": 0.5}))
    assert without != planned_tokens(dataset, run(sample_dataset))


def test_a_pack_too_small_is_refused_by_the_planner_and_foreseen(sample_dataset):
    config = run(sample_dataset, data={"pack_tokens": 512})
    assert smallest_pack(config.model, config.views) == 2 * (256 + 5) + 8 * (64 + 5)
    with pytest.raises(ValueError, match="pack_tokens must hold the views of the largest image, 1074 tokens"):
        planned_tokens(Dataset.open(sample_dataset), config)


@pytest.mark.parametrize("patch_px", [8, 14])
def test_isiis_is_the_committed_histogram(patch_px, tmp_path):
    views = json.loads(LENGTHS.read_text())["views"][f"patch{patch_px}"]
    tokens = stated_tokens("isiis", run(tmp_path, model={"patch_px": patch_px, "registers": REGISTERS}))
    for name, found in (("global", tokens.globals_), ("local", tokens.locals_)):
        counts = {int(patches): count for patches, count in views[name].items()}
        lengths = np.repeat([*counts], [*counts.values()]) + 1 + REGISTERS
        wanted = role_of(lengths, len(lengths)).times(found.views)
        for sums in ("tokens", "squares", "tile_squares"):
            assert getattr(found, sums) == pytest.approx(getattr(wanted, sums), rel=1e-3), (name, sums)
    assert tokens.known == "measured"


def test_two_stated_numbers(tmp_path):
    tokens = stated_tokens("60,20", run(tmp_path, views={"locals": 4}, model={"registers": 0}))
    assert tokens.student.tokens == 2 * 61 + 4 * 21
    assert (tokens.globals_.n2, tokens.locals_.n2) == (61, 21)
    assert tokens.known == "assumed"
    assert "60 patches in a global, 20 in a local" in tokens.source


@pytest.mark.parametrize("stated", ["", "60", "60,20,3", "a,b", "0,5", "nan,3", "1e9,3", "ISIIS"])
def test_what_is_no_number_of_patches(stated, tmp_path):
    with pytest.raises(ValueError, match=r"--tokens must be isiis or law, or patches of a global"):
        stated_tokens(stated, run(tmp_path))


def test_a_histogram_of_another_patch(tmp_path):
    with pytest.raises(ValueError, match=r"--tokens isiis needs model.patch_px 8 or 14, got 16"):
        stated_tokens("isiis", run(tmp_path, model={"patch_px": 16}))
    assert NAMED["law"].known == "assumed"


def test_dropped_patches_are_left_out_of_stated_ones(tmp_path):
    model = {"registers": 1}
    whole = stated_tokens("60,20", run(tmp_path, views={"locals": 4}, model=model))
    views = {"locals": 4, "token_drop": [0.25, 0.5]}
    tokens = stated_tokens("60,20", run(tmp_path, views=views, model=model))
    assert (tokens.globals_.tokens, tokens.locals_.tokens) == (2 * (45 + 2), 4 * (10 + 2))
    assert (tokens.globals_.squares, tokens.locals_.squares) == (2 * 47**2, 4 * 12**2)
    assert tokens.teacher == whole.globals_ == whole.teacher
    assert tokens.masked == whole.masked


def test_distillation_asks_about_every_patch(tmp_path):
    config = run(tmp_path, distill={"teacher": "runs/larger"}, model={"registers": 0})
    assert stated_tokens("60,20", config).masked == 2 * 60
