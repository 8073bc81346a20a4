"""The verb that trains: pretrain."""

import argparse
import sys
from pathlib import Path
from typing import Any

from aqqua.cli.verb import add_verb, answer

INTERRUPTED = 130  # exit code: Ctrl-C


def add_pretrain(verbs: Any) -> None:
    """Declare `aqqua pretrain`."""
    parser = add_verb(verbs, "pretrain", _run_pretrain,
                      "train a model; the same command continues a stopped run",
                      "aqqua pretrain configs/sample.yaml data.path=dataset run=runs/first")  # fmt: skip
    parser.add_argument("config", type=Path, help="YAML file, or the name of one that came with aqqua")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example optim.lr=1e-3")
    parser.add_argument("--print-config", action="store_true", help="print the resolved config and stop")


def _run_pretrain(parsed: argparse.Namespace) -> int:
    from aqqua.config import load_config, to_yaml
    from aqqua.progress import count
    from aqqua.train.settings import PretrainConfig

    config = load_config(PretrainConfig, config_file(parsed.config), parsed.overrides)
    if parsed.print_config:
        sys.stdout.write(to_yaml(config))
        return 0
    from aqqua.train.signals import stop_on_signals

    with stop_on_signals() as stop:  # also while the rest is imported, which takes seconds
        from aqqua.train.loop import pretrain

        run = pretrain(config, stop)
    values = {"run": str(run.folder), "step": run.step, "images": run.images, "done": run.done}
    state = "done" if run.done else "stopped; the same command continues it"
    if run.ranks.first:
        answer(parsed, values, [f"{run.folder}: {run.images} images in {count(run.step, 'step')}, {state}"])
    return INTERRUPTED if run.stopped_by == "SIGINT" else 0  # so that `pretrain && evaluate` ends with it


def config_file(given: Path) -> Path:
    """The user's file; or, where there is none, the one of that name that came with aqqua, which is said.

    An installed aqqua holds them in aqqua/configs (setup.py), a checkout beside the package.
    """
    package = Path(__file__).parents[1]
    if given.exists() or given.parent not in (Path(), Path("configs")):
        return given
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / given.name).is_file():
            sys.stderr.write(f"note: {given} is not here; taking the one that came with aqqua\n")
            return folder / given.name
    return given
