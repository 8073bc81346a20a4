"""Guides: values by hand, reversed and scaled gradients, what is unknown, packs that add up, balance."""

import math

import pytest
import torch
from pydantic import ValidationError
from square_views import TEMPERATURE, made_batch, made_model

from aqqua.objective.guides import GuideConfig, Guides, GuidingConfig, scale_gradient
from aqqua.objective.losses import Beside

NAN = float("nan")
WIDTH, ROWS = 8, 6
TELL = GuideConfig(field="um_per_px", weight=0.5, hidden=5)
FORGET = GuideConfig(field="instrument", weight=0.4, reverse=True, names=("A", "B", "C"), hidden=7)
REGION = GuideConfig(field="region", hidden=4)
TOLD = torch.tensor([[0.1, 0.9, NAN, 0.5, NAN, 0.3], [2.0, 0.0, 1.0, NAN, NAN, 1.0]])


def made(*guides):
    torch.manual_seed(0)
    heads = Guides(guides, WIDTH)
    for parameter in heads.parameters():
        parameter.data.normal_()
    return heads, torch.randn(ROWS, WIDTH, requires_grad=True)


def said(heads, number, cls):
    """A head by hand."""
    first, _, second = heads.mlp[number]
    hidden = cls @ first.weight.T + first.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return hidden @ second.weight.T + second.bias


def test_losses_by_hand():
    heads, cls = made(TELL, FORGET)
    got = heads(cls, TOLD, (4, 4), 1.0, False)
    number = torch.sigmoid(said(heads, 0, cls)[:, 0])
    told = {0: 0.1, 1: 0.9, 3: 0.5, 5: 0.3}
    square = sum((number[b] - t) ** 2 for b, t in told.items()) / 4
    torch.testing.assert_close(got.parts["guide_um_per_px"], square)
    apart = sum(abs(number[b] - t) for b, t in told.items()) / 4 * 13  # log2 steps from -3 to 10
    torch.testing.assert_close(got.parts["error_um_per_px"], apart.detach())
    logits, entropy, right = said(heads, 1, cls), 0.0, 0
    for b, name in {0: 2, 1: 0, 2: 1, 5: 1}.items():
        entropy = entropy + logits[b].exp().sum().log() - logits[b, name]
        right += int(logits[b].argmax()) == name
    torch.testing.assert_close(got.parts["guide_instrument"], entropy / 4)
    assert got.parts["accuracy_instrument"].item() == right / 4
    torch.testing.assert_close(got.total, 0.5 * square + 0.04 * entropy / 4)


def test_a_reversed_guide_turns_what_the_backbone_gets_and_not_what_its_head_gets():
    heads, cls = made(TELL, FORGET)
    guided = heads(cls, TOLD, (4, 4), 0.25, False)
    weights = list(heads.parameters())
    got_cls, *got = torch.autograd.grad(guided.total, [cls, *weights], retain_graph=True)
    free = cls.detach().requires_grad_()
    number = torch.sigmoid(said(heads, 0, free)[:, 0])
    known = ~TOLD.isnan()
    square = (number - TOLD[0].nan_to_num()).square()[known[0]].sum() / 4
    entropy = (
        torch.nn.functional.cross_entropy(
            said(heads, 1, free)[known[1]], TOLD[1][known[1]].long(), reduction="sum"
        )
        / 4
    )
    tell, forget = (torch.autograd.grad(loss, free, retain_graph=True)[0] for loss in (square, entropy))
    torch.testing.assert_close(got_cls, 0.25 * (0.5 * tell - 0.04 * forget))
    torch.testing.assert_close(got, list(torch.autograd.grad(0.5 * square + 0.04 * entropy, weights)))


def test_in_the_warm_up_heads_learn_and_the_backbone_does_not():
    heads, cls = made(TELL, FORGET)
    total = heads(cls, TOLD, (4, 4), 0.0, True).total
    cls_grad, *others = torch.autograd.grad(total, [cls, *heads.parameters()])
    assert not cls_grad.any()
    assert all(grad.any() for grad in others)


def test_what_is_unknown_gives_no_loss():
    heads, cls = made(TELL, FORGET, REGION)
    told = torch.full((5, ROWS), NAN)
    guided = heads(cls, told, (0, 0, 0), 1.0, True)
    grads = torch.autograd.grad(guided.total, [cls, *heads.parameters()])
    assert guided.total.item() == 0.0
    assert not any(grad.any() for grad in grads)
    told[2:, 3] = 0.5
    grad = torch.autograd.grad(heads(cls, told, (0, 0, 1), 1.0, True).total, cls)[0]
    assert grad[3].any()
    assert not grad[[0, 1, 2, 4, 5]].any()


