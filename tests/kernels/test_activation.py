"""activation: the Triton kernels against their specification, alone and with the product that follows."""

import pytest
import torch
from closeness import assert_as_specified, results
from jaxtyping import TypeCheckError
from mutation import mutated
from torch.nn import functional as F  # noqa: N812

from aqqua.kernels.activation import activated_linear, gelu, op, swiglu

ALONE = {"gelu": gelu, "swiglu": swiglu}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def drawn(kind, tokens, width, dtype, device, out=5):
    """Pre-activation up to ±9, where the tails of both functions begin; weight, bias."""
    generator = torch.Generator().manual_seed(tokens)
    a = torch.randn(tokens, width * (2 if kind == "swiglu" else 1), generator=generator) * 3
    layer = torch.randn(out, width, generator=generator) / width**0.5, torch.randn(out, generator=generator)
    return [x.to(device, dtype) for x in (a, *layer)]


def alone(kind):
    return lambda backend, a: ALONE[kind](a, backend=backend)


def with_product(kind):
    return lambda backend, *inputs: activated_linear(*inputs, kind, backend=backend)


@pytest.mark.parametrize("kind", ALONE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("tokens", "width"), [(1, 1), (9, 40), (3, 257), (0, 8)])
def test_value_and_every_gradient(kind, dtype, tokens, width, device):
    inputs = drawn(kind, tokens, width, dtype, device)
    assert_as_specified(alone(kind), inputs[:1])
    assert_as_specified(with_product(kind), inputs)


@pytest.mark.parametrize("kind", ALONE)
def test_only_the_pre_activation_is_kept(kind, device):
    a, weight, bias = (x.requires_grad_() for x in drawn(kind, 9, 40, torch.float32, device))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        activated_linear(a, weight, bias, kind, backend="triton")
    assert sorted(kept) == sorted([a.shape, weight.shape])


def test_the_functions_are_pytorchs(device):
    a = drawn("gelu", 9, 40, torch.float32, device)[0]
    torch.testing.assert_close(gelu(a, backend="reference"), F.gelu(a), rtol=0, atol=0)
    gate, up = a.chunk(2, dim=-1)
    torch.testing.assert_close(swiglu(a, backend="reference"), F.silu(gate) * up, rtol=0, atol=0)


def test_large_values_do_not_overflow(device):
    a = torch.tensor([[-3e4, -90.0, 0.0, 90.0, 3e4, -0.0]], device=device)
    assert_as_specified(alone("gelu"), [a])
    assert_as_specified(alone("swiglu"), [a])


def test_weights_are_used_in_the_type_of_the_pre_activation(device):
    """As autocast would: float32 parameters with bf16 values, float32 gradients."""
    a, weight, bias = drawn("gelu", 9, 40, torch.float32, device)
    leaves = [a.bfloat16().requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    out = activated_linear(*leaves, "gelu", backend="triton")
    gradients = torch.autograd.grad(out.sum(), leaves)
    assert out.dtype == torch.bfloat16
    assert [g.dtype for g in gradients] == [torch.bfloat16, torch.float32, torch.float32]


@pytest.mark.parametrize("kind", ALONE)
def test_same_bits_every_time(kind, device):
    inputs = drawn(kind, 9, 300, torch.bfloat16, device)
    runs = [results(lambda *x: with_product(kind)("triton", *x), inputs) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


MUTATIONS_OF_GELU = {
    "half of erf": ("0.5 * (1.0 + tl.erf", "(1.0 + tl.erf"),
    "no 1/√2": ("tl.erf(a * 0.7071067811865476)", "tl.erf(a)"),
    "no density": ("(b_distribution + b_density)", "b_distribution"),
}
MUTATIONS_OF_SWIGLU = {
    "gate for value": ("b_gate * tl.sigmoid(b_gate) * b_up", "b_gate * tl.sigmoid(b_up) * b_up"),
    "silu' without its second term": ("b_silu * (1.0 - b_sigmoid)", "0.0"),
    "halves the same": ("a_ptr + o_a + F, mask", "a_ptr + o_a, mask"),
    "the value's gradient by the gate": ("o_a + F, b_dh * b_silu", "o_a + F, b_dh * b_gate"),
    "activation again without its value": ("b_h = b_silu * b_up", "b_h = b_silu"),
    "first block only": ("i_f * BLOCK_F + tl.arange", "tl.arange"),
}
MUTATIONS = {**MUTATIONS_OF_GELU, **MUTATIONS_OF_SWIGLU}


@pytest.mark.parametrize("bug", MUTATIONS)
def test_a_seeded_bug_is_noticed(bug, device, monkeypatch):
    monkeypatch.setattr(op, "kernel", mutated("aqqua.kernels.activation.kernel", *MUTATIONS[bug]))
    kind = "gelu" if bug in MUTATIONS_OF_GELU else "swiglu"
    inputs = drawn(kind, 9, 300, torch.float32, device)
    with pytest.raises(AssertionError):
        assert_as_specified(with_product(kind), inputs)


@pytest.mark.breaks_shapes
def test_the_operators_are_registered_soundly(device):
    a, weight, bias = (x.requires_grad_() for x in drawn("swiglu", 3, 8, torch.float32, device))
    torch.library.opcheck(op.activation, (a, True))
    torch.library.opcheck(op.activated_linear, (a, weight, bias, True))


def refused(message):
    """By the op's own check, or before it by that of `make shapes`."""
    return pytest.raises((ValueError, TypeCheckError), match=f"{message}|Type-check")


def test_contract_names_the_fix(device):
    a, weight, bias = drawn("gelu", 9, 41, torch.float32, device)
    with refused(r"must be contiguous and \[T, F\], got \[41, 9\]"):
        gelu(a.t())
    with refused(r"hold gates and values, got width 41; make it even"):
        swiglu(a)
    with refused(r"must be \[D, 41\] and \[D\], got \[5, 41\] and \[4\]"):
        activated_linear(a, weight, bias[1:], "gelu")
    with refused(r"one of gelu, swiglu, got 'relu'"):
        activated_linear(a, weight, bias, "relu")
