"""Student and teacher on one pack against DINOv2 written out: separate forwards, plain exp, chunk swap.

Invariant 3: where all global views are one square and all local views another, losses and gradients
are DINOv2's. Here the squares are 4×4 and 2×2 patches of 8 px.
"""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from square_views import GLOBAL, HEAD, IMAGES, LOCALS, MODEL, PATCH, TEMPERATURE, made_batch, made_model
from torch import Tensor

from aqqua.model.heads import HeadConfig
from aqqua.model.sequences import Sequences
from aqqua.objective.ssl import Batch, Followed, Losses, Network, ObjectiveConfig, SelfSupervised
from aqqua.train.optim import ema_update


def run_ours(model: SelfSupervised, batch: Batch) -> Losses:
    taught = model.teach(batch)
    return model.learn(batch, taught, model.targets([taught], TEMPERATURE), batch.n_images)


# DINOv2, naively.


def sinkhorn_loops(logits: Tensor) -> Tensor:
    """exp, then three times: each prototype to 1/K, each sample to 1/B; in Python floats."""
    B, K = logits.shape
    q = [[math.exp(x / TEMPERATURE) for x in row] for row in logits.double().tolist()]
    total = sum(map(sum, q))
    q = [[x / total for x in row] for row in q]
    for _ in range(3):
        columns = [sum(q[b][k] for b in range(B)) for k in range(K)]
        q = [[q[b][k] / columns[k] / K for k in range(K)] for b in range(B)]
        rows = [sum(row) for row in q]
        q = [[x / rows[b] / B for x in q[b]] for b in range(B)]
    return torch.tensor([[x * B for x in row] for row in q], dtype=torch.float64)


def forward_each(network: Network, batch: Batch, masks: bool) -> tuple[list[Tensor], list[Tensor]]:
    """CLS and patch features of each view, each in a forward of its own."""
    cls, patches, start = [], [], 0
    for v, (height, width) in enumerate(batch.student.grids_V2.tolist()):
        end = start + height * width
        alone = Sequences.from_grids(
            torch.tensor([[height, width]]), batch.student.um_per_px_V[v : v + 1], PATCH,
            network.backbone.config.prefix,
        )  # fmt: skip
        mask = batch.mask_N[start:end] if masks else None
        features = network.backbone(batch.patches_NF[start:end], alone, mask_N=mask)
        cls.append(features.cls_VD[0])
        patches.append(features.patches_ND)
        start = end
    return cls, patches


def cross_entropy(student: Tensor, target: Tensor) -> Tensor:
    return -(target * F.log_softmax(student.double() / 0.1, dim=-1)).sum(dim=-1)


def koleo(x: Tensor) -> Tensor:
    x = F.normalize(x.double(), dim=-1)
    dots = (x @ x.T).fill_diagonal_(-1)
    return -torch.log(F.pairwise_distance(x, x[dots.argmax(dim=1)], eps=1e-8) + 1e-8).mean()


def naive_dinov2(model: SelfSupervised, batch: Batch, teacher: Network) -> dict[str, Tensor]:
    """ssl_meta_arch.py's forward_backward in the words of the paper; images I, 2 globals, LOCALS locals."""
    images, n_pairs_local, n_pairs_global = batch.n_images, 2 * LOCALS, 2
    cls, patches = forward_each(model.student, batch, masks=True)
    with torch.no_grad():
        teacher_cls, teacher_patches = forward_each(teacher, batch, masks=False)
    n_global = 2 * images
    mask_VP = torch.zeros(n_global * GLOBAL**2, dtype=torch.bool)
    mask_VP[batch.masked_M] = True
    mask_VP = mask_VP.view(n_global, -1)
    targets = sinkhorn_loops(teacher.dino_head(torch.stack(teacher_cls[:n_global]))).chunk(2)
    ibot_head = "dino_head" if model.student.ibot_head is None else "ibot_head"
    named = torch.cat([teacher_patches[v][mask_VP[v]] for v in range(n_global)])
    ibot_target = sinkhorn_loops(getattr(teacher, ibot_head)(named))

    student_global = model.student.dino_head(torch.stack(cls[:n_global]))
    # Upstream swaps the teacher's chunks, so that global A meets B and B meets A, in one mean times two.
    swapped = torch.cat((targets[1], targets[0]))
    dino_global = 2 * cross_entropy(student_global, swapped).mean() / (n_pairs_global + n_pairs_local)
    dino_local = torch.zeros((), dtype=torch.float64)
    for crop in model.student.dino_head(torch.stack(cls[n_global:])).chunk(LOCALS):
        for target in targets:
            dino_local = dino_local + cross_entropy(crop, target).mean()
    dino_local = dino_local / (n_pairs_global + n_pairs_local)

    ibot = torch.zeros((), dtype=torch.float64)
    done = 0
    for v in range(n_global):
        if (count := int(mask_VP[v].sum())) == 0:
            continue
        student = getattr(model.student, ibot_head)(patches[v][mask_VP[v]])
        ibot = ibot + cross_entropy(student, ibot_target[done : done + count]).sum() / count
        done += count
    return {
        "dino": dino_global + dino_local,
        "ibot": ibot / n_global,  # times loss_scales 2, times ibot_loss_scale 1/2
        "koleo": koleo(torch.stack(cls[:images])) + koleo(torch.stack(cls[images:n_global])),
    }


