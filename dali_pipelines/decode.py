"""Original files to pages: by DALI, and whatever it cannot take by our own strict decoder.

On the CPU DALI's pages are those of Pillow, bit for bit (both decode JPEG by libjpeg-turbo with the accurate
inverse DCT and smooth chroma); on a GPU JPEG is decoded there, PNG and TIFF on the CPU's threads, for no GPU
decodes them, and pages stay on the device.

Files are verified when a dataset is made, and their bytes by checksum whenever they are read, so a file that
fails here is rare; but DALI has no way to skip one: its pipeline is dead. Then the pack is halved until the
culprit stands alone, the pipelines are built anew (some milliseconds), a tiny sound file of the same kind
shows that it is not DALI that is broken, and the culprit is decoded by aqqua.instruments.original. If that
fails too, its page is an empty frame of its own background: what stands for an image is a function of the
image alone, so neither a resume nor another number of ranks changes it.

A sound file that DALI cannot read (dali_pipelines.header, `strange`) goes to our decoder at once, as a file
of its own kind: that is no failure, and nothing is said of it.
Test: tests/dali_pipelines/test_decode.py, test_mutants.py. Timing: bench/data/dali.py.
"""

import io
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline
from PIL import Image as PillowImage
from torch import Tensor

from aqqua.instruments.original import SIGNATURES, Original, decode_original
from aqqua.instruments.record import RejectedInputError
from aqqua.render.parcel import upload
from aqqua.store.sizes import Sizes
from dali_pipelines.graph import decode_graph
from dali_pipelines.header import Header, HeaderError, require_header
from dali_pipelines.iterator import QUEUE, WAY_OUT, PackPipeline, PackSource

Image = np.ndarray | Original  # an image of a block whose files stay files (aqqua.store.read.Block.image)
Page = np.ndarray | Tensor  # (H, W) or (H, W, 3), uint8 or uint16; a tensor where it lies on the device
# Images in a batch. From 32 on DALI 2.4.0 reads headers with several threads, and if one cannot be read while
# others are at work, the process crashes (ImageDecoder::RunImplImpl: tasks outlive what they refer to). On
# the CPU fewer cost nothing. On a GPU the hardware decoder takes milliseconds for a call, however small the
# images, so that a pack goes in one; those are JPEG files alone, whose headers dali_pipelines.header reads by
# the same rules as DALI.
BATCH, BATCH_ON_DEVICE = 31, 1024
_MOST_WORDS = 200  # letters of an error that are kept
# What DALI says where the machine is at fault, whatever the file.
_MACHINE_FAULT = re.compile(r"CUDA (?:runtime|driver|error)|cudaError|out of memory|bad_alloc", re.I)


