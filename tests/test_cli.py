"""The command line: every verb end to end, its help, and as a process of its own."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from tiny_inputs import spoil, write_config

from aqqua.cli import main

ROOT = Path(__file__).parents[1]
VERBS = ("sample", "ingest", "dataset", "plan", "pretrain", "embed", "evaluate", "export", "doctor")


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A real process, as a user starts one."""
    command = [sys.executable, "-m", "aqqua.cli", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


def children_s() -> float:
    """Processor time of all processes waited for: unlike the clock's, it does not grow on a busy machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a verb that must succeed; returns what it printed."""

    def run(*arguments: str) -> str:
        code = main(arguments)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


# help


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['aqqua', '--help']\n"
        "from aqqua.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'pyarrow', 'pydantic', 'PIL', 'yaml', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'--help imported {heavy}' if heavy else 0)\n"
    )
    spent = []
    for _ in range(3):
        before = children_s()
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        spent.append(children_s() - before)
        assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)
    assert min(spent) < 0.5


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_s_help_has_an_example(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert re.search(rf"^example: +aqqua {verb}\b", capsys.readouterr().out, re.MULTILINE)


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert re.fullmatch(r"aqqua \d+\.\d+\.\d+\n", capsys.readouterr().out)


# every verb, from raw files to an exported model


def test_the_whole_chain(tmp_path, tiny_run, say):
    ocean, dataset = tmp_path / "ocean", tmp_path / "dataset"
    config = write_config(tmp_path, tiny_run, "elsewhere")
    parts = json.loads(say("sample", str(ocean), "--images", "120", "--seed", "3", "--json"))
    assert all(Path(path).exists() for path in parts.values())

    report = json.loads(say("ingest", *parts.values(), "--out", str(dataset), "--workers", "1", "--json"))
    assert report["accepted"] == 120
    assert report["read"] == report["accepted"] + report["quarantined"]
    manifest = json.loads((dataset / "dataset.json").read_text())
    assert manifest["made_by"]["command"].startswith("ingest ")
    assert manifest["inputs"] == sorted(Path(path).name for path in parts.values())

    found = json.loads(say("dataset", "info", str(dataset), "--json"))
    assert found["images"] == 120
    assert "120" in say("dataset", "info", str(dataset))
    assert json.loads(say("dataset", "verify", str(dataset), "--deep", "--json")) == {"problems": []}

    run = tmp_path / "run"
    done = json.loads(say("pretrain", str(config), f"data.path={dataset}", "--json"))
    assert done["done"]
    assert done["run"] == str(run)
    assert done["images"] >= 20
    again = json.loads(say("pretrain", str(config), f"data.path={dataset}", "--json"))
    assert again == done  # a finished run stays as it is

    data = ("--data", str(dataset))
    scores = tmp_path / "out" / "scores.json"
    result = json.loads(
        say("evaluate", str(run), *data, "--against", "untrained", "pixels", "--out", str(scores), "--json")
    )
    assert list(result["scores"]) == [str(run), f"untrained:{run}", "pixels"]
    assert json.loads(scores.read_text()) == result
    assert "macro-F1" in say("evaluate", str(run), *data, "--probes", "knn", "--against")

    exported, tables = tmp_path / "model.safetensors", []
    say("export", str(run), "--out", str(exported))
    for name, model in {"a": run, "b": exported}.items():
        out = tmp_path / f"{name}.parquet"
        told = json.loads(say("embed", str(model), *data, "--out", str(out), "--json"))
        assert told == {"out": str(out), "rows": 120, "width": 32}
        tables.append(pq.read_table(out))
    assert tables[0].equals(tables[1])


def test_doctor(say):
    found = json.loads(say("doctor", "--json"))
    assert {"aqqua", "python", "torch", "device", "attention that serves", "renderer that serves"} <= set(
        found
    )
    assert "renderer that serves" in say("doctor")


def test_doctor_says_whether_dali_can_be_used(say, monkeypatch):
    monkeypatch.setattr("dali_pipelines.unusable", lambda: None)
    monkeypatch.setattr("dali_pipelines.dali_version", lambda: "2.4.0")
    monkeypatch.setattr("dali_pipelines.trial", lambda _device: None)
    gpu = torch.cuda.is_available()
    where = "JPEG on the GPU, PNG and TIFF on the CPU" if gpu else "on the CPU alone: no GPU"
    assert json.loads(say("doctor", "--json"))["DALI"] == f"2.4.0, decodes {where}; renders on the CPU"
    monkeypatch.setattr("dali_pipelines.unusable", lambda: "DALI is not installed: pip install 'aqqua[gpu]'")
    found = json.loads(say("doctor", "--json"))["DALI"]
    assert found == "none: DALI is not installed: pip install 'aqqua[gpu]'"
    monkeypatch.setattr("dali_pipelines.unusable", lambda: None)
    monkeypatch.setattr("dali_pipelines.trial", lambda _device: "DALI decoded no picture in 20 s")
    assert json.loads(say("doctor", "--json"))["DALI"] == "none: DALI decoded no picture in 20 s"


def test_print_config_is_the_whole_config_and_can_be_read_back(tmp_path, tiny_run, say):
    config = write_config(tmp_path, tiny_run, "dataset")
    text = say("pretrain", str(config), "optim.lr=1e-3", "--print-config")
    assert yaml.safe_load(text)["optim"]["lr"] == 1e-3
    (tmp_path / "again.yaml").write_text(text)
    assert say("pretrain", str(tmp_path / "again.yaml"), "--print-config") == text
    assert not (tmp_path / "run").exists()


def test_overrides_may_stand_behind_options(tmp_path, tiny_run, say):
    config = write_config(tmp_path, tiny_run, "dataset")
    text = say("pretrain", str(config), "views.locals=3", "--print-config", "optim.lr=1e-3")
    assert (yaml.safe_load(text)["optim"]["lr"], yaml.safe_load(text)["views"]["locals"]) == (1e-3, 3)


def test_damage_is_found(tmp_path, sample_dataset, capsys):
    shutil.copytree(sample_dataset, tmp_path / "d")
    spoil(tmp_path / "d")
    assert main(["dataset", "verify", str(tmp_path / "d")]) == 1
    captured = capsys.readouterr()
    assert "part-00000.parquet" in captured.out
    assert captured.err == ""


def test_ingest_options_reach_the_rows(tmp_path, say):
    cruise = tmp_path / "cruise"
    (cruise / "rois").mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.full((8, 9), 90, np.uint8)).save(cruise / "rois" / f"{name}.png")
    (cruise / "rois.csv").write_text("roi,taxon,depth\nrois/a.png,Acartia,12.5\nrois/b.png,,3\n")
    columns = [f"--column={pair}" for pair in ("file=roi", "label=taxon", "depth_m=depth")]
    out = tmp_path / "d"
    options = ["--instrument", "CPICS", "--um-per-px", "11.5", "--licence", "CC-BY-4.0", "--format", "folder"]
    say("ingest", str(cruise), "--out", str(out), "--table", "rois.csv", *columns, *options)
    wanted = ["source", "label", "depth_m", "um_per_px", "instrument", "licence"]
    rows = pq.read_table(out / "part-00000.parquet", columns=wanted).sort_by("depth_m").to_pylist()
    assert [(row["label"], row["depth_m"]) for row in rows] == [(None, 3.0), ("Acartia", 12.5)]
    facts = {(row["um_per_px"], row["instrument"], row["licence"]) for row in rows}
    assert facts == {(11.5, "CPICS", "CC-BY-4.0")}


