"""Heads trained side by side: each as if alone, rows once an epoch, the rate down a cosine."""

import numpy as np
import pytest
import torch

from aqqua.evaluate.probes.descent import Course, descend


def test_every_row_once_an_epoch():
    seen = list(Course(epochs=3, batch=4, min_steps=0).batches(10, seed=0))
    assert [len(rows) for rows in seen] == [4, 4, 2] * 3
    epochs = [np.concatenate(seen[at : at + 3]) for at in (0, 3, 6)]
    assert all(sorted(rows.tolist()) == list(range(10)) for rows in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_few_rows_are_passed_until_there_are_steps_enough():
    course = Course(epochs=2, batch=8, min_steps=25)
    assert len(list(course.batches(3, seed=0))) == course.steps(3) == 25
    assert course.steps(1000) == 250


def test_a_diverging_neighbour_does_no_harm():
    """Two heads of one number each, on the same rows: by hand, the second's rate makes it infinite."""
    x, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([1, 0])
    course = Course(epochs=1, batch=2, min_steps=20)

    def trained(rates):
        weights = [torch.zeros(2, 1, requires_grad=True) for _ in rates]
        groups = [{"params": [w], "lr": rate} for w, rate in zip(weights, rates, strict=True)]

        def logits(rows):
            return torch.stack([x[rows] @ weight.T for weight in weights], dim=1)

        descend(torch.optim.SGD(groups), logits, labels, course, 0, lambda _: None)
        return weights

    first, wild = trained([0.5, float("inf")])
    assert not torch.isfinite(wild).all()
    assert torch.equal(first, trained([0.5])[0])
    assert first[1, 0] > 0.5


def test_the_rate_falls_to_zero_along_a_cosine():
    weight = torch.zeros(1, requires_grad=True)
    optimizer, rates = torch.optim.SGD([weight], lr=2.0), []

    def logits(rows):
        rates.append(optimizer.param_groups[0]["lr"])
        return torch.stack([weight, -weight], dim=1)[None].expand(len(rows), 1, 2)

    descend(optimizer, logits, torch.zeros(4, dtype=torch.int64), Course(1, 1, 0), 0, lambda _: None)
    assert rates == pytest.approx([1 + np.cos(np.pi * step / 4) for step in range(4)])
