"""A grid of small trainings: equal compute, what is there is not made again, figures paired by seed."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from scipy import stats

from aqqua.config import load_config
from aqqua.cost.plan import Question, make_plan
from aqqua.train.settings import PretrainConfig

FOLDER = Path(__file__).parents[1] / "bench" / "ablate"
NAMES = ("ablate", "cell", "differences", "grid", "table")
SMALL = [
    "model={width: 32, layers: 2, heads: 2, patch_px: 14}", "data.pack_tokens=1024", "data.lanes=1",
    "objective.head={hidden: 64, bottleneck: 16, prototypes: 64}", "train.tensorboard=false",
    "views.locals=2",
]  # fmt: skip
SQUARE = ["views={augmentation: dinov2, locals: 2, max_tokens: [64, 16]}"]
GRID = {
    "name": "small", "question": "Does it run?", "base": "configs/sample.yaml", "dataset": "dataset",
    "overrides": SMALL, "compute_tflop": 0.004, "seeds": [1], "arms": {"native": [], "square": SQUARE},
    "against": "native", "judged": [{"suite": "sample", "data": {"ocean": "dataset"}}], "told": ["x2"],
}  # fmt: skip


@pytest.fixture(scope="module")
def modules():
    """The scripts, by their names; none of them stays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        for name in NAMES:
            patch.delitem(sys.modules, name, raising=False)
        yield {name: importlib.import_module(name) for name in NAMES}
        for name in NAMES:
            sys.modules.pop(name, None)


