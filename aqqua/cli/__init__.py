"""The command line: one verb, one function. Heavy imports live inside the verbs, so `--help` is quick.

verb (what verbs share) -> data (sample, ingest, dataset), curating (curate), training (pretrain), planning
(plan), launching (launch), judging (embed, evaluate, leaderboard), learning (finetune, predict), ocean
(sizes, carbon, samples, grid), publishing (publish), exploring (explore), export, machine (doctor) -> main.
Test: tests/test_cli.py, tests/test_cli_mistakes.py.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from aqqua.cli.curating import add_curate
from aqqua.cli.data import add_dataset, add_ingest, add_sample
from aqqua.cli.exploring import add_explore
from aqqua.cli.export import add_export
from aqqua.cli.judging import add_embed, add_evaluate, add_leaderboard
from aqqua.cli.launching import add_launch
from aqqua.cli.learning import add_finetune, add_predict
from aqqua.cli.machine import add_doctor
from aqqua.cli.ocean import add_carbon, add_grid, add_samples, add_sizes
from aqqua.cli.planning import add_plan
from aqqua.cli.publishing import add_publish
from aqqua.cli.training import add_pretrain

ADDERS = (
    *(add_sample, add_ingest, add_dataset, add_curate, add_plan, add_pretrain),
    *(add_launch, add_embed, add_evaluate, add_leaderboard, add_finetune, add_predict, add_sizes, add_carbon),
    *(add_samples, add_grid, add_publish, add_explore, add_export, add_doctor),
)
MISTAKES = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb: 0 when all went well, 2 on a user's mistake, 1 when the machine or the data failed.

    An error may have an `exit_code` of its own (3: training cannot go on before a person has looked).

    A failure is one line on stderr. AQQUA_TRACEBACK=1 in the environment shows where it came from.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parsed = _parse(arguments)
    parsed.command = shlex.join(arguments)
    try:
        return parsed.verb(parsed)
    except KeyboardInterrupt:
        sys.stderr.write(f"aqqua {parsed.name}: interrupted\n")
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        if os.environ.get("AQQUA_TRACEBACK"):
            raise
        sys.stderr.write(f"aqqua {parsed.name}: {_one_line(error, parsed.name)}\n")
        return getattr(error, "exit_code", 2 if isinstance(error, MISTAKES) else 1)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments; overrides (key=value) may also stand behind options, where argparse leaves them over."""
    parser = _parser()
    parsed, left_over = parser.parse_known_args(arguments)
    if hasattr(parsed, "overrides") and all("=" in word and word[0] != "-" for word in left_over):
        parsed.overrides += left_over
    elif left_over:
        stray, verb = " ".join(left_over), f"aqqua {parsed.name}"
        parser.exit(2, f"{verb}: unrecognized arguments: {stray}; see {verb} --help\n")
    return parsed


def _one_line(error: Exception, verb: str) -> str:
    """The message without line breaks (YAML and torch use them) and without a second 'verb: '."""
    text = " ".join(str(error).split())
    if isinstance(error, ImportError):
        return _not_importable(error, text)
    return text.removeprefix(f"{verb}: ") or type(error).__name__


def _not_importable(error: ImportError, text: str) -> str:
    if (error.name or "").startswith("aqqua") and "_core" in text:
        return f"its C++ core must be built, got {text}; pip install . builds it"
    if error.name is None:  # said by ourselves: a package of an extra is missing
        return text
    return f"the packages it needs must be installed, got {text}; pip install . installs them"


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
    for add in ADDERS:
        add(verbs)
    return parser
