"""What is found of copies planted among real images, what else is found, and what a signature costs.

    python bench/data/duplicates.py --dataset DATASET... [--wall FOLDER] [--images N]

Of each dataset the first N images that are distinct; to each of them, by turns, one change is made (a flip,
a turn, +2 % or -2 % brightness, JPEG of quality 90 or 75, PNG, a shift by one pixel, a crop of one pixel
less), and the copy is planted. All images are then of one group, so each is compared with each. Found is a
copy that ends in one set with its original. A pair found in which neither is planted is called natural:
whether it is true must be looked at, so --wall writes the pairs as pictures, side by side.

Where labels name what flags are about (badfocus, bubble, artifacts), precision and recall of the flags
against them. Images per second of processor time of one process.

What a search costs: bench/data/candidates.py. Appends a JSON line to bench/results/cpu/duplicates.jsonl.
"""

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measure import append_result, machine
from PIL import Image

from aqqua.curate.copies.duplicates import DuplicateConfig, write_duplicates
from aqqua.curate.images.quality import FLAGS, QualityConfig, write_quality
from aqqua.curate.images.signatures import write_signatures
from aqqua.instruments.record import Record
from aqqua.instruments.tree import Tree
from aqqua.store.read import Dataset
from aqqua.store.write import ingest

LABELS = {"badfocus": "blurred", "bubble": "bubble", "artifacts": "blurred"}
SHOWN_PX = 96


@dataclass(frozen=True)
class Held:
    """Pixels that are there already."""

    pixels: np.ndarray

    def load(self, _tree: Tree) -> np.ndarray:
        return self.pixels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, nargs="+", help="made by `aqqua ingest`")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--wall", type=Path, help="folder for pictures of natural pairs")
    arguments = parser.parse_args()
    rows = []
    for path in arguments.dataset:
        with TemporaryDirectory() as scratch:
            row = judged(Dataset.open(path), Path(scratch), arguments.images, arguments.wall)
        rows.append({"dataset": path.name, **row})
        print(rows[-1], flush=True)
    append_result("duplicates", {**machine("pyarrow", "pillow"), "rows": rows})


def judged(dataset: Dataset, scratch: Path, images: int, wall: Path | None) -> dict[str, object]:
    start = time.process_time()
    signatures = write_signatures(dataset, scratch / "signatures")
    per_s = dataset.rows / (time.process_time() - start)
    flags = flags_against_labels(dataset, write_quality(dataset, signatures, scratch / "q", QualityConfig()))
    planted = plant(dataset, scratch / "planted", images)
    start = time.process_time()
    signed = write_signatures(planted, scratch / "planted-signatures")
    found = write_duplicates(planted, signed, scratch / "found", DuplicateConfig())
    spent = time.process_time() - start
    ids: list[str] = []
    kept: dict[str, str] = {}
    for block in range(planted.blocks):
        names = planted.table(["image_id"], [block])["image_id"].to_pylist()
        of = found.block(block, ["duplicate_of"])["duplicate_of"].to_pylist()
        ids += names
        kept |= {name: one or name for name, one in zip(names, of, strict=True)}
    shares: dict[str, list[bool]] = {}
    missed: list[tuple[str, str]] = []
    for name in ids:
        if "+" in name:
            original, change = name.split("+")
            shares.setdefault(change, []).append(kept[name] == kept[original])
            if kept[name] != kept[original]:
                missed.append((original, name))
    natural = natural_pairs(ids, kept)
    for pairs, end in ((natural, ""), (missed, "-missed")):
        if wall is not None and pairs:
            wall.mkdir(parents=True, exist_ok=True)
            show(planted, pairs, wall / f"{dataset.path.name}{end}.png")
    return {
        "images": sum("+" not in name for name in ids),
        "copies": sum("+" in name for name in ids),
        "found": {k: round(float(np.mean(v)), 4) for k, v in sorted(shares.items())},
        "of_each": min(len(v) for v in shares.values()),
        "natural_pairs": len(natural),
        "signatures_per_s": round(per_s),
        "search_s": round(spent, 1),
        "flags": flags,
    }


