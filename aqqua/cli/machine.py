"""The verb about this machine: doctor."""

import argparse
from typing import Any

from aqqua.cli.verb import add_verb, answer


def add_doctor(verbs: Any) -> None:
    """Declare `aqqua doctor`."""
    add_verb(verbs, "doctor", _run_doctor, "what this machine offers, and what would serve", "aqqua doctor")


def _run_doctor(parsed: argparse.Namespace) -> int:
    from aqqua.doctor import examine

    found = examine()
    answer(parsed, found, [f"{name:28} {value}" for name, value in found.items()])
    return 0
