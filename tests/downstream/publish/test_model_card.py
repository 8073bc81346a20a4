"""The card of a model: what its run says, and nothing that others wrote is taken for markup."""

import json

import pytest
import yaml

from aqqua.downstream.publish.data_mix import DataMix
from aqqua.downstream.publish.markdown import code, plain, table
from aqqua.downstream.publish.model_card import CardFacts, write_model_card
from aqqua.train.folder import describe
from aqqua.train.settings import PretrainConfig

FACTS = CardFacts("My <b>model</b>", "cc-by-nc-4.0", "me@example.org", ("Not for | harmful algae.",))


@pytest.fixture
def run(tmp_path, made):
    """The folder of a run as it is left behind, without its weights."""
    import torch

    values = {"run": tmp_path / "run", "data": {"path": made.dataset.path}, "train": {"images": 10}}
    config = PretrainConfig.model_validate(values)
    describe(tmp_path / "run", config, torch.device("cpu"), {"dataset_sha256": "d" * 64}, 2)
    lines = [{"step": 1, "images": 5}, {"step": 20, "images": 1000}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 21, "ima'
    (tmp_path / "run" / "metrics.jsonl").write_text(text)
    return tmp_path / "run"


def card(run, tmp_path, **given):
    out = tmp_path / "README.md"
    out.unlink(missing_ok=True)
    write_model_card(run, out, FACTS, **given)
    text = out.read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_what_the_run_says(run, tmp_path):
    front, body = card(run, tmp_path)
    assert (front["license"], front["library_name"]) == ("cc-by-nc-4.0", "aqqua")
    assert "# My &lt;b&gt;model&lt;/b&gt;" in body
    assert "22 images. SHA-256 of the manifest: " + "d" * 64 in body
    assert "| IFCB | 8 | 36.4% |" in body
    assert "no licence is stated" in body
    assert "| steps | 20 |" in body  # of the last whole line
    assert "none counted: the run had no GPU" in body
    assert str(tmp_path) not in body  # folders of a machine are nobody's business
    assert "Not for \\| harmful algae." in body
    assert "No evaluation was given" in body


def test_gpu_hours_and_energy(run, tmp_path):
    lines = [
        {"session": 1, "gpus": 2, "gpu_s": 3600.0, "joules": 3.6e6},
        {"session": 1, "gpus": 2, "gpu_s": 7200.0, "joules": 7.2e6},
        {"session": 2, "gpus": 2, "gpu_s": 1800.0, "joules": None},
    ]
    ledger = run / "usage.jsonl"
    ledger.write_text("".join(json.dumps(line) + "\n" for line in lines) + "torn")
    before = ledger.read_bytes()
    _, body = card(run, tmp_path)
    assert "| GPU-hours | 2.50 in 2 sessions |" in body
    assert "at least 2 kWh by the GPUs, by NVML; 1 of 2 sessions do not tell" in body
    assert ledger.read_bytes() == before  # a card changes nothing of the run


def test_results(run, tmp_path):
    found = {
        "data": "ISIIS", "command": "aqqua evaluate ```", "test_images": 12,
        "scores": {
            "model": {"20-NN": {"macro_f1": 0.61234, "per_class": [1, 2]}},
            "<pixels>": {"20-NN": {"macro_f1": 0.2}},
        },
    }  # fmt: skip
    path = tmp_path / "result.json"
    path.write_text(json.dumps(found))
    _, body = card(run, tmp_path, evaluations=[path])
    assert "### ISIIS" in body
    assert "| model · 20-NN | macro\\_f1 | 0.6123 |" in body
    assert "&lt;pixels&gt;" in body
    assert "````sh\naqqua evaluate ```\n````" in body
    path.write_text("{}")
    with pytest.raises(ValueError, match="must be JSON of aqqua evaluate with scores"):
        card(run, tmp_path, evaluations=[path])


def test_data_that_is_gone(run, tmp_path):
    _, body = card(run, tmp_path, dataset=tmp_path / "nothing")
    assert "The dataset was not there when this card was made" in body


def test_the_mix(made):
    mix = DataMix()
    for number in range(made.dataset.blocks):
        mix.add(made.dataset.table(("instrument", "licence", "um_per_px"), [number]))
    assert mix.images.total() == made.dataset.rows
    assert mix.licences.total() == made.dataset.rows
    known = made.dataset.table(("um_per_px",))["um_per_px"]
    assert mix.scaled.total() == len(known) - known.null_count


def test_texts_are_shown_as_they_are():
    assert plain("a|b\n# <script>`x`[y](z)") == "a\\|b # &lt;script&gt;\\`x\\`\\[y\\](z)"
    assert [plain(text) for text in ("# a", "- b", "a - b")] == ["\\# a", "\\- b", "a - b"]
    assert table(["a"], [["x|y\nz"]]) == ["| a |", "|---|", "| x\\|y z |"]
    assert code("````\nrm") == ["`````", "````", "rm", "`````"]


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="the folder must be a run"):
        write_model_card(tmp_path, tmp_path / "a.md", FACTS)
    with pytest.raises(ValueError, match="licence must be told"):
        CardFacts("a", " ")
