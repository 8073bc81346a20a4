"""The kernels behind the objective: a whole step gives the losses and gradients of plain PyTorch."""

from dataclasses import replace

import pytest
import torch
from square_views import TEMPERATURE, made_batch, made_model

from aqqua.kernels.prototype_loss import Projected
from aqqua.model.heads import HeadConfig
from aqqua.objective.prototypes import balanced, served
from aqqua.objective.sinkhorn import sinkhorn

KERNELS = ["triton", "recompute"]
OWN = HeadConfig(prototypes=19, hidden=24, bottleneck=12)


@pytest.fixture(autouse=True)
def interpreter():
    """On a GPU the kernels of `recompute` do not take float32, and a CPU tensor is none of theirs."""
    if torch.cuda.is_available():
        pytest.skip("compares float32 on the CPU; tests/kernels compares on a GPU")
    pytest.importorskip("triton")


def step(wanted, packs=None, mixed=False, **objective):
    """Losses of each pack of a step and the gradients of all trained weights, summed over the packs."""
    model = made_model(kernels=wanted, **objective)
    packs = [made_batch()] if packs is None else packs
    n_images = sum(batch.n_images for batch in packs)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        taught = [model.teach(batch) for batch in packs]
        targets = model.targets(taught, TEMPERATURE)
        losses = [model.learn(b, t, targets, n_images) for b, t in zip(packs, taught, strict=True)]
    for each in losses:
        each.total.backward()
    gradients = {name: p.grad for name, p in model.student.named_parameters() if p.grad is not None}
    return losses, gradients


def assert_close(got, want, rtol):
    for mine, theirs in zip(got[0], want[0], strict=True):
        for name, value in vars(theirs).items():
            torch.testing.assert_close(getattr(mine, name), value, rtol=rtol, atol=rtol, msg=name)
    assert got[1].keys() == want[1].keys()
    for name, value in want[1].items():
        error = (got[1][name] - value).norm()
        assert error <= 20 * rtol * value.norm() + 1e-8, name


@pytest.mark.parametrize("wanted", KERNELS)
@pytest.mark.parametrize("ibot_head", [None, OWN], ids=["shared_head", "own_ibot_head"])
def test_losses_and_every_gradient_are_the_references(wanted, ibot_head):
    """Weights other than 1 make the kernels scale their gradient; plain prototypes have no gain."""
    objective = {"ibot_head": ibot_head, "dino_weight": 0.5}
    if ibot_head is not None:
        objective["head"] = HeadConfig(prototypes=24, hidden=32, bottleneck=16, last_layer="plain")
    want = step("reference", **objective)
    assert_close(step(wanted, **objective), want, rtol=2e-6)
    assert any(name.startswith("dino_head.last_layer") for name in want[1])


@pytest.mark.parametrize("wanted", KERNELS)
def test_mixed_precision_takes_the_product_in_16_bits(wanted):
    """Triton's interpreter cuts off what bfloat16 cannot hold, so it is no closer than two of its units."""
    model = made_model(kernels=wanted)
    with torch.autocast("cpu", torch.bfloat16):
        taught = model.teach(made_batch())
    rows = taught.dino_BK.w_KZ if isinstance(taught.dino_BK, Projected) else taught.dino_BK
    assert rows.dtype == torch.bfloat16
    got, want = step(wanted, mixed=True), step("reference", mixed=True)
    torch.testing.assert_close(got[0][0].total, want[0][0].total, rtol=5e-3, atol=0)
    for name, value in want[1].items():
        assert (got[1][name] - value).norm() <= 0.05 * value.norm() + 1e-8, name


@pytest.mark.parametrize("wanted", KERNELS)
def test_packs_add_up_one_without_masked_patches_and_the_order_leaves_the_targets(wanted):
    packs = [made_batch(2, seed=5), made_batch(4, seed=6)]
    none = {"masked_M": packs[0].masked_M[:0], "weight_M": packs[0].weight_M[:0]}
    packs[0] = replace(packs[0], mask_N=torch.zeros_like(packs[0].mask_N), **none)
    got = step(wanted, packs)
    assert_close(got, step("reference", packs), rtol=2e-6)
    assert got[0][0].ibot.item() == 0.0
    turned = step(wanted, packs[::-1])
    again = step(wanted, packs)
    for mine, theirs, same in zip(got[0], turned[0][::-1], again[0], strict=True):
        assert vars(mine) == vars(theirs) == vars(same)  # to the bit
    assert all(torch.equal(again[1][name], value) for name, value in got[1].items())


def test_ranks_take_part_in_the_targets():
    """The hook of a rank whose other holds the same rows: twice the rows, the same balance to the bit."""
    logits = [torch.randn(n, 24, generator=torch.Generator().manual_seed(n)) for n in (6, 9)]
    for wanted in ("triton", "reference"):
        calls = []

        def twice(x, op, calls=calls):
            calls.append((op, x.dtype))
            return x * 2 if op == "sum" else x

        alone = balanced(logits, TEMPERATURE, wanted=wanted)
        both = balanced(logits * 2, TEMPERATURE, wanted=wanted)
        assert torch.equal(balanced(logits, TEMPERATURE, 3, twice, wanted).log_u_K, both.log_u_K)
        assert calls == 3 * [("max", torch.float32), ("sum", torch.int64)]
        assert not torch.equal(alone.log_u_K, both.log_u_K)
        assert both.temperature == TEMPERATURE


def test_balance_is_sinkhorns():
    logits = [torch.randn(n, 24, generator=torch.Generator().manual_seed(n)) for n in (6, 9)]
    want = sinkhorn(logits, TEMPERATURE, 2)
    got = balanced(logits, TEMPERATURE, 2, wanted="triton")
    torch.testing.assert_close(got.log_u_K, want.log_u_K, rtol=1e-6, atol=1e-5)
    projected = Projected(logits[0], torch.eye(24))
    torch.testing.assert_close(got.probabilities(projected), want.probabilities(logits[0]))


@pytest.mark.parametrize("wanted", KERNELS)
def test_nan_of_one_pack_reaches_every_loss(wanted):
    packs = [made_batch(2, seed=5), made_batch(2, seed=6)]
    packs[0].patches_NF[packs[0].masked_M[0]] = torch.nan
    first, second = step(wanted, packs)[0]
    assert all(loss.isnan() for loss in (first.dino, first.ibot, second.dino, second.ibot))


def test_auto_on_the_cpu_is_the_reference_and_a_forced_kernel_is_an_error(monkeypatch):
    default, reference = step("auto"), step("reference")
    assert vars(default[0][0]) == vars(reference[0][0])
    assert all(torch.equal(default[1][name], value) for name, value in reference[1].items())
    monkeypatch.delenv("TRITON_INTERPRET")
    for wanted in KERNELS:
        with pytest.raises(RuntimeError, match="'triton' needs a CUDA device, got cpu; use 'auto'"):
            served(wanted, torch.device("cpu"), torch.float32)
