"""Who decodes the images of a step and who renders them, chosen in one place.

DALI is imported only where a run asks for it. Test: tests/train/test_backend.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, cast

import numpy as np
import torch

from aqqua.instruments.original import Original
from aqqua.plan.pack import Pack
from aqqua.render import Renderer, RendererName
from aqqua.render import choose as choose_ours
from aqqua.store.read import DamagedError, Dataset

BackendName = Literal["parquet", "dali"]
AnyRendererName = RendererName | Literal["dali"]
FAIR_IMAGES = 1000  # a share of fewer says little: two bad ones among the first hundred can be chance


@dataclass(frozen=True)
class LateImage:
    """An image whose file failed though its bytes are those that were written, and what stands for it."""

    block: int  # where it really lies, also in a replacement
    row: int
    key: int  # of the image: blake2b-64 of its id, as in the dataset
    blank: bool  # an empty frame of its background; else the strict decoder made its pixels
    error: str


def choose_renderer(
    name: AnyRendererName, device: torch.device, threads: int | None = None
) -> tuple[str, Renderer]:
    """The renderer that serves, and its name for the first log line.

    Args:
        name: as of aqqua.render.choose, or 'dali'.
        device: where the rows are wanted.
        threads: of DALI; by default as many as PyTorch's.

    Raises:
        RuntimeError: it cannot serve here.
    """
    if name != "dali":
        return choose_ours(name, device)
    _require_dali()
    from dali_pipelines.render import DaliRenderer

    return "dali", DaliRenderer(threads or torch.get_num_threads())


def served_backend(name: BackendName) -> str:
    """The backend that serves, for the first log line.

    Raises:
        RuntimeError: it cannot serve here.
    """
    if name == "parquet":
        return name
    _require_dali()
    from dali_pipelines import dali_version

    return f"dali {dali_version()}"


def _require_dali() -> None:
    from dali_pipelines import unusable

    if why := unusable():
        raise RuntimeError(f"{why}; use data.backend=parquet and data.renderer=auto")
    try:
        import_module("dali_pipelines.graph")
    except (ImportError, OSError) as error:  # a library that it needs is gone, or of another version
        raise RuntimeError(
            f"DALI is installed but cannot be loaded ({error}); use data.backend=parquet and "
            "data.renderer=auto"
        ) from error


class FileDecoder:
    """Original files to pages by DALI, with an account of those that failed."""

    def __init__(
        self, dataset: Dataset, *, max_bad_share: float, threads: int | None, device: torch.device
    ) -> None:
        """
        Args:
            dataset: with original files.
            max_bad_share: of the images that this process has decoded, that may be blank, and that DALI may
                refuse; of FAIR_IMAGES before so many are decoded. One image always may.
            threads: of DALI that decode; by default as many as PyTorch's.
            device: where pages are wanted.

        Raises:
            ValueError: the dataset has no original files.
            RuntimeError: DALI cannot serve here.
        """
        _require_dali()
        if not dataset.manifest.get("encoded"):
            raise ValueError(
                f"data.backend=dali must have original files to decode, got only pixels in {dataset.path}; "
                "make it anew by aqqua ingest --keep-encoded, or use data.backend=parquet"
            )
        from dali_pipelines.decode import Decoder

        self._decoder = Decoder(threads or torch.get_num_threads(), device)
        self._most, self._path = max_bad_share, dataset.path
        self._images = 0
        self._strict: set[tuple[int, int]] = set()
        self._blank: set[tuple[int, int]] = set()

    def pages(self, pack: Pack, images: Sequence[np.ndarray | Original]) -> tuple[list[Any], list[LateImage]]:
        """The pages of a pack, arrays or tensors on the device, and those that are not DALI's.

        Args:
            pack: where its images lie, and their sizes.
            images: pixels and files, of each image of the pack.

        Raises:
            DamagedError: more images are blank, or DALI refused more, than may be; from then on, always.
        """
        found = self._decoder.decode(images, pack.sizes)
        places = list(zip(pack.block_I.tolist(), pack.row_I.tolist(), pack.sizes.key.tolist(), strict=True))
        late = [LateImage(*places[one.image], one.blank, one.error) for one in found.late]
        self._images += len(images)
        for one in late:
            (self._blank if one.blank else self._strict).add((one.block, one.row))
        self._require_few(late)
        return found.pages, late

    def _require_few(self, late: list[LateImage]) -> None:
        """Bear a file that fails now and then; not a broken dataset, nor a DALI that cannot read it."""
        among = max(self._images, FAIR_IMAGES)
        most = max(1.0, self._most * among)
        limit = f"dataset: at most 1 image or {self._most:.2%} of {among} may be"
        if len(self._blank) > most:
            raise DamagedError(
                f"{limit} blank because its file cannot be decoded, got {len(self._blank)} in "
                f"{self._images}{_last(late, blank=True)}; see aqqua dataset verify --deep {self._path}, or "
                "raise data.max_bad_share"
            )
        if len(self._blank) + len(self._strict) > most:
            raise DamagedError(
                f"{limit} refused by DALI, got {len(self._blank) + len(self._strict)} in {self._images}, of "
                f"which {len(self._strict)} could be decoded without it{_last(late, blank=False)}; use "
                "data.backend=parquet, or raise data.max_bad_share"
            )

    def renderer(self, ours: Renderer) -> Renderer:
        """What renders these pages: `ours`, unless they lie on a GPU already."""
        if self._decoder.device.type == "cpu":
            return ours
        from aqqua.render.device_pages import render_device_pages  # needs Triton

        return cast(Renderer, render_device_pages)

    def close(self) -> None:
        """Give back DALI's threads and memory."""
        self._decoder.close()


def _last(late: list[LateImage], *, blank: bool) -> str:
    return next((f", the last of them: {one.error}" for one in reversed(late) if one.blank is blank), "")


def close_renderer(renderer: Renderer) -> None:
    """Give back what a renderer holds: DALI's has threads; the others are plain functions."""
    close = getattr(renderer, "close", None)
    if close is not None:
        close()
