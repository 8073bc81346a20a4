"""What every verb of the command line shares: how it is declared, and how it answers."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

Verb = Callable[[argparse.Namespace], int]


def add_verb(verbs: Any, name: str, run: Verb, what: str, example: str) -> argparse.ArgumentParser:
    """Declare a verb, or what a verb can do ("explore build"); its help ends with an example."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name.split()[-1],
        help=what,
        description=what,
        epilog=f"example:  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(verb=run, name=name)
    return parser


def answer(parsed: argparse.Namespace, values: dict[str, Any], lines: Sequence[str]) -> None:
    """Print the result on standard output: `values` for machines (--json), else `lines` for people."""
    text = json.dumps(values, indent=1, ensure_ascii=False, default=str) if parsed.json else "\n".join(lines)
    sys.stdout.write(text + "\n")


def add_engine(
    parser: argparse.ArgumentParser, workers: int | None = 1, what: str = "that work at a time"
) -> None:
    """Who does the work on the parts of a dataset (aqqua.spread.Engine).

    Args:
        workers: if nothing is said.
        what: they are.
    """
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local",
        help="processes of this machine, or a Ray cluster that sees the same disk",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=workers, help=what)


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """What the workers of such an engine compute on."""
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each worker of Ray")
