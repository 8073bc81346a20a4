"""The verb that decides what is trained on, how often: curate."""

import argparse
from pathlib import Path
from typing import Any

from aqqua.cli.verb import add_engine, add_gpus, add_verb, answer

_NAMED = 5  # strata in a line
_STAGES = ("signatures", "duplicates", "quality", "contamination", "clusters", "weights")


def add_curate(verbs: Any) -> None:
    """Declare `aqqua curate`."""
    parser = add_verb(
        verbs, "curate", _run_curate, "find copies, flaws and clusters; weigh images for training",
        "aqqua curate dataset --embeddings embeddings --out curated\n"
        "          aqqua pretrain configs/sample.yaml data.path=dataset data.weights=curated run=runs/second",
    )  # fmt: skip
    parser.add_argument("dataset", type=Path, help="dataset; it is only read")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example weights.max_repeats=8")
    parser.add_argument(
        "--out", type=Path, required=True,
        help="folder of the curation: columns of each stage, the weights, a report; one that is there "
        "is gone on with",
    )  # fmt: skip
    parser.add_argument(
        "--embeddings", type=Path, help="folder made by aqqua embed; without it there are no clusters"
    )
    parser.add_argument(
        "--evaluation", type=Path, metavar="DATASET", help="what is near its images is never trained on"
    )
    parser.add_argument(
        "--evaluation-embeddings", type=Path, help="of it, by the same model: for contamination.cosine"
    )
    parser.add_argument("--config", type=Path, help="YAML file (default: every key's default)")
    parser.add_argument("--only", nargs="+", choices=_STAGES, default=[], help="these stages alone")
    parser.add_argument("--no-report", action="store_true", help="without report.html")
    parser.add_argument("--print-config", action="store_true", help="print the resolved config and stop")
    add_engine(parser)
    add_gpus(parser)


def _run_curate(parsed: argparse.Namespace) -> int:
    import sys

    from aqqua.config import load_config, to_yaml
    from aqqua.curate.pipeline import REPORT, CurateConfig, Curation, curate, facts_of
    from aqqua.progress import Bar
    from aqqua.spread import Engine
    from aqqua.store.read import Dataset
    from aqqua.train.ranks import join

    stray = [word for word in parsed.overrides if "=" not in word]
    if stray:
        raise ValueError(
            f"curate: after the dataset come settings such as weights.max_repeats=8, got {stray[0]!r}; give "
            "embeddings with --embeddings, an evaluation set with --evaluation"
        )
    config = load_config(CurateConfig, parsed.config, parsed.overrides)
    if parsed.print_config:
        sys.stdout.write(to_yaml(config))
        return 0
    dataset = Dataset.open(parsed.dataset)
    evaluation = None if parsed.evaluation is None else Dataset.open(parsed.evaluation)
    engine = Engine(name=parsed.engine, workers=parsed.workers, gpus=parsed.gpus)
    with join(timeout_s=120, patience_s=24 * 3600) as ranks:
        job = Curation(
            dataset, parsed.out, config, parsed.embeddings, evaluation, parsed.evaluation_embeddings, engine,
            ranks, _device(ranks.place.local_rank),
        )  # fmt: skip
        with Bar("curate", None, shown=ranks.first) as bar:

            def tell(stage: str, done: int, every: int) -> None:
                bar.stage(f"curate: {stage}", "images")
                bar.update(done, total=every)

            made = curate(job, parsed.only, tell)
        if not ranks.first:
            return 0
    facts, classes = facts_of(job), None
    new = any(made.values()) or not (parsed.out / REPORT).exists()
    if "weights" in facts and new and not parsed.no_report:
        classes = _write_report(job)
    values = {
        "out": str(parsed.out), "made": [name for name in made if made[name]], "effective_classes": classes,
        "facts": facts,
    }  # fmt: skip
    report = [f"look at         {parsed.out / REPORT}"] if (parsed.out / REPORT).exists() else []
    answer(parsed, values, [*_lines(parsed.out, made, facts), *_of_classes(classes), *report])
    return 0


def _device(local_rank: int) -> Any:
    """Where clusters are computed: this rank's GPU, if there are any."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def _write_report(job: Any) -> tuple[float, float] | None:
    """Effective number of classes, before and after; None without labels."""
    from aqqua.curate.pipeline import REPORT, STAGES
    from aqqua.explore.curation import write_curation_page
    from aqqua.progress import Bar

    folders = {stage: job.folder(stage) for stage in STAGES if job.folder(stage).exists()}
    (job.out / REPORT).unlink(missing_ok=True)  # of what was there before
    with Bar("curate: report", job.dataset.rows, "images") as bar:
        numbers = write_curation_page(
            job.dataset, folders, job.out / REPORT, job.evaluation, lambda done, _all: bar.update(done)
        )
    classes = numbers.by.get("class")
    return classes.effective() if classes is not None and classes.images else None


def _of_classes(classes: tuple[float, float] | None) -> list[str]:
    if classes is None:
        return []
    before, after = classes
    found = [
        f"{'classes':14} effective number {before:.1f} of images, {after:.1f} of uses (labels had no say)"
    ]
    if after < before:
        found.append(
            f"{'':14} fewer than before: a set that is level already, or embeddings that are too weak for "
            "clusters; see docs/curation.md before training on these weights"
        )
    return found


def _some(names: list[str], number: int) -> str:
    shown = names[:_NAMED]
    return "; ".join(shown) + (f"; and {number - len(shown)} more strata" if number > len(shown) else "")


def _lines(out: Path, made: dict[str, bool], facts: dict[str, Any]) -> list[str]:
    """What a person wants to know first."""
    found = [f"{stage:14} {'made' if new else 'kept as it was'}" for stage, new in made.items()]
    for stage in ("duplicates", "quality"):
        if stage in facts:
            counts = ", ".join(f"{count} {name}" for name, count in facts[stage]["images"].items())
            found.append(f"{stage:14} {counts}")
    for flag, names in facts.get("quality", {}).get("not_looked_for", {}).items():
        if names:
            found.append(
                f"{'':14} {flag} is not looked for in {', '.join(names)} (quality.{flag}_instruments)"
            )
    if "clusters" in facts:
        sizes = ", ".join(map(str, facts["clusters"]["clusters"]))
        found.append(f"{'clusters':14} {sizes} (finest first)")
    if "weights" in facts:
        weights = facts["weights"]
        unused = ", ".join(f"{count} {why}" for why, count in weights["unused"].items() if count)
        found.append(f"{'weights':14} mean {weights['mean_weight']:.3f}, most {weights['max_weight']:.3g}")
        found.append(f"{'weight 0':14} {unused or 'none'}")
        without = [stage for stage in _STAGES[1:-1] if stage not in weights["made_from"]]
        if without:
            found.append(f"{'made without':14} {', '.join(without)}")
        capped = weights.get("capped", {})
        if capped.get("emptied"):
            names = _some(capped["emptied_strata"], capped["emptied"])
            found.append(
                f"{'no uses':14} {names}: all their clusters are capped; name fewer in weights.cap.clusters, "
                "or set weights.cap.labels=false"
            )
        for name, numbers in weights["effective"].items():
            found.append(
                f"{'effective':14} {numbers['images']:.1f} {name} of images, {numbers['uses']:.1f} of uses"
            )
        found.append(f"train with      data.weights={out}")
    return found
