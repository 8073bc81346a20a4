"""The DINO and iBOT head: weight norm, unit bottleneck, start values."""

import pytest
import torch
from torch import nn

from aqqua.model.heads import HeadConfig, PrototypeHead

KINDS = ["weight_norm", "plain"]


def head(kind, seed=0):
    config = HeadConfig(prototypes=20, hidden=16, bottleneck=8, last_layer=kind)
    return PrototypeHead(config, width=12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_forward_is_last_layer_of_the_unit_bottleneck(kind):
    model, x = head(kind), torch.randn(5, 12)
    z = model.bottleneck(x)
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(5))
    torch.testing.assert_close(model(x), z @ model.last_layer.matrix().T)
    assert all("last_layer" in name or name.startswith("mlp.") for name, _ in model.named_parameters())


def test_weight_norm_is_torchs():
    model = head("weight_norm")
    model.last_layer.weight_g.data.uniform_(0.5, 2)
    peer = nn.utils.parametrizations.weight_norm(nn.Linear(8, 20, bias=False))
    peer.parametrizations.weight.original0.data.copy_(model.last_layer.weight_g)
    peer.parametrizations.weight.original1.data.copy_(model.last_layer.weight_v)
    x, dy = torch.randn(5, 8), torch.randn(5, 20)
    torch.testing.assert_close(model.last_layer(x), peer(x))
    mine = torch.autograd.grad(model.last_layer(x), list(model.last_layer.parameters()), dy)
    theirs = torch.autograd.grad(peer(x), list(peer.parameters()), dy)
    by_shape = {g.shape: g for g in theirs}
    for gradient in mine:
        torch.testing.assert_close(gradient, by_shape[gradient.shape])


def test_logits_start_as_cosines():
    """Gain 1: every logit lies in [−1, 1]."""
    model = head("weight_norm")
    assert torch.equal(model.last_layer.weight_g, torch.ones(20, 1))
    assert model(torch.randn(100, 12)).abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_initialised_and_learns(kind):
    model = head(kind)
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    model.init_weights(torch.Generator().manual_seed(0))
    model(torch.randn(5, 12)).pow(2).sum().backward()
    assert all(p.isfinite().all() and p.grad.any() for p in model.parameters())


def test_zero_rows_stay_finite():
    model = head("weight_norm")
    logits = model(torch.zeros(2, 12))  # all biases are zero at the start: the bottleneck is exactly 0
    assert torch.equal(logits, torch.zeros(2, 20))
