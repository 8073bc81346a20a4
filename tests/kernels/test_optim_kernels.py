"""optim: the fused step against PyTorch's own clip, AdamW and lerp, and the kernels against the reference.

Tolerance: assert_close's defaults for float32; a bfloat16 copy may be one unit off in the interpreter, which
cuts off where a GPU rounds to nearest.
"""

import math

import pytest
import torch
from jaxtyping import TypeCheckError
from mutation import mutated

from aqqua.kernels.optim import Rates, StepState, op, optimizer_step, rates_table
from aqqua.kernels.registration import interpreted

# Chunks of 64 values in blocks of 16: whole blocks, a rest, several chunks, single values, none at all.
SHAPES = [(1,), (7,), (64,), (3, 5), (0,), (129,), (2, 2, 4), (1003,)]
GROUPS = [0, 1, 2, 0, 1, 2, 0, 1]
MODULES = [1, 0, 1, 0, 0, 2, 2, 1]
RATES = [Rates(1e-2, 0.04), Rates(3e-3, 0.0, beta1=0.8, beta2=0.99), Rates(0.0, 0.4, beta1=0.3, eps=1e-3)]
CLIP = 0.7  # some modules' norms are above it, and some below


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(op, "CHUNK", 64)
    monkeypatch.setattr(op, "TILES", {name: {"BLOCK": 16, "num_warps": 1} for name in ("squares", "update")})
    monkeypatch.setattr(op, "FACTORS", {"BLOCK_C": 4, "BLOCK_S": 4, "num_warps": 1})


def drawn(seed, device, dtype=torch.float32, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(shape, generator=generator) * scale).to(device, dtype) for shape in SHAPES]


def gradients_of(step, device, dtype=torch.float32):
    """Of very different sizes: module 0 is under the clip, 1 and 2 are over it."""
    sizes = [10.0**-module for module in (1, 2, 0)]
    given = drawn(100 + step, device, dtype)
    return [g * sizes[module] for g, module in zip(given, MODULES, strict=True)]


def made(device, dtype=torch.float32, teacher=True, copy=torch.bfloat16):
    parameters = drawn(0, device, dtype)
    teachers = drawn(1, device, dtype) if teacher else None
    copies = None if copy is None else [torch.full_like(p, math.nan, dtype=copy) for p in parameters]
    return StepState.of(parameters, GROUPS, MODULES, teachers, copies)


def walk(state, backend, steps=3, dtype=torch.float32, max_norm=CLIP, momentum=0.9, **options):
    rates = rates_table(RATES, momentum, state.device)
    norms = []
    for step in range(steps):
        gradients = gradients_of(step, state.device, dtype)
        norms.append(optimizer_step(state, gradients, rates, max_norm, backend=backend, **options))
    return torch.stack(norms)


def assert_same(got, want):
    """Moments, counts, parameters, teachers and copies."""
    torch.testing.assert_close(got.counts_S, want.counts_S, rtol=0, atol=0)
    for mine, theirs in zip(got.moved, want.moved, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            if a.dtype == torch.float32:
                torch.testing.assert_close(a, b.float())
            else:
                torch.testing.assert_close(a, b.to(a.dtype), rtol=2**-7 if interpreted() else 2**-8, atol=0)


@pytest.mark.parametrize("backend", ["triton", "reference"])
@pytest.mark.parametrize("max_norm", [CLIP, math.inf])
def test_is_pytorchs_clip_adamw_and_lerp(backend, max_norm, device):
    state = made(device)
    norms = walk(state, backend, max_norm=max_norm)

    parameters = [torch.nn.Parameter(p) for p in drawn(0, device)]
    teachers = drawn(1, device)
    groups = [
        {"params": [p for p, group in zip(parameters, GROUPS, strict=True) if group == number],
         "lr": r.lr, "weight_decay": r.weight_decay, "betas": (r.beta1, r.beta2), "eps": r.eps}
        for number, r in enumerate(RATES)
    ]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, foreach=False)
    for step in range(3):
        for parameter, gradient in zip(parameters, gradients_of(step, device), strict=True):
            parameter.grad = gradient
        for module in range(3):
            own = [p for p, m in zip(parameters, MODULES, strict=True) if m == module]
            norm = torch.nn.utils.clip_grad_norm_(own, max_norm if math.isfinite(max_norm) else 1e30)
            torch.testing.assert_close(norms[step, module], norm)
        optimizer.step()
        for teacher, parameter in zip(teachers, parameters, strict=True):
            teacher.lerp_(parameter.detach(), 1 - 0.9)
    for number, parameter in enumerate(parameters):
        moments = optimizer.state[parameter]
        torch.testing.assert_close(state.parameters[number], parameter.detach())
        torch.testing.assert_close(state.averages[number], moments["exp_avg"])
        torch.testing.assert_close(state.squares[number], moments["exp_avg_sq"])
        torch.testing.assert_close(state.teachers[number], teachers[number])
        if parameter.numel():
            assert state.counts_S[number] == moments["step"] == 3


