"""Sinkhorn and cross-entropy over prototypes: published values, in every form and by every backend."""

import pytest
import torch
from prototype_rows import K, dino_case, draw, published_in_logs, solve

from aqqua.kernels.prototype_loss import (
    Projected,
    Teacher,
    balance,
    dino_targets,
    ibot_targets,
    prototype_loss,
    row_normalisers,
)


@pytest.fixture(params=["reference", "triton"])
def backend(request):
    return request.param


@pytest.fixture(params=["stored", "projected"])
def form(request, device):
    """Turns logits [R, K] into the two ways of giving them; the second is a product with a unit matrix."""
    if request.param == "projected" and device == "cuda":
        pytest.skip("a GPU has no kernel for projected float32")

    def give(logits):
        return (
            logits if request.param == "stored" else Projected(logits, torch.eye(logits.shape[1]).to(logits))
        )

    return give


def probabilities(logits, teacher):
    return (logits.double() / teacher.temperature + teacher.log_u_K - teacher.lse_B[:, None]).exp()


def golden_inputs(device):
    g = torch.Generator().manual_seed(0)
    return [torch.randn(n, 64, generator=g).to(device) for n in (16, 16, 13, 13)]


def test_golden_values(backend, form, device):
    """recipe.md section 5: Sinkhorn, DINO cross-entropy and iBOT of upstream's code."""
    t, s, tt, ss = golden_inputs(device)
    dino = solve(form(t), 0.07, backend)
    checksum = (probabilities(t, dino) * torch.arange(64, device=device)).sum()
    assert checksum.item() == pytest.approx(505.46930, rel=1e-6)
    mean = torch.full((16,), 1 / 16, device=device)
    loss = prototype_loss(form(s), dino, ibot_targets(16).to(device), mean, backend=backend)
    assert loss.sum().item() == pytest.approx(23.6426735, rel=1e-6)
    weight = torch.tensor([1 / 5] * 5 + [1 / 8] * 8, device=device) / 4
    ibot = solve(form(tt), 0.07, backend)
    loss = prototype_loss(form(ss), ibot, ibot_targets(13).to(device), weight, backend=backend)
    assert loss.sum().item() == pytest.approx(13.0656404, rel=1e-6)


