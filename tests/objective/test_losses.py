"""Losses as a row of numbers, and back by their names."""

import torch

from aqqua.objective.losses import Losses


def test_a_row_and_back():
    values = [torch.tensor(number, requires_grad=True) for number in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)]
    losses = Losses(*values[:4], more={"gram": values[4], "guide_region": values[5]})
    assert list(losses.by_name) == ["dino", "ibot", "koleo", "total", "gram", "guide_region"]
    row = losses.row()
    assert not row.requires_grad
    back = Losses.of_row(row * 2, list(losses.by_name))
    assert (back.dino, back.ibot, back.koleo, back.total) == (2.0, 4.0, 6.0, 8.0)
    assert back.more == {"gram": 10.0, "guide_region": 12.0}
    assert Losses.of_row(row[:4], list(losses.by_name)[:4]).more == {}
