"""How many original files a second become pages, and patch rows, by DALI and by its peers.

    python bench/data/dali.py --input isiis-ndsb.zip --instrument ISIIS

Ingests files of the input twice, without and with --keep-encoded; takes the first packs of a run on them
again and again. To pages, arrays of the image's own size:

- dali_1, dali_2: DALI on the CPU with so many threads, as in training: headers checked, pages copied out.
- dali_mixed: JPEG on the GPU; where there is one.
- strict: our decoder, Pillow with all its checks, as data.backend=parquet calls it.
- pillow, cv2, simplejpeg: bare calls. What is not installed, or cannot read these files, is 'not run'.
- pixels: from the dataset that stores pixels: blocks read, checked and decompressed, every image taken out.

Pages to patch rows, 2 global and 8 local views of each image at native scale: native (C++, one thread),
render_1 and render_2 (DALI with so many threads). One after the other they are a path of `decode_and_render`.

Images per second of wall time, and per second of processor time of all threads of the process, each at its
best round; chains take turns, page cache warm. Appends to bench/results/cpu/dali.jsonl.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from encoded import codec, ingest_twice, same
from measure import append_result, best_by_clocks, machine
from PIL import Image, features

from aqqua.instruments.original import Original, decode_original
from aqqua.plan.lanes import Lane, LaneConfig, LaneState
from aqqua.plan.masks import MaskConfig
from aqqua.plan.pack import Pack
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.render import Renderer
from aqqua.render.native import render_native
from aqqua.store.read import Dataset
from dali_pipelines.decode import Decoder
from dali_pipelines.render import DaliRenderer

PATCH_PX, PACK_TOKENS, CHANNELS = 16, 16384, 1
CODECS = ("cv2", "simplejpeg")
PATHS = {  # of data.backend and data.renderer: way to pages, way to patch rows
    "pixels, native": ("pixels", "native"),
    "files by Pillow, native": ("strict", "native"),
    "files by DALI, native": ("dali_1", "native"),
    "all by DALI": ("dali_1", "render_1"),
    "all by DALI, 2 threads": ("dali_2", "render_2"),
}


@dataclass(frozen=True)
class Work:
    """The images of some packs: their plan, files and pixels."""

    packs: list[Pack]
    files: list[list[Original]]
    pixels: list[list[np.ndarray]]
    plain: Dataset  # the same images stored as pixels
    blocks: list[int]  # of it, in which they lie

    @property
    def images(self) -> int:
        return sum(pack.n_images for pack in self.packs)


@dataclass(frozen=True)
class Chain:
    """Something that is timed."""

    run: Callable[[], list]
    images: int  # that one run takes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, required=True, help="zip or folder of JPEG, PNG or TIFF files")
    parser.add_argument("--instrument", help="of all images, as in the instrument registry")
    parser.add_argument("--packs", type=int, default=3, help="of 16,384 tokens, that are timed")
    parser.add_argument("--seconds", type=float, default=90, help="of timing, all chains together")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(arguments.input, arguments.instrument, Path(folder), arguments.packs)
        decoding, not_run = decoders(work)
        rendering = {
            "native": renderer(work, lambda *pack: render_native(*pack, threads=1)),
            **{f"render_{threads}": renderer(work, DaliRenderer(threads)) for threads in (1, 2)},
        }
        shares = check(work, decoding, rendering)
        chains = {**decoding, **rendering}
        clocks = [time.perf_counter, time.process_time]
        best = best_by_clocks({name: c.run for name, c in chains.items()}, arguments.seconds, clocks)
        best = {name: tuple(s / chains[name].images for s in times) for name, times in best.items()}
    result = {
        **machine("pillow", "torch", "nvidia-dali-cuda130"),
        "libjpeg_turbo": features.version("libjpeg_turbo"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "input": arguments.input.name,
        "formats": sorted({file.format for files in work.files for file in files}),
        "images": work.images,
        "views": sum(pack.n_views for pack in work.packs),
        "file_bytes_per_image": round(
            sum(len(file.data) for files in work.files for file in files) / work.images
        ),
        "pages": {name: speeds(best[name]) for name in decoding},
        "patch_rows": {name: speeds(best[name]) for name in rendering},
        "decode_and_render": {name: speeds(best[a], best[b]) for name, (a, b) in PATHS.items()},
        "share_of_equal_images": shares,
        "not_run": not_run,
    }
    print(json.dumps(result, indent=1))
    append_result("dali", result)


def prepare(source: Path, instrument: str | None, folder: Path, count: int) -> Work:
    """Both datasets, and the first packs of a run on them."""
    reports = ingest_twice(source, instrument, folder)
    plain, kept = (Dataset.open(report.path) for report in reports)
    lane = Lane(kept, LaneConfig(pack_tokens=PACK_TOKENS), lane=0, seed=0)
    packer = Packer(lane, patch_px=PATCH_PX, prefix_tokens=5, views=ViewConfig(), masks=MaskConfig())
    packs, state = [], LaneState()
    for _ in range(count):
        pack, state = packer.next_pack(state)
        packs.append(pack)
    used = sorted({block for pack in packs for block in pack.block_I.tolist()})
    found = {block: (kept.files_with(block, ())[0], plain.block(block)) for block in used}
    files: list[list[Original]] = []
    pixels: list[list[np.ndarray]] = []
    for pack in packs:
        places = list(zip(pack.block_I.tolist(), pack.row_I.tolist(), strict=True))
        images = [found[block][0].image(row) for block, row in places]
        files.append([image for image in images if isinstance(image, Original)])
        if len(files[-1]) < pack.n_images:
            raise SystemExit("dali: every image must be kept as its file, got pixels; give another --input")
        pixels.append([found[block][1].pixels(row) for block, row in places])
    return Work(packs, files, pixels, plain, used)


def decoders(work: Work) -> tuple[dict[str, Chain], dict[str, str]]:
    """Ways to pages, and why others were not run."""
    ways: dict[str, Callable[[], list]] = {
        "strict": lambda: [strictly(*one) for one in zip(work.packs, work.files, strict=True)],
        "pillow": each_file(work, lambda data: np.asarray(Image.open(io.BytesIO(data)))),
        **{f"dali_{threads}": by_dali(work, Decoder(threads)) for threads in (1, 2)},
    }
    not_run = {}
    if torch.cuda.is_available():
        ways["dali_mixed"] = by_dali(work, Decoder(2, "cuda"))
    else:
        not_run["dali_mixed"] = "no GPU"
    for name in CODECS:
        try:
            decode = codec(name)
            decode(work.files[0][0].data)
        except (ModuleNotFoundError, ValueError) as error:
            not_run[name] = str(error)
        else:
            ways[name] = each_file(work, decode)
    chains = {name: Chain(run, work.images) for name, run in ways.items()}
    stored = sum(work.plain.rows_of(block) for block in work.blocks)
    return {**chains, "pixels": Chain(lambda: stored_pixels(work), stored)}, not_run


def each_file(work: Work, decode: Callable[[bytes], np.ndarray]) -> Callable[[], list]:
    return lambda: [[decode(file.data) for file in files] for files in work.files]


def by_dali(work: Work, decoder: Decoder) -> Callable[[], list]:
    return lambda: [
        decoder.decode(files, pack.sizes).pages for pack, files in zip(work.packs, work.files, strict=True)
    ]


def strictly(pack: Pack, files: list[Original]) -> list[np.ndarray]:
    sizes = pack.sizes
    sides = zip(sizes.height.tolist(), sizes.width.tolist(), sizes.channels.tolist(), strict=True)
    shapes = [(height, width) if channels == 1 else (height, width, 3) for height, width, channels in sides]
    types = [np.dtype(f"uint{bits}") for bits in sizes.bits.tolist()]
    return [decode_original(*one) for one in zip(files, shapes, types, strict=True)]


def stored_pixels(work: Work) -> list[np.ndarray]:
    """Every image of the blocks: those of a window's other images are used by other packs."""
    blocks = map(work.plain.block, work.blocks)
    return [block.pixels(i) for block in blocks for i in range(len(block))]


