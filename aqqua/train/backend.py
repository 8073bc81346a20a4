"""Who decodes the images of a step and who renders them, chosen in one place.

DALI is imported only where a run asks for it. Test: tests/train/test_backend.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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


class FileDecoder:
    """Original files to pages by DALI, with an account of those that failed."""

    def __init__(
        self, dataset: Dataset, *, max_bad_share: float, threads: int | None, device: torch.device
    ) -> None:
        """
        Args:
            dataset: with original files.
            max_bad_share: of the images decoded, that may be blank; of FAIR_IMAGES before so many are
                decoded. One image always may.
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
        self._blank: set[tuple[int, int]] = set()

    def pages(self, pack: Pack, images: Sequence[np.ndarray | Original]) -> tuple[list[Any], list[LateImage]]:
        """The pages of a pack, arrays or tensors on the device, and those that are not DALI's.

        Args:
            pack: where its images lie, and their sizes.
            images: pixels and files, of each image of the pack.

        Raises:
            DamagedError: more images are blank than may be; from then on, always.
        """
        found = self._decoder.decode(images, pack.sizes)
        places = list(zip(pack.block_I.tolist(), pack.row_I.tolist(), strict=True))
        late = [LateImage(*places[one.image], one.blank, one.error) for one in found.late]
        self._images += len(images)
        self._blank |= {(one.block, one.row) for one in late if one.blank}
        among = max(self._images, FAIR_IMAGES)
        if len(self._blank) > max(1.0, self._most * among):
            last = next((f", the last of them: {one.error}" for one in reversed(late) if one.blank), "")
            raise DamagedError(
                f"dataset: at most 1 image or {self._most:.2%} of {among} may be blank because its file "
                f"cannot be decoded, got {len(self._blank)} in {self._images}{last}; see aqqua dataset "
                f"verify --deep {self._path}, or raise data.max_bad_share"
            )
        return found.pages, late

    def renderer(self, ours: Renderer) -> Renderer:
        """What renders these pages: `ours`, unless they lie on a GPU already."""
        if self._decoder.device.type == "cpu":
            return ours
        from aqqua.render.device_pages import render_device_pages  # needs Triton

        return cast(Renderer, render_device_pages)

    def close(self) -> None:
        """Give back DALI's threads and memory."""
        self._decoder.close()


def close_renderer(renderer: Renderer) -> None:
    """Give back what a renderer holds: DALI's has threads; the others are plain functions."""
    close = getattr(renderer, "close", None)
    if close is not None:
        close()
