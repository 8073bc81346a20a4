"""From the dataset to batches on the device: read, plan, render; one step ahead of the model.

Threads read the blocks of the lanes' next windows (aqqua.store.prefetch), one thread plans and renders
(decoder and renderer have threads of their own) the next step, the model works on this one. On a GPU the
copies and the renderer's kernels run on a stream of their own, beside the model's.
Test: tests/train/test_step.py, test_data.py, test_renderers.py, test_backend.py. Timing:
bench/data/end_to_end.py.
"""

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from pydantic import ConfigDict, Field

from aqqua.objective.ssl import Batch
from aqqua.plan.lanes import Lane, LaneConfig, LaneState, lanes_of_rank
from aqqua.plan.masks import MaskConfig
from aqqua.plan.pack import Pack
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.store.prefetch import BlockReader, ReadConfig
from aqqua.store.read import Dataset
from aqqua.store.shelf import POLL_S
from aqqua.store.split import NAMING
from aqqua.store.substitute import BadBlock
from aqqua.store.weights import SamplingWeights
from aqqua.train.backend import (
    AnyRendererName,
    BackendName,
    FileDecoder,
    LateImage,
    choose_renderer,
    close_renderer,
)
from aqqua.train.batch import Shape, make_batch
from aqqua.train.side_stream import SideStream, hand_over
from aqqua.train.spans import span
from aqqua.train.told import columns_of
from aqqua.train.weighted import images_per_epoch, training_weights

PLANNED_LANES = 8  # from whose first packs the images of a step are estimated
WINDOWS_AHEAD = 2  # of each lane, whose blocks are read before the plan comes to them


class DataConfig(LaneConfig, ReadConfig):
    """Which images, in what order, rendered by whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(description="folder of a dataset made by `aqqua ingest`")
    holdout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of groups kept out of training; `aqqua evaluate` tests on them",
    )
    weights: Path | None = Field(
        default=None,
        description="folder of sampling weights made by `aqqua curate` for this dataset: how often an image "
        "is used in an epoch, on average; null uses each once",
    )
    backend: BackendName = Field(
        default="parquet",
        description="who decodes original files: the threads that read (parquet), or DALI once they are "
        "needed (dali), which needs a dataset made with --keep-encoded",
    )
    renderer: AnyRendererName = Field(
        default="auto",
        description="who makes pixels into patch rows: the GPU (triton), C++ on the host (native), DALI on "
        "the host (dali) or the slow specification (reference); auto: triton on CUDA where it was "
        "measured to be faster, else native",
    )
    dali_threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="CPU threads of DALI, where it decodes or renders; null: as many as PyTorch's",
    )
    prefetch: bool = Field(
        default=True, description="prepare the next step while the model works on this one"
    )


@dataclass(frozen=True)
class StepData:
    """The packs of one step on this rank, and where each lane stands after them."""

    packs: list[Pack]  # `block_I` is where the images really lie, also those of a replacement
    batches: list[Batch]
    states: dict[int, LaneState]
    bad_blocks: tuple[BadBlock, ...] = ()  # damaged ones, whose replacements gave images to this step
    late_images: tuple[LateImage, ...] = ()  # whose files DALI could not decode
    ready: torch.cuda.Event | None = None  # when the batches are there; None on the CPU

    @property
    def n_images(self) -> int:
        return sum(pack.n_images for pack in self.packs)

    @property
    def known(self) -> list[int]:
        """Global views of which each guide's fact is known."""
        return [sum(counts) for counts in zip(*(batch.known_Q for batch in self.batches), strict=True)]