def renderer(work: Work, render: Renderer | Callable[..., torch.Tensor]) -> Chain:
    def run() -> list[torch.Tensor]:
        return [
            render(pack, pixels, PATCH_PX, CHANNELS)
            for pack, pixels in zip(work.packs, work.pixels, strict=True)
        ]

    return Chain(run, work.images)


def check(work: Work, decoding: Mapping[str, Chain], rendering: Mapping[str, Chain]) -> dict[str, float]:
    """Share of pages with just the pixels of the dataset. Every chain is warm then."""
    wanted = [image for images in work.pixels for image in images]
    shares = {}
    for name, chain in decoding.items():
        pages = chain.run()
        if name not in ("pixels", "dali_mixed"):
            found = [page for of_pack in pages for page in of_pack]
            shares[name] = float(np.mean([same(a, b) for a, b in zip(found, wanted, strict=True)]))
    for name in ("strict", "dali_1", "dali_2"):
        if shares[name] < 1:
            raise SystemExit(
                f"dali: {name} must give the pixels of the dataset, got {shares[name]:.2%} of them"
            )
    for chain in rendering.values():
        chain.run()
    return shares


def speeds(*seconds: tuple[float, ...]) -> dict[str, int]:
    """Of steps done one after the other, each with its time on the wall and of the processor, s an image."""
    wall, processor = (sum(times) for times in zip(*seconds, strict=True))
    return {"images_per_s": round(1 / wall), "images_per_core_s": round(1 / processor)}


if __name__ == "__main__":
    main()