def test_packs_add_up_by_the_counts_of_the_step():
    heads, cls = made(TELL, FORGET)
    whole = heads(cls, TOLD, (4, 4), 1.0, False)
    shares = [heads(cls[rows], TOLD[:, rows], (4, 4), 1.0, False) for rows in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(shares[0].total + shares[1].total, whole.total)
    for name, value in whole.parts.items():
        torch.testing.assert_close(shares[0].parts[name] + shares[1].parts[name], value)
    grads = [torch.autograd.grad(loss, cls)[0] for loss in (shares[0].total + shares[1].total, whole.total)]
    torch.testing.assert_close(*grads)


def test_balanced_guides_send_gradients_of_the_geometric_mean():
    told = torch.cat([TOLD, torch.full((3, ROWS), NAN)])
    heads, cls = made(TELL, FORGET, REGION)  # nothing is known of the region: it takes no part
    by_itself = []
    for number in (0, 1):
        only = torch.full_like(told, NAN)
        only[number] = told[number]
        total = heads(cls, only, (4, 4, 0), 1.0, False).total
        by_itself.append(torch.autograd.grad(total, cls)[0])
    norms = [grad.norm().item() for grad in by_itself]
    mean = math.sqrt(norms[0] * norms[1])
    want = sum(grad * mean / norm for grad, norm in zip(by_itself, norms, strict=True))
    total = heads(cls, told, (4, 4, 0), 1.0, True).total
    assert norms[0] != pytest.approx(norms[1], rel=0.2)
    torch.testing.assert_close(torch.autograd.grad(total, cls)[0], want)
    plain = heads(cls, told, (4, 4, 0), 1.0, False).total
    weights = list(heads.parameters())  # heads learn at their own pace
    balanced = heads(cls, told, (4, 4, 0), 1.0, True).total
    torch.testing.assert_close(torch.autograd.grad(balanced, weights), torch.autograd.grad(plain, weights))


def test_a_gradient_is_scaled_as_the_factor_is_in_the_backward_pass():
    x, factor = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor(3.0)
    y = scale_gradient(x, factor)
    assert torch.equal(y, x)
    factor.fill_(-0.5)
    y.sum().backward()
    assert x.grad.tolist() == [-0.5, -0.5]


@pytest.mark.parametrize(
    ("schedule", "share", "strength"),
    [
        ("sigmoid", 0.0, 0.0), ("sigmoid", 0.199, 0.0), ("sigmoid", 0.2, 0.0), ("sigmoid", 0.6, 0.9866143),
        ("sigmoid", 0.28, 0.4621172), ("sigmoid", 1.0, 0.9999092), ("linear", 0.6, 0.5), ("linear", 0.1, 0.0),
        ("constant", 0.2, 1.0), ("constant", 0.1, 0.0),
    ],
)  # fmt: skip
def test_strength_along_the_run(schedule, share, strength):
    """tanh(5 p), as 2 / (1 + exp(-10 p)) - 1 is: 0.4621172 at p = 0.1, 0.9866143 at 0.5."""
    assert GuidingConfig(schedule=schedule, warmup_share=0.2).strength(share) == pytest.approx(
        strength, abs=1e-7
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"field": "region", "edges": (1.0,)},
        {"field": "depth_m", "edges": (5.0, 1.0)},
        {"field": "depth_m", "names": ("A",)},
    ],
)
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(ValidationError, match=r"must be .* got"):
        GuideConfig(**fields)


def test_a_field_is_guided_once():
    with pytest.raises(ValueError, match=r"of different fields, .* got \['um_per_px', 'um_per_px'\]"):
        Guides([TELL, TELL], WIDTH)
    with pytest.raises(ValueError, match="instruments have names"):
        Guides([GuideConfig(field="instrument")], WIDTH)


def test_they_are_a_part_of_the_students_loss():
    guides = [TELL.model_dump(), FORGET.model_dump()]
    model, plain, batch = made_model(guides=guides), made_model(), made_batch()
    assert not any("guide" in name for name in plain.state_dict())
    told = torch.rand(2, 2 * batch.n_images)
    told[1] = told[1].round()
    batch = type(batch)(**{**vars(batch), "told_CB": told, "known_Q": (10, 10)})
    taught = model.teach(batch)
    targets = model.targets([taught], TEMPERATURE)
    losses = model.learn(batch, taught, targets, batch.n_images, beside=Beside(guiding=0.5, known_Q=(10, 10)))
    more = losses.more
    assert list(more) == ["guide_um_per_px", "error_um_per_px", "guide_instrument", "accuracy_instrument"]
    usual = losses.dino + losses.ibot + 0.1 * losses.koleo
    guided = 0.5 * more["guide_um_per_px"] + 0.04 * more["guide_instrument"]
    assert losses.total.item() == pytest.approx((usual + guided).item(), rel=1e-5)
    losses.total.backward()
    assert all(parameter.grad.any() for parameter in model.student.guide_head.parameters())