@pytest.mark.parametrize("size", [2.0, 60.0])
def test_extreme_logits_with_a_prototype_low_for_every_row(size, backend, form, device):
    logits = (torch.rand(20, 9, generator=torch.Generator().manual_seed(2)) * 2 - 1) * size
    logits[:, 3] = -size
    logits = logits.to(device)
    teacher = solve(form(logits), 0.04, backend)
    assert torch.isfinite(teacher.log_u_K).all()
    # float32 resolves 1.2e-4 at 1,500, and that is the error of the logarithm of q.
    want = published_in_logs(logits, 0.04).exp()
    torch.testing.assert_close(probabilities(logits, teacher), want, rtol=2e-3, atol=1e-6)
    student = (logits * 0.9).requires_grad_()
    weight = torch.ones(20, device=device)
    loss = prototype_loss(form(student), teacher, ibot_targets(20).to(device), weight, 0.1, backend=backend)
    exact = -(want * (student.detach().double() / 0.1).log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(loss.double(), exact, rtol=2e-3, atol=2e-3)
    gradient = torch.autograd.grad(loss.sum(), student)[0]
    want = ((student.detach().double() / 0.1).softmax(dim=1) - want) / 0.1
    torch.testing.assert_close(gradient.double(), want, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("where", ["teacher", "student"])
def test_nan_is_not_hidden(where, backend, form, device):
    teacher_logits, logits = draw(4, 5, device=device), draw(4, 5, seed=1, device=device)
    {"teacher": teacher_logits, "student": logits}[where][2, 1] = torch.nan
    # Another pack's rows learn of it through log_u.
    packs = [form(x.contiguous()) for x in teacher_logits.split(2)]
    log_u = balance(packs, 0.04, backend=backend)
    teacher = Teacher(packs[0], log_u, row_normalisers(packs[0], 0.04, log_u, backend), 0.04)
    loss = prototype_loss(
        form(logits),
        teacher,
        ibot_targets(4).to(device).clamp(max=1),
        torch.ones(4, device=device),
        backend=backend,
    )
    assert loss.isnan().tolist() == ([True] * 4 if where == "teacher" else [False, False, True, False])


class Recorded:
    """all_reduce of a whole run; then, of runs over shares of its packs, who must add up to it."""

    def __init__(self):
        self.whole, self.shares = [], []

    def record(self, x, _op):
        self.whole.append(x.clone())
        return x

    def replay(self):
        mine = []
        self.shares.append(mine)

        def reduce(x, _op):
            mine.append(x.clone())
            return x.copy_(self.whole[len(mine) - 1])

        return reduce


def test_shares_of_ranks_add_up_to_the_bit(backend, form, device):
    packs = [form(x) for x in draw(40, 32, seed=6, size=3, device=device).split([3, 17, 8, 12])]
    recorded = Recorded()
    whole = balance(packs, 0.04, all_reduce=recorded.record, backend=backend)
    for share in (packs[2:], packs[:2], [form(torch.zeros(0, 32, device=device))]):
        assert torch.equal(balance(share, 0.04, all_reduce=recorded.replay(), backend=backend), whole)
    assert torch.equal(balance(packs[::-1], 0.04, backend=backend), whole)
    for i, reduced in enumerate(recorded.whole):
        parts_of_ranks = torch.stack([share[i] for share in recorded.shares])
        joined = parts_of_ranks.sum(dim=0) if reduced.dtype == torch.int64 else parts_of_ranks.amax(dim=0)
        assert torch.equal(joined, reduced)


def test_no_row_anywhere_and_a_single_row(backend, form, device):
    empty = form(torch.zeros(0, 5, device=device))
    assert balance([empty], 0.04, backend=backend).tolist() == [0] * 5
    assert row_normalisers(empty, 0.04, torch.zeros(5, device=device), backend).shape == (0,)
    one = draw(1, 5, device=device)
    teacher = solve(form(one), 0.04, backend)
    torch.testing.assert_close(
        probabilities(one, teacher), torch.full((1, 5), 0.2, device=device).double(), rtol=1e-5, atol=0
    )
    for rows in (0, 1):
        student = draw(rows, 5, seed=1, device=device).requires_grad_()
        targets, weight = ibot_targets(rows).to(device), torch.ones(rows, device=device)
        loss = prototype_loss(form(student), teacher, targets, weight, backend=backend)
        assert loss.shape == (rows,)
        gradient = torch.autograd.grad(loss.sum(), student)[0]
        assert gradient.shape == (rows, 5)
        torch.testing.assert_close(gradient.sum(), torch.zeros((), device=device), rtol=0, atol=1e-5)


def double_loop(student, teacher, weight, S, G, images):
    """Every pair of a student crop and another global crop of the image, in float64."""
    q = published_in_logs(teacher, 0.07).exp()
    log_p = (student.double() / 0.1).log_softmax(dim=1)
    loss = torch.zeros(S * images, dtype=torch.float64, device=student.device)
    for s in range(S):
        for g in range(G):
            if s != g:
                rows = slice(s * images, (s + 1) * images)
                loss[rows] -= (q[g * images : (g + 1) * images] * log_p[rows]).sum(dim=1)
    return loss * weight.double()


@pytest.mark.parametrize("G", [1, 2])
@pytest.mark.parametrize("gradient", ["forward", "in_place", "backward"])
def test_dino_pairs_and_every_time_of_the_gradient(G, gradient, backend, device):
    student, teacher, targets, weight = dino_case(torch.float32, device, G=G)
    leaf = student.clone().requires_grad_()
    exact = student.clone().requires_grad_()
    solved = solve(teacher, 0.07, backend)
    logits = leaf * 1.0  # what is overwritten must not be a leaf
    loss = prototype_loss(logits, solved, targets, weight, 0.1, 4, gradient, backend)
    want = double_loop(exact, teacher, weight, 4, G, 3)
    torch.testing.assert_close(loss.double(), want, rtol=1e-5, atol=1e-5)
    for upstream in (torch.ones_like(loss), draw(12, seed=9, device=device)):
        loss = prototype_loss(leaf * 1.0, solved, targets, weight, 0.1, 4, gradient, backend)
        got = torch.autograd.grad(loss, leaf, upstream)[0]
        retained = torch.autograd.grad(want, exact, upstream.double(), retain_graph=True)[0]
        torch.testing.assert_close(got, retained.float(), rtol=1e-4, atol=1e-5)


def test_projected_dino_pairs_with_every_gradient(backend, device):
    """A true product this time; 16 bits on a GPU, which has no other kernel for it."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    z, w = draw(12, 20, seed=1, dtype=dtype, device=device), draw(K, 20, seed=2, dtype=dtype, device=device)
    zt, wt = draw(6, 20, seed=3, dtype=dtype, device=device), draw(K, 20, seed=4, dtype=dtype, device=device)
    weight, upstream = draw(12, seed=5, device=device).abs(), draw(12, seed=6, device=device)
    teacher = solve(Projected(zt, wt), 0.07, backend)
    leaves = [z.clone().requires_grad_(), w.clone().requires_grad_()]
    exact = [z.double().requires_grad_(), w.double().requires_grad_()]
    targets = dino_targets(4, 2, 3).to(device)
    loss = prototype_loss(Projected(*leaves), teacher, targets, weight, 0.1, backend=backend)
    want = double_loop(exact[0] @ exact[1].T, zt.double() @ wt.double().T, weight, 4, 2, 3)
    torch.testing.assert_close(loss.double(), want, rtol=1e-4, atol=1e-4)
    got = torch.autograd.grad(loss, leaves, upstream)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if device == "cpu" else {"rtol": 3e-2, "atol": 3e-2}
    for mine, theirs in zip(got, torch.autograd.grad(want, exact, upstream.double()), strict=True):
        torch.testing.assert_close(mine.double(), theirs, **tolerance)


@pytest.mark.parametrize("gradient", ["forward", "in_place"])
def test_a_second_backward_pass_is_refused(gradient, device):
    """The gradient was scaled in place by the first; a second would scale it again."""
    student, teacher, targets, weight = dino_case(torch.float32, device)
    student.requires_grad_()
    solved = solve(teacher, 0.07, "triton")
    loss = prototype_loss(student * 1.0, solved, targets, weight, gradient=gradient, backend="triton").sum()
    torch.autograd.grad(loss, student, retain_graph=True)
    with pytest.raises(RuntimeError, match=r"inplace operation|in_place"):
        torch.autograd.grad(loss, student)


def test_in_place_reuses_the_memory_only_where_a_gradient_is_wanted(device):
    student, teacher, targets, weight = dino_case(torch.bfloat16, device)
    solved, before = solve(teacher, 0.07, "triton"), student.clone()
    with torch.no_grad():
        prototype_loss(student, solved, targets, weight, gradient="in_place", backend="triton")
    assert torch.equal(student, before)
    leaf = student.clone().requires_grad_()
    logits = leaf * 1.0
    loss = prototype_loss(logits, solved, targets, weight, gradient="in_place", backend="triton")
    gradient = torch.autograd.grad(loss.sum(), logits)[0]
    assert gradient.data_ptr() == logits.data_ptr()


def test_float16_gradients_wait_for_the_scale_of_the_loss(device):
    """Weights of a step of many images are beyond float16's range until the scaled loss raises them."""
    student, teacher, targets, _ = dino_case(torch.float16, device)
    weight = torch.full((12,), 1e-9, device=device)
    student.requires_grad_()
    solved = solve(teacher, 0.07, "triton")
    loss = prototype_loss(student, solved, targets, weight, backend="triton").sum() * 2.0**24
    exact = student.detach().double().requires_grad_()
    want = double_loop(exact, teacher, weight * 2.0**24, 4, 2, 3).sum()
    got, want = torch.autograd.grad(loss, student)[0], torch.autograd.grad(want, exact)[0]
    assert (got.double() - want).norm() < 2e-3 * want.norm()


def test_same_bits_twice(form, device):
    results = []
    for _ in range(2):
        student = draw(12, K, seed=1, device=device).requires_grad_()
        teacher = solve(form(draw(6, K, seed=2, device=device)), 0.07, "triton")
        targets, weight = dino_targets(4, 2, 3).to(device), torch.ones(12, device=device)
        loss = prototype_loss(form(student), teacher, targets, weight, backend="triton")
        results.append([teacher.log_u_K, teacher.lse_B, loss, *torch.autograd.grad(loss.sum(), student)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
