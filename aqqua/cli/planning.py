"""The verb that shows what training will see: plan."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqqua.cli.training import config_file
from aqqua.cli.verb import add_verb, answer

if TYPE_CHECKING:
    from aqqua.train.settings import PretrainConfig


def add_plan(verbs: Any) -> None:
    """Declare `aqqua plan`."""
    parser = add_verb(verbs, "plan", _run_plan, "a page that shows the training views of real images",
                      "aqqua plan dataset --show 8 --out page.html --config configs/sample.yaml "
                      "views.locals=4")  # fmt: skip
    parser.add_argument("dataset", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example views.noise=[0,0.1]")
    parser.add_argument("--show", type=int, default=8, metavar="N", help="so many images (default 8)")
    parser.add_argument("--out", type=Path, required=True, help="new file, .html")
    parser.add_argument("--config", type=Path, help="YAML file of a run (default: every key's default)")
    parser.add_argument("--seed", type=int, help="of the run (default: the config's)")
    parser.add_argument(
        "--visit", type=int, default=0, help="visits of each image before this one (default 0)"
    )


def _run_plan(parsed: argparse.Namespace) -> int:
    _check_out(parsed.out)
    from aqqua.explore.page import write_page
    from aqqua.explore.shown import show
    from aqqua.progress import Bar
    from aqqua.store.read import Dataset

    dataset, config = Dataset.open(parsed.dataset), _config(parsed)
    with Bar("plan", parsed.show, "images") as bar:
        shown = show(dataset, config, parsed.show, parsed.visit, lambda done: bar.update(done))
    size = write_page(shown, parsed.dataset.resolve().name, config, parsed.visit, parsed.out)
    views = sum(len(image.views) for image in shown.images)
    values = {"out": str(parsed.out), "images": len(shown.images), "views": views, "bytes": size}
    answer(
        parsed, values, [f"{parsed.out}: {views} views of {len(shown.images)} images, {size / 1e6:.1f} MB"]
    )
    return 0


def _check_out(out: Path) -> None:
    """Before the work, not after it."""
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