def natural_pairs(ids: list[str], kept: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs of originals that ended in one set."""
    sets: dict[str, list[str]] = {}
    for name in ids:
        if "+" not in name:
            sets.setdefault(kept[name], []).append(name)
    return [(one, other) for names in sets.values() for one, other in pairwise(names)]


def plant(dataset: Dataset, out: Path, images: int) -> Dataset:
    """The first distinct images and copies of some, all of one group."""
    records, seen = [], set()
    changes = list(CHANGES.items())
    for number in range(dataset.blocks):
        block, table = dataset.block_with(number, ["content", "instrument"])
        for i, (content, instrument) in enumerate(zip(*(c.to_pylist() for c in table.columns), strict=True)):
            pixels = block.pixels(i)
            if content in seen or len(seen) >= images or min(pixels.shape[:2]) < 8:
                continue
            k = len(seen)
            seen.add(content)
            records.append(record(f"{k}", pixels, instrument))
            if pixels.dtype == np.uint8 and np.ptp(pixels) > 8:
                name, change = changes[k % len(changes)]
                records.append(record(f"{k}+{name}", np.ascontiguousarray(change(pixels)), instrument))
    ingest([(Tree(root=Path("planted"), label="planted"), iter(records))], out, workers=1)
    return Dataset.open(out)


def record(name: str, pixels: np.ndarray, instrument: str) -> Record:
    return Record(
        object_id=name, pixels=Held(pixels), instrument=instrument, um_per_px=None, sample="", group="",
        source=name,
    )  # fmt: skip


def shifted(pixels: np.ndarray) -> np.ndarray:
    """One pixel down, the edge repeated."""
    return np.concatenate([pixels[:1], pixels[:-1]])


def encoded(pixels: np.ndarray, **how: object) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, **how)
    return np.asarray(Image.open(file))


def brighter(pixels: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(np.rint(pixels * gain), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flip": lambda p: p[::-1],
    "turn": lambda p: np.rot90(p, 1),
    "brighter": lambda p: brighter(p, 1.02),
    "darker": lambda p: brighter(p, 0.98),
    "jpeg90": lambda p: encoded(p, format="JPEG", quality=90),
    "jpeg75": lambda p: encoded(p, format="JPEG", quality=75),
    "png": lambda p: encoded(p, format="PNG"),
    "shift": shifted,
    "crop": lambda p: p[1:, 1:],
}


def flags_against_labels(dataset: Dataset, quality: object) -> dict[str, object]:
    labels = np.array([str(one) for one in dataset.table(["label"])["label"].to_pylist()])
    flags = [f for b in range(dataset.blocks) for f in quality.block(b, ["flags"])["flags"].to_pylist()]
    out: dict[str, object] = {name: sum(name in one for one in flags) for name in FLAGS}
    for word, flag in LABELS.items():
        truth = np.char.startswith(labels, word)
        has = np.array([flag in one for one in flags])
        if truth.any():
            both = int((truth & has).sum())
            out[f"{flag} for {word}"] = {
                "precision": round(both / max(int(has.sum()), 1), 2),
                "recall": round(both / int(truth.sum()), 2),
            }
    return out


def show(dataset: Dataset, pairs: list[tuple[str, str]], path: Path) -> None:
    """Pairs of pictures, eight a row."""
    wanted = {name: None for pair in pairs[:200] for name in pair}
    for block in range(dataset.blocks):
        pixels, table = dataset.block_with(block, ["image_id"])
        for i, name in enumerate(table["image_id"].to_pylist()):
            if name in wanted:
                wanted[name] = pixels.pixels(i)
    rows = -(-min(len(pairs), 200) // 8)
    sheet = Image.new("RGB", (8 * (2 * SHOWN_PX + 8), rows * (SHOWN_PX + 8)), (40, 80, 160))
    for k, pair in enumerate(pairs[:200]):
        for side, name in enumerate(pair):
            one = wanted[name]
            image = Image.fromarray((one >> 8).astype(np.uint8) if one.dtype == np.uint16 else one)
            scale = SHOWN_PX / max(image.size)
            size = [max(1, round(scale * n)) for n in image.size]
            at = (k % 8 * (2 * SHOWN_PX + 8) + side * (SHOWN_PX + 2), k // 8 * (SHOWN_PX + 8))
            sheet.paste(image.convert("RGB").resize(size, Image.Resampling.NEAREST), at)
    sheet.save(path)


if __name__ == "__main__":
    main()
