"""Which source made a figure."""

import os
import subprocess
from pathlib import Path

import aqqua


def source_commit() -> str:
    """Commit of the checkout that this package is imported from, "-dirty" where tracked files differ from it.

    The variable AQQUA_COMMIT, if set, is the answer; of an installed package it is the release.
    """
    if named := os.environ.get("AQQUA_COMMIT"):  # where the source travels without its repository
        return named
    checkout = Path(aqqua.__file__).parents[1]
    if not (checkout / ".git").exists():  # site-packages may lie inside someone else's repository
        return f"release {aqqua.__version__}"
    head = _git(checkout, "rev-parse", "HEAD")
    if head is None:
        return f"release {aqqua.__version__}"
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return head + ("-dirty" if changed else "")


def _git(checkout: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=checkout, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
