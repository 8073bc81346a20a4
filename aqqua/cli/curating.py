"""The verb that decides what is trained on, how often: curate."""

import argparse
from pathlib import Path
from typing import Any

from aqqua.cli.verb import add_engine, add_verb, answer

_STAGES = ("signatures", "duplicates", "quality", "contamination", "clusters", "weights")
REPORT = "report.html"


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
        help="folder of the curation: columns of each stage, the weights, a report; one that is there is gone "
        "on with",
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
    parser.add_argument("--no-report", action="store_true", help=f"without {REPORT}")
    parser.add_argument("--print-config", action="store_true", help="print the resolved config and stop")
    add_engine(parser)


def _run_curate(parsed: argparse.Namespace) -> int:
    import sys

    from aqqua.config import load_config, to_yaml
    from aqqua.curate.pipeline import CurateConfig, Curation, curate, facts_of
    from aqqua.progress import Bar
    from aqqua.spread import Engine
    from aqqua.store.read import Dataset
    from aqqua.train.ranks import join

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
    facts = facts_of(job)
    if "weights" in facts and not parsed.no_report:
        _write_report(job)
    values = {"out": str(parsed.out), "made": [name for name in made if made[name]], "facts": facts}
    answer(parsed, values, _lines(parsed.out, made, facts))
    return 0
