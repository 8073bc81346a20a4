"""A teacher cut up over the ranks as ZeRO stage 3 cuts its student, in float32, whole only where it is used.

Each rank keeps of every large parameter the stretch whose student it moves, so the teacher follows without a
word between ranks. A unit (token embedding, attention, feed-forward, head) is gathered before its forward and
let go after. Small parameters stay whole everywhere. Test: tests/train/test_zero.py.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from aqqua.train.ranks import Ranks


class ShardedTeacher:
    """The stretches of one rank, and the hooks that put a unit together."""

    def __init__(self, teacher: nn.Module, units: tuple[type[nn.Module], ...], ranks: Ranks) -> None:
        """
        Args:
            teacher: whole; all parameters inside `units` are cut up and have no values from here on, but in
                the forward of their unit.
            units: classes of modules that are called as such in every forward.
            ranks: who shares it.
        """
        self._ranks = ranks
        self.shapes = {name: parameter.shape for name, parameter in teacher.named_parameters()}
        self.pieces: dict[str, Tensor] = {}  # of this rank, padded to the same length on all
        for prefix, module in teacher.named_modules():
            if isinstance(module, units):
                names = [f"{prefix}.{name}" for name, _ in module.named_parameters()]
                self._cut(module, names)
                module.register_forward_pre_hook(self._gather(names))
                module.register_forward_hook(self._let_go)

    def _cut(self, module: nn.Module, names: list[str]) -> None:
        for name, parameter in zip(names, module.parameters(), strict=True):
            self.set(name, parameter.data, make=True)
            parameter.data = parameter.data.new_empty(0)

    def set(self, name: str, whole: Tensor, *, make: bool = False) -> None:
        """Take this rank's piece from a whole parameter."""
        room = -(-whole.numel() // self._ranks.size)
        first = min(self._ranks.rank * room, whole.numel())
        piece = whole.flatten()[first : first + room]
        if make:
            self.pieces[name] = torch.zeros(room, device=piece.device)
        self.pieces[name][: len(piece)] = piece

    def whole(self, names: list[str]) -> Iterator[Tensor]:
        """Parameters put together, on every rank."""
        all_RP = self._ranks.stack(torch.cat([self.pieces[name] for name in names]))
        parts = all_RP.split([len(self.pieces[name]) for name in names], dim=1)
        for name, part_RP in zip(names, parts, strict=True):
            shape = self.shapes[name]
            yield part_RP.flatten()[: shape.numel()].view(shape)

    def _gather(self, names: list[str]) -> Any:
        def hook(module: nn.Module, _arguments: Any) -> None:
            for parameter, whole in zip(module.parameters(), self.whole(names), strict=True):
                parameter.data = whole

        return hook

    @staticmethod
    def _let_go(module: nn.Module, _arguments: Any, _result: Any) -> None:
        for parameter in module.parameters():
            parameter.data = parameter.data.new_empty(0)
