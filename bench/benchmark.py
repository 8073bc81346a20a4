"""The table of docs/benchmark.md: our small model, the same untrained, raw pixels, measured features.

    python bench/benchmark.py --data DATA --work WORK [--run RUN]

DATA is the folder of public sets with a MANIFEST.md (third-party: not in the project). In WORK: the sets are
ingested, `configs/mix_tiny.yaml` is trained on all of them without labels (or RUN is taken), and every suite
is evaluated with its baselines. What is there already is kept. Entries go to bench/results/entries, the table
to docs/benchmark.md between its markers.
"""

import argparse
import csv
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import curate_balance

from aqqua.evaluate.entry import Entry, Figure, read_entry

ROOT = Path(__file__).parents[1]
ENTRIES = ROOT / "bench" / "results" / "entries"
PAGE = ROOT / "docs" / "benchmark.md"
MARKS = ("<!-- made by bench/benchmark.py -->", "<!-- end -->")
SETS = {  # key of a suite -> what is ingested, and how
    "isiis": ("isiis-ndsb.zip", ["--instrument", "ISIIS"]),
    "uvp6": ("uvp6/uvpec.zip", ["--instrument", "UVP6"]),
    "pwssc": ("pwssc.zip", ["--instrument", "PWSSC"]),
    "ifcb": ("ifcb/smhi-ifcb134", ["--instrument", "IFCB"]),
    "zooscan": ("zooscan", ["--instrument", "ZooScan", "--table", "labels.csv", "--column", "file=img_path"]),
}
BASELINES = ("handcrafted", "pixels")
PROBES = ("knn", "whitened-knn", "logistic")
NEIGHBOURS_ALONE = ("isiis",)  # regression on 121 classes of 15,700 thumbnails is half an hour of a core
SHOWN = ("kNN k=20", "whitened kNN k=20", "logistic")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="a run that is trained already")
    parser.add_argument("--suites", nargs="+", default=[*SETS], choices=[*SETS])
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    for key in given.suites:
        ingest(key, given.data, given.work)
    run = given.run or train(given.data, given.work)
    for key in given.suites:
        evaluate(key, run, given.work)
    write_table([read_entry(path) for path in sorted(ENTRIES.glob("*.json"))])


def aqqua(*words: object) -> None:
    """Run a verb, in sight."""
    command = [str(word) for word in words]
    sys.stderr.write(f"aqqua {' '.join(command)}\n")
    subprocess.run([sys.executable, "-m", "aqqua.cli", *command], check=True)


def ingest(key: str, data: Path, work: Path) -> None:
    """A suite's data set, where it is not there yet."""
    name, options = SETS[key]
    source = zooscan(data, work) if key == "zooscan" else data / name
    if not (work / key).exists():
        aqqua("ingest", source, "--out", work / key, *options)


def zooscan(data: Path, work: Path) -> Path:
    """Images and both tables of labels of EcoTaxa's template as one folder, as its suite wants them."""
    folder, template = work / "zooscan-images", data / "zooscan" / "ecotaxa_ml_template"
    if folder.exists():
        return folder
    partial = work / "zooscan-images.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with zipfile.ZipFile(template / "images.zip") as archive:
        archive.extractall(partial)
    rows: list[dict[str, str]] = []
    for part in ("training", "test"):
        with (template / f"{part}_labels.csv").open(newline="", encoding="utf-8") as file:
            rows += csv.DictReader(file)
    places = {path.name: path.relative_to(partial).as_posix() for path in partial.rglob("*.jpg")}
    with (partial / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "img_path": places[Path(row["img_path"]).name]})
    partial.rename(folder)
    return folder


def train(data: Path, work: Path) -> Path:
    """The run over all sets, where it is not done yet."""
    if not (work / "mix").exists():
        curate_balance.SETS = (*curate_balance.SETS, ("zooscan/ecotaxa_ml_template", "ZooScan"))
        curate_balance.write_mix(data, work / "mix", natural=False)
    config = ROOT / "configs" / "mix_tiny.yaml"
    aqqua("pretrain", config, f"data.path={work / 'mix'}", f"run={work / 'mix_tiny'}")
    return work / "mix_tiny"


def evaluate(key: str, run: Path, work: Path) -> None:
    """The run and its baselines on a suite."""
    for old in ENTRIES.glob(f"{key}--*.json"):
        old.unlink()
    here = work / "aqqua-mix-tiny"  # the name in the table
    if not here.exists():
        here.symlink_to(run.resolve(), target_is_directory=True)
    probes = PROBES[: 2 if key in NEIGHBOURS_ALONE else 3]
    command = [
        *("evaluate", here.name, "--suite", key, "--data", f"{key}={key}", "--against", "untrained"),
        *(*BASELINES, "--probes", *probes, "--entries", "entries", "--cache", "features"),
    ]  # as anybody would type it there: the entries keep it
    sys.stderr.write(f"aqqua {' '.join(command)}\n")
    subprocess.run([sys.executable, "-m", "aqqua.cli", *command], check=True, cwd=work)
    ENTRIES.mkdir(parents=True, exist_ok=True)
    for made in (work / "entries").glob(f"{key}--*.json"):
        shutil.move(made, ENTRIES / made.name)


def write_table(entries: list[Entry]) -> None:
    """Into docs/benchmark.md."""
    text = PAGE.read_text(encoding="utf-8")
    start, end = (re.escape(mark) for mark in MARKS)
    table = "\n".join([MARKS[0], "", *table_of(entries), "", MARKS[1]])
    PAGE.write_text(re.sub(f"{start}.*{end}", lambda _: table, text, flags=re.DOTALL), encoding="utf-8")


def table_of(entries: list[Entry]) -> list[str]:
    """Macro-F1 of each model on each suite, by probe."""
    lines = [f"| suite | tier | model | {' | '.join(SHOWN)} |", f"|---|---|---|{'---|' * len(SHOWN)}"]
    for entry in entries:
        for name, tier in entry.tiers.items():
            cells = [cell(tier.probes[p].metrics.get("macro_f1")) if p in tier.probes else "" for p in SHOWN]
            suite = f"{entry.suite.name}, {tier.test_images} of {entry.suite.classes} classes"
            lines.append(f"| {suite} | {name} | {entry.model.name} | {' | '.join(cells)} |")
    commits = sorted({f"`{entry.commit[:10]}`" for entry in entries})
    models = sorted({f"{e.model.name} `{e.model.sha256[:12]}`" for e in entries if e.model.kind == "aqqua"})
    data = sorted({f"{name} `{seal[:12]}`" for e in entries for name, seal in e.suite.datasets.items()})
    return [*lines, "", f"Commit {', '.join(commits)}; model {', '.join(models)}; data {', '.join(data)}."]


def cell(figure: Figure | None) -> str:
    """0.31 (0.28 to 0.34)."""
    if figure is None:
        return ""
    if figure.low is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


if __name__ == "__main__":
    main()
