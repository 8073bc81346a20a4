"""Which encoding a text table is in: by its BOM, else UTF-8 if all bytes are, else latin-1."""

import codecs

from aqqua.instruments.tree import Tree

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_CHUNK_BYTES = 1 << 20


def bom_encoding(head: bytes) -> str | None:
    """The encoding a byte-order mark tells ("Unicode text" of Excel is UTF-16); None without one."""
    return next((encoding for bom, encoding in _BOMS if head.startswith(bom)), None)


def text_encoding(tree: Tree, member: str) -> str:
    """Name of the encoding; the member is read through once, a megabyte in memory at a time.

    Accented latin-1 text is never UTF-8 by chance, and in latin-1 every byte has a meaning.

    Raises:
        What `Tree.open` and its streams raise for a broken disk or archive.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    with tree.open(member) as raw:
        chunk = raw.read(_CHUNK_BYTES)
        if bom := bom_encoding(chunk):
            return bom
        try:
            while chunk:
                decoder.decode(chunk)
                chunk = raw.read(_CHUNK_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8"