def test_original_files_are_kept_and_counted(tmp_path, say):
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("a.png", "b.png", "c.jpg", "d.bmp")):
        pixels = np.full((8, 9 + number), 90 + number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    out = tmp_path / "d"
    said = say("ingest", str(tmp_path / "in"), "--out", str(out), "--keep-encoded", "--workers", "1")
    assert re.findall(r"kept as the original (\w+): (\d) images", said) == [("JPEG", "1"), ("PNG", "2")]
    facts = json.loads(say("dataset", "info", str(out), "--json"))
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "in").iterdir()}
    assert facts["encoded"] == {
        "JPEG": {"images": 1, "bytes": sizes["c.jpg"]},
        "PNG": {"images": 2, "bytes": sizes["a.png"] + sizes["b.png"]},
    }
    assert re.search(r"encoded\n +JPEG\n +bytes +\d+\n +images +1\n", say("dataset", "info", str(out)))
    assert "whole" in say("dataset", "verify", str(out), "--deep")


def test_in_a_real_process(tmp_path):
    done = shell("ingest", str(tmp_path / "absent"), "--out", str(tmp_path / "d"), "--um-per-px", "-1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "aqqua ingest: um_per_px must be 0.01 to 1000, got -1; give µm per pixel"
    ]
    mistake = ["ingest", str(tmp_path), "--out", str(tmp_path / "d"), "--um-per-px", "0"]
    done = shell(*mistake, AQQUA_TRACEBACK="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    done = shell("sample", str(tmp_path / "ocean"), "--images", "50", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert set(json.loads(done.stdout)) >= {"ifcb", "uvp6", "isiis"}


def test_a_closed_pipe_is_no_error(sample_dataset):
    command = f"set -o pipefail; {sys.executable} -m aqqua.cli dataset info {sample_dataset} | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("path")


# a broken machine


@pytest.fixture(scope="module")
def without_core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages as checked out, with nothing built."""
    folder = tmp_path_factory.mktemp("plain")
    for name in ("aqqua", "dali_pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return folder


def in_folder(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process that takes aqqua from this folder alone; an editable install would lend it its core."""
    code = (
        "import sys\nsys.meta_path = [f for f in sys.meta_path if 'Editable' not in repr(f)]\n"
        "from aqqua.cli import main\nsys.exit(main())\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_a_missing_core_is_one_sentence(without_core, sample_dataset, tiny_run, tmp_path):
    done = in_folder(
        without_core, "embed", str(tiny_run), "--data", str(sample_dataset), "--out", str(tmp_path / "e")
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("aqqua embed: its C++ core must be built, got ")
    assert line.endswith("; pip install . builds it")


def test_doctor_says_that_the_core_is_missing(without_core):
    done = in_folder(without_core, "doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["C++ core"] == "missing: pip install . builds it"
    assert found["renderer that serves"] == "none: it needs the C++ core"


def test_a_missing_extra_is_one_sentence(tmp_path, sample_dataset, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    out = tmp_path / "release"
    assert main(["export", str(sample_dataset), "--format", "aqqua-release", "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("aqqua export: ")
    assert "pip install 'aqqua[release]'" in line
    assert not list(tmp_path.iterdir())
