"""How many tokens the views of an image have, by role: what every other formula here starts from.

Attention costs Σ n² over views, not (Σ n)²: beside the mean a role keeps E[n²]/E[n], here `n2`.
Letters: n tokens of a view (CLS and registers included), V views. Test: tests/cost/test_tokens.py.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from aqqua.model.config import ModelConfig
from aqqua.plan.masks import MaskConfig
from aqqua.plan.pack import GLOBALS, Pack

TILE = 128  # rows of flash attention's tiles
FIXED_PATCHES = (256, 49)  # of 224 and 98 pixels at patch 14
FIXED_LOCALS, FIXED_PATCH_PX = 8, 14
_SUMS = ("views", "tokens", "squares", "tile_squares")


@dataclass(frozen=True)
class Role:
    """The global or the local views of an image, of a pack, ...: sums, so that they add up."""

    views: float
    tokens: float  # Σ n
    squares: float  # Σ n²
    tile_squares: float  # Σ (n rounded up to TILE)²

    @property
    def mean(self) -> float:
        """Tokens of a view."""
        return self.tokens / self.views if self.views else 0.0

    @property
    def n2(self) -> float:
        """E[n²]/E[n]: tokens of the view that a token finds itself in, on average."""
        return self.squares / self.tokens if self.tokens else 0.0

    def patches(self, prefix: int) -> float:
        """Tokens without the `prefix` of each view."""
        return self.tokens - prefix * self.views

    def plus(self, other: "Role") -> "Role":
        return Role(*(getattr(self, name) + getattr(other, name) for name in _SUMS))

    def times(self, factor: float) -> "Role":
        return Role(*(factor * getattr(self, name) for name in _SUMS))

    def with_prefix(self, prefix: int, had: int) -> "Role":
        """The same views with a prefix of another length; whole tiles grow as Σ n² does."""
        more = prefix - had
        squares = self.squares + 2 * more * self.tokens + more**2 * self.views
        tiles = self.tile_squares * squares / self.squares if self.squares else 0.0
        return Role(self.views, self.tokens + more * self.views, squares, tiles)

    def kept(self, share: float, prefix: int) -> "Role":
        """The same views of which a share of the patches is left; whole tiles shrink as Σ n² does."""
        patches = share * self.patches(prefix)
        squares = share**2 * self.patch_squares(prefix) + 2 * prefix * patches + prefix**2 * self.views
        tiles = self.tile_squares * squares / self.squares if self.squares else 0.0
        return Role(self.views, patches + prefix * self.views, squares, tiles)

    def patch_squares(self, prefix: int) -> float:
        """Σ (patches of a view)²."""
        return self.squares - 2 * prefix * self.tokens + prefix**2 * self.views

    def enlarged(self, scale: int, prefix: int) -> "Role":
        """The same views at `scale` times the side; whole tiles grow as Σ n² does."""
        patches, more = self.patches(prefix), scale**2
        squares = more**2 * self.patch_squares(prefix) + 2 * prefix * more * patches + prefix**2 * self.views
        tiles = self.tile_squares * squares / self.squares if self.squares else 0.0
        return Role(self.views, more * patches + prefix * self.views, squares, tiles)


@dataclass(frozen=True)
class Tokens:
    """Of an image on average."""

    globals_: Role  # as the student gets them
    locals_: Role
    masked: float  # patches hidden from the student
    fill: float  # of packs
    known: Literal["measured", "assumed"]
    source: str
    whole_globals: Role | None = None  # as the teacher gets them; None: as the student, who drops nothing

    @property
    def student(self) -> Role:
        """All views."""
        return self.globals_.plus(self.locals_)

    @property
    def teacher(self) -> Role:
        """The global views, whole."""
        return self.whole_globals or self.globals_

    @property
    def student_rows(self) -> float:
        """That go through the heads: CLS of every view, and hidden patches."""
        return self.student.views + self.masked

    @property
    def teacher_rows(self) -> float:
        """CLS of the global views, and the hidden patches."""
        return self.globals_.views + self.masked

    def images_per_pack(self, pack_tokens: int) -> float:
        """That fill a pack as far as packs are filled."""
        return pack_tokens * self.fill / self.student.tokens


def role_of(lengths_V: np.ndarray, per: float = 1.0) -> Role:
    """The role of views of these lengths in tokens, divided by `per` images."""
    lengths = np.asarray(lengths_V, np.float64)
    tiles = np.ceil(lengths / TILE) * TILE
    sums = (len(lengths), lengths.sum(), np.square(lengths).sum(), np.square(tiles).sum())
    return Role(*map(float, sums)).times(1 / per)


def equal_views(views: float, tokens: float) -> Role:
    """So many views, all of one length."""
    return role_of(np.array([tokens])).times(views)


def tokens_of(packs: list[Pack], source: str) -> Tokens:
    """What planned packs hold, by image."""
    images = sum(pack.n_images for pack in packs)

    def role(of: slice, kept: bool) -> Role:
        lengths = [
            ((pack.kept_V if kept else pack.patches_V) + pack.prefix_tokens).reshape(-1, pack.n_images)[of]
            for pack in packs
        ]
        return role_of(np.concatenate([one.ravel() for one in lengths]), images)

    globals_, locals_ = slice(0, GLOBALS), slice(GLOBALS, None)
    masked = sum(len(pack.masked_M) for pack in packs) / images
    fill = float(np.mean([pack.fill for pack in packs]))
    whole = None if all(pack.dropped_N is None for pack in packs) else role(globals_, kept=False)
    return Tokens(role(globals_, True), role(locals_, True), masked, fill, "measured", source, whole)


def kept_share(views: float, drop_path: float) -> float:
    """Share of a pack's views that go through a residual branch: aqqua.model.block.kept_views.

    Their lengths are those of all views on average, so it is the share of the tokens, too.
    """
    return max(int(views * (1 - drop_path)), 1) / views if drop_path else 1.0


def expected_masked(globals_: Role, prefix: int, masks: MaskConfig) -> float:
    """Hidden patches of an image; that views under four patches are never masked is left out."""
    return masks.odds * sum(masks.ratio) / 2 * globals_.patches(prefix)


def fixed_224_98(model: ModelConfig, masks: MaskConfig) -> Tokens:
    """DINOv2's crops: 2 of 224 and 8 of 98 pixels, each image stretched to them, at patch 14."""
    counts = zip((GLOBALS, FIXED_LOCALS), FIXED_PATCHES, strict=True)
    roles = [equal_views(views, patches + model.prefix) for views, patches in counts]
    masked = expected_masked(roles[0], model.prefix, masks)
    return Tokens(roles[0], roles[1], masked, 1.0, "measured", "2 crops of 224 px and 8 of 98 px, patch 14")