@pytest.mark.parametrize(
    ("gradient", "teacher", "copy"),
    [
        (torch.float32, True, torch.bfloat16),
        (torch.bfloat16, True, None),
        (torch.float16, False, torch.float16),
        (torch.float32, False, None),
    ],
    ids=str,
)
def test_every_state_as_specified(gradient, teacher, copy, device):
    state, exact = made(device, teacher=teacher, copy=copy), made(device, torch.float64, teacher, copy)
    norms = walk(state, "triton", dtype=gradient)
    want = walk(exact, "reference", dtype=gradient)
    torch.testing.assert_close(norms, want.float())
    assert_same(state, exact)


def test_tensors_that_are_not_aligned(device):
    """Slices of one flat tensor, as a sharded optimizer holds: wide loads would fault."""
    flat = torch.zeros(1 + sum(math.prod(shape) for shape in SHAPES), device=device)
    start, parameters = 1, []
    for values in drawn(0, device):
        part = flat[start : start + values.numel()].view(values.shape)
        parameters.append(part.copy_(values))
        start += values.numel()
    state, want = StepState.of(parameters, GROUPS, MODULES), made(device, torch.float64, False, None)
    walk(state, "triton")
    walk(want, "reference")
    assert_same(state, want)
    assert flat[0] == 0


def test_a_parameter_without_a_gradient(device):
    """Parameter, moments and count stay; teacher and copy follow. Then its first step is its first."""
    state, exact = made(device), made(device, torch.float64)
    before = state.parameters[7].clone()
    rates = rates_table(RATES, 0.9, device)
    for step in range(3):
        gradients = gradients_of(step, device)
        if step < 2:
            gradients[7] = None
        for one, backend in ((state, "triton"), (exact, "reference")):
            optimizer_step(one, gradients, rates, CLIP, backend=backend)
        if step == 1:
            assert torch.equal(state.parameters[7], before)
            assert not state.averages[7].any()
    assert_same(state, exact)
    assert state.counts_S[7] == 1
    assert state.counts_S[0] == 3


def test_no_gradient_at_all(device):
    state = made(device)
    norms = optimizer_step(state, [None] * 8, rates_table(RATES, 1.0, device), CLIP, backend="triton")
    assert norms.tolist() == [0, 0, 0]
    assert torch.equal(state.parameters[7], drawn(0, device)[7])