def gradients(loss: Tensor, model: SelfSupervised) -> dict[str, Tensor | None]:
    names, parameters = zip(*model.student.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))


@pytest.mark.parametrize("separate", [False, True], ids=["shared_head", "own_ibot_head"])
@pytest.mark.parametrize("position", ["rope", "learned"])
def test_losses_and_gradients_are_those_of_dinov2(separate, position):
    own = HeadConfig(prototypes=16, hidden=24, bottleneck=12)
    backbone = MODEL.model_copy(update={"position": position, "position_grid": 4})
    model, batch = made_model(backbone, ibot_head=own if separate else None), made_batch()
    assert_those_of_dinov2(model, batch, model.teacher)


@pytest.mark.parametrize("separate", [False, True], ids=["shared_head", "own_ibot_head"])
def test_losses_and_gradients_of_distillation_are_those_written_out(separate):
    """The targets of a wider and deeper network with heads of its own; iBOT on all patches, none hidden."""
    wide = HeadConfig(prototypes=24, hidden=40, bottleneck=20)
    own = {"ibot_head": HEAD} if separate else {}
    larger = MODEL.model_copy(update={"width": 48, "layers": 3, "heads": 4, "registers": 1})
    teacher = made_model(larger, **{**own, "head": wide}).teacher
    model, batch = made_model(**own), made_batch()
    model.followed = Followed(teacher, "of this test")
    shown = batch.teacher.patches
    batch = replace(
        batch,
        mask_N=torch.zeros_like(batch.mask_N),
        masked_M=torch.arange(shown),
        weight_M=torch.full((shown,), 1 / GLOBAL**2),
    )
    assert_those_of_dinov2(model, batch, teacher)
    assert not any("followed" in name for name in model.state_dict())


def assert_those_of_dinov2(model: SelfSupervised, batch: Batch, teacher: Network) -> None:
    ours, naive = run_ours(model, batch), naive_dinov2(model, batch, teacher)
    for name, value in naive.items():
        torch.testing.assert_close(getattr(ours, name).double(), value, rtol=1e-5, atol=1e-6, msg=name)
    total = naive["dino"] + naive["ibot"] + 0.1 * naive["koleo"]
    torch.testing.assert_close(ours.total.double(), total, rtol=1e-5, atol=1e-6)
    got, want = gradients(ours.total, model), gradients(total, model)
    largest = max(float(grad.abs().max()) for grad in want.values() if grad is not None)
    for name, grad in want.items():
        assert (got[name] is None) == (grad is None), name
        if grad is not None:
            torch.testing.assert_close(got[name], grad, rtol=1e-4, atol=2e-6 * largest, msg=name)


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 0.3), (0.5, 0.25, 4.0)])
def test_the_total_weighs_its_parts(weights):
    names = ("dino_weight", "ibot_weight", "koleo_weight")
    losses = run_ours(made_model(MODEL, **dict(zip(names, weights, strict=True))), made_batch())
    parts = (losses.dino, losses.ibot, losses.koleo)
    assert losses.total.item() == pytest.approx(
        sum(w * part.item() for w, part in zip(weights, parts, strict=True)), rel=1e-6
    )


def test_the_teacher_sees_unmasked_globals_only():
    model, batch = made_model(), made_batch()
    want = model.teach(batch)
    local_rows = slice(batch.teacher.patches, None)
    spoilt = batch.patches_NF.clone()
    spoilt[local_rows] = float("nan")
    other = replace(batch, patches_NF=spoilt, mask_N=~batch.mask_N, hide_scale_V=torch.ones(25).bool())
    got = model.teach(other)
    assert torch.equal(got.dino_BK, want.dino_BK)
    assert torch.equal(got.ibot_MK, want.ibot_MK)
    assert want.dino_BK.shape == (2 * IMAGES, 24)
    assert want.ibot_MK.shape == (len(batch.masked_M), 24)
    changed = batch.patches_NF.clone()
    changed[batch.masked_M[0]] += 1  # a patch that the student does not see
    assert not torch.equal(model.teach(replace(batch, patches_NF=changed)).ibot_MK, want.ibot_MK)


