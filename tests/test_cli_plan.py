"""aqqua plan of a run: what it costs, from the command line."""

import json
import sys

import pytest
from tiny_inputs import write_config

from aqqua.cli import main

pytestmark = pytest.mark.usefixtures("desk")


@pytest.fixture
def desk(tmp_path, tiny_run, sample_dataset, monkeypatch):
    """A folder with the config of a run, `tiny.yaml`, and its dataset."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, tiny_run, sample_dataset)
    (tmp_path / "dataset").symlink_to(sample_dataset)


def say(capsys, *words: str) -> tuple[int, str, str]:
    code = main(["plan", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_run_is_costed_from_its_dataset(capsys):
    code, out, err = say(capsys, "tiny.yaml")
    assert (code, err) == (0, "")
    for head in (
        "model",
        "served by",
        "run",
        "tokens",
        "operations",
        "moved",
        "memory",
        "engines",
        "predicted",
    ):
        assert f"\n{head}" in f"\n{out}"
    assert "measured: " in out
    assert out.count(" plain ") >= 4
    assert "assumed" in out


def test_on_a_cluster(capsys):
    words = ("--cluster", "horeka", "--partition", "gpu-h200", "--nodes", "1..4", "--grant", "100")
    code, out, _ = say(capsys, "tiny.yaml", *words, "data.lanes=16", "--json")
    assert code == 0
    found = json.loads(out)
    assert [(p["gpu"], p["gpus"]) for p in found["native"]["predictions"]] == [
        ("H200", 4),
        ("H200", 8),
        ("H200", 16),
    ]
    assert all(p["grant_share"] > 0 for p in found["native"]["predictions"])
    assert any("confirm on site" in note for note in found["notes"])


def test_what_is_in_the_way_is_told_and_fails(capsys):
    code, out, err = say(capsys, "tiny.yaml", "--nodes", "3", "data.path=nowhere", "data.pack_tokens=64")
    assert (code, err) == (2, "")
    told = [line for line in out.splitlines() if line.startswith("in the way")]
    assert len(told) == 3


def test_without_a_dataset_on_stated_tokens(capsys):
    code, out, _ = say(capsys, "tiny.yaml", "data.path=nowhere", "--tokens", "40,12")
    assert code == 2
    assert "predicted" in out
    assert "in the way data.path must be a dataset" in out


def test_a_config_that_came_with_aqqua(capsys):
    code, out, err = say(capsys, "configs/sample.yaml", "data.path=dataset")
    assert code == 0
    assert err == "note: configs/sample.yaml is not here; taking the one that came with aqqua\n"
    assert "tiny, D 128, L 4" in out


def test_costing_starts_no_gpu_and_no_triton(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: pytest.fail("the GPU was asked for"))
    monkeypatch.setitem(sys.modules, "triton", None)
    assert say(capsys, "tiny.yaml")[0] == 0


MISTAKES = {
    "no config": ("no.yaml", "must be a readable YAML file"),
    "an unknown key": ("tiny.yaml model.widht=3", "did you mean model.width?"),
    "an option of views": ("tiny.yaml --out page.html", "--out needs a dataset, got tiny.yaml; leave it out"),
    "an option of costs": (
        "dataset --nodes 2 --out page.html",
        "--nodes needs the YAML file of a run, got dataset",
    ),
    "no nodes": ("tiny.yaml --nodes 0", "--nodes must be a number, a list or a range"),
    "no cluster": ("tiny.yaml --cluster horseka", "--cluster must be horeka, or a YAML file"),
    "no partition": ("tiny.yaml --cluster horeka --partition gpu-h10", "did you mean gpu-h100"),
    "a partition of nowhere": ("tiny.yaml --partition gpu-h100", "--partition needs --cluster"),
    "too many GPUs": ("tiny.yaml --cluster horeka --gpus-per-node 5", "must be 1 to 4 in gpu-h100, got 5"),
    "no GPU": ("tiny.yaml --gpus-per-node 0", "--gpus-per-node must be above 0"),
    "no tokens": ("tiny.yaml --tokens x", "--tokens must be isiis or law"),
    "no grant": ("tiny.yaml --grant -5", "--grant must be above 0"),
    "a dataset without a page": ("dataset", "a page of views needs a place, got no --out"),
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(words, message, capsys):
    code, out, err = say(capsys, *words.split())
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("aqqua plan: ")
    assert "launch:" not in err
    assert message in err


def test_measured_beside_predicted(capsys, tmp_path):
    before = sorted(path.name for path in tmp_path.iterdir())
    code, out, _ = say(capsys, "tiny.yaml", "--measure", "--steps", "2", "train.device=cpu", "--json")
    found = json.loads(out)
    assert code == 2  # in the way of a GPU: the device
    assert found["measured"]["steps"] == 1
    assert [part["part"] for part in found["measured"]["step_s"]][-1] == "step"
    assert found["measured"]["tensor_bytes"]["predicted"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_without_its_data_nothing_is_measured(capsys):
    code, out, _ = say(capsys, "tiny.yaml", "--measure", "data.path=none")
    assert code == 2
    assert "measured   " not in out


def test_too_few_steps_to_measure(capsys):
    code, out, err = say(capsys, "tiny.yaml", "--measure", "--steps", "1")
    assert code == 2
    assert (out, err.count("\n")) == ("", 1)
    assert "--steps must be at least 2 to measure, got 1" in err
