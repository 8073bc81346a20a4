"""The command line: one verb, one function. Heavy imports live inside the verbs, so `--help` is quick."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from aqqua.progress import Bar

Verb = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb: 0 when all went well, 2 on a user's mistake, 1 when the machine or the data failed.

    A failure is one line on stderr. AQQUA_TRACEBACK=1 in the environment shows where it came from.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parsed = _parser().parse_args(arguments)
    parsed.command = shlex.join(arguments)
    try:
        return parsed.verb(parsed)
    except KeyboardInterrupt:
        sys.stderr.write(f"aqqua {parsed.name}: interrupted\n")
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, RuntimeError, OSError) as error:
        if os.environ.get("AQQUA_TRACEBACK"):
            raise
        sys.stderr.write(f"aqqua {parsed.name}: {_one_line(error, parsed.name)}\n")
        mistake = isinstance(error, ValueError | FileNotFoundError | FileExistsError | NotADirectoryError)
        return 2 if mistake or isinstance(error, IsADirectoryError) else 1


def _one_line(error: Exception, verb: str) -> str:
    """The message without line breaks (YAML and torch use them) and without a second 'verb: '."""
    return " ".join(str(error).split()).removeprefix(f"{verb}: ") or type(error).__name__


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line; argparse would print the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


class _Version(argparse.Action):
    """Prints the version; imports the package only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from aqqua import __version__

        sys.stdout.write(f"aqqua {__version__}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="aqqua",
        description="Self-supervised foundation models for plankton images, at native resolution.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for add in (_sample, _ingest, _dataset, _pretrain, _embed, _evaluate, _export, _doctor):
        add(verbs)
    return parser


def _add(verbs: Any, name: str, run: Verb, what: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=what,
        description=what,
        epilog=f"example:  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(verb=run, name=name)
    return parser


def _print(parsed: argparse.Namespace, values: dict[str, Any], lines: Sequence[str]) -> None:
    text = json.dumps(values, indent=1, ensure_ascii=False, default=str) if parsed.json else "\n".join(lines)
    sys.stdout.write(text + "\n")


def _advance(bar: "Bar") -> Callable[[int], None]:
    return lambda done: bar.update(done)


# sample


def _sample(verbs: Any) -> None:
    parser = _add(verbs, "sample", _run_sample, "write a procedural sample ocean as real instrument files",
                  "aqqua sample ocean --images 2000")  # fmt: skip
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--images", type=int, default=2000, help="about so many images (default 2000)")
    parser.add_argument("--seed", type=int, default=0)


def _run_sample(parsed: argparse.Namespace) -> int:
    from aqqua.progress import Bar
    from aqqua.sample import write_sample

    with Bar("sample", parsed.images, "images") as bar:
        advance = _advance(bar)
        paths = write_sample(parsed.out, parsed.images, parsed.seed, lambda done, _total: advance(done))
    lines = [f"{name:16} {path}" for name, path in paths.items()]
    _print(parsed, {name: str(path) for name, path in paths.items()}, lines)
    return 0


# ingest, dataset


def _ingest(verbs: Any) -> None:
    parser = _add(verbs, "ingest", _run_ingest, "read instrument files into a dataset",
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
    parser.add_argument("--seed", type=int, default=0, help="of the shuffle")
    parser.add_argument("--workers", type=int, help="decoding processes (default: one per core)")


def _run_ingest(parsed: argparse.Namespace) -> int:
    from dataclasses import asdict

    from aqqua.ingest import ingest_paths, report_lines
    from aqqua.instruments.record import ReadOptions
    from aqqua.instruments.registry import registry
    from aqqua.progress import Bar

    options = ReadOptions(
        instrument=parsed.instrument,
        um_per_px=parsed.um_per_px,
        licence=parsed.licence,
        table=parsed.table,
        columns=_columns(parsed.column),
        label_from_folder=not parsed.no_folder_labels,
    )
    with Bar("ingest", None, "images") as bar:
        report = ingest_paths(
            parsed.paths, parsed.out, options, only=parsed.format, seed=parsed.seed, workers=parsed.workers,
            command=parsed.command, progress=lambda stage, done, _total: bar.update(done, stage),
        )  # fmt: skip
    if parsed.instrument and parsed.instrument not in registry():
        sys.stderr.write(
            f"note: {parsed.instrument} is not in the instrument registry ({', '.join(registry())}): "
            "nothing is known of its scale\n"
        )
    _print(parsed, asdict(report), report_lines(report))
    return 0


def _columns(pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    bad = [field + equals + column for field, equals, column in split if not (field and column)]
    if bad:
        raise ValueError(
            f"ingest: --column must look like field=column, got {bad[0]!r}; for example label=taxon"
        )
    return {field: column for field, _, column in split}


def _facts(values: dict[str, Any], indent: str = "") -> list[str]:
    """Nested facts, one per line."""
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", *_facts(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:24} {f'{value:.3f}' if isinstance(value, float) else value}")
    return lines


def _dataset(verbs: Any) -> None:
    parser = _add(verbs, "dataset", _run_dataset, "look at a dataset, or prove that it is whole",
                  "aqqua dataset info dataset")  # fmt: skip
    parser.add_argument("what", choices=("info", "verify"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--deep", action="store_true", help="verify: hash every image again")


def _run_dataset(parsed: argparse.Namespace) -> int:
    from aqqua.store.verify import info, verify

    if parsed.what == "info":
        found = info(parsed.path)
        _print(parsed, found, _facts(found))
        return 0
    problems = verify(parsed.path, deep=parsed.deep)
    lines = [str(problem) for problem in problems] or [f"{parsed.path}: whole"]
    _print(parsed, {"problems": [str(problem) for problem in problems]}, lines)
    return 1 if problems else 0


# pretrain


def _pretrain(verbs: Any) -> None:
    parser = _add(verbs, "pretrain", _run_pretrain, "train a model; the same command continues a stopped run",
                  "aqqua pretrain configs/sample.yaml data.path=dataset run=runs/first")  # fmt: skip
    parser.add_argument("config", type=Path, help="YAML file, see configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example optim.lr=1e-3")
    parser.add_argument("--print-config", action="store_true", help="print the resolved config and stop")


def _run_pretrain(parsed: argparse.Namespace) -> int:
    from aqqua.config import load_config, to_yaml
    from aqqua.train.settings import PretrainConfig

    config = load_config(PretrainConfig, parsed.config, parsed.overrides)
    if parsed.print_config:
        sys.stdout.write(to_yaml(config))
        return 0
    from aqqua.train.loop import pretrain

    run = pretrain(config)
    values = {"run": str(run.folder), "step": run.step, "images": run.images, "done": run.done}
    state = "done" if run.done else "stopped; the same command continues it"
    _print(parsed, values, [f"{run.folder}: {run.images} images in {run.step} steps, {state}"])
    return 0


# embed, evaluate, export


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", type=Path, help="folder of a run, one of its checkpoints, or a .safetensors file"
    )
    parser.add_argument("--data", type=Path, required=True, help="dataset")
    parser.add_argument(
        "--pooling", choices=("cls", "mean", "cls+mean"), default="cls", help="what a feature is"
    )


def _embed(verbs: Any) -> None:
    parser = _add(verbs, "embed", _run_embed, "one feature row per image, as Parquet",
                  "aqqua embed runs/first --data dataset --out embeddings.parquet")  # fmt: skip
    _model_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="new Parquet file")


def _run_embed(parsed: argparse.Namespace) -> int:
    from aqqua.evaluate.features import write_embeddings
    from aqqua.evaluate.models import load_embedder
    from aqqua.progress import Bar
    from aqqua.store.read import Dataset

    embedder, dataset = load_embedder(parsed.model, parsed.pooling), Dataset.open(parsed.data)
    with Bar("embed", dataset.rows, "images") as bar:
        rows = write_embeddings(embedder, dataset, parsed.out, _advance(bar))
    values = {"out": str(parsed.out), "rows": rows, "width": embedder.width}
    _print(parsed, values, [f"{parsed.out}: {rows} rows of {embedder.width} numbers"])
    return 0


def _evaluate(verbs: Any) -> None:
    parser = _add(verbs, "evaluate", _run_evaluate, "kNN and linear probe on held-out labelled images",
                  "aqqua evaluate runs/first --data dataset --against untrained pixels")  # fmt: skip
    _model_arguments(parser)
    parser.add_argument("--against", nargs="*", choices=("untrained", "pixels"), default=["untrained"],
                        help="baselines judged the same way")  # fmt: skip
    parser.add_argument(
        "--holdout", type=float, help="share of groups tested on (default: the run's, else 0.2)"
    )
    parser.add_argument("--no-linear", action="store_true", help="kNN only")
    parser.add_argument("--out", type=Path, help="also write the result as JSON to this file")


def _run_evaluate(parsed: argparse.Namespace) -> int:
    from aqqua.evaluate.report import evaluate

    if parsed.out:  # before the work, not after it
        if parsed.out.is_dir():
            raise ValueError(f"evaluate: --out must be a file, got the folder {parsed.out}; add a name")
        parsed.out.parent.mkdir(parents=True, exist_ok=True)
    result = evaluate(
        parsed.model, parsed.data, against=parsed.against, holdout=parsed.holdout, pooling=parsed.pooling,
        linear=not parsed.no_linear,
    )  # fmt: skip
    if parsed.out:
        parsed.out.write_text(
            json.dumps(result.as_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    _print(parsed, result.as_dict(), result.lines())
    return 0


def _export(verbs: Any) -> None:
    parser = _add(verbs, "export", _run_export, "the teacher's backbone as one file for others",
                  "aqqua export runs/first --out model.safetensors")  # fmt: skip
    parser.add_argument("model", type=Path, help="folder of a run")
    parser.add_argument("--format", choices=("safetensors",), default="safetensors")
    parser.add_argument("--out", type=Path, required=True, help="new file")


def _run_export(parsed: argparse.Namespace) -> int:
    from aqqua.evaluate.models import load_embedder, save_embedder

    save_embedder(load_embedder(parsed.model), parsed.out)
    _print(parsed, {"out": str(parsed.out)}, [f"{parsed.out}: {parsed.out.stat().st_size / 1e6:.1f} MB"])
    return 0


# doctor


def _doctor(verbs: Any) -> None:
    _add(verbs, "doctor", _run_doctor, "what this machine offers, and what would serve", "aqqua doctor")


def _run_doctor(parsed: argparse.Namespace) -> int:
    from aqqua.doctor import examine

    found = examine()
    _print(parsed, found, [f"{name:28} {value}" for name, value in found.items()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
