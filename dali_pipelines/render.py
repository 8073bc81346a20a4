"""Plan and pixels to patch rows by DALI's operators alone: the same views as every other renderer.

A second opinion on the augmentation, and the way to keep all of it inside DALI. A sample of the pipeline is
one view, so a batch holds views of any sizes and of any images, and one pipeline for each kind of pixels
takes packs of any number of them. The graph (dali_pipelines.graph) is deterministic: everything random
stands in the plan. It agrees with the specification within docs/dali.md's tolerance; what differs most is
the sampling, since DALI steps from pixel to pixel in float32 where the others multiply.

Letters: I images, V views, N patch rows, F = P·P·C values of a row.
Test: tests/dali_pipelines/test_dali_renderer.py. Timing: bench/data/dali.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline
from torch import Tensor

from aqqua.kernels.render import reach
from aqqua.plan.pack import Pack
from aqqua.render.contract import require_renderable
from aqqua.render.reference import LUMA, SMALLEST_SIGMA
from dali_pipelines.augment import FULL
from dali_pipelines.graph import render_graph, view_inputs_of
from dali_pipelines.iterator import QUEUE, PackPipeline, PackSource

BATCH = 64  # views at most; their float32 pages and all between them lie in memory at once
BATCH_VALUES = 1 << 22  # of their pages, unless one alone has more: some 16 MB each of these


@dataclass(frozen=True, slots=True)
class _Kind:
    """Views that one pipeline takes."""

    bits: int
    stored: int  # channels of the image
    channels: int  # of the model
    specks: int  # most of a view
    mixed: bool  # colours are


class DaliRenderer:
    """An aqqua.render.Renderer on the CPU. One thread may use it at a time."""

    def __init__(self, threads: int) -> None:
        """
        Args:
            threads: of DALI; the rows do not depend on them.
        """
        self._threads = threads
        self._pipelines: dict[_Kind, PackPipeline] = {}

    def __call__(
        self,
        pack: Pack,
        pixels_I: list[np.ndarray],
        patch_px: int,
        channels: int,
        first_views: int | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "N F"]:
        """Patch rows of all views in packed order, on the CPU.

        Args, Raises: as of the specification, aqqua.render.reference.render_reference.
        """
        count = require_renderable(pack, pixels_I, patch_px, channels, first_views, dtype)
        first_V1 = pack.patch_offsets_V1[: count + 1]
        rows_NF = np.empty((int(first_V1[-1]), patch_px * patch_px * channels), np.float32)
        sizes, image_V = pack.sizes, pack.image_V[:count]
        kind_V2 = np.stack([sizes.bits[image_V], sizes.channels[image_V]], axis=1)
        for bits, stored in np.unique(kind_V2, axis=0).tolist():
            numbers = np.flatnonzero((kind_V2 == (bits, stored)).all(axis=1))
            mixed = channels == 3 and bool((pack.colour_V33[numbers] != np.eye(3)).any())
            kind = _Kind(bits, stored, channels, pack.speck_VK4.shape[1], mixed)
            inputs = view_inputs(pack, numbers, patch_px, channels)
            pages = [pixels_I[i] for i in image_V[numbers].tolist()]
            starts, ends = first_V1[:-1][numbers].tolist(), first_V1[1:][numbers].tolist()
            for view, found in enumerate(self._rendered(kind, pages, inputs)):
                rows_NF[starts[view] : ends[view]] = found
        return torch.from_numpy(rows_NF).to(dtype)

    def close(self) -> None:
        """Give back DALI's threads and memory. The renderer can still be used: it builds them anew."""
        for pipeline in self._pipelines.values():
            pipeline.close()

    def _rendered(self, kind: _Kind, pages: list[np.ndarray], inputs: dict[str, Any]) -> list[np.ndarray]:
        """Rows of each view, in order."""
        if kind not in self._pipelines:
            self._pipelines[kind] = PackPipeline(self._builder(kind))
        pages = [page.reshape(*page.shape[:2], kind.stored) for page in pages]
        names = view_inputs_of(kind.specks, kind.mixed)
        parts = batches([page.size for page in pages])

        def batch(number: int) -> tuple[Any, ...]:
            part = parts[number]
            return pages[part], *(inputs[name][part] for name in names)

        outputs = self._pipelines[kind].run(len(parts), batch)
        return [np.array(rows.at(i)) for (rows,) in outputs for i in range(len(rows))]

    def _builder(self, kind: _Kind) -> Callable[[PackSource], Pipeline]:
        page_type = types.UINT16 if kind.bits == 16 else types.UINT8
        inputs = view_inputs_of(kind.specks, kind.mixed)

        def build(source: PackSource) -> Pipeline:
            pipeline = Pipeline(BATCH, self._threads, device_id=None, prefetch_queue_depth=QUEUE)
            with pipeline:
                page, *view = fn.external_source(
                    source=source,
                    num_outputs=1 + len(inputs),
                    batch=True,
                    batch_info=True,
                    dtype=[page_type, *(dtype for dtype, _ in inputs.values())],
                    ndim=[3, *(ndim for _, ndim in inputs.values())],
                    layout=["HWC"],
                )
                named = dict(zip(inputs, view, strict=True))
                pipeline.set_outputs(
                    render_graph(
                        page,
                        named,
                        bits=kind.bits,
                        stored=kind.stored,
                        channels=kind.channels,
                        specks=kind.specks,
                        mixed=kind.mixed,
                    )
                )
            pipeline.build()
            return pipeline

        return build


