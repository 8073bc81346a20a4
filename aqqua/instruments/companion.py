"""Text files that stand beside the images (tables, headers, configurations), read without raising."""

from aqqua.instruments.record import Rejected
from aqqua.instruments.tree import Tree


def read_companion(tree: Tree, name: str) -> bytes | Rejected:
    """All bytes of a member, or why there are none: empty_file, io_error."""
    try:
        data = tree.read(name)
    except Exception as error:  # zipfile raises zlib.error, BadZipFile, EOFError, NotImplementedError
        return Rejected(source=name, reason="io_error", detail=f"{type(error).__name__}: {error}")
    return data or Rejected(source=name, reason="empty_file", detail="0 bytes")