@dataclass(frozen=True, slots=True)
class Late:
    """A file that DALI could not decode though it could be when the dataset was made."""

    image: int  # number in the pack
    error: str
    blank: bool  # True: an empty frame stands for it; False: the strict decoder made its pixels


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pages of a pack, and which of them are not DALI's."""

    pages: list[Page]
    late: tuple[Late, ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Files that one pipeline takes."""

    channels: int  # of the file
    bits: int
    mixed: bool


class Decoder:
    """Files to pages in the order they are given. One thread may use it at a time."""

    def __init__(self, threads: int, device: torch.device | str = "cpu") -> None:
        """
        Args:
            threads: of DALI, that decode on the CPU; the pages do not depend on them.
            device: where pages are wanted: 'cpu', or a CUDA device.
        """
        self.device, self._threads = torch.device(device), threads
        self._pipelines: dict[_Kind, PackPipeline] = {}

    def decode(self, images: Sequence[Image], sizes: Sizes) -> Decoded:
        """Pages of a pack's images.

        Args:
            images: files; pixels are passed on as they are.
            sizes: of the same images: what their files must hold.

        Raises:
            MemoryError: the machine has no room for an image.
            RuntimeError: DALI or the machine is broken, not a file.
        """
        pages: dict[int, Page] = {i: one for i, one in enumerate(images) if isinstance(one, np.ndarray)}
        files = {i: one for i, one in enumerate(images) if isinstance(one, Original)}
        kinds, strange, failed = self._sorted(files, sizes)
        for kind, same in kinds.items():
            data = [np.frombuffer(one.data, np.uint8) for one in same.values()]
            for i, found in zip(same, self._by_dali(kind, data), strict=True):
                fitted = found if isinstance(found, str) else _fitted(found, _shape(sizes, i), sizes.bits[i])
                if isinstance(fitted, str):
                    failed[i] = fitted
                else:
                    pages[i] = fitted
        late = []
        for i, why in sorted({**failed, **strange}.items()):
            pages[i], one = _strictly(files[i], sizes, i, why)
            if one.blank or i not in strange:
                late.append(one)
        return Decoded(self._placed([pages[i] for i in range(len(images))]), tuple(late))

    def close(self) -> None:
        """Give back DALI's threads and memory. The decoder can still be used: it builds them anew."""
        for pipeline in self._pipelines.values():
            pipeline.close()

    @property
    def built(self) -> int:
        """Pipelines built so far, after failures too."""
        return sum(pipeline.built for pipeline in self._pipelines.values())

    def _sorted(
        self, files: dict[int, Original], sizes: Sizes
    ) -> tuple[dict[_Kind, dict[int, Original]], dict[int, str], dict[int, str]]:
        """Files for each pipeline; those DALI cannot read, and those that lie, with the reason."""
        kinds: dict[_Kind, dict[int, Original]] = defaultdict(dict)
        strange: dict[int, str] = {}
        failed: dict[int, str] = {}
        for i, one in files.items():
            shape = _shape(sizes, i)
            try:
                header = require_header(one, shape, int(sizes.bits[i]))
            except HeaderError as error:
                failed[i] = str(error)
                continue
            if header.strange:
                strange[i] = header.strange
            else:
                kinds[self._kind(one, header, len(shape))][i] = one
        return kinds, strange, failed

    def _kind(self, original: Original, header: Header, axes: int) -> _Kind:
        # Grey in three channels is looked at on the host: whether they are equal is seen there.
        disguised = header.channels == 3 and axes == 2
        mixed = original.format == "JPEG" and self._on_device and not disguised
        return _Kind(header.channels, header.bits, mixed)

    @property
    def _on_device(self) -> bool:
        return self.device.type != "cpu"

    def _by_dali(self, kind: _Kind, files: list[np.ndarray]) -> list[Page | str]:
        """Pages [H, W, channels], or why there is none."""
        if kind not in self._pipelines:
            self._pipelines[kind] = PackPipeline(self._builder(kind))
        self._pipelines[kind].ready()  # outside the try: what fails here is no file's fault
        try:
            return self._pages(kind, files)
        except RuntimeError as error:
            if _MACHINE_FAULT.search(str(error)):
                raise
            if len(files) == 1:
                self._require_working(kind, files[0])
                return [_sentence(error)]
        half = len(files) // 2
        return [*self._by_dali(kind, files[:half]), *self._by_dali(kind, files[half:])]

    def _require_working(self, kind: _Kind, refused: np.ndarray) -> None:
        """A sound file of the kind of the one refused passes, through a new pipeline."""
        head = refused[:4].tobytes()
        form = next(form for start, form in SIGNATURES.items() if head.startswith(start))
        self._pipelines[kind].ready()
        try:
            self._pages(kind, [_sound_file(form, kind.channels, kind.bits)])
        except RuntimeError as error:
            raise RuntimeError(
                f"DALI must decode a sound {form} file of {kind.channels} channels and {kind.bits} bits, got "
                f"{_sentence(error)}; {WAY_OUT}"
            ) from error

    def _pages(self, kind: _Kind, files: list[np.ndarray]) -> list[Page | str]:
        size = BATCH_ON_DEVICE if kind.mixed else BATCH
        stream = torch.cuda.current_stream(self.device) if kind.mixed else None
        outputs = self._pipelines[kind].run(
            -(-len(files) // size), lambda batch: files[batch * size : (batch + 1) * size], stream
        )
        take: Callable[..., Page] = _on_device if kind.mixed else _on_host
        return [take(batch, i) for (batch,) in outputs for i in range(len(batch))]

    def _builder(self, kind: _Kind) -> Callable[[PackSource], Pipeline]:
        def build(source: PackSource) -> Pipeline:
            pipeline = Pipeline(
                batch_size=BATCH_ON_DEVICE if kind.mixed else BATCH,
                num_threads=self._threads,
                device_id=_number_of(self.device) if kind.mixed else None,
                prefetch_queue_depth=QUEUE,
            )
            with pipeline:
                files = fn.external_source(
                    source=source, batch=True, batch_info=True, dtype=types.UINT8, ndim=1
                )
                pipeline.set_outputs(
                    decode_graph(files, channels=kind.channels, bits=kind.bits, mixed=kind.mixed)
                )
            pipeline.build()
            return pipeline

        return build

    def _placed(self, pages: list[Page]) -> list[Page]:
        """All on the device: those that were decoded on the host go there together."""
        if not self._on_device:
            return pages
        on_host = {i: page for i, page in enumerate(pages) if isinstance(page, np.ndarray)}
        moved = upload({str(i): page for i, page in on_host.items()}, self.device)
        return [moved.get(str(i), page) for i, page in enumerate(pages)]


@lru_cache
def _sound_file(form: str, channels: int, bits: int) -> np.ndarray:
    """The bytes of a small grey image."""
    shape = (8, 8) if channels == 1 else (8, 8, channels)
    stream = io.BytesIO()
    PillowImage.fromarray(np.full(shape, 128, f"uint{bits}")).save(stream, form)
    return np.frombuffer(stream.getvalue(), np.uint8)


def _strictly(original: Original, sizes: Sizes, i: int, why: str) -> tuple[np.ndarray, Late]:
    """The page by our own decoder, or an empty frame."""
    shape, dtype = _shape(sizes, i), np.dtype(f"uint{int(sizes.bits[i])}")
    try:
        return decode_original(original, shape, dtype), Late(i, why, blank=False)
    except RejectedInputError as refused:
        levels = sizes.background[i, : 1 if len(shape) == 2 else 3].astype(dtype)
        said = " ".join(str(refused).split())[:_MOST_WORDS]
        return np.full(shape, levels, dtype), Late(i, f"{why}; {said}", blank=True)


def _number_of(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _shape(sizes: Sizes, i: int) -> tuple[int, ...]:
    shape = (int(sizes.height[i]), int(sizes.width[i]))
    return shape if sizes.channels[i] == 1 else (*shape, 3)


def _on_host(batch: Any, i: int) -> Page:
    """A copy: the memory of the output goes back to DALI."""
    return np.array(batch.at(i))


def _on_device(batch: Any, i: int) -> Page:
    """DALI's memory, which it gets back in order of the stream when the tensor is no longer used."""
    return torch.from_dlpack(batch[i])


def _fitted(page: Page, shape: tuple[int, ...], bits: int) -> Page | str:
    """The page as its row has it, or what is wrong with it."""
    if len(shape) == 2 and isinstance(page, np.ndarray) and page.shape[2] == 3:
        if not np.array_equal(page, np.broadcast_to(page[..., :1], page.shape)):
            return "colour instead of grey"
        page = np.ascontiguousarray(page[..., 0])
    elif len(shape) == 2:
        page = page[..., 0]
    if tuple(page.shape) != shape or page.dtype.itemsize * 8 != bits:
        return f"pixels of {tuple(page.shape)} instead of {shape}"
    return page


def _sentence(error: Exception) -> str:
    """What DALI says went wrong, without where its graph was defined and where in its batch the file was."""
    said = str(error).partition("encountered:")[2] or str(error)
    said = said.replace("Current pipeline object is no longer valid.", "")
    said = " ".join(re.sub(r"Failed to decode sample #\d+\s*:?", "", said).split())
    return f"DALI: {said[:_MOST_WORDS] or 'refused without a reason'}"
