"""Every mistake of a user is told in one line, with a non-zero exit code and no traceback."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_inputs import spoil, write_config

from aqqua.cli import main


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line a mistake is told in."""
    try:
        code: object = main(arguments)
    except SystemExit as end:  # argparse
        code = end.code
    captured = capsys.readouterr()
    assert code == 2, (code, captured.err)
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    verb = arguments[0]
    assert lines[0].startswith(f"aqqua {verb}: ")
    assert f"{verb}: {verb}:" not in lines[0]
    assert "Traceback" not in lines[0]
    return lines[0]


@pytest.fixture
def place(tmp_path: Path, sample_dataset: Path, tiny_run: Path) -> Path:
    """A folder with what the mistakes below speak of."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "torn.yaml").write_text("data: {path: x\nrun: [\n")
    (tmp_path / "there.safetensors").write_text("mine")
    (tmp_path / "there.html").write_text("mine")
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((8, 9), 90, np.uint8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "t.csv").write_text("roi,taxon\na.png,x\n")
    (tmp_path / "dataset").symlink_to(sample_dataset)
    (tmp_path / "trained").symlink_to(tiny_run)
    write_config(tmp_path, tiny_run, tmp_path / "dataset")
    return tmp_path


MISTAKES = {
    # name: (arguments; {p} is the prepared folder), what the line must say
    "no verb known": ("sampel {p}/x", "invalid choice"),
    "sample into a full folder": ("sample {p}/full", "must be absent or empty"),
    "sample of too few": ("sample {p}/x --images 3", "must be at least 50, got 3"),
    "ingest of nothing": ("ingest {p}/absent --out {p}/x", "the input must exist, got"),
    "ingest of an empty folder": ("ingest {p}/empty --out {p}/x", "at least one image must be readable"),
    "ingest of no zip": ("ingest {p}/text.zip --out {p}/x", "must be a zip"),
    "ingest into a full folder": ("ingest {p}/images --out {p}/full", "must be a new or empty folder"),
    "ingest without --out": ("ingest {p}/images", "required: --out; see aqqua ingest --help"),
    "ingest twice the same": ("ingest {p}/images {p}/./images --out {p}/x", "must be given once"),
    "ingest by no reader": ("ingest {p}/images --out {p}/x --format isf", "must be one of ifcb"),
    "ingest by no worker": ("ingest {p}/images --out {p}/x --workers 0", "must be at least 1"),
    "µm/px 0": ("ingest {p}/images --out {p}/x --um-per-px 0", "must be 0.01 to 1000, got 0"),
    "µm/px -1": ("ingest {p}/images --out {p}/x --um-per-px -1", "must be 0.01 to 1000, got -1"),
    "µm/px nan": ("ingest {p}/images --out {p}/x --um-per-px nan", "must be 0.01 to 1000, got nan"),
    "µm/px inf": ("ingest {p}/images --out {p}/x --um-per-px inf", "must be 0.01 to 1000, got inf"),
    "µm/px text": ("ingest {p}/images --out {p}/x --um-per-px 3,4", "invalid float value: '3,4'"),
    "no column pair": ("ingest {p}/images --out {p}/x --column label", "must look like field=column"),
    "columns without a table": ("ingest {p}/images --out {p}/x --column label=taxon", "needs a table"),
    "no such table": ("ingest {p}/images --out {p}/x --table no.csv", "table: must be a file of"),
    "no such column": (
        "ingest {p}/images --out {p}/x --table t.csv --column file=rio",
        "got 'rio'; it has: roi, taxon",
    ),
    "no such field": ("ingest {p}/images --out {p}/x --table t.csv --column lable=taxon", "got lable"),
    "info on no dataset": ("dataset info {p}/empty", "must hold dataset.json"),
    "verify on nothing": ("dataset verify {p}/absent", "must hold dataset.json"),
    "plan of no dataset": ("plan {p}/empty --out {p}/x.html", "must hold dataset.json"),
    "plan over a page": ("plan {p}/dataset --out {p}/there.html", "must not exist yet, got"),
    "plan as a PNG": ("plan {p}/dataset --out {p}/x.png", "must end in .html, got"),
    "plan below a file": ("plan {p}/dataset --show 1 --out {p}/there.html/x.html", "there.html"),
    "plan of too many": (
        "plan {p}/dataset --show 151 --out {p}/x.html",
        "at most the dataset's 150 training images, got 151",
    ),
    "plan of none": ("plan {p}/dataset --show 0 --out {p}/x.html", "must be 1 to 200 images, got 0"),
    "plan of a visit before the first": (
        "plan {p}/dataset --visit -1 --out {p}/x.html",
        "--visit must be 0 to 999999, got -1",
    ),
    "plan with an unknown key": (
        "plan {p}/dataset --out {p}/x.html views.local=3",
        "got views.local; did you mean views.locals",
    ),
    "plan with a stray word": (
        "plan {p}/dataset --out {p}/x.html dataset2",
        "unrecognized arguments: dataset2; see aqqua plan --help",
    ),
    "plan without a config": ("plan {p}/dataset --out {p}/x.html --config {p}/no.yaml", "readable YAML file"),
    "pretrain without a config": ("pretrain {p}/absent.yaml", "must be a readable YAML file"),
    "pretrain on no YAML": ("pretrain {p}/torn.yaml", "must be a readable YAML file"),
    "pretrain on a list": ("pretrain {p}/list.yaml", "must hold keys and values"),
    "unknown key": ("pretrain {p}/tiny.yaml optim.lrate=1e-3", "got optim.lrate; did you mean optim.lr"),
    "no override": ("pretrain {p}/tiny.yaml optim.lr", "must look like key.key=value"),
    "torn override": ("pretrain {p}/tiny.yaml views.aspect=[1", "must be YAML"),
    "value out of range": ("pretrain {p}/tiny.yaml optim.lr=-1", "config: optim.lr: "),
    "two lengths": ("pretrain {p}/tiny.yaml train.epochs=2", "images or epochs"),
    "pretrain on no dataset": ("pretrain {p}/tiny.yaml data.path={p}/empty", "must hold dataset.json"),
    "pack too small": ("pretrain {p}/tiny.yaml data.pack_tokens=100", "pack_tokens must hold"),
    "embed by no run": ("embed {p}/empty --data {p}/dataset --out {p}/x", "must be a run with a checkpoint"),
    "embed by nothing": ("embed {p}/absent --data {p}/dataset --out {p}/x", "the path must exist"),
    "embed of no dataset": ("embed {p}/trained --data {p}/empty --out {p}/x", "must hold dataset.json"),
    "embed into a file": (
        "embed {p}/trained --data {p}/dataset --out {p}/there.safetensors",
        "must be a new or empty folder",
    ),
    "embed below a file": (
        "embed {p}/trained --data {p}/dataset --out {p}/there.safetensors/e.parquet",
        "there.safetensors",
    ),
    "no such pooling": ("embed {p}/trained --data {p}/dataset --out {p}/x --pooling max", "invalid choice"),
    "evaluate with no test": ("evaluate {p}/trained --data {p}/dataset --holdout 0", "between 0 and 1"),
    "evaluate into a folder": (
        "evaluate {p}/trained --data {p}/dataset --probes knn --against --out {p}/full",
        "must be a file",
    ),
    "export of no run": ("export {p}/empty --out {p}/x.safetensors", "must be a run with a checkpoint"),
    "export into a file": ("export {p}/trained --out {p}/there.safetensors", "must not exist yet"),
    "export as a release of a run": (
        "export {p}/trained --format aqqua-release --out {p}/x",
        "must hold dataset.json",
    ),
    "export as a release over another": (
        "export {p}/dataset --format aqqua-release --out {p}/full",
        "must not exist yet",
    ),
    "export to Hugging Face over another": (
        "export {p}/trained --format hugging-face --out {p}/full",
        "must not exist yet",
    ),
    "export to Hugging Face of a model it cannot express": (
        "export {p}/trained --format hugging-face --out {p}/x",
        "must have position 'learned'",
    ),
    "export as an unknown form": ("export {p}/trained --format tflite --out {p}/x", "invalid choice"),
    "export as something else": ("export {p}/trained --out {p}/x.pth", "must be named .safetensors"),
}


@pytest.mark.parametrize(("arguments", "must_say"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_in_one_line(arguments, must_say, place, capsys):
    if arguments.startswith("sampel"):
        with pytest.raises(SystemExit) as end:
            main(arguments.split())
        line = capsys.readouterr().err
        assert (end.value.code, len(line.splitlines())) == (2, 1)
    else:
        line = told([word.format(p=place) for word in arguments.split()], capsys)
    assert must_say in line
    assert not (place / "x").exists()
    assert not (place / "x.html").exists()
    assert not list(place.glob("*.partial*"))
    assert (place / "full" / "mine.txt").read_text() == "mine"


def test_evaluate_without_labels(tmp_path, tiny_run, capsys):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(4):
        Image.fromarray(np.full((20, 20), 40 * i, np.uint8)).save(images / f"{i}.png")
    assert main(["ingest", str(images), "--out", str(tmp_path / "d"), "--no-folder-labels"]) == 0
    capsys.readouterr()
    line = told(["evaluate", str(tiny_run), "--data", str(tmp_path / "d")], capsys)
    assert "must have labelled images on both sides, got 0 images to learn from and 0 to test on" in line


@pytest.mark.parametrize("verb", ["embed", "pretrain"])
def test_a_broken_part(verb, tmp_path, sample_dataset, tiny_run, capsys):
    shutil.copytree(sample_dataset, tmp_path / "d")
    spoil(tmp_path / "d")
    out = tmp_path / "e.parquet"
    arguments = {
        "embed": ["embed", str(tiny_run), "--data", str(tmp_path / "d"), "--out", str(out)],
        "pretrain": ["pretrain", str(write_config(tmp_path, tiny_run, tmp_path / "d"))],
    }
    assert main(arguments[verb]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"aqqua {verb}: dataset: ")
    assert "aqqua dataset verify" in last
    assert not out.exists()


def test_options_are_looked_at_before_the_inputs(tmp_path, capsys, monkeypatch):
    def too_late(*_: object) -> None:
        raise AssertionError("an input was opened")

    monkeypatch.setattr("aqqua.ingest.open_tree", too_late)
    monkeypatch.setattr("aqqua.ingest.fetch_dashboard", too_late)
    for option in (["--um-per-px", "2000"], ["--format", "tiff"], ["--column", "label=taxon"]):
        inputs = [str(tmp_path), "https://ifcb.example/bin"]
        assert told(["ingest", *inputs, "--out", str(tmp_path / "d"), *option], capsys)
