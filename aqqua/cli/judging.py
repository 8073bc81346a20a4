"""The verbs that use a trained model: embed, evaluate, leaderboard."""

import argparse
import json
from pathlib import Path
from typing import Any

from aqqua.cli.verb import add_engine, add_verb, answer


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", type=Path, help="folder of a run, one of its checkpoints, or a .safetensors file"
    )
    parser.add_argument("--data", type=Path, required=True, help="dataset")
    parser.add_argument(
        "--pooling", choices=("cls", "mean", "cls+mean"), default="cls", help="what a feature is"
    )


def add_embed(verbs: Any) -> None:
    """Declare `aqqua embed`."""
    parser = add_verb(verbs, "embed", _run_embed, "one feature row per image, as Parquet",
                      "aqqua embed runs/first --data dataset --out embeddings.parquet")  # fmt: skip
    _model_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True,
        help="new file, named .parquet (float32, with what is known of each image); else a new folder of "
        "columns for aqqua curate (float16)",
    )  # fmt: skip
    add_engine(parser)


def _run_embed(parsed: argparse.Namespace) -> int:
    from aqqua.evaluate.embeddings import write_embedding_columns, write_embeddings
    from aqqua.evaluate.models import load_embedder
    from aqqua.progress import Bar
    from aqqua.spread import Engine
    from aqqua.store.read import Dataset

    engine = Engine(name=parsed.engine, workers=parsed.workers, gpus=parsed.gpus)
    one_file = parsed.out.suffix == ".parquet"
    if one_file and engine != Engine():
        raise ValueError(
            "embed: one file is written by one process, got an engine; give --out a folder, or leave out "
            "--engine, --workers and --gpus"
        )
    embedder, dataset = load_embedder(parsed.model, parsed.pooling), Dataset.open(parsed.data)
    with Bar("embed", dataset.rows, "images") as bar:
        if one_file:
            rows = write_embeddings(embedder, dataset, parsed.out, bar.update)
        else:
            rows = write_embedding_columns(
                parsed.model, parsed.pooling, dataset, parsed.out, engine, bar.update
            )
    values = {"out": str(parsed.out), "rows": rows, "width": embedder.width}
    answer(parsed, values, [f"{parsed.out}: {rows} rows of {embedder.width} numbers"])
    return 0


def add_evaluate(verbs: Any) -> None:
    """Declare `aqqua evaluate`."""
    parser = add_verb(verbs, "evaluate", _run_evaluate, "kNN and linear probe on held-out labelled images",
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
    answer(parsed, result.as_dict(), result.lines())
    return 0


def add_leaderboard(verbs: Any) -> None:
    """Declare `aqqua leaderboard`."""
    parser = add_verb(verbs, "leaderboard", _run_leaderboard, "entries of many models as one offline page",
                      "aqqua leaderboard entries/ --out leaderboard.html")  # fmt: skip
    parser.add_argument("entries", type=Path, nargs="+", help="files of aqqua evaluate --suite, or folders")
    parser.add_argument("--out", type=Path, required=True, help="new file, named .html")


def _run_leaderboard(parsed: argparse.Namespace) -> int:
    from aqqua.explore.leaderboard.page import write_leaderboard

    entries = write_leaderboard(parsed.entries, parsed.out)
    size = parsed.out.stat().st_size
    values = {"out": str(parsed.out), "entries": entries, "bytes": size}
    what = "entry" if entries == 1 else "entries"
    answer(parsed, values, [f"{parsed.out}: {entries} {what}, {size / 1e6:.1f} MB"])
    return 0