def batches(values: Sequence[int]) -> list[slice]:
    """Pages in a row that DALI takes together, by the values of each."""
    found, first, held = list[slice](), 0, 0
    for number, size in enumerate(values):
        if number > first and (number - first == BATCH or held + size > BATCH_VALUES):
            found.append(slice(first, number))
            first, held = number, 0
        held += size
    return [*found, slice(first, len(values))]


def view_inputs(pack: Pack, numbers: np.ndarray, patch_px: int, channels: int) -> dict[str, Any]:
    """The plan of some views as the graph takes it (graph.view_inputs_of), an entry for each view.

    Args:
        pack: known to be sound.
        numbers: of the views; of images of one bit depth.
    """
    image_n = pack.image_V[numbers]
    full = np.float32(FULL[int(pack.sizes.bits[image_n[0]])])
    reach_n = reach(pack.sigma_V[numbers])
    grown_n = np.where(reach_n > 0, reach_n + 1, 0).astype(np.int32)
    map_n23 = pack.map_V23[numbers].copy()
    map_n23[:, :, 2] += grown_n[:, None]
    key_n = pack.key_V[numbers] ^ pack.visit_I[image_n]
    sides_n2 = np.stack([pack.sizes.height[image_n], pack.sizes.width[image_n]], axis=1)
    return {
        "background": _level(pack.sizes.background[image_n].astype(np.float32) / full, channels),
        "map": map_n23,
        "scale": _scalar(pack.scale_V[numbers]),
        "bias": _level(pack.bias_VC[numbers], channels),
        "fold": _level(pack.fold_VC[numbers], channels),
        "colour": pack.colour_V33[numbers],
        **{f"speck{k}": pack.speck_VK4[numbers, k] for k in range(pack.speck_VK4.shape[1])},
        "noise": _scalar(pack.noise_V[numbers]),
        "low": _scalar((key_n & np.uint64(0xFFFFFFFF)).astype(np.uint32)),
        "high": _scalar((key_n >> np.uint64(32)).astype(np.uint32)),
        **_cuts(pack.grid_V2[numbers], patch_px, channels),
        "start": np.repeat(-grown_n[:, None], 2, axis=1),
        "grown": sides_n2 + 2 * grown_n[:, None],
        "window": (2 * reach_n + 1)[:, None],
        "sigma": np.maximum(pack.sigma_V[numbers], np.float32(SMALLEST_SIGMA))[:, None],
    }


def _scalar(values_n: np.ndarray) -> np.ndarray:
    return values_n.reshape(-1, 1, 1, 1)


def _level(level_n3: np.ndarray, channels: int) -> np.ndarray:
    """Levels of red, green and blue as those of the model, [n, 1, 1, C]."""
    if channels == 1:
        level_n3 = (level_n3 * np.array(LUMA, np.float32)).sum(axis=1, keepdims=True)
    return np.ascontiguousarray(level_n3, np.float32).reshape(-1, 1, 1, channels)


def _cuts(grid_n2: np.ndarray, patch_px: int, channels: int) -> dict[str, Any]:
    """What follows from the patches of a view; numbers of rows and columns are stretches of one array."""
    size_n2 = grid_n2 * patch_px
    counter = np.arange(size_n2.max(), dtype=np.uint32)
    cut_n4 = np.empty((len(grid_n2), 4), np.int32)
    cut_n4[:, 0::2], cut_n4[:, 1::2] = grid_n2, (patch_px, patch_px * channels)
    return {
        "size": size_n2.astype(np.float32),
        "row": [counter[:height].reshape(-1, 1, 1) for height in size_n2[:, 0].tolist()],
        "column": [counter[:width].reshape(1, -1, 1) for width in size_n2[:, 1].tolist()],
        "columns": _scalar(size_n2[:, 1].astype(np.uint32)),
        "cut": cut_n4,
        "rows": np.stack([grid_n2.prod(axis=1), cut_n4[:, 1] * cut_n4[:, 3]], axis=1).astype(np.int32),
    }
