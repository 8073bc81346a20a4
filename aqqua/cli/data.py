"""The verbs that make and look at data: sample, ingest, dataset."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqqua.cli.verb import add_engine, add_verb, answer

if TYPE_CHECKING:
    from aqqua.instruments.record import ReadOptions

# Stage of an ingest (aqqua.store.write.Progress) -> what its bar says, and what it counts.
STAGES = {
    "download": ("ingest: fetching", "bins"),
    "decode": ("ingest: reading", "images"),
    "write": ("ingest: writing", "images"),
}


def add_sample(verbs: Any) -> None:
    """Declare `aqqua sample`."""
    parser = add_verb(verbs, "sample", _run_sample,
                      "write a procedural sample ocean as real instrument files",
                      "aqqua sample ocean --images 2000")  # fmt: skip
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--images", type=int, default=2000, help="about so many images (default 2000)")
    parser.add_argument("--seed", type=int, default=0)


def _run_sample(parsed: argparse.Namespace) -> int:
    from aqqua.progress import Bar
    from aqqua.sample import write_sample

    with Bar("sample", parsed.images, "images") as bar:
        paths = write_sample(parsed.out, parsed.images, parsed.seed, lambda done, _total: bar.update(done))
    lines = [f"{name:16} {path}" for name, path in paths.items()]
    answer(parsed, {name: str(path) for name, path in paths.items()}, lines)
    return 0


def add_ingest(verbs: Any) -> None:
    """Declare `aqqua ingest`."""
    parser = add_verb(verbs, "ingest", _run_ingest, "read instrument files into a dataset",
                      "aqqua ingest cruise1/ export.zip --out dataset")  # fmt: skip
    parser.add_argument("paths", nargs="+", help="folders, zip archives, or IFCB dashboard URLs")
    parser.add_argument("--out", type=Path, required=True, help="new folder of the dataset")
    parser.add_argument("--format", help="force one reader instead of looking at the files")
    parser.add_argument("--instrument", help="instrument of all images, as in the registry (IFCB, UVP6, ...)")
    parser.add_argument(
        "--um-per-px", type=float, help="micrometres per pixel of all images; overrides files"
    )
    parser.add_argument("--licence", help="licence of all images")
    parser.add_argument("--table", help="folder reader: the file with one row per image")
    parser.add_argument("--column", action="append", default=[], metavar="FIELD=COLUMN",
                        help="folder reader: column of a field, e.g. label=taxon; repeatable")  # fmt: skip
    parser.add_argument("--no-folder-labels", action="store_true", help="folder names are not classes")
    parser.add_argument(
        "--keep-encoded",
        action="store_true",
        help="store JPEG, PNG and TIFF files as they are, not pixels",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the shuffle")
    add_engine(parser, None, "decoding processes (default: one per core)")


def _run_ingest(parsed: argparse.Namespace) -> int:
    from dataclasses import asdict

    from aqqua.ingest import ingest_paths, report_lines
    from aqqua.progress import Bar

    with Bar("ingest", None, "images") as bar:

        def show(stage: str, done: int, total: int | None) -> None:
            bar.stage(*STAGES.get(stage, (f"ingest: {stage}", "images")))
            bar.update(done, total=total)

        report = ingest_paths(
            parsed.paths, parsed.out, _read_options(parsed), only=parsed.format, seed=parsed.seed,
            keep_encoded=parsed.keep_encoded, workers=parsed.workers, engine=parsed.engine,
            command=parsed.command, progress=show, note=lambda line: bar.say(f"note: {line}"),
        )  # fmt: skip
    answer(parsed, asdict(report), report_lines(report))
    return 0


def _read_options(parsed: argparse.Namespace) -> "ReadOptions":
    from aqqua.instruments.record import ReadOptions

    return ReadOptions(
        instrument=parsed.instrument,
        um_per_px=parsed.um_per_px,
        licence=parsed.licence,
        table=parsed.table,
        columns=_columns(parsed.column),
        label_from_folder=not parsed.no_folder_labels,
    )


def _columns(pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    bad = [field + equals + column for field, equals, column in split if not (field and column)]
    if bad:
        raise ValueError(
            f"ingest: --column must look like field=column, got {bad[0]!r}; for example label=taxon"
        )
    return {field: column for field, _, column in split}


def add_dataset(verbs: Any) -> None:
    """Declare `aqqua dataset`."""
    parser = add_verb(verbs, "dataset", _run_dataset, "look at a dataset, or prove that it is whole",
                      "aqqua dataset info dataset")  # fmt: skip
    parser.add_argument("what", choices=("info", "verify"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--deep", action="store_true", help="verify: hash every image again")


def _run_dataset(parsed: argparse.Namespace) -> int:
    from aqqua.progress import Bar
    from aqqua.store.verify import info, verify

    if parsed.what == "info":
        found = info(parsed.path)
        answer(parsed, found, _facts(found))
        return 0
    with Bar("verify", None, "images") as bar:
        problems = verify(parsed.path, deep=parsed.deep, progress=lambda n, all_: bar.update(n, total=all_))
    lines = [str(problem) for problem in problems] or [f"{parsed.path}: whole"]
    answer(parsed, {"problems": [str(problem) for problem in problems]}, lines)
    return 1 if problems else 0


def _facts(values: dict[str, Any], indent: str = "") -> list[str]:
    """Nested facts, one per line."""
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", *_facts(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:24} {f'{value:.3f}' if isinstance(value, float) else value}")
    return lines
