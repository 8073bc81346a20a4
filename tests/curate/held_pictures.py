"""Pictures held in memory, and datasets made of them or of real images."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from aqqua.ingest import ingest_paths
from aqqua.instruments.record import ReadOptions, Record
from aqqua.instruments.tree import Tree
from aqqua.store.columns import Columns
from aqqua.store.read import Dataset
from aqqua.store.write import ingest


@dataclass(frozen=True)
class Held:
    """Pixels that are there already."""

    pixels: np.ndarray

    def load(self, _tree: Tree) -> np.ndarray:
        return self.pixels


def hold(
    out: Path,
    pictures: Sequence[np.ndarray],
    facts: Sequence[dict[str, object]] | None = None,
    seed: int = 0,
    block_rows: int = 64,
) -> Dataset:
    """A dataset of pictures named image0, image1, ...; facts of each are those of a Record."""
    records = []
    for i, pixels in enumerate(pictures):
        known: dict[str, object] = {
            "object_id": f"image{i}", "pixels": Held(pixels), "instrument": "UVP6", "um_per_px": None,
            "sample": "", "group": "", "source": f"{i}",
        }  # fmt: skip
        records.append(Record(**{**known, **(facts[i] if facts else {})}))  # type: ignore[arg-type]
    held = (Tree(root=Path("held"), label="held"), iter(records))
    ingest([held], out, seed=seed, block_rows=block_rows, workers=1)
    return Dataset.open(out)


def real_uvp6(real_data: Path, out: Path) -> Dataset:
    """735 UVP6 vignettes, of which 57 lie there twice, under two labels."""
    ingest_paths([str(real_data / "uvp6" / "uvpec.zip")], out, ReadOptions(instrument="UVP6"), workers=1)
    return Dataset.open(out)


def organism(number: int, side: int = 40) -> np.ndarray:
    """A blob with an outline and texture of its own, uint8 [side + 7, side], on a black background."""
    draw = np.random.default_rng(number)
    y, x = np.mgrid[: side + 7, :side] / side - 0.5
    radius, angle = np.hypot(y - 0.08, x), np.arctan2(y - 0.08, x)
    edge = 0.28 + sum(
        draw.uniform(-0.06, 0.06) * np.cos(k * angle + draw.uniform(0, 6.3)) for k in range(1, 5)
    )
    waves = [(*draw.uniform(-40, 40, 2), draw.uniform(0, 6.3), draw.uniform(0, 0.2)) for _ in range(6)]
    texture = sum(size * np.cos(a * x + b * y + phase) for a, b, phase, size in waves)
    body = np.clip((edge - radius) * side / 2, 0, 1) * (0.6 + texture)
    return np.clip(255 * body, 0, 255).astype(np.uint8)


def shifted(pixels: np.ndarray) -> np.ndarray:
    """One pixel down, the edge repeated."""
    return np.concatenate([pixels[:1], pixels[:-1]])


def as_jpeg(pixels: np.ndarray, quality: int = 85) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def brighter(pixels: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(np.rint(pixels * gain), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


CHANGES = {
    "flip": lambda p: p[:, ::-1],
    "turn": np.rot90,
    "brighter": lambda p: brighter(p, 1.02),
    "darker": lambda p: brighter(p, 0.98),
    "jpeg": as_jpeg,
    "shift": shifted,
    "crop": lambda p: p[1:, 1:],
}


def column(columns: Columns, name: str) -> dict[str, object]:
    """A column by image id, the input's name left out."""
    dataset = columns.dataset
    found: dict[str, object] = {}
    for block in range(dataset.blocks):
        ids = [i.split("/", 1)[1] for i in dataset.table(["image_id"], [block])["image_id"].to_pylist()]
        found |= dict(zip(ids, columns.block(block, [name])[name].to_pylist(), strict=True))
    return found
