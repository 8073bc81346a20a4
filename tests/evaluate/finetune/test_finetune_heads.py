"""Heads: standardised features, missing values that say nothing, ordered levels."""

import numpy as np
import pytest
import torch

from aqqua.evaluate.finetune.heads import (
    SpeciesHead,
    TraitHead,
    level_probabilities,
    ordinal_log_likelihood,
)
from aqqua.evaluate.finetune.traits import Trait

TRAITS = (
    Trait(trait_id="length", unit="um", kind="continuous", log10=True, mean=1.0, std=0.5),
    Trait(trait_id="gut", kind="ordinal", levels=(0, 1, 3)),
    Trait(trait_id="eggs", kind="binary"),
)


def test_a_fresh_head_sees_standardised_features_and_prefers_nothing():
    features = torch.randn(200, 6) * torch.tensor([1, 10, 100, 0.1, 1, 0]) + 5
    head = SpeciesHead(6, 3)
    head.standardise(features)
    assert torch.equal(head(features), torch.zeros(200, 3))
    seen = (features - head.mean_D) / head.scale_D
    torch.testing.assert_close(seen[:, :5].std(dim=0, correction=0), torch.ones(5))
    assert seen.isfinite().all()  # the last one never changes
    assert seen.mean(dim=0).abs().max() < 1e-3


def test_the_ordinal_likelihood_is_the_difference_of_two_sigmoids():
    cuts = torch.tensor([-1.0, 0.2, 3.0], dtype=torch.float64)
    out = torch.linspace(-6, 6, 25, dtype=torch.float64)
    above = torch.sigmoid(out[:, None] - cuts)  # P(level > q)
    ends = torch.ones(25, 1, dtype=torch.float64)
    wanted = torch.cat([ends, above], 1) - torch.cat([above, 0 * ends], 1)
    for level in range(4):
        got = ordinal_log_likelihood(out, cuts, torch.full((25,), level)).exp()
        torch.testing.assert_close(got, wanted[:, level])
    torch.testing.assert_close(level_probabilities(out, cuts).sum(1), ends[:, 0])


def test_the_ordinal_likelihood_stays_finite_far_out_with_its_gradient():
    cuts = torch.tensor([-1.0, -0.999], requires_grad=True)
    out = torch.tensor([-500.0, 0.0, 500.0], requires_grad=True)
    total = sum(ordinal_log_likelihood(out, cuts, torch.full((3,), k)).sum() for k in range(3))
    total.backward()
    assert total.isfinite()
    assert out.grad.isfinite().all()
    assert cuts.grad.isfinite().all()


def test_a_missing_value_gives_no_loss_and_no_gradient():
    head = TraitHead(4, TRAITS)
    out = torch.randn(3, 3, requires_grad=True)
    coded = torch.tensor([[0.5, 2.0, 1.0], [float("nan")] * 3, [float("nan"), 0.0, float("nan")]])
    loss = head.loss(out, coded)
    loss.sum().backward()
    assert loss[1] == 0
    assert torch.equal(out.grad != 0, ~coded.isnan())
    alone = head.loss(out[2:].detach(), coded[2:])
    torch.testing.assert_close(loss[2:].detach(), alone.detach())


def test_the_loss_is_what_its_parts_say():
    head = TraitHead(4, TRAITS)
    loss = head.loss(torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[0.5, float("nan"), 0.0]]))
    assert float(loss.detach()) == pytest.approx(1.5**2 / 2 + np.log(1 + np.e))


def test_cut_points_rise_whatever_was_learnt():
    head = TraitHead(4, TRAITS)
    torch.testing.assert_close(head.cut_points(1).detach(), torch.tensor([-0.5, 0.5]), atol=2e-3, rtol=0)
    with torch.no_grad():
        head.cuts["1"].copy_(torch.tensor([3.0, -50.0]))
    first, second = head.cut_points(1).tolist()
    assert second > first


def test_answers_become_values_in_the_traits_unit():
    head = TraitHead(4, TRAITS)
    answer = head.answer(torch.tensor([[1.0, -9.0, 0.0], [-1.0, 9.0, 2.0]])).double().numpy()
    values = [trait.decode(answer[:, t]).tolist() for t, trait in enumerate(TRAITS)]
    assert values[0] == pytest.approx([10**1.5, 10**0.5])
    assert values[1] == [0, 3]
    assert values[2] == pytest.approx([0.5, 1 / (1 + np.exp(-2))])