class Feeder:
    """Endless steps of packs for the lanes of one rank. `step` is a pure function of the lane states."""

    def __init__(
        self,
        dataset: Dataset,
        config: DataConfig,
        views: ViewConfig,
        masks: MaskConfig | None,
        shape: Shape,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.dataset, self.config, self.shape, self.seed = dataset, config, shape, seed
        self.device = torch.device(device)
        self.renderer_name, self._render = choose_renderer(config.renderer, self.device, config.dali_threads)
        self._decoder = self._file_decoder() if config.backend == "dali" else None
        self._side_stream = SideStream(self.device)
        self._views, self._masks = views, masks
        self.sampling = None if config.weights is None else SamplingWeights.open(config.weights, dataset)
        columns = tuple(dict.fromkeys((*(NAMING if config.holdout else ()), *columns_of(shape.guides))))
        self.reader = BlockReader(
            dataset, config, columns, files=self._decoder is not None, weights=self.sampling
        )
        self._weights = training_weights(self.reader, config.holdout, weighted=self.sampling is not None)
        self.packers = {number: self._packer(number) for number in lanes_of_rank(config.lanes, rank, ranks)}
        self._blocks_of = _blocks_of({number: packer.lane for number, packer in self.packers.items()})

    def start(self) -> dict[int, LaneState]:
        """The states of a run that has seen nothing."""
        return {number: LaneState() for number in self.packers}

    def step(self, states: dict[int, LaneState], step: int) -> StepData:
        """The packs that begin at `states`, rendered for training step `step`."""
        data = self._prepare(states, step)
        hand_over(data.ready, data.batches, self.device)
        return data

    def _prepare(self, states: dict[int, LaneState], step: int) -> StepData:
        """A step whose batches the device may still be making; in any thread."""
        self.reader.follow(self._coming(states))
        packs, after = [], {}
        with span("plan"):
            for number, packer in self.packers.items():
                pack, after[number] = packer.next_pack(states[number])
                packs.append(pack)
        late: list[LateImage] = []
        with self._side_stream.working():
            batches = [self._batch(pack, step, late) for pack in packs]
        bad = {block: bad for pack in packs for block in _blocks_in(pack) if (bad := self.reader.bad(block))}
        packs = [_as_read(pack, bad) for pack in packs]
        return StepData(
            packs, batches, after, tuple(bad.values()), _late_as_read(late, bad), self._side_stream.mark()
        )

    def steps(
        self,
        states: dict[int, LaneState],
        first_step: int,
        *,
        say: Callable[[str], None] | None = None,
        stop: Callable[[], object] = lambda: False,
    ) -> Generator[StepData, None, None]:
        """Steps from `states` on, each prepared while the one before is used. Its end closes the feeder.

        Args:
            states: where the lanes stand.
            first_step: number of the first training step.
            say: gets a line when the disk is slow.
            stop: once true, a wait for the next step ends the steps; else they have no end.
        """
        self.reader.say = say or self.reader.say
        try:
            yield from self._steps(states, first_step, stop)
        finally:
            self.close()

    def _steps(
        self, states: dict[int, LaneState], first_step: int, stop: Callable[[], object]
    ) -> Generator[StepData, None, None]:
        with ThreadPoolExecutor(1, thread_name_prefix="feeder") as pool:
            try:
                coming = pool.submit(self._prepare, states, first_step)
                while _came(coming, stop):
                    data, first_step = coming.result(), first_step + 1
                    if self.config.prefetch:
                        coming = pool.submit(self._prepare, data.states, first_step)
                    hand_over(data.ready, data.batches, self.device)
                    yield data
                    if not self.config.prefetch:
                        coming = pool.submit(self._prepare, data.states, first_step)
            finally:
                self.reader.close()  # a step that waits for the disk ends, and the pool with it

    def close(self) -> None:
        """Give back threads and memory; nothing more can be read."""
        self.reader.close()
        if self._decoder is not None:
            self._decoder.close()
        close_renderer(self._render)

    def _coming(self, states: dict[int, LaneState]) -> list[int]:
        """Blocks of the lanes' present and next windows, first the lane that will be there first."""
        lanes = sorted(states, key=lambda number: -states[number].index)
        return [
            block
            for ahead in range(1 + WINDOWS_AHEAD)
            for number in (lanes if ahead else states)
            for block in self._blocks_of(number, states[number].window + ahead)
        ]

    @property
    def images_per_epoch(self) -> float:
        """Expected images that all lanes use in an epoch."""
        return images_per_epoch(self.dataset, self.config.holdout, self.sampling)

    def images_per_step(self) -> float:
        """Expected images in a step over all lanes, from the first packs of the first lanes.

        The same on every rank: the schedules follow it.
        """
        packers = [self._packer(number) for number in range(min(self.config.lanes, PLANNED_LANES))]
        self.reader.follow([block for packer in packers for block, _ in packer.lane.blocks(0)])
        counts, packs_each = [], 2 * max(len(self._views.patch_choices), 1)
        for packer in packers:
            state = LaneState()
            for _ in range(packs_each):
                pack, state = packer.next_pack(state)
                counts.append(pack.n_images)
        return float(np.mean(counts)) * self.config.lanes

    def _packer(self, number: int) -> Packer:
        return Packer(
            Lane(self.reader, self.config, number, self.seed, self._weights),
            patch_px=self.shape.patch_px,
            prefix_tokens=self.shape.prefix_tokens,
            views=self._views,
            masks=self._masks,
        )

    def _file_decoder(self) -> FileDecoder:
        """Of pages where the renderer wants them."""
        on_device = self.device.type == "cuda" and self.renderer_name == "triton"
        return FileDecoder(
            self.dataset,
            max_bad_share=self.config.max_bad_share,
            threads=self.config.dali_threads,
            device=self.device if on_device else torch.device("cpu"),
        )

    def _batch(self, pack: Pack, step: int, late: list[LateImage]) -> Batch:
        """The batch of a pack; images whose files fail are added to `late`."""
        with span("read"):
            blocks = {number: self.reader.block(number) for number in _blocks_in(pack)}
        places = zip(pack.block_I.tolist(), pack.row_I.tolist(), strict=True)
        shape, render = self.shape, self._render
        if self._decoder is None:
            pages = [blocks[b].pixels(r) for b, r in places]
        else:
            pages, failed = self._decoder.pages(pack, [blocks[b].image(r) for b, r in places])
            late += failed
            render = self._decoder.renderer(render)
        with span("render"):
            patches_NF = render(pack, pages, pack.patch_px, shape.channels, dtype=shape.dtype)
        return make_batch(
            pack, patches_NF, shape, seed=self.seed, step=step, device=self.device, tables=self.reader.table
        )


def _came(coming: Future[StepData], stop: Callable[[], object]) -> bool:
    """Wait for a step. False if `stop` came first."""
    while not wait([coming], POLL_S).done:
        if stop():
            return False
    return True


def _blocks_of(lanes: dict[int, Lane]) -> Callable[[int, int], tuple[int, ...]]:
    """(lane, window) -> its blocks; asked anew each step, so the last answers are kept."""

    @lru_cache((2 + WINDOWS_AHEAD) * len(lanes))
    def blocks(number: int, window: int) -> tuple[int, ...]:
        return tuple(block for block, _epoch in lanes[number].blocks(window))

    return blocks


def _blocks_in(pack: Pack) -> list[int]:
    return np.unique(pack.block_I).tolist()


def _as_read(pack: Pack, bad: dict[int, BadBlock]) -> Pack:
    """The pack with the blocks that its images really come from."""
    if not bad:
        return pack
    block_I = [bad[b].replacement if b in bad else b for b in pack.block_I.tolist()]
    return replace(pack, block_I=np.array(block_I, np.int64))


def _late_as_read(late: list[LateImage], bad: dict[int, BadBlock]) -> tuple[LateImage, ...]:
    """The same with the blocks that the images really lie in."""
    return tuple(replace(one, block=bad[one.block].replacement) if one.block in bad else one for one in late)
