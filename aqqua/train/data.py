"""From the dataset to batches on the device: plan, fetch, render; one step ahead of the model.

Test: tests/train/test_step.py.
"""

from collections import OrderedDict
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ConfigDict, Field

from aqqua.model.sequences import Sequences
from aqqua.objective.ssl import GLOBALS, Batch
from aqqua.plan.lanes import Lane, LaneConfig, LaneState, Weights, lanes_of_rank
from aqqua.plan.masks import MaskConfig
from aqqua.plan.pack import Pack, drop_scores, hide_scale
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.render import RendererName, choose
from aqqua.store.read import Block, Dataset
from aqqua.store.split import held_out

PLANNED_LANES = 8  # from whose first packs the images of a step are estimated


class DataConfig(LaneConfig):
    """Which images, in what order, rendered by whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(description="folder of a dataset made by `aqqua ingest`")
    holdout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of groups kept out of training; `aqqua evaluate` tests on them",
    )
    renderer: RendererName = Field(default="auto", description="who makes pixels into patch rows")
    prefetch: bool = Field(
        default=True, description="prepare the next step while the model works on this one"
    )


@dataclass(frozen=True)
class StepData:
    """The packs of one step on this rank, and where each lane stands after them."""

    packs: list[Pack]
    batches: list[Batch]
    states: dict[int, LaneState]

    @property
    def n_images(self) -> int:
        return sum(pack.n_images for pack in self.packs)


@dataclass(frozen=True)
class Shape:
    """What the data path has to know of the model."""

    patch_px: int
    channels: int
    prefix_tokens: int
    drop_layers: int  # layers with drop-path; 0 where it is off
    hide_scale_odds: float


class Feeder:
    """Endless steps of packs for the lanes of one rank. `step` is a pure function of the lane states."""

    def __init__(
        self,
        dataset: Dataset,
        config: DataConfig,
        views: ViewConfig,
        masks: MaskConfig,
        shape: Shape,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.dataset, self.config, self.shape, self.seed = dataset, config, shape, seed
        self.device = torch.device(device)
        self.renderer_name, self._render = choose(config.renderer)
        self._views, self._masks = views, masks
        self._weights = training_weights(dataset, config.holdout)
        self.packers = {number: self._packer(number) for number in lanes_of_rank(config.lanes, rank, ranks)}
        self._blocks = BlockCache(dataset, 2 * config.window_blocks * len(self.packers))

    def start(self) -> dict[int, LaneState]:
        """The states of a run that has seen nothing."""
        return {number: LaneState() for number in self.packers}

    def step(self, states: dict[int, LaneState], step: int) -> StepData:
        """The packs that begin at `states`, rendered for training step `step`."""
        packs, after = [], {}
        for number, packer in self.packers.items():
            pack, after[number] = packer.next_pack(states[number])
            packs.append(pack)
        return StepData(packs, [self._batch(pack, step) for pack in packs], after)

    def steps(self, states: dict[int, LaneState], first_step: int) -> Generator[StepData, None, None]:
        """Steps without end from `states` on, each prepared while the one before is used."""
        if not self.config.prefetch:
            while True:
                data = self.step(states, first_step)
                yield data
                states, first_step = data.states, first_step + 1
        with ThreadPoolExecutor(1, thread_name_prefix="feeder") as pool:
            coming: Future[StepData] = pool.submit(self.step, states, first_step)
            while True:
                data = coming.result()
                first_step += 1
                coming = pool.submit(self.step, data.states, first_step)
                yield data

    def images_per_step(self) -> float:
        """Expected images in a step over all lanes, from the first packs of the first lanes.

        The same on every rank: the schedules follow it.
        """
        counts = []
        for number in range(min(self.config.lanes, PLANNED_LANES)):
            packer = self._packer(number)
            pack, after = packer.next_pack(LaneState())
            counts += [pack.n_images, packer.next_pack(after)[0].n_images]
        return float(np.mean(counts)) * self.config.lanes

    def _packer(self, number: int) -> Packer:
        return Packer(
            Lane(self.dataset, self.config, number, self.seed, self._weights),
            patch_px=self.shape.patch_px,
            prefix_tokens=self.shape.prefix_tokens,
            views=self._views,
            masks=self._masks,
        )

    def _batch(self, pack: Pack, step: int) -> Batch:
        pixels = [
            self._blocks(b).pixels(r) for b, r in zip(pack.block_I.tolist(), pack.row_I.tolist(), strict=True)
        ]
        shape, device = self.shape, self.device
        patches_NF = self._render(pack, pixels, shape.patch_px, shape.channels)
        scores = drop_scores(pack, self.seed, step, shape.drop_layers) if shape.drop_layers else None
        hide = hide_scale(pack, self.seed, shape.hide_scale_odds) if shape.hide_scale_odds else None
        n_global = GLOBALS * pack.n_images
        grids, um_per_px = torch.from_numpy(pack.grid_V2), torch.from_numpy(pack.um_per_px_V)

        def lay(n_views: int) -> Sequences:
            return Sequences.from_grids(
                grids[:n_views], um_per_px[:n_views], shape.patch_px, shape.prefix_tokens, device
            )

        def move(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(device, non_blocking=True)

        return Batch(
            patches_NF=patches_NF.to(device, non_blocking=True),
            student=lay(pack.n_views),
            teacher=lay(n_global),
            n_images=pack.n_images,
            image_I=move(pack.sizes.key.view(np.int64)),
            mask_N=move(pack.mask_N),
            masked_M=move(pack.masked_M),
            weight_M=move(pack.weight_M),
            drop_scores_L2V=None if scores is None else torch.from_numpy(scores),
            hide_scale_V=None if hide is None else torch.from_numpy(hide).to(device),
        )


class BlockCache:
    """The last few blocks read, so that a window's images are read once."""

    def __init__(self, dataset: Dataset, capacity: int) -> None:
        self._dataset, self._capacity = dataset, capacity
        self._kept: OrderedDict[int, Block] = OrderedDict()

    def __call__(self, block: int) -> Block:
        if block not in self._kept:
            self._kept[block] = self._dataset.block(block)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        self._kept.move_to_end(block)
        return self._kept[block]


def training_weights(dataset: Dataset, holdout: float) -> Weights | None:
    """Weight 0 for images that are held out, 1 for the others; None if nothing is."""
    if not holdout:
        return None
    return _cached_per_block(lambda block: 1.0 - held_out(dataset, block, holdout).astype(np.float64))


def _cached_per_block(weigh: Callable[[int], np.ndarray], capacity: int = 1024) -> Weights:
    kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def weights(block: int) -> np.ndarray:
        if block not in kept:
            kept[block] = weigh(block)
            while len(kept) > capacity:
                kept.popitem(last=False)
        return kept[block]

    return weights
