"""Where the tokens of an image come from: planned from a dataset, of a named histogram, or stated.

Test: tests/cost/test_size_laws.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from aqqua.cost.tokens import Role, Tokens, equal_views, expected_masked, tokens_of
from aqqua.model.config import ModelConfig
from aqqua.plan.lanes import Lane, LaneState
from aqqua.plan.pack import GLOBALS, Pack
from aqqua.plan.packer import Packer
from aqqua.plan.view_config import ViewConfig
from aqqua.store.read import Dataset
from aqqua.train.settings import PretrainConfig
from aqqua.train.weighted import planning_weights

PLANNED_IMAGES, PLANNED_PACKS = 4096, 512  # enough of either: datasets are shuffled when they are written
PLANNED_LANES = 8
STATED_FILL = 0.99  # of packs, where none was planned; aqqua's packer reaches 0.98 to 0.999


@dataclass(frozen=True)
class Moments:
    """Of the views of one role: E[p] and E[p²] of their patches p, and the useful share of 128-row tiles."""

    patches: float
    squares: float
    useful: float

    def role(self, views: float, prefix: int) -> Role:
        """So many views, each with `prefix` tokens before its patches."""
        squares = self.squares + 2 * prefix * self.patches + prefix**2
        return Role(1, self.patches + prefix, squares, squares / self.useful).times(views)


@dataclass(frozen=True)
class Named:
    """A histogram of sizes that has a name: moments of global and local views, by patch side in pixels."""

    known: Literal["measured", "assumed"]
    source: str
    by_patch_px: dict[int, tuple[Moments, Moments]]


NAMED = {
    # Views planned by aqqua's defaults; bench/kernels/lengths.json, from which these are recomputed by a
    # test.
    "isiis": Named(
        "measured",
        "19,656 ISIIS images of PlanktonSet 1.0, planned by aqqua's default views",
        {
            8: (Moments(54.8936, 6443.43, 0.28844), Moments(14.8770, 456.862, 0.038491)),
            14: (Moments(25.9840, 1668.13, 0.10838), Moments(6.92640, 122.176, 0.013210)),
        },
    ),
    # Sides log-normal, median 80 px, σ 0.55, aspect σ 0.35, 3 % Pareto(1.8) tail, cap 1,024 tokens.
    "law": Named(
        "assumed",
        "a made-up law of sizes: log-normal, median 80 px, with a heavy tail, views of up to 1,024 tokens",
        {14: (Moments(50.9, 9758.2, 0.366), Moments(15.7, 836.0, 0.050))},
    ),
}


def planned_tokens(dataset: Dataset, config: PretrainConfig) -> Tokens:
    """The first packs of the first lanes of a run, planned as the run will, from sizes alone.

    Raises:
        ValueError: a pack cannot hold the views of the largest image, or nothing is left to train on.
    """
    data, images = config.data, 0
    packs: list[Pack] = []
    weights = planning_weights(dataset, data.holdout, data.weights)
    lanes = [
        Lane(dataset, data, number, config.seed, weights) for number in range(min(data.lanes, PLANNED_LANES))
    ]
    for step in zip(*(_packs(lane, config) for lane in lanes), strict=True):
        packs += step
        images += sum(pack.n_images for pack in step)
        if images >= PLANNED_IMAGES or len(packs) >= PLANNED_PACKS:
            break
    return tokens_of(
        packs,
        f"{images:,} image{'s' * (images != 1)} in {len(packs)} pack{'s' * (len(packs) != 1)} of "
        f"{data.path.name}, planned as in training",
    )


def _packs(lane: Lane, config: PretrainConfig) -> Iterator[Pack]:
    model = config.model
    packer = Packer(
        lane, patch_px=model.patch_px, prefix_tokens=model.prefix, views=config.views, masks=config.hidden
    )
    state = LaneState()
    while True:
        pack, state = packer.next_pack(state)
        yield pack


def smallest_pack(model: ModelConfig, views: ViewConfig) -> int:
    """Tokens that a pack must hold at least: all views of the largest image."""
    counts = zip((GLOBALS, views.locals), views.max_tokens, strict=True)
    return sum(count * (most + model.prefix) for count, most in counts)


def stated_tokens(stated: str, config: PretrainConfig) -> Tokens:
    """Tokens without a dataset: of a named histogram, or `G,L`: patches of every global and local view.

    Raises:
        ValueError: neither is meant, or the histogram is of another patch side.
    """
    counts = (GLOBALS, config.views.locals)
    prefix = config.model.prefix
    if stated in NAMED:
        named = NAMED[stated]
        moments = _moments(stated, config.model.patch_px)
        roles = [of.role(count, prefix) for of, count in zip(moments, counts, strict=True)]
        known, source = named.known, named.source
    else:
        patches = _two_numbers(stated)
        roles = [equal_views(count, p + prefix) for count, p in zip(counts, patches, strict=True)]
        known, source = (
            "assumed",
            f"stated: {patches[0]:g} patches in a global, {patches[1]:g} in a local view",
        )
    hidden = config.hidden  # None: iBOT asks about every patch of the global views
    masked = roles[0].patches(prefix) if hidden is None else expected_masked(roles[0], prefix, hidden)
    kept = [role.kept(1 - drop, prefix) for role, drop in zip(roles, config.views.token_drop, strict=True)]
    whole = roles[0] if config.views.token_drop[0] else None
    return Tokens(kept[0], kept[1], masked, STATED_FILL, known, source, whole)


def _moments(name: str, patch_px: int) -> tuple[Moments, Moments]:
    known = NAMED[name].by_patch_px
    if patch_px not in known:
        raise ValueError(
            f"plan: --tokens {name} needs model.patch_px {' or '.join(map(str, known))}, got {patch_px}; "
            "give two numbers, patches of a global and of a local view"
        )
    return known[patch_px]


def _two_numbers(stated: str) -> tuple[float, float]:
    words = stated.split(",")
    try:
        patches = [float(word) for word in words]
    except ValueError:
        patches = []
    if len(patches) != 2 or not all(1 <= count <= 1e6 for count in patches):
        raise ValueError(
            f"plan: --tokens must be {' or '.join(NAMED)}, or patches of a global and of a local view such "
            f"as 60,20, got {stated}; correct it"
        )
    return patches[0], patches[1]
