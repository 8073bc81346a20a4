"""What takes bytes of others: images, tables, dataset files, configs; each with inputs worth damaging."""

import io
import random
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bounded_child import Stopwatch, held_mb
from mutations import mutant
from PIL import Image

from aqqua.config import ConfigError, load_config
from aqqua.ingest import ingest_paths
from aqqua.instruments.detect import find
from aqqua.instruments.image import decode
from aqqua.instruments.record import ReadOptions, Record, Rejected, RejectedInputError
from aqqua.instruments.tree import open_tree
from aqqua.sample import write_sample
from aqqua.store.read import Dataset
from aqqua.store.verify import verify
from aqqua.train.settings import PretrainConfig

Read = Callable[[bytes], list[str]]  # what became of an input: reason codes, or words for what was accepted
TABLES = (".tsv", ".txt", ".csv", ".hdr", ".adc", ".lst", ".ctx", ".ini")


def images() -> list[bytes]:
    """Small images in every format and mode that is read."""
    draw = np.random.default_rng(1)
    grey = draw.integers(0, 255, (24, 31), np.uint8)
    colour = draw.integers(0, 255, (24, 31, 3), np.uint8)
    deep = draw.integers(0, 65535, (24, 31), np.uint16)
    made: list[tuple[np.ndarray, str, dict[str, Any]]] = []
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "GIF"):
        made += [(grey, kind, {}), (colour, kind, {})]
    made += [(deep, "PNG", {}), (deep, "TIFF", {})]
    made += [
        (grey, "TIFF", {"compression": c}) for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    ]
    made += [(colour, "JPEG", {"progressive": True})]
    files = []
    for pixels, kind, options in made:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind, **options)
        files.append(file.getvalue())
    return files


def read_image(data: bytes) -> list[str]:
    try:
        pixels = decode(data)
    except RejectedInputError as error:
        return [error.reason]
    assert pixels.dtype in (np.uint8, np.uint16)
    assert pixels.size
    return ["accepted"]


class Ocean:
    """A folder of every instrument's files; one table at a time is damaged."""

    def __init__(self, folder: Path) -> None:
        write_sample(folder, 50)
        for archive in folder.rglob("*.zip"):
            shutil.unpack_archive(archive, archive.with_suffix(""))
            archive.unlink()
        names = sorted(path for path in folder.rglob("*") if path.suffix.lower() in TABLES)
        self.tables = {path: path.read_bytes() for path in names if path.stat().st_size}
        self.draw = random.Random(2)

    def read(self, data: bytes) -> list[str]:
        """The damaged bytes in place of a table, read with what lies around it."""
        path = self.draw.choice(list(self.tables))
        path.write_bytes(data)
        found = [self._word(one) for one in find(open_tree(path.parent), ReadOptions())]
        path.write_bytes(self.tables[path])
        return found

    @staticmethod
    def _word(found: Any) -> str:
        if isinstance(found, Rejected):
            return found.reason
        return "accepted" if isinstance(found, Record) else "sample"


class Stored:
    """A small dataset; one file at a time is damaged."""

    def __init__(self, folder: Path) -> None:
        write_sample(folder / "ocean", 50)
        # One instrument is enough, and keeps a read short.
        ingest_paths([str(next((folder / "ocean").glob("*ifcb*")))], folder / "set", ReadOptions(), workers=1)
        self.path, self.draw = folder / "set", random.Random(3)
        self.files = {path: path.read_bytes() for path in sorted(self.path.iterdir())}

    def read(self, data: bytes) -> list[str]:
        path = self.draw.choice(list(self.files))
        path.write_bytes(data)
        try:
            pixels = sum(len(block) for block in Dataset.open(self.path).iter_blocks())
            return ["named"] if verify(self.path) else [f"read {pixels > 0}"]
        except (ValueError, OSError):  # DamagedError among them; with the file in its sentence
            return ["refused"]
        finally:
            path.write_bytes(self.files[path])


CONFIG = b"""run: runs/a
seed: 7
data: {path: dataset, holdout: 0.3, lanes: 4, pack_tokens: 3000}
views: {locals: 2, max_tokens: [64, 16]}
model:
  width: 32
  layers: 2
  heads: 2
optim: {lr: 1e-3, warmup_share: 0.1}
train: {images: 1000, log_every: 5}
"""


class Configs:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "run.yaml"

    def read(self, data: bytes) -> list[str]:
        self.path.write_bytes(data)
        try:
            load_config(PretrainConfig, self.path)
        except ConfigError:
            return ["refused"]
        return ["accepted"]


def hunt(originals: list[bytes], read: Read, count: int, seed: int, notes: dict[str, Any]) -> None:
    """Read `count` mutants; note how each ended, the slowest, and how memory grew after the first tenth."""
    draw, watch, ends, escaped = random.Random(seed), Stopwatch(), Counter[str](), []
    warm = 0.0
    for number in range(count):
        if number == count // 10:
            warm = held_mb()
        data = mutant(draw, originals)
        try:
            ends.update(watch.time(partial(read, data)))
        except Exception as error:  # what no caller is told to expect
            escaped.append(f"{type(error).__name__}: {error}"[:200])
    notes |= {
        "ends": dict(ends),
        "escaped": escaped,
        "slowest_s": watch.slowest_s,
        "grown_mb": held_mb() - warm,
    }
