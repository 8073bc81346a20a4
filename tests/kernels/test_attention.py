"""Attention inside each view: the grouped path against its specification, and the choice of backend."""

import sys
from types import ModuleType

import pytest
import torch

from aqqua.kernels.attention import BACKENDS, available, choose, cuda, varlen_attention
from aqqua.kernels.attention.reference import varlen_attention_reference

PACKS = {
    "ragged": [7, 1, 130, 64, 7, 2, 64, 7],
    "one_view": [33],
    "equal": [9] * 5,
    "sorted": [1, 1, 4, 17, 17],
    "length_one": [1, 1, 1],
}


def packed(lengths, heads=3, width=16, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(4, sum(lengths), heads, width, generator=generator, dtype=torch.float32)
    *qkv, dy = (x.to(dtype=dtype, device=device) for x in draw)
    offsets = torch.tensor([0, *lengths]).cumsum(0).to(device=device, dtype=torch.int32)
    return [x.requires_grad_() for x in qkv], dy, (offsets, torch.tensor(lengths), max(lengths))


@pytest.mark.parametrize("lengths", PACKS.values(), ids=PACKS.keys())
def test_grouped_equals_reference(lengths, device):
    qkv, dy, packing = packed(lengths, device=device)
    got = varlen_attention(*qkv, *packing, backend="grouped")
    want = varlen_attention(*qkv, *packing, backend="reference")
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    for a, b in zip(torch.autograd.grad(got, qkv, dy), torch.autograd.grad(want, qkv, dy), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def eager(q, k, v, lengths):
    """softmax(q kᵀ / √E) v view by view, every product and the softmax in the inputs' dtype.

    The specification is no yardstick for bfloat16: of three-dimensional inputs PyTorch's SDPA computes in
    float32 and rounds once, which no kernel that keeps bfloat16 products can equal.
    """
    views = zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True)
    out = []
    for view in views:
        q_HnE, k_HnE, v_HnE = (x.transpose(0, 1) for x in view)
        weights = ((q_HnE @ k_HnE.mT) / q.shape[-1] ** 0.5).softmax(-1)
        out.append((weights @ v_HnE).transpose(0, 1))
    return torch.cat(out)


@pytest.mark.parametrize("lengths", PACKS.values(), ids=PACKS.keys())
def test_grouped_in_bfloat16_errs_at_most_twice_as_much_as_eager(lengths, device):
    """Value and every gradient, each against float32."""
    qkv, dy, packing = packed(lengths, dtype=torch.bfloat16, device=device)
    exact = [x.detach().float().requires_grad_() for x in qkv]

    def results(out, inputs, dy):
        return [x.detach().float() for x in (out, *torch.autograd.grad(out, inputs, dy))]

    truth = results(varlen_attention(*exact, *packing, backend="reference"), exact, dy.float())
    got = results(varlen_attention(*qkv, *packing, backend="grouped"), qkv, dy)
    plain = results(eager(*qkv, lengths), qkv, dy)
    for want, mine, theirs in zip(truth, got, plain, strict=True):
        assert (mine - want).norm() <= 2 * (theirs - want).norm() + 1e-6 * want.norm()


def test_reference_is_softmax_attention():
    (q, k, v), _, packing = packed([3, 5])
    want = torch.cat(
        [
            torch.einsum("hst,the->she", torch.einsum("she,the->hst", a, b).div(4).softmax(-1), c)
            for a, b, c in zip(q.split([3, 5]), k.split([3, 5]), v.split([3, 5]), strict=True)
        ]
    )
    torch.testing.assert_close(varlen_attention(q, k, v, *packing, backend="reference"), want)


def test_grouped_gradients_by_finite_differences():
    (q, k, v), _, packing = packed([2, 1, 3, 2], heads=2, width=4)
    inputs = [x.detach().double().requires_grad_() for x in (q, k, v)]
    assert torch.autograd.gradcheck(lambda *x: varlen_attention(*x, *packing, backend="grouped"), inputs)


def test_a_row_missing_from_the_order_would_show(device):
    """Strided inputs, as a fused projection makes them, in an order that must be undone."""
    lengths = PACKS["ragged"]
    qkv, _, packing = packed(lengths, device=device)
    fused = torch.stack(qkv, dim=1)
    got = varlen_attention(*fused.unbind(1), *packing, backend="grouped")
    torch.testing.assert_close(got, varlen_attention(*qkv, *packing, backend="reference"))


def test_auto_serves_the_cpu_with_grouped():
    assert choose(torch.device("cpu"), torch.float32) == "grouped"
    assert choose(torch.device("cpu"), torch.bfloat16) == "grouped"


@pytest.mark.parametrize("name", ["flash4", "flash2", "torch_varlen"])
def test_forced_gpu_backend_on_the_cpu_says_what_to_do(name):
    qkv, _, packing = packed([2, 3])
    with pytest.raises(RuntimeError, match=rf"'{name}' needs a CUDA device, got cpu; use 'auto'"):
        varlen_attention(*qkv, *packing, backend=name)


def test_unknown_backend_lists_the_known():
    with pytest.raises(ValueError, match=r"one of auto, triton, flash4, .*, reference, got 'flash3'"):
        choose(torch.device("cpu"), torch.float32, "flash3")


def test_available_reports_every_backend():
    report = available(torch.device("cpu"))
    assert tuple(report) == BACKENDS
    assert report["grouped"].startswith("torch ")
    assert all(report[name].startswith("needs ") for name in ("flash4", "flash2", "torch_varlen"))


def test_on_a_gpu_half_precision_prefers_a_varlen_kernel(monkeypatch):
    """The order of choice, with a pretended Hopper GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    choose.cache_clear()
    try:
        gpu = torch.device("cuda")
        assert choose(gpu, torch.bfloat16) in ("flash4", "flash2", "torch_varlen")
        assert choose(gpu, torch.float32) == "grouped"
        with pytest.raises(RuntimeError, match=r"needs float16 or bfloat16, got torch.float32"):
            choose(gpu, torch.float32, "torch_varlen")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 0))
        with pytest.raises(RuntimeError, match=r"needs compute capability .*, got 7.0"):
            choose(gpu, torch.float16, "flash2")
    finally:
        choose.cache_clear()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["flash4", "flash2", "torch_varlen"])
def test_gpu_kernels_equal_reference(name):
    if available()[name].startswith("needs"):
        pytest.skip(available()[name])
    qkv, dy, packing = packed(PACKS["ragged"], width=64, dtype=torch.bfloat16, device="cuda")
    exact = [x.detach().float().requires_grad_() for x in qkv]
    want = varlen_attention(*exact, *packing, backend="reference")
    got = varlen_attention(*qkv, *packing, backend=name)
    torch.testing.assert_close(got.float(), want, rtol=2e-2, atol=2e-2)
    grads = zip(torch.autograd.grad(got, qkv, dy), torch.autograd.grad(want, exact, dy.float()), strict=True)
    for a, b in grads:
        torch.testing.assert_close(a.float(), b, rtol=5e-2, atol=5e-2)


def test_contract_names_the_fix():
    (q, k, v), _, (offsets, lengths, longest) = packed([2, 3])
    with pytest.raises(ValueError, match=r"offsets must be int32, got torch.int64; convert when packing"):
        varlen_attention(q, k, v, offsets.long(), lengths, longest)
    with pytest.raises(ValueError, match=r"add up to the 5 tokens of 2 views, got 6 tokens of 2"):
        varlen_attention(q, k, v, offsets, torch.tensor([2, 4]), longest)
    with pytest.raises(ValueError, match=r"q, k, v must be alike and \[T, H, E\]"):
        varlen_attention(q, k.double(), v, offsets, lengths, longest)


@pytest.fixture
def pretended_flash(monkeypatch):
    """A flash-attn 2 of the same signature that computes the specification, to see what it is given."""
    seen = {}

    def flash_attn_varlen_func(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, causal=False, deterministic=False
    ):
        assert torch.equal(cu_seqlens_q, cu_seqlens_k)
        seen.update(max=(max_seqlen_q, max_seqlen_k), causal=causal, deterministic=deterministic)
        return varlen_attention_reference(q, k, v, cu_seqlens_q.diff()), "log-sum-exp"

    module = ModuleType("flash_attn")
    module.flash_attn_varlen_func = flash_attn_varlen_func
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    return module, seen


@pytest.mark.parametrize("deterministic", [False, True])
def test_flash_is_given_the_packing(pretended_flash, deterministic):
    _, seen = pretended_flash
    (q, k, v), _, (offsets, lengths, longest) = packed([2, 5, 3])
    torch.use_deterministic_algorithms(deterministic)
    got = cuda.flash2(q, k, v, offsets, longest)
    assert torch.equal(got, varlen_attention_reference(q, k, v, lengths))
    assert seen == {"max": (5, 5), "causal": False, "deterministic": deterministic}


def test_a_flash_that_would_ignore_the_packing_is_refused(pretended_flash):
    """Without offsets every view would see every other: never call such a version."""
    module, _ = pretended_flash
    module.flash_attn_varlen_func = lambda q, k, v, max_seqlen_q=None: q  # noqa: ARG005
    (q, k, v), _, (offsets, _, longest) = packed([2, 3])
    with pytest.raises(RuntimeError, match=r"must take cu_seqlens_k, cu_seqlens_q.*another version"):
        cuda.flash2(q, k, v, offsets, longest)
