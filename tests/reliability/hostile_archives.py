"""Over 200 archives made to do harm: names that leave their folder, links, devices, bombs and lies."""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

HOSTILE_NAMES = [
    *("../" * depth + "out.png" for depth in range(1, 12)),
    *("a/" * depth + "../" * (depth + 1) + "out.png" for depth in range(1, 12)),
    *(f"/{folder}/out.png" for folder in ("etc", "tmp", "root/.ssh", "dev/shm", "proc/self")),
    *("//srv/out.png", "/out.png", "C:/out.png", "C:\\out.png", "c:out.png", "\\\\srv\\share\\out.png"),
    *("..\\out.png", "a\\..\\..\\out.png", "..", "a/..", "../", "a/../../b/out.png", "./../out.png"),
    *(f"a{chr(code)}b.png" for code in [*range(1, 32), 127, 128, 133, 159]),
    *("d/" * 600 + "out.png", "n" * 1100 + ".png", "é" * 600 + ".png"),
]
TAR_TYPES = (
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.REGTYPE),
)


@dataclass(frozen=True)
class Archive:
    """Bytes of an archive; `name` says what it tries."""

    name: str
    data: bytes
    suffix: str = ".zip"
    harmless: bool = False  # a lie in a field that zipfile does not need: its images may be read


def a_png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30) % 251).save(file, "PNG")
    return file.getvalue()


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for info, data in members:
            archive.writestr(info, data, compress_type=method)
    return file.getvalue()


def archives() -> list[Archive]:
    return [*_names(), *_kinds(), *_bombs(), *_lies(), *_cut(), *_tars()]


def _names() -> Iterator[Archive]:
    for number, name in enumerate(HOSTILE_NAMES):
        yield Archive(f"name {number}", zipped((zipfile.ZipInfo(name), a_png())))
    nul = zipped((zipfile.ZipInfo("good.pngX.exe"), a_png())).replace(b"good.pngX.exe", b"good.png\0.exe")
    yield Archive("NUL in a name", nul)
    for nuls in (1, 5):  # zipfile hides all behind the first: an empty name
        name = b"\0" * nuls + b"e" * (13 - nuls)
        yield Archive(f"{nuls} NUL first in a name", nul.replace(b"good.png\0.exe", name))


def _kinds() -> Iterator[Archive]:
    """Members that are no files: links, devices, pipes, sockets; encrypted, or of a method not read."""
    for number, kind in enumerate((0o120777, 0o120000 | 0o644)):
        info = zipfile.ZipInfo("link.png")
        info.create_system, info.external_attr = 3, kind << 16
        for target in (b"/etc/passwd", b"../../out.png", b"link.png"):
            yield Archive(f"link {number} to {target!r}", zipped((info, target)))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield Archive(f"method {method}", zipped(("a.png", a_png()), method=method))
    for method in (1, 6, 9, 93, 95, 98, 99, 0xFFFF):
        data = zipped(("a.png", a_png()))
        yield Archive(f"method {method}", _in_both_headers(data, 8, 10, struct.pack("<H", method)))
    yield Archive("encrypted", _in_both_headers(zipped(("a.png", a_png())), 6, 8, b"\1\0"))


def _in_both_headers(data: bytes, local: int, central: int, new: bytes) -> bytes:
    """Bytes of a zip with one member, changed where its two headers keep a field."""
    changed, start = bytearray(data), data.index(b"PK\1\2")
    changed[local : local + len(new)] = new
    changed[start + central : start + central + len(new)] = new
    return bytes(changed)


def _bombs() -> Iterator[Archive]:
    zeros = zipped(("zeros.png", bytes(64 << 20)), method=zipfile.ZIP_DEFLATED)
    yield Archive("64 MB of zeros", zeros)
    yield Archive("a bomb in an archive", zipped(("inner.zip", zeros)))
    deep = zipped(("a.png", a_png()))
    for depth in range(1, 9):
        deep = zipped((f"{depth}.zip", deep))
        if depth > 3:
            yield Archive(f"{depth} archives deep", deep)
    for count in (2, 50, 400):
        yield Archive(f"{count} members over the same bytes", _overlapping(count))
    twice = zipped(("a.png", a_png()), ("b.png", a_png())).replace(b"b.png", b"a.png")
    yield Archive("one name twice", twice)


def _overlapping(count: int) -> bytes:
    """Many directory entries that share one stored member (Fifield 2019; CVE-2024-0450)."""
    one = zipped(("member000.png", a_png() + bytes(5000)))
    start, end = one.index(b"PK\1\2"), one.rindex(b"PK\5\6")
    entry = one[start:end]
    entries = b"".join(entry.replace(b"member000", b"member%03d" % i) for i in range(count))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(entries), start, 0)
    return one[:start] + entries + tail


def _lies() -> Iterator[Archive]:
    """Sizes, checksums and offsets that are not so."""
    stored, packed = (
        zipped(("a.png", a_png()), method=method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    )
    for what, data in (("stored", stored), ("deflated", packed)):
        for size in (0xFFFFFFFE, 0x7FFFFFFF, 1 << 30, 20, 1):
            yield Archive(
                f"{what}, {size} bytes declared", _in_both_headers(data, 22, 24, struct.pack("<L", size))
            )
        for size in (0xFFFFFFFE, 1 << 30, 5):
            yield Archive(f"{what}, {size} packed", _in_both_headers(data, 18, 20, struct.pack("<L", size)))
        yield Archive(f"{what}, wrong checksum", _in_both_headers(data, 14, 16, b"\xde\xad\xbe\xef"))
        for field, places in (("offset of the member", 42), ("length of the name", 28), ("of extra", 30)):
            changed, start = bytearray(data), data.index(b"PK\1\2")
            changed[start + places : start + places + 2] = b"\xff\xff"
            yield Archive(f"{what}, {field}", bytes(changed), harmless="offset" not in field)
    junk = zlib.compress(b"not an image" * 100)
    yield Archive("no image", zipped(("a.png", junk)))


def _cut() -> Iterator[Archive]:
    """The end of an archive missing, or its last record untrue."""
    whole = zipped(("a.png", a_png()), ("b.png", a_png()))
    for number in range(1, 25):
        yield Archive(f"{number}/25 of an archive", whole[: len(whole) * number // 25])
    for place in range(4, 20, 2):  # disks, counts, size and offset of the directory
        changed, end = bytearray(whole), whole.rindex(b"PK\5\6")
        changed[end + place : end + place + 2] = b"\xff\xff"
        yield Archive(f"last record, byte {place}", bytes(changed), harmless=True)


def _tars() -> Iterator[Archive]:
    """Tar is never opened: whatever is in one, it is named as not read."""
    for suffix, mode in ((".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.xz", "w:xz")):
        for kind in TAR_TYPES:
            for name in ("../out.png", "/tmp/out.png"):
                file = io.BytesIO()
                with tarfile.open(fileobj=file, mode=mode) as archive:
                    info = tarfile.TarInfo(name)
                    info.type, info.linkname = kind, "/etc/passwd"
                    info.size = len(a_png()) if kind == tarfile.REGTYPE else 0
                    archive.addfile(info, io.BytesIO(a_png()))
                yield Archive(f"tar {kind!r} {name}", file.getvalue(), suffix)
