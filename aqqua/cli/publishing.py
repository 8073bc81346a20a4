"""The verb that hands answers to the places where people work: publish."""

import argparse
from pathlib import Path
from typing import Any

from aqqua.cli.verb import add_verb, answer


def add_publish(verbs: Any) -> None:
    """Declare `aqqua publish` and its forms."""
    parser = verbs.add_parser(
        "publish", help="predictions and samples for EcoTaxa, IFCB, OBIS, spreadsheets",
        description="predictions and samples in the forms of others (docs/publish.md)",
    )  # fmt: skip
    forms = parser.add_subparsers(title="forms", metavar="FORM", required=True)
    _add_ecotaxa(forms)
    _add_push(forms)
    _add_ifcb(forms)
    _add_darwin_core(forms)
    _add_csv(forms)


def _add_ecotaxa(forms: Any) -> None:
    parser = add_verb(
        forms, "publish ecotaxa", _run_ecotaxa, "zips of pictures and TSV to import",
        "aqqua publish ecotaxa dataset --predictions predictions.parquet --out zips",
    )  # fmt: skip
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--predictions", type=Path, help="of aqqua predict")
    parser.add_argument("--sizes", type=Path, help="of aqqua sizes")
    parser.add_argument("--carbon", type=Path, help="of aqqua carbon")
    parser.add_argument("--ids", type=Path, help="YAML of `class: number of the category in EcoTaxa`")
    parser.add_argument("--trust-folders", action="store_true",
                        help="labels from the names of folders leave as validated")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="new folder")


def _run_ecotaxa(parsed: argparse.Namespace) -> int:
    from aqqua.downstream.publish.ecotaxa import export_ecotaxa
    from aqqua.downstream.publish.ecotaxa_ids import load_ecotaxa_ids
    from aqqua.progress import Bar, count
    from aqqua.store.read import Dataset

    dataset = Dataset.open(parsed.dataset)
    with Bar("publish", dataset.rows, "images") as bar:
        made = export_ecotaxa(
            dataset, parsed.out, predictions=parsed.predictions, sizes=parsed.sizes, carbon=parsed.carbon,
            ids=load_ecotaxa_ids(parsed.ids) if parsed.ids else None, trust_folders=parsed.trust_folders,
            progress=lambda done: bar.update(done),
        )  # fmt: skip
    status = ", ".join(f"{name or 'without a class'} {n}" for name, n in sorted(made.by_status.items()))
    lines = [f"{parsed.out}: {made.images} images in {count(made.zips, 'zip')}: {status}"]
    if made.shortened_ids:
        lines.append(
            f"{made.shortened_ids} ids were too long for EcoTaxa; object_ids.csv tells whose they are"
        )
    values = {"out": str(parsed.out), "images": made.images, "zips": made.zips, "by_status": made.by_status,
              "shortened_ids": made.shortened_ids}  # fmt: skip
    answer(parsed, values, lines)
    return 0


def _add_push(forms: Any) -> None:
    parser = add_verb(
        forms, "publish ecotaxa-push", _run_push, "predictions for objects that EcoTaxa has",
        "aqqua publish ecotaxa-push predictions.parquet --project 42 --ids ids.yaml --dry-run",
    )  # fmt: skip
    parser.add_argument("predictions", type=Path, help="of aqqua predict")
    parser.add_argument("--project", type=int, required=True, help="its number")
    parser.add_argument("--ids", type=Path, required=True, help="YAML of `class: number of the category`")
    parser.add_argument("--server", help="its address, https (default: EcoTaxa's own)")
    parser.add_argument("--journal", type=Path,
                        help="file that knows what was told (default: beside the predictions)")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="look everything up, change nothing")


def _run_push(parsed: argparse.Namespace) -> int:
    from dataclasses import asdict

    from aqqua.downstream.predictions import Predictions
    from aqqua.downstream.publish.ecotaxa_api import SERVER, Server, token_from_environment
    from aqqua.downstream.publish.ecotaxa_ids import load_ecotaxa_ids
    from aqqua.downstream.publish.ecotaxa_push import push
    from aqqua.progress import Bar

    server = parsed.server or SERVER
    journal = parsed.journal or parsed.predictions.with_suffix(f".project-{parsed.project}.push.jsonl")
    with Bar("push", Predictions.open(parsed.predictions).rows, "images") as bar:
        told = push(
            parsed.predictions, parsed.project, load_ecotaxa_ids(parsed.ids), server,
            connect=lambda: Server(server, token_from_environment()), journal=journal,
            dry_run=parsed.dry_run, progress=lambda done: bar.update(done),
        )  # fmt: skip
    values = asdict(told)
    done = "would tell" if parsed.dry_run else "told"
    lines = [
        f"{done} {told.told} objects, {told.told_before} before; {told.not_in_project} are not in the "
        f"project, {told.without_category} have no category"
    ]
    answer(parsed, values, lines)
    return 0