def grid_file(folder: Path, **changes: object) -> Path:
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({**GRID, **changes}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ran(modules, sample_dataset, tmp_path_factory) -> tuple[Path, Path]:
    """A grid's file, and its work, done once."""
    folder = tmp_path_factory.mktemp("ablate")
    (folder / "data").mkdir()
    (folder / "data" / "dataset").symlink_to(sample_dataset)
    path = grid_file(folder)
    ended = modules["ablate"].main(
        [str(path), "--data", str(folder / "data"), "--work", str(folder / "work")]
    )
    assert ended == 0
    return path, folder / "work" / "small"


def test_every_run_has_a_file_and_the_same_operations(ran):
    rows = [json.loads(path.read_text()) for path in sorted(ran[1].glob("*.json"))]
    assert [(row["arm"], row["seed"]) for row in rows] == [("native", 1), ("square", 1)]
    assert len({row["images"] for row in rows}) > 1
    for row in rows:
        step = row["images"] / row["steps"] * row["gflop_per_image"] / 1e3
        assert row["tflop"] == pytest.approx(GRID["compute_tflop"], abs=2 * step)
        figures = row["scores"]["sample/sample"]
        assert set(figures) == {"true", "x2"}
        assert 0 <= figures["true"]["kNN k=20"]["macro_f1"]["value"] <= 1


def test_operations_of_an_image_are_those_of_the_cost_model(ran, sample_dataset):
    row = json.loads((ran[1] / "square--seed1.json").read_text())
    config = FOLDER.parents[1] / GRID["base"]
    plan = make_plan(Question(config, (*SMALL, *SQUARE, f"data.path={sample_dataset}", "seed=1")))
    assert row["gflop_per_image"] == pytest.approx(plan.native.work.flops.total / 1e9)


def test_what_is_there_is_not_made_again(modules, ran, monkeypatch, capsys):
    def never(*_: object) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(modules["cell"], "verb", never)
    path, work = ran
    assert modules["ablate"].main([str(path), "--data", str(work), "--work", str(work.parent)]) == 0
    shown = capsys.readouterr().out
    assert "2 of 2 runs, each of 0.004 TFLOP" in shown
    assert re.search(r"\| square, µm/px told: x2 \| 0\.\d{3} \| [+-]0\.\d{3} \| 1 \|", shown)
    assert (work / "small.md").read_text() == shown
    assert "square: sample/sample" in (work / "small.svg").read_text()


def test_further_figures_have_tables_of_their_own(modules, ran, tmp_path, capsys):
    (work := tmp_path / "small").mkdir()
    for path in ran[1].glob("*.json"):
        row = json.loads(path.read_text())
        for answers in row["scores"]["sample/sample"].values():
            answers["instrument_probe"] = {"leak": {"value": 0.25 if row["arm"] == "native" else 0.75}}
        (work / path.name).write_text(json.dumps(row))
    also = [{"probe": "instrument_probe", "figure": "leak"}]
    assert modules["ablate"].main([str(grid_file(tmp_path, also=also)), "--work", str(tmp_path)]) == 0
    shown = capsys.readouterr().out.split("leak by instrument probe:")[1]
    assert "| native | 0.250 |  | 1 |" in shown
    assert "| square | 0.750 | +0.500 | 1 |" in shown
    none = grid_file(tmp_path, also=[{"probe": "instrument_probe", "figure": "leek"}])
    with pytest.raises(ValueError, match="one of the suites must have leek of 'instrument_probe', got"):
        modules["ablate"].main([str(none), "--work", str(tmp_path)])


def test_a_run_that_was_cut_off_goes_on_where_it_was(modules, ran, tmp_path, monkeypatch):
    """Its folder is the same, so that `aqqua pretrain` resumes, and its images are."""
    said: list[tuple[object, ...]] = []

    def fails_at_judging(_log: Path, *words: object) -> None:
        said.append(words)
        if words[0] == "evaluate":
            raise RuntimeError("cut off")
        copied = tmp_path / "small" / "runs" / "native--seed1"
        copied.mkdir(parents=True, exist_ok=True)
        metrics = ran[1] / "runs" / "native--seed1" / "metrics.jsonl"
        (copied / "metrics.jsonl").write_bytes(metrics.read_bytes())

    monkeypatch.setattr(modules["cell"], "verb", fails_at_judging)
    path = grid_file(tmp_path, arms={"native": []})
    arguments = [str(path), "--data", str(ran[0].parent / "data"), "--work", str(tmp_path)]
    assert modules["ablate"].main(arguments) == modules["ablate"].main(arguments) == 1
    assert [words[0] for words in said] == ["pretrain", "evaluate"] * 2
    assert said[0] == said[2]


def test_no_run_starts_after_the_time(modules, ran, tmp_path, monkeypatch):
    words: list[object] = []
    monkeypatch.setattr(modules["cell"], "verb", lambda _log, *said: words.append(said[0]))
    arguments = [
        str(ran[0]),
        "--data",
        str(ran[0].parent / "data"),
        "--work",
        str(tmp_path),
        "--minutes",
        "0",
    ]
    assert modules["ablate"].main(arguments) == 1
    assert words == []


@pytest.mark.parametrize("changes", [{"compute_tflop": 0.008}, {"probes": ["whitened-knn"]}])
def test_a_run_of_another_grid_is_not_taken(modules, ran, tmp_path, changes):
    with pytest.raises(ValueError, match=r"native--seed1\.json: must be a run of this grid"):
        modules["ablate"].main([str(grid_file(tmp_path, **changes)), "--work", str(ran[1].parent)])


def test_a_run_of_other_settings_is_not_taken_for_the_grid_s(modules, ran, tmp_path):
    path = grid_file(tmp_path, overrides=[*SMALL, "optim.lr=0.001"])
    with pytest.raises(ValueError, match=r"native--seed1\.json: must be a run of this grid"):
        modules["ablate"].main([str(path), "--work", str(ran[1].parent)])


def test_what_fails_is_told_and_the_others_go_on(modules, tmp_path, sample_dataset, capsys):
    (tmp_path / "dataset").symlink_to(sample_dataset)
    path = grid_file(tmp_path, arms={"native": ["model.wdith=3"]})
    assert modules["ablate"].main([str(path), "--data", str(tmp_path), "--work", str(tmp_path / "w")]) == 1
    assert "native--seed1: " in (said := capsys.readouterr().err)
    assert "wdith" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"against": "fixed"}, "against must be one of the arms"),
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"arms": {"a b": []}, "against": "a b"}, "names of arms must be"),
        ({"base": "configs/none.yaml"}, "base must be a config of the project"),
        ({"compute": 3}, "Extra inputs"),
    ],
)
def test_grids_that_are_none(modules, tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        modules["grid"].read_grid(grid_file(tmp_path, **changes))


def test_too_little_compute_for_a_step_is_said(modules, tmp_path, sample_dataset):
    (tmp_path / "dataset").symlink_to(sample_dataset)
    grid = modules["grid"].read_grid(grid_file(tmp_path, compute_tflop=1e-6))
    with pytest.raises(ValueError, match="must be good for a step"):
        modules["cell"].images_of(grid, modules["grid"].cells_of(grid)[0], tmp_path)


@pytest.mark.parametrize("path", sorted((FOLDER / "grids").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_project_s_grids(modules, path):
    grid = modules["grid"].read_grid(path)
    assert grid.name == path.stem
    assert len(grid.seeds) >= 3
    configs = [
        load_config(PretrainConfig, modules["grid"].ROOT / grid.base, cell.overrides)
        for cell in modules["grid"].cells_of(grid)
    ]
    assert len({config.model_dump_json() for config in configs}) == len(grid.arms) * len(grid.seeds)


def test_a_summary_goes_between_its_marks_alone(modules, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- made by bench/ablate: x -->\nold\n<!-- end of x -->\nb\n")
    modules["ablate"].insert(page, "x", "new\n")
    modules["ablate"].insert(page, "y", "other\n")
    assert page.read_text() == "a\n<!-- made by bench/ablate: x -->\n\nnew\n\n<!-- end of x -->\nb\n"


def row(arm: str, seed: int, **suites: float) -> dict[str, object]:
    scores = {
        suite: {"true": {"kNN k=20": {"macro_f1": {"value": value}}}} for suite, value in suites.items()
    }
    return {"arm": arm, "seed": seed, "scores": scores}


def test_means_and_gains_over_seeds(modules):
    differences: ModuleType = modules["differences"]
    ours, theirs = [0.5, 0.54, 0.49], [0.4, 0.43, 0.42]
    rows = [row("a", seed, x=value, y=value + 0.1) for seed, value in enumerate(ours)]
    rows += [row("b", seed, x=value, y=value) for seed, value in enumerate(theirs)]
    figures = differences.figures_of(rows, "kNN k=20", "macro_f1")
    assert [suite for suite, _ in figures] == [differences.ALL, "x", "y"]
    found = differences.gain(figures["x", "true"], "a", figures["x", "true"], "b")
    by_scipy = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((by_scipy.low, by_scipy.high))
    assert found.value == pytest.approx(0.28 / 3)
    of_all = differences.gain(figures[differences.ALL, "true"], "a", figures[differences.ALL, "true"], "b")
    assert of_all.value == pytest.approx(0.28 / 3 + 0.05)


def test_only_seeds_that_both_have_are_paired_and_one_has_no_interval(modules):
    differences = modules["differences"]
    rows = [row("a", 0, x=0.5), row("a", 1, x=0.9), row("b", 0, x=0.4)]
    by_run = differences.figures_of(rows, "kNN k=20", "macro_f1")["x", "true"]
    found = differences.gain(by_run, "a", by_run, "b")
    assert (found.value, found.low, found.seeds) == (pytest.approx(0.1), None, 1)
    assert differences.gain(by_run, "a", by_run, "c") is None
    with pytest.raises(ValueError, match="must have macro_f1 of 'logistic'"):
        differences.figures_of(rows, "logistic", "macro_f1")
