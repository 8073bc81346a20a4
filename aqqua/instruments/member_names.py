"""Which names of files and archive members are safe, and which are the dust of an operating system."""

import unicodedata
from pathlib import PurePosixPath

MAX_NAME_BYTES = 1024  # whole relative name
IGNORED_NAMES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"})


def name_problem(name: str) -> str | None:
    """Why an archive member's name is not followed; on disk the names are where they say."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\\" in name or (len(name) > 1 and name[1] == ":"):
        return "absolute or Windows name"
    if ".." in parts:
        return "'..' in the name"
    return text_problem(name)


def text_problem(name: str) -> str | None:
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        return "control characters or bytes that are not UTF-8 in the name"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"name over {MAX_NAME_BYTES} bytes"
    return None


def is_ignored(name: str) -> bool:
    """Files that operating systems drop beside data: .DS_Store, AppleDouble '._x', lock files."""
    parts = PurePosixPath(name).parts
    return bool(IGNORED_NAMES.intersection(parts)) or (bool(parts) and parts[-1].startswith(("._", ".~lock")))


def printable(name: str) -> str:
    """The name as UTF-8 without control characters: fit for tables, logs and terminals."""
    name = name.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)