@pytest.mark.parametrize("backend", ["triton", "reference"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_step_that_is_not_finite_changes_nothing(backend, value, device):
    state, found = made(device), torch.zeros(1, device=device)
    walk(state, backend, steps=1, found_inf=found)
    assert found.item() == 0
    before = [[x.clone() for x in kind] for kind in state.moved]
    gradients = gradients_of(1, device)
    gradients[3][2, 4] = value
    norms = optimizer_step(state, gradients, rates_table(RATES, 0.9, device), CLIP, found, backend=backend)
    assert found.item() == 1
    assert norms.isfinite().tolist() == [False, True, True]
    for old, kind in zip(before, state.moved, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(old, kind, strict=True))
    assert set(state.counts_S.tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_the_caller_may_have_found_it(backend, device):
    state = made(device)
    walk(state, backend, steps=1, found_inf=torch.ones(1, device=device))
    assert all(torch.equal(a, b) for a, b in zip(state.parameters, drawn(0, device), strict=True))
    assert not state.counts_S.any()


def test_without_a_flag_nan_spreads_over_its_module(device):
    """As in torch: a NaN norm makes every gradient that it scales NaN."""
    state = made(device)
    gradients = gradients_of(0, device)
    gradients[3][2, 4] = math.nan
    optimizer_step(state, gradients, rates_table(RATES, 0.9, device), CLIP, backend="triton")
    assert [bool(p.isnan().all()) for p in state.parameters if p.numel()] == [
        module == 0 for module, shape in zip(MODULES, SHAPES, strict=True) if math.prod(shape)
    ]


@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_teacher_at_the_ends_of_momentum(backend, device):
    state = made(device)
    before = [t.clone() for t in state.teachers]
    walk(state, backend, steps=1, momentum=1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, state.teachers, strict=True))
    walk(state, backend, steps=1, momentum=0.0)
    assert all(torch.equal(a, b) for a, b in zip(state.parameters, state.teachers, strict=True))


def test_shards_make_the_whole(device):
    """Two halves of every tensor on two ranks, whose squares are added, move as the whole does."""
    whole, exact = made(device), made(device, torch.float64)
    rates, found = rates_table(RATES, 0.9, device), torch.zeros(1, device=device)
    gradients = gradients_of(0, device)
    halves = [
        StepState.of([p.flatten()[part::2].contiguous() for p in whole.parameters], GROUPS, MODULES)
        for part in (0, 1)
    ]
    squares = [torch.zeros(3, device=device) for _ in halves]

    def own(part):
        return [g.flatten()[part::2].contiguous() for g in gradients]

    for part in (0, 1):  # what the other rank will add
        norms = optimizer_step(
            StepState.of(halves[part].parameters, GROUPS, MODULES), own(part),
            rates_table([Rates(0.0, 0.0)] * 3, 1.0, device), backend="triton",
        )  # fmt: skip
        squares[part] = norms.square()
    for part, half in enumerate(halves):
        other = squares[1 - part]
        norms = optimizer_step(
            half, own(part), rates, CLIP, found, reduce=lambda x, other=other: x.add_(other), backend="triton"
        )
    torch.testing.assert_close(norms, optimizer_step(exact, gradients, rates, CLIP).float())
    for number, parameter in enumerate(exact.parameters):
        got = torch.empty_like(whole.parameters[number]).flatten()
        for part, half in enumerate(halves):
            got[part::2] = half.parameters[number]
        torch.testing.assert_close(got, parameter.flatten().float())


def test_many_steps_keep_the_bias_correction_exact(device):
    """Near the start in float32, 1 − β₂ⁿ would lose four digits; late, both are 1."""
    for count in (1, 10, 100_000):
        state, exact = made(device), made(device, torch.float64)
        for one in (state, exact):
            one.counts_S.fill_(count - 1)
        walk(state, "triton", steps=1)
        walk(exact, "reference", steps=1)
        assert_same(state, exact)


def test_same_bits_every_time(device):
    runs = [made(device) for _ in range(2)]
    norms = [walk(state, "triton") for state in runs]
    assert torch.equal(*norms)
    for kinds in zip(*(state.moved for state in runs), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(*kinds, strict=True))


def test_three_launches_whatever_the_number_of_tensors(device, monkeypatch):
    seen = []

    class Counting:
        def __init__(self, name):
            self.name = name

        def __getitem__(self, grid):
            return lambda *_, **__: seen.append(self.name)

    for name in ("squares_kernel", "factors_kernel", "update_kernel"):
        monkeypatch.setattr(op.kernel, name, Counting(name))
    walk(made(device), "triton", steps=1)
    assert seen == ["squares_kernel", "factors_kernel", "update_kernel"]


def test_autograd_hears_of_the_writes(device):
    state = made(device)
    leaf = state.parameters[7].requires_grad_()
    loss = leaf.square().sum()
    walk(state, "triton", steps=1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# Seeded bugs: text of kernel.py and what it becomes. None reaches outside a tensor.
MUTATIONS = {
    "rest of a chunk not squared": ("whole < left:\n        b_gradient", "whole > left:\n        b_gradient"),
    "one block of partial sums": ("in range(start, end, BLOCK_C)", "in range(start, start + 1, BLOCK_C)"),
    "a module over": ("start = tl.load(first_ptr + i_m)\n", "start = tl.load(first_ptr + 0)\n"),
    "clip of another module": ("b_module[:, None] == o_m", "b_module[:, None] * 0 == o_m"),
    "clip makes larger too": ("tl.minimum(b_clip, 1.0, propagate_nan=tl.PropagateNan.ALL)", "b_clip"),
    "always the first group": ("6 * tl.load(tensors_ptr + 8 * o_s + 7, mask=m_s, other=0)", "0 * o_s"),
    "decay not by the rate": ("1.0 - b_lr * b_decay", "1.0 - b_decay"),
    "no first bias correction": ("(b_lr / b_bias1)", "(b_lr)"),
    "second bias correction without root": ("(1.0 / tl.sqrt(b_bias2))", "(1.0 / b_bias2)"),
    "count not moved": ("tl.where(m_given, taken, 0.0)", "tl.where(m_given, 0.0, 0.0)"),
    "eps under the root": ("tl.sqrt_rn(b_square) * root2 + eps", "tl.sqrt_rn(b_square + eps) * root2"),
    "square of the unclipped": ("b_gradient *= clip", "b_gradient *= 1.0"),
    "chunks all the first": (".to(tl.int64) * CHUNK", ".to(tl.int64) * 0"),
    "teacher of the old parameter": ("lerp(b_teacher, b_p, follow)", "lerp(b_teacher, b_teacher, follow)"),
    "lerp the wrong way": ("near_start = start + weight", "near_start = start - weight"),
    "half a copy": ("copy_ptr.dtype.element_ty), mask=m)", "copy_ptr.dtype.element_ty), mask=m & (o < 8))"),
}  # fmt: skip


@pytest.mark.parametrize("bug", MUTATIONS)
def test_a_seeded_bug_is_noticed(bug, device, monkeypatch):
    exact = made(device, torch.float64)
    want = walk(exact, "reference", steps=2)
    monkeypatch.setattr(op, "kernel", mutated("aqqua.kernels.optim.kernel", *MUTATIONS[bug]))
    state = made(device)
    norms = walk(state, "triton", steps=2)
    with pytest.raises(AssertionError):  # noqa: PT012  either may notice
        torch.testing.assert_close(norms, want.float())
        assert_same(state, exact)


def test_a_flag_that_is_ignored_is_noticed(device, monkeypatch):
    ignored = "left = tl.where(tl.load(o_row + 9) != 0.0, left, 0)", "left = left"
    monkeypatch.setattr(op, "kernel", mutated("aqqua.kernels.optim.kernel", *ignored))
    with pytest.raises(AssertionError):
        test_the_caller_may_have_found_it("triton", device)


def refused(message):
    """By the op's own check, or before it by that of `make shapes`."""
    return pytest.raises((ValueError, TypeCheckError), match=f"{message}|Type-check")


def test_contract_names_the_fix(device):
    state, rates = made(device), rates_table(RATES, 0.9, device)
    gradients = gradients_of(0, device)
    with refused(r"for each of 8 parameters, got 7; keep the order"):
        optimizer_step(state, gradients[:7], rates)
    with refused(r"of one dtype, got \['torch.bfloat16', 'torch.float32'\]"):
        optimizer_step(state, [gradients[0].bfloat16(), *gradients[1:]], rates)
    with refused(r"gradient 0 must be contiguous and \[1\] on .* got \[7\]"):
        optimizer_step(state, [gradients[1], *gradients[1:]], rates)
    with refused(r"rates must be \[3, 6\] float64 .* make them by rates_table"):
        optimizer_step(state, gradients, rates.float())
    with refused(r"max_norm must be positive, got nan"):
        optimizer_step(state, gradients, rates, math.nan)
    with refused(r"found_inf must be \[1\] float32"):
        optimizer_step(state, gradients, rates, found_inf=torch.zeros((), device=device))
    with refused(r"momentum must be within \[0, 1\], got 1.1"):
        rates_table(RATES, 1.1, device)
    with refused(r"must be a parameter, got none"):
        StepState.of([], [], [])
    with refused(r"one for each of 8 parameters.* keep one order"):
        StepState.of(state.parameters, GROUPS[1:], MODULES)
    with refused(r"must be float32, got torch.bfloat16; 16-bit weights are `copies`"):
        StepState.of(state.copies, GROUPS, MODULES)
    with refused(r"tensor 3 must be contiguous, \[3, 5\] torch.float32"):
        StepState.of(state.parameters, GROUPS, MODULES, [t.t() if t.ndim == 2 else t for t in state.teachers])


def test_tensors_must_stay_where_they_are(device):
    state = made(device)
    walk(state, "triton", steps=1)
    state.parameters[7].data = state.parameters[7].clone()
    with pytest.raises(ValueError, match=r"must stay where they are, .* or make a new StepState"):
        walk(state, "triton", steps=1)
