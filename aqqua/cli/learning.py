"""The verbs that learn from labels, and that tell: finetune, predict."""

import argparse
from pathlib import Path
from typing import Any

from aqqua.cli.verb import add_verb, answer

WHAT = ("species", "trait", "carbon")


def add_finetune(verbs: Any) -> None:
    """Declare `aqqua finetune`."""
    parser = add_verb(verbs, "finetune", _run_finetune, "a classifier from a model and labelled images",
                      "aqqua finetune species runs/first --data dataset --out classifier")  # fmt: skip
    add = parser.add_argument
    add(
        "what", choices=WHAT, help="species: labels of the dataset; trait, carbon: a table of measured values"
    )
    add("model", type=Path, help="folder of a run, one of its checkpoints, or a .safetensors file")
    add("overrides", nargs="*", metavar="key=value", help="for example mode=lora epochs=10")
    add("--data", type=Path, required=True, help="dataset")
    add("--out", type=Path, required=True, help="new folder of the classifier")
    add("--labels", metavar="MAP",
        help="species: what labels mean: a map that came with aqqua, or a YAML file (docs/suites.md); "
        "default: each is a class of its own")  # fmt: skip
    add("--table", type=Path,
        help="trait, carbon: Parquet or CSV with object_id, trait_id, value, unit, method")  # fmt: skip
    add("--log10", nargs="+", default=[], metavar="TRAIT", help="traits whose logarithm is learnt")
    add("--kind", nargs="+", default=[], metavar="TRAIT=KIND", help="continuous, ordinal or binary")
    add("--config", type=Path, help="YAML file (default: every key's default)")
    add("--holdout", type=float, help="share of groups never learnt from (default: the run's, else 0.2)")
    add("--name", dest="called", default="", help="of the classifier (default: that of the folder)")
    add("--print-config", action="store_true", help="print the resolved config and stop")


def _run_finetune(parsed: argparse.Namespace) -> int:
    import sys

    from aqqua.config import load_config, to_yaml
    from aqqua.downstream.learn import Request
    from aqqua.evaluate.finetune.config import FinetuneConfig
    from aqqua.progress import Bar

    config = load_config(FinetuneConfig, parsed.config, parsed.overrides)
    if parsed.print_config:
        sys.stdout.write(to_yaml(config))
        return 0
    _check_table(parsed)
    with Bar("finetune", None, "") as bar:
        if parsed.what == "species" and not parsed.labels:
            bar.say("note: without --labels every class counts as living and none has a taxon")
        request = Request(
            parsed.model, parsed.data, parsed.out, config, f"aqqua {parsed.command}", parsed.holdout,
            parsed.called, lambda done, total, note: bar.update(done, note, total=total),
        )  # fmt: skip
        classifier = _learn(request, parsed)
    facts = classifier.facts
    what = f"{len(classifier.classes)} classes" if classifier.classes else f"{len(classifier.traits)} traits"
    answer(parsed, {"out": str(parsed.out), **facts}, [f"{parsed.out}: {what}; {_figures(facts)}"])
    return 0


def _learn(request: Any, parsed: argparse.Namespace) -> Any:
    from aqqua.downstream.carbon.registry import load_registry
    from aqqua.downstream.learn import finetune_carbon, finetune_species, finetune_traits
    from aqqua.taxonomy.label_map import LabelMap

    if parsed.what == "species":
        return finetune_species(request, LabelMap.load(parsed.labels).labels if parsed.labels else None)
    if parsed.what == "carbon":
        return finetune_carbon(request, parsed.table, [one.id for one in load_registry().relations])
    return finetune_traits(request, parsed.table, _kinds(parsed.kind), parsed.log10)


def _check_table(parsed: argparse.Namespace) -> None:
    if (parsed.table is None) != (parsed.what == "species"):
        wants = "no --table: it learns the dataset's labels" if parsed.what == "species" else "a --table"
        raise ValueError(f"finetune: {parsed.what} must be given {wants}, got {parsed.table}; see --help")
    if parsed.labels and parsed.what != "species":
        raise ValueError(f"finetune: --labels belongs to species, got it with {parsed.what}; leave it out")


def _kinds(given: list[str]) -> dict[str, Any]:
    kinds = dict(text.partition("=")[::2] for text in given)
    wrong = [name for name, kind in kinds.items() if kind not in ("continuous", "ordinal", "binary")]
    if wrong:
        raise ValueError(
            f"finetune: --kind must be TRAIT=continuous, ordinal or binary, got {wrong[0]}={kinds[wrong[0]]}"
            "; correct it"
        )
    return kinds


def _figures(facts: dict[str, Any]) -> str:
    """What stopped it, of the images held back."""
    metrics = facts.get("metrics", {})
    told = [f"{name} {value:.3f}" for name, value in metrics.items() if isinstance(value, float)]
    return "on images held back " + ", ".join(told) if told else "no figures"


def add_predict(verbs: Any) -> None:
    """Declare `aqqua predict`."""
    parser = add_verb(verbs, "predict", _run_predict, "what a classifier says of each image, as Parquet",
                      "aqqua predict classifier --data dataset --out predictions.parquet")  # fmt: skip
    parser.add_argument("classifier", type=Path, help="folder made by aqqua finetune")
    parser.add_argument("--data", type=Path, required=True, help="dataset")
    parser.add_argument("--out", type=Path, required=True, help="new file, named .parquet")


def _run_predict(parsed: argparse.Namespace) -> int:
    from aqqua.downstream.classifier import load_classifier
    from aqqua.downstream.predict import predict
    from aqqua.progress import Bar
    from aqqua.store.read import Dataset

    classifier, dataset = load_classifier(parsed.classifier), Dataset.open(parsed.data)
    with Bar("predict", dataset.rows, "images") as bar:
        rows = predict(classifier, dataset, parsed.out, f"aqqua {parsed.command}", bar.update)
    answer(parsed, {"out": str(parsed.out), "rows": rows}, [f"{parsed.out}: {rows} rows"])
    return 0