def test_a_step_may_weigh_koleo_by_its_own_schedule():
    model, batch = made_model(), made_batch()
    taught = model.teach(batch)
    targets = model.targets([taught], TEMPERATURE)
    usual, none, strong = (model.learn(batch, taught, targets, IMAGES, w) for w in (None, 0.0, 0.7))
    assert usual.total.item() == pytest.approx((none.total + 0.1 * none.koleo).item(), rel=1e-6)
    assert strong.total.item() == pytest.approx((none.total + 0.7 * none.koleo).item(), rel=1e-6)


def test_the_student_does_not_see_masked_patches():
    model, batch = made_model(), made_batch()
    taught = model.teach(batch)
    targets = model.targets([taught], TEMPERATURE)
    changed = batch.patches_NF.clone()
    changed[batch.masked_M] = 100.0
    a = model.learn(batch, taught, targets, IMAGES)
    b = model.learn(replace(batch, patches_NF=changed), taught, targets, IMAGES)
    assert a.total.item() == b.total.item()


def test_the_teacher_takes_no_gradient_and_every_trained_weight_does():
    model, batch = made_model(ibot_head=HEAD), made_batch()
    taught = model.teach(batch)
    assert not taught.dino_BK.requires_grad
    assert not taught.ibot_MK.requires_grad
    run_ours(model, batch).total.backward()
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    # A known scale everywhere leaves the vector for an unknown one without use; nothing else.
    idle = [name for name, p in model.student.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == ["backbone.embed.scale.unknown"]


def test_a_shared_head_is_one_head_and_an_own_one_is_another():
    shared, own = made_model(), made_model(ibot_head=HEAD)
    assert shared.student.ibot_head is None
    assert not any("ibot_head" in name for name in shared.state_dict())
    features = torch.randn(3, MODEL.width)
    assert torch.equal(shared.student.name_patches(features), shared.student.dino_head(features))
    assert not torch.equal(own.student.name_patches(features), own.student.dino_head(features))


def test_the_teacher_starts_as_the_student_and_follows_it():
    torch.manual_seed(0)
    model = SelfSupervised(MODEL, ObjectiveConfig(head=HEAD))
    pairs = list(zip(model.student.parameters(), model.teacher.parameters(), strict=True))
    assert all(torch.equal(s, t) and s.data_ptr() != t.data_ptr() for s, t in pairs)
    assert all(t.dtype == torch.float32 for _, t in pairs)
    with torch.no_grad():
        for s, _ in pairs:
            s.add_(1.0)
    before = [t.clone() for _, t in pairs]
    ema_update(model.teacher, model.student, 0.75)
    for (s, t), old in zip(pairs, before, strict=True):
        torch.testing.assert_close(t, 0.75 * old + 0.25 * s)


def test_packs_add_up_and_a_pack_may_have_nothing_masked():
    model, packs = made_model(koleo_weight=0.0), [made_batch(2, seed=5), made_batch(4, seed=6)]
    bare = replace(
        packs[0],
        mask_N=torch.zeros_like(packs[0].mask_N),
        masked_M=packs[0].masked_M[:0],
        weight_M=packs[0].weight_M[:0],
    )
    for group in (packs, [bare, packs[1]]):
        taught = [model.teach(batch) for batch in group]
        targets = model.targets(taught, TEMPERATURE)
        parts = [model.learn(b, t, targets, 6) for b, t in zip(group, taught, strict=True)]
        assert all(part.total.isfinite() for part in parts)
        assert all(
            torch.isfinite(g).all() for g in gradients(parts[0].total, model).values() if g is not None
        )
    assert parts[0].ibot.item() == 0.0
    # Half the images of the step, said twice, are the mean of the step: shares are of the whole count.
    alone = run_ours(model, packs[1])
    targets = model.targets([model.teach(packs[1])] * 2, TEMPERATURE)
    half = model.learn(packs[1], model.teach(packs[1]), targets, 2 * packs[1].n_images)
    assert 2 * half.dino.item() == pytest.approx(alone.dino.item(), rel=1e-5)
    assert 2 * half.ibot.item() == pytest.approx(alone.ibot.item(), rel=1e-5)


def test_one_image_in_a_pack_has_no_neighbour_but_a_loss():
    losses = run_ours(made_model(), made_batch(1))
    assert losses.koleo.item() == 0.0
    assert losses.dino.item() > 0
