"""How the tokens of V views lie in one packed tensor.

Each view is CLS, registers, then its patches row by row; views follow each other without padding.
Everything a model needs to know of the packing is here and is made once per pack, without a loop
over views. Fields that only some callers need are made when first asked for, so that choosing a
subset of views (stochastic depth, in every layer) stays cheap.

Letter key: T tokens, V views, N patch rows, R prefix tokens of a view (CLS and registers).
Test: tests/model/test_sequences.py.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from aqqua.kernels.attention import Schedule, make_schedule


@dataclass(frozen=True, eq=False)
class Kept:
    """The patches of a pack that a model goes on with; the others are dropped once they have a position.

    Attributes:
        rows_U: on the device: rows of the N patches, ascending.
        counts_V: on the CPU: how many of each view, at least one.
    """

    rows_U: Int[Tensor, " U"]
    counts_V: Int[Tensor, " V"]

    def first(self, views: int) -> "Kept":
        """Of the first views of the pack alone."""
        counts_V = self.counts_V[:views]
        return Kept(self.rows_U[: int(counts_V.sum())], counts_V)


@dataclass(frozen=True, eq=False)
class Sequences:
    """The packing of V views.

    Attributes:
        grids_V2: patch rows and patch columns of each view, on the CPU.
        um_per_px_V: micrometres per pixel of each view, on the device; NaN where unknown.
        patch_px: patch side in pixels.
        prefix: tokens before the patches of each view (CLS and registers).
        lengths: tokens of each view, on the CPU.
        offsets_V1: int32, on the device: token row where each view starts, then T.
        grey_V: on the device: views of images of one channel; None: not known.
    """

    grids_V2: Int[Tensor, "V 2"]
    um_per_px_V: Float[Tensor, " V"]
    patch_px: int
    prefix: int
    lengths: Int[Tensor, " V"]
    offsets_V1: Int[Tensor, " V1"]
    grey_V: Bool[Tensor, " V"] | None = None

    @classmethod
    def from_grids(
        cls,
        grids_V2: Int[Tensor, "V 2"],
        um_per_px_V: Float[Tensor, " V"],
        patch_px: int,
        prefix: int,
        device: torch.device | str = "cpu",
        grey_V: Bool[Tensor, " V"] | None = None,
    ) -> "Sequences":
        """Lay out views of the given patch grids.

        Args:
            grids_V2: patch rows and columns of each view, on the CPU; at least one of each.
            um_per_px_V: µm per pixel of each view; NaN = unknown.
            patch_px: patch side in pixels.
            prefix: CLS and registers, at least 1.
            device: where the model runs.
            grey_V: views of images of one channel; only model.grey_embedding asks.

        Raises:
            ValueError: grids are not on the CPU, there is no view, or a view has no patch.
        """
        if grids_V2.device.type != "cpu":
            raise ValueError(
                f"Sequences: grids must lie on the CPU, got {grids_V2.device}; keep the host copy"
            )
        if len(grids_V2) == 0 or int(grids_V2.min()) < 1:
            raise ValueError(
                f"Sequences: every pack must hold a view and every view a patch, got grids "
                f"{grids_V2.tolist()[:8]}; drop empty views when packing"
            )
        if prefix < 1:
            raise ValueError(
                f"Sequences: prefix must count CLS and registers, got {prefix}; give 1 + registers"
            )
        if um_per_px_V.device.type == "cpu" and bool(((um_per_px_V <= 0) | um_per_px_V.isinf()).any()):
            raise ValueError(
                f"Sequences: µm/px must be positive or NaN (unknown), got {um_per_px_V.tolist()[:8]}; "
                f"correct the instrument's entry"
            )
        grids_V2 = grids_V2.long()
        lengths_V = grids_V2.prod(dim=1) + prefix
        um_per_px_V = um_per_px_V.to(device=device, dtype=torch.float32, non_blocking=True)
        offsets_V1 = _offsets(lengths_V, torch.device(device))
        grey_V = None if grey_V is None else grey_V.to(device, non_blocking=True)
        return cls(grids_V2, um_per_px_V, patch_px, prefix, lengths_V, offsets_V1, grey_V)

    @property
    def device(self) -> torch.device:
        return self.offsets_V1.device

    @property
    def views(self) -> int:
        """V."""
        return len(self.lengths)

    @cached_property
    def tokens(self) -> int:
        """T."""
        return int(self.lengths.sum())

    @cached_property
    def patches(self) -> int:
        """N."""
        return self.tokens - self.views * self.prefix

    @cached_property
    def max_length(self) -> int:
        """Tokens of the longest view."""
        return int(self.lengths.max())

    @cached_property
    def view_N(self) -> Int[Tensor, " N"]:
        """View of each patch."""
        counts_V = (self.lengths - self.prefix).to(self.device, non_blocking=True)
        views_V = torch.arange(self.views, device=self.device)
        return torch.repeat_interleave(views_V, counts_V, output_size=self.patches)

    @cached_property
    def view_T(self) -> Int[Tensor, " T"]:
        """View of each token."""
        views_V = torch.arange(self.views, device=self.device)
        lengths_V = self.lengths.to(self.device, non_blocking=True)
        return torch.repeat_interleave(views_V, lengths_V, output_size=self.tokens)

    @cached_property
    def patch_rows_N(self) -> Int[Tensor, " N"]:
        """Token row of each patch."""
        return torch.arange(self.patches, device=self.device) + self.prefix * (self.view_N + 1)

    @cached_property
    def cls_rows_V(self) -> Int[Tensor, " V"]:
        """Token row of each view's CLS."""
        return self.offsets_V1[:-1].long()

    @cached_property
    def prefix_rows_VR(self) -> Int[Tensor, "V R"]:
        """Token rows of each view's CLS and registers."""
        return self.cls_rows_V[:, None] + torch.arange(self.prefix, device=self.device)

    @cached_property
    def rc_N2(self) -> Int[Tensor, "N 2"]:
        """Patch row and patch column of each patch in its own view."""
        first_V = self.cls_rows_V - self.prefix * torch.arange(self.views, device=self.device)
        local_N = torch.arange(self.patches, device=self.device) - first_V[self.view_N]
        columns_N = self.sides_N2[:, 1]
        return torch.stack((local_N // columns_N, local_N % columns_N), dim=1)

    @cached_property
    def sides_N2(self) -> Int[Tensor, "N 2"]:
        """Patch rows and patch columns of the view that each patch lies in."""
        return self.grids_V2.to(self.device, non_blocking=True)[self.view_N]

    def with_prefix(self, prefix: int) -> "Sequences":
        """The same views for a model with another number of tokens (CLS and registers) before the patches."""
        if prefix == self.prefix:
            return self
        return Sequences.from_grids(
            self.grids_V2, self.um_per_px_V, self.patch_px, prefix, self.device, self.grey_V
        )

    def hide_scale(self, hide_V: Bool[Tensor, " V"]) -> "Sequences":
        """The same packing with the µm/px of the marked views unknown."""
        um_per_px_V = self.um_per_px_V.masked_fill(hide_V.to(self.device), float("nan"))
        return replace(self, um_per_px_V=um_per_px_V)

    def part(self, views_index: Int[Tensor, " S"]) -> "Sequences":
        """The packing of some of the views alone: of those given (int64, on the CPU), in their order."""
        lengths_V, on_device = self.lengths[views_index], views_index.to(self.device, non_blocking=True)
        return Sequences(
            self.grids_V2[views_index],
            self.um_per_px_V[on_device],
            self.patch_px,
            self.prefix,
            lengths_V,
            _offsets(lengths_V, self.device),
            None if self.grey_V is None else self.grey_V[on_device],
        )

    def select(self, views_index: Int[Tensor, " S"]) -> tuple["Sequences", Int[Tensor, " U"]]:
        """The packing of some of the views alone.

        Args:
            views_index: int64, on the CPU: the views to keep, in their new order.

        Returns:
            The packing of these views, and the token rows (in this pack) of its tokens in order.
        """
        part = self.part(views_index)
        shift_V = self.cls_rows_V[views_index.to(self.device, non_blocking=True)] - part.cls_rows_V
        shift_T = torch.repeat_interleave(
            shift_V, part.lengths.to(self.device, non_blocking=True), output_size=part.tokens
        )
        return part, torch.arange(part.tokens, device=self.device) + shift_T

    def keep(self, kept: Kept) -> tuple["Sequences", Int[Tensor, " W"]]:
        """The packing without the patches that are dropped.

        A view is then no grid any more, and stands as one column of what is left: positions have to be
        looked up before.

        Returns:
            The packing, and the token rows (in this pack) of its tokens in order.
        """
        columns_V2 = torch.stack((kept.counts_V, torch.ones_like(kept.counts_V)), dim=1)
        part = Sequences.from_grids(columns_V2, self.um_per_px_V, self.patch_px, self.prefix, self.device)
        rows_W = torch.empty(part.tokens, dtype=torch.int64, device=self.device)
        rows_W[part.prefix_rows_VR] = self.prefix_rows_VR
        rows_W[part.patch_rows_N] = self.patch_rows_N[kept.rows_U]
        return part, rows_W

    def schedule(self, largest_tile: int) -> Schedule:
        """Which program of our own attention serves which view; made when first asked for."""
        if largest_tile not in self._schedules:
            self._schedules[largest_tile] = make_schedule(
                self.lengths, self.device, largest_tile=largest_tile
            )
        return self._schedules[largest_tile]

    @cached_property
    def _schedules(self) -> dict[int, Schedule]:
        return {}


def _offsets(lengths_V: Tensor, device: torch.device) -> Tensor:
    return pad(lengths_V.cumsum(0), (1, 0)).to(device=device, dtype=torch.int32, non_blocking=True)
