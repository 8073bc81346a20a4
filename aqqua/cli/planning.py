"""The verb that looks ahead: plan, of what a run will see (a dataset) or of what it will cost (a config)."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqqua.cli.training import config_file
from aqqua.cli.verb import add_verb, answer

if TYPE_CHECKING:
    from aqqua.cost.machines import Kind
    from aqqua.train.settings import PretrainConfig

YAML = (".yaml", ".yml")
BLOCKED = 2  # exit code: a run that something is in the way of
OF_VIEWS = ("show", "out", "config", "seed", "visit")
OF_COST = ("nodes", "cluster", "partition", "gpus_per_node", "tokens", "grant", "measure", "steps")


def add_plan(verbs: Any) -> None:
    """Declare `aqqua plan`."""
    parser = add_verb(verbs, "plan", _run_plan, "what a run will see of a dataset, or what it will cost",
                      "aqqua plan dataset --show 8 --out page.html --config configs/sample.yaml "
                      "views.locals=4\n          aqqua plan configs/isiis_s.yaml --cluster horeka "
                      "--nodes 1..32 data.lanes=128")  # fmt: skip
    parser.add_argument("what", type=Path, help="dataset: its training views; YAML file of a run: its cost")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example views.noise=[0,0.1]")
    views = parser.add_argument_group("views of a dataset, drawn on a page")
    views.add_argument("--show", type=int, metavar="N", help="so many images (default 8)")
    views.add_argument("--out", type=Path, help="new file, .html")
    views.add_argument("--config", type=Path, help="YAML file of a run (default: every key's default)")
    views.add_argument("--seed", type=int, help="of the run (default: the config's)")
    views.add_argument("--visit", type=int, help="visits of each image before this one (default 0)")
    cost = parser.add_argument_group("cost of a run, worked out without a GPU")
    cost.add_argument("--nodes", help="4, 1,2,8 or 1..32 (default: one GPU; with --cluster one node)")
    cost.add_argument("--cluster", help="horeka, or a YAML file with the facts of another")
    cost.add_argument("--partition", help="(default: the cluster's)")
    cost.add_argument("--gpus-per-node", type=int, help="(default: all of a node)")
    cost.add_argument(
        "--tokens", help="in the place of a dataset: isiis, law, or patches of a view, as 60,20"
    )
    cost.add_argument(
        "--measure", action="store_const", const=True,
        help="also take some steps here, and set them beside what is predicted; nothing is kept of them",
    )  # fmt: skip
    cost.add_argument("--steps", type=int, metavar="N", help="to measure (default 8)")
    cost.add_argument("--grant", type=float, metavar="GPU-HOURS", help="of which the run's share is said")


def _run_plan(parsed: argparse.Namespace) -> int:
    costs = parsed.what.suffix.lower() in YAML
    stray = [name for name in (OF_VIEWS if costs else OF_COST) if getattr(parsed, name) is not None]
    if stray:
        option = "--" + stray[0].replace("_", "-")
        meant = "a dataset" if costs else "the YAML file of a run"
        raise ValueError(f"plan: {option} needs {meant}, got {parsed.what}; leave it out, or name {meant}")
    return _cost(parsed) if costs else _show(parsed)


def _cost(parsed: argparse.Namespace) -> int:
    from aqqua.cost.plan import Question, make_plan
    from aqqua.cost.table import lines, values

    kind, confirm = _kind(parsed)
    question = Question(
        config_file(parsed.what), tuple(parsed.overrides), parsed.nodes, kind, parsed.gpus_per_node, confirm,
        parsed.tokens, parsed.grant,
    )  # fmt: skip
    plan = make_plan(question)
    measured: dict[str, Any] = {}
    told: list[str] = []
    # What blocks a GPU need not block this machine.
    if parsed.measure and plan.native is not None:
        from aqqua.cost.measure import measure, measured_lines

        found = measure(plan.config, 8 if parsed.steps is None else parsed.steps)
        measured, told = {"measured": asdict(found)}, measured_lines(found)
    answer(parsed, values(plan) | measured, [*lines(plan), *told])
    return BLOCKED if plan.blockers else 0


def _kind(parsed: argparse.Namespace) -> "tuple[Kind | None, tuple[str, ...]]":
    """The nodes of the cluster that is named, and what of its facts is to be confirmed; no cluster: None."""
    from aqqua.cost.machines import Kind
    from aqqua.launch.site import load_site

    if parsed.cluster is None:
        if parsed.partition is not None:
            raise ValueError(
                f"plan: --partition needs --cluster, got {parsed.partition} alone; name the cluster"
            )
        return None, ()
    try:
        site = load_site(parsed.cluster)
        name = parsed.partition or site.default_partition
        of = site.partition(name)
    except ValueError as error:  # names the verb that asks for clusters most often
        raise ValueError(str(error).removeprefix("launch: ")) from error
    if of.gpu is None:
        raise ValueError(f"plan: the partition must have GPUs, got {name} of {site.name}; choose another")
    gpus = of.gpus_per_node if parsed.gpus_per_node is None else parsed.gpus_per_node
    if not 1 <= gpus <= of.gpus_per_node:
        raise ValueError(
            f"plan: --gpus-per-node must be 1 to {of.gpus_per_node} in {name}, got {gpus}; ask for fewer"
        )
    return Kind(of.gpu, gpus, of.nodes, name), tuple(site.confirm)


def _show(parsed: argparse.Namespace) -> int:
    _check_out(parsed.out)
    from aqqua.explore.page import write_page
    from aqqua.explore.shown import show
    from aqqua.progress import Bar
    from aqqua.store.read import Dataset

    count, visit = parsed.show if parsed.show is not None else 8, parsed.visit or 0
    dataset, config = Dataset.open(parsed.what), _config(parsed)
    with Bar("plan", count, "images") as bar:
        shown = show(dataset, config, count, visit, lambda done: bar.update(done))
    size = write_page(shown, parsed.what.resolve().name, config, visit, parsed.out)
    views = sum(len(image.views) for image in shown.images)
    images = len(shown.images)
    values = {"out": str(parsed.out), "images": images, "views": views, "bytes": size}
    answer(
        parsed,
        values,
        [f"{parsed.out}: {views} views of {images} image{'s' * (images != 1)}, {size / 1e6:.1f} MB"],
    )
    return 0


def _check_out(out: Path | None) -> None:
    """Before the work, not after it."""
    if out is None:
        raise ValueError("plan: a page of views needs a place, got no --out; give --out page.html")
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"plan: --out must end in .html, got {out}; for a PNG open the page and take a picture of it"
        )
    if out.exists():
        raise ValueError(f"plan: the output must not exist yet, got {out}; choose another name or remove it")


def _config(parsed: argparse.Namespace) -> "PretrainConfig":
    """The config of a run on the dataset; what only training needs is made up where it is not given."""
    from aqqua.config import load_config
    from aqqua.train.settings import PretrainConfig

    path = None if parsed.config is None else config_file(parsed.config)
    made_up = ["run=none", "data.path=none"]
    given = {override.partition("=")[0] for override in parsed.overrides}
    if path is None and not given & {"train", "train.images", "train.epochs"}:
        made_up.append("train.epochs=1")
    seed = [] if parsed.seed is None else [f"seed={parsed.seed}"]
    return load_config(PretrainConfig, path, [*made_up, *parsed.overrides, *seed])
