"""The verbs that use a trained model: embed, evaluate, leaderboard."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aqqua.cli.verb import add_engine, add_gpus, add_verb, answer


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
    parser.add_argument(
        "--patch-px", type=int, metavar="N",
        help="patch side, 1 to 64; default: the model's own. Others are for models of views.patch_choices",
    )  # fmt: skip
    add_engine(parser)
    add_gpus(parser)


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
    embedder = load_embedder(parsed.model, parsed.pooling, patch_px=parsed.patch_px)
    dataset = Dataset.open(parsed.data)
    with Bar("embed", dataset.rows, "images") as bar:
        if one_file:
            rows = write_embeddings(embedder, dataset, parsed.out, bar.update)
        else:
            rows = write_embedding_columns(
                parsed.model, parsed.pooling, dataset, parsed.out, engine, bar.update, parsed.patch_px
            )
    values = {"out": str(parsed.out), "rows": rows, "width": embedder.width}
    answer(parsed, values, [f"{parsed.out}: {rows} rows of {embedder.width} numbers"])
    return 0


def add_evaluate(verbs: Any) -> None:
    """Declare `aqqua evaluate`."""
    parser = add_verb(verbs, "evaluate", _run_evaluate, "models and baselines judged on labelled images",
                      "aqqua evaluate runs/first --data dataset --against untrained pixels")  # fmt: skip
    add = parser.add_argument
    add("models", nargs="*", default=[],
        help="runs, checkpoints, .safetensors files, classifiers of aqqua finetune, timm:NAME, hf:FOLDER, "
        "pixels, handcrafted; the others are compared with the first")  # fmt: skip
    add("--model", action="append", default=[], metavar="MODEL", help="the same, one at a time")
    add("--data", action="append", required=True, metavar="[KEY=]DATASET",
        help="dataset; with a suite of several, KEY=DATASET for each")  # fmt: skip
    add("--suite",
        help="what is asked: a suite that came with aqqua, or a YAML file (docs/suites.md); default: every "
        "label of the dataset is a class, whole groups are held out")  # fmt: skip
    add("--tier", action="append", default=[], help="of the suite's: sample, region, instrument")
    add("--against", nargs="*", choices=("untrained", "pixels", "handcrafted"), default=["untrained"],
        help="baselines judged the same way")  # fmt: skip
    add("--probes", nargs="+", metavar="PROBE",
        help="knn, whitened-knn, logistic (the default), linear, attentive, boosting, few-shot")  # fmt: skip
    add("--holdout", type=float,
        help="without a suite: share of groups tested on (default: the run's, else 0.2)")  # fmt: skip
    add("--pooling", choices=("cls", "mean", "cls+mean"), default="cls", help="what a feature is")
    add("--duplicates", action="append", default=[], metavar="KEY=FOLDER",
        help="near copies found by aqqua curate: of training images they leave the test")  # fmt: skip
    add("--contamination", action="append", default=[], metavar="KEY=FOLDER|IDS",
        help="what pretraining knew (docs/suites.md): test images of it are counted")  # fmt: skip
    add("--leave-out-known", action="store_true", help="such test images are not asked for")
    add("--cache", type=Path, help="folder in which features are kept for the next time")
    add("--out", type=Path, help="also write the whole result as JSON to this file")
    add("--entries", type=Path, metavar="FOLDER",
        help="also write an entry for the leaderboard for each model")  # fmt: skip


def _run_evaluate(parsed: argparse.Namespace) -> int:
    from aqqua.downstream.classifier import open_judged
    from aqqua.evaluate.asking import USUAL
    from aqqua.evaluate.report import evaluate
    from aqqua.evaluate.submission import entry_paths, write_entries
    from aqqua.store.new_file import whole_file

    names = _contenders(parsed)
    prepared = _prepared(parsed, names[0])
    _check_outputs(parsed, names, prepared.suite.name, entry_paths)  # before the work, not after it
    contenders = [open_judged(name, parsed.pooling) for name in names]
    result = evaluate(prepared, contenders, probes=parsed.probes or USUAL, cache=parsed.cache)
    values = result.as_dict()
    if parsed.out:
        text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
        with whole_file(parsed.out, "evaluate") as partial:  # an older result stays till then
            partial.write_text(f"{text}\n", encoding="utf-8")
    if parsed.entries:
        write_entries(result, parsed.entries, f"aqqua {parsed.command}")
    answer(parsed, values, result.lines())
    return 0


def _contenders(parsed: argparse.Namespace) -> list[str]:
    """Models as they were named, then the baselines."""
    models = [*parsed.models, *parsed.model]
    if not models:
        raise ValueError("evaluate: a model must be given, got none; for example aqqua evaluate runs/first")
    first = models[0]
    native = not first.startswith(("timm:", "hf:", "untrained:")) and first not in ("pixels", "handcrafted")
    backbone = Path(first, "backbone.safetensors")  # of a classifier
    fresh = backbone if native and backbone.is_file() else first
    asked = [f"untrained:{fresh}" if one == "untrained" else one for one in parsed.against]
    baselines = [one for one in asked if native or not one.startswith("untrained:")]
    return list(dict.fromkeys([*models, *baselines]))


def _prepared(parsed: argparse.Namespace, model: str) -> Any:
    """The suite and its data sets."""
    from aqqua.downstream.carbon.registry import load_registry
    from aqqua.evaluate.models import path_in, run_config
    from aqqua.evaluate.suites.prepare import prepare
    from aqqua.evaluate.suites.suite import Suite
    from aqqua.store.split import DEFAULT_HOLDOUT

    config = run_config(path_in(model))
    if parsed.suite is None:
        if parsed.holdout is not None and not 0 < parsed.holdout < 1:
            raise ValueError(
                f"evaluate: holdout must be between 0 and 1, got {parsed.holdout}; 0.2 is a fifth"
            )
        suite = Suite.of_labels(parsed.holdout or (config.data.holdout if config else 0) or DEFAULT_HOLDOUT)
    elif parsed.holdout is not None:
        raise ValueError("evaluate: the suite says what is held out, got --holdout too; leave one out")
    else:
        suite = Suite.load(parsed.suite)
    keys = list(suite.datasets)
    known = _by_key("--contamination", parsed.contamination, keys)
    return prepare(
        suite,
        {key: paths[0] for key, paths in _by_key("--data", parsed.data, keys, once=True).items()},
        tiers=parsed.tier,
        duplicates={k: v[0] for k, v in _by_key("--duplicates", parsed.duplicates, keys, once=True).items()},
        contamination=known if parsed.contamination else None,
        leave_out_known=parsed.leave_out_known,
        relations=[one.id for one in load_registry().relations] if suite.carbon else None,
    )


def _by_key(option: str, given: list[str], keys: list[str], *, once: bool = False) -> dict[str, list[Path]]:
    """KEY=PATH, or of a suite of one data set its PATH alone."""
    found: dict[str, list[Path]] = {}
    for text in given:
        key, equals, path = text.partition("=")
        if not equals or (key not in keys and len(keys) == 1 and Path(text).exists()):
            key, path = keys[0], text
            if len(keys) > 1:
                raise ValueError(
                    f"evaluate: {option} must say of which data set ({', '.join(keys)}), got {text}; write "
                    f"{keys[0]}={text}"
                )
        if once and key in found:
            raise ValueError(f"evaluate: {option} must name {key} once, got {text} too; leave one out")
        found.setdefault(key, []).append(Path(path))
    return found


def _check_outputs(
    parsed: argparse.Namespace, names: list[str], suite: str, entry_paths: Callable[..., Any]
) -> None:
    if parsed.out:
        if parsed.out.is_dir():
            raise ValueError(f"evaluate: --out must be a file, got the folder {parsed.out}; add a name")
        parsed.out.parent.mkdir(parents=True, exist_ok=True)
    if parsed.entries:
        entry_paths(parsed.entries, suite, names)


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