def _add_ifcb(forms: Any) -> None:
    parser = add_verb(
        forms, "publish ifcb", _run_ifcb, "class files, <bin>_class.h5",
        "aqqua publish ifcb predictions.parquet --out classes",
    )  # fmt: skip
    parser.add_argument("predictions", type=Path, help="of aqqua predict, of IFCB images")
    parser.add_argument("--thresholds", type=Path, help="YAML of `class: least score`; others have 0")
    parser.add_argument("--out", type=Path, required=True, help="new folder")


def _run_ifcb(parsed: argparse.Namespace) -> int:
    import yaml

    from aqqua.downstream.predictions import Predictions
    from aqqua.downstream.publish.ifcb_class_h5 import export_ifcb_class_h5
    from aqqua.progress import Bar, count

    thresholds = None
    if parsed.thresholds:
        thresholds = yaml.safe_load(parsed.thresholds.read_text(encoding="utf-8"))
        if not isinstance(thresholds, dict):
            raise ValueError(
                f"publish: thresholds must be lines `class: least score`, got {parsed.thresholds}; correct it"
            )
    with Bar("publish", Predictions.open(parsed.predictions).rows, "images") as bar:
        files = export_ifcb_class_h5(parsed.predictions, parsed.out, thresholds, lambda n: bar.update(n))
    answer(parsed, {"out": str(parsed.out), "bins": files}, [f"{parsed.out}: {count(files, 'bin')}"])
    return 0


def _add_darwin_core(forms: Any) -> None:
    parser = add_verb(
        forms, "publish darwin-core", _run_darwin_core, "an archive for OBIS and GBIF",
        "aqqua publish darwin-core samples.parquet --about about.yaml --out archive.zip",
    )  # fmt: skip
    parser.add_argument("samples", type=Path, help="of aqqua samples")
    parser.add_argument("--predictions", type=Path, help="with it every image is an occurrence of its own")
    parser.add_argument("--about", type=Path, required=True,
                        help="YAML: title, organisation, contact_email, abstract, licence")  # fmt: skip
    parser.add_argument("--absences", action="store_true", help="classes a sample does not hold, as absent")
    parser.add_argument("--out", type=Path, required=True, help="new file, named .zip")


def _run_darwin_core(parsed: argparse.Namespace) -> int:
    from dataclasses import asdict

    from aqqua.downstream.publish.darwin_core import export_darwin_core
    from aqqua.downstream.publish.darwin_core_files import read_about

    about = read_about(parsed.about)
    made = export_darwin_core(
        parsed.samples, parsed.out, about, predictions=parsed.predictions, absences=parsed.absences
    )
    lines = [f"{parsed.out}: {made.events} events, {made.occurrences} occurrences, {made.measurements} "
             "measurements"]  # fmt: skip
    lines += [f"left out, {why}: {number}" for why, number in made.left_out.items()]
    answer(parsed, {"out": str(parsed.out), **asdict(made)}, lines)
    return 0


def _add_csv(forms: Any) -> None:
    parser = add_verb(
        forms, "publish csv", _run_csv, "any table of aqqua for a spreadsheet or R",
        "aqqua publish csv predictions.parquet --out predictions.csv",
    )  # fmt: skip
    parser.add_argument("table", type=Path, help="of aqqua predict, sizes, carbon or samples")
    parser.add_argument("--scores", action="store_true", help="a column for each class too")
    parser.add_argument("--out", type=Path, required=True, help="new file, named .csv or .parquet")


def _run_csv(parsed: argparse.Namespace) -> int:
    from aqqua.downstream.publish.plain import export_plain

    form: Any = parsed.out.suffix.removeprefix(".")
    if form not in ("csv", "parquet"):
        raise ValueError(f"publish: the file must be named .csv or .parquet, got {parsed.out}; rename it")
    rows = export_plain(parsed.table, parsed.out, form, scores=parsed.scores)
    answer(parsed, {"out": str(parsed.out), "rows": rows}, [f"{parsed.out}: {rows} rows"])
    return 0
