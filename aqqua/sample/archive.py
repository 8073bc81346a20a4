"""Zip archives whose bytes depend on their content alone: fixed dates, fixed order."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

DATE = (2024, 6, 11, 9, 30, 0)


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write members in the order given; pictures are stored, since they are compressed already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name, DATE)
            info.external_attr = 0o644 << 16
            packed = zipfile.ZIP_STORED if name.endswith((".jpg", ".png")) else zipfile.ZIP_DEFLATED
            archive.writestr(info, data, packed)
