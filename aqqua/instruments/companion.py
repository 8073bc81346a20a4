"""Text files that stand beside the images (tables, headers, configurations), read without raising.

They are held in memory whole, decoded and cut into lines, so a cap on their size bounds the memory of
the listing, which is one process. Test: tests/instruments/test_companion.py.
"""

from aqqua.instruments.record import Rejected
from aqqua.instruments.tree import Tree

MAX_TEXT_BYTES = 64 << 20  # the largest real one is under 10 MB
MAX_LONG_TABLE_BYTES = 256 << 20  # tables that grow with the length of a run: UVP6 frames, FlowCam particles


def read_companion(tree: Tree, name: str, max_bytes: int = MAX_TEXT_BYTES) -> bytes | Rejected:
    """All bytes of a member, or why there are none: empty_file, bad_table (too large), io_error."""
    if name in tree.members and tree.size(name) > max_bytes:
        detail = f"a text file must hold at most {max_bytes} bytes, got {tree.size(name)}; split it"
        return Rejected(source=name, reason="bad_table", detail=detail)
    try:
        data = tree.read(name)
    except Exception as error:  # zipfile raises zlib.error, BadZipFile, EOFError, NotImplementedError
        return Rejected(source=name, reason="io_error", detail=f"{type(error).__name__}: {error}")
    return data or Rejected(source=name, reason="empty_file", detail="0 bytes")
