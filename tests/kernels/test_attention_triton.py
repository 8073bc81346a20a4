"""The Triton attention against its specification in float64: value and gradient, and seeded bugs.

Without a GPU the kernels run in Triton's interpreter, so packs are tiny; each one still meets a narrow
tile, a wide one, blocks and sequences beyond the limit.
"""

import subprocess
import sys

import pytest
import torch
from jaxtyping import TypeCheckError
from mutation import mutated

from aqqua.kernels.attention import (
    available,
    choice,
    choose,
    make_schedule,
    op,
    qkv_attention,
    varlen_attention,
)
from aqqua.kernels.attention.launches import launches, parameters
from aqqua.kernels.attention.schedule import BLOCK, NARROW, WIDE

# Lengths, largest tile, limit.
PACKS = {
    "narrow": ([7, 1, 30, 26, 9], NARROW, 320),
    "wide": ([7, 66, 1, 30], WIDE, 320),
    "blocks": ([3, 70], NARROW, 320),
    "full_tile_and_block": ([64, 128], NARROW, 320),
    "length_one": ([1, 1], WIDE, 320),
    "rest": ([4, 80, 5, 66], NARROW, 70),
    "only_rest": ([5, 3], NARROW, 0),
}


def draw(lengths, width=32, heads=2, dtype=torch.float32, device="cpu", scale=1.0):
    """qkv, the gradient of the output and the rotary tables of a pack."""
    generator = torch.Generator().manual_seed(0)
    T = sum(lengths)
    qkv = scale * torch.randn(T, 3, heads, width, generator=generator)
    dy = torch.randn(T, heads, width, generator=generator)
    angles = 3 * torch.randn(T, width // 2, generator=generator).tile(2).to(device)
    return (
        qkv.to(device=device, dtype=dtype).requires_grad_(),
        dy.to(device=device, dtype=dtype),
        (angles.cos(), angles.sin()),
    )


def packing(lengths, device="cpu"):
    offsets = torch.tensor([0, *lengths]).cumsum(0).to(device=device, dtype=torch.int32)
    return offsets, torch.tensor(lengths), max(lengths)


def ours(qkv, lengths, rotary=None, tile=NARROW, limit=320):
    schedule = make_schedule(torch.tensor(lengths), qkv.device, largest_tile=tile, limit=limit)
    return qkv_attention(
        qkv, *packing(lengths, qkv.device), rotary=rotary, schedule=schedule, backend="triton"
    )


def exact(qkv, dy, lengths, rotary):
    """The specification's output and gradient in float64."""
    qkv = qkv.detach().double().requires_grad_()
    angles = None if rotary is None else tuple(table.double() for table in rotary)
    out = qkv_attention(qkv, *packing(lengths, qkv.device), rotary=angles, backend="reference")
    return out.detach(), torch.autograd.grad(out, qkv, dy.double())[0]


def eager(qkv, lengths, rotary):
    """softmax(q kᵀ / √E) v view by view, every product in the inputs' dtype."""
    half = qkv.shape[-1] // 2
    q, k, v = qkv.unbind(1)
    if rotary is not None:
        cos, sin = (table[:, None, :half] for table in rotary)
        q, k = (
            torch.cat(
                (x[..., :half] * cos - x[..., half:] * sin, x[..., half:] * cos + x[..., :half] * sin), -1
            )
            for x in (q, k)
        )
    out = []
    for parts in zip(*(x.to(qkv.dtype).split(lengths) for x in (q, k, v)), strict=True):
        a, b, c = (x.transpose(0, 1) for x in parts)
        out.append((((a @ b.mT) / qkv.shape[-1] ** 0.5).softmax(-1) @ c).transpose(0, 1))
    return torch.cat(out)


def assert_serves(lengths, tile, limit, device, width=32, turned=True, scale=1.0):
    """float32: within assert_close's defaults of float64."""
    qkv, dy, rotary = draw(lengths, width, device=device, scale=scale)
    rotary = rotary if turned else None
    out = ours(qkv, lengths, rotary, tile, limit)
    (grad,) = torch.autograd.grad(out, qkv, dy)
    want_out, want_grad = exact(qkv, dy, lengths, rotary)
    torch.testing.assert_close(out, want_out.float())
    torch.testing.assert_close(grad, want_grad.float())


@pytest.mark.parametrize("turned", [False, True], ids=["plain", "rotary"])
@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS.keys())
def test_float32_equals_reference(pack, turned, device, monkeypatch):
    monkeypatch.setattr("aqqua.kernels.attention.largest_tile", lambda *_: WIDE)  # slow on a GPU, and right
    assert_serves(*pack, device, turned=turned)


@pytest.mark.parametrize("width", [64, 128])
def test_wider_heads(width, device):
    assert_serves([3, 70], NARROW, 320, device, width=width)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("pack", [PACKS["wide"], PACKS["rest"]], ids=["wide", "rest"])
def test_half_precision_errs_at_most_twice_as_much_as_eager(pack, dtype, device):
    """Against float64 of the same inputs: the output, and the gradients of q, k and v each."""
    lengths, tile, limit = pack
    qkv, dy, rotary = draw(lengths, dtype=dtype, device=device)
    out, plain = ours(qkv, lengths, rotary, tile, limit), eager(qkv, lengths, rotary)
    grads, plain_grads = (torch.autograd.grad(x, qkv, dy)[0].unbind(1) for x in (out, plain))
    want_out, want_grad = exact(qkv, dy, lengths, rotary)
    for mine, theirs, want in zip(
        (out, *grads), (plain, *plain_grads), (want_out, *want_grad.unbind(1)), strict=True
    ):
        assert mine.dtype == dtype
        assert (mine.double() - want).norm() <= 2 * (theirs.double() - want).norm() + 1e-6 * want.norm()


@pytest.mark.parametrize("lengths", [[40, 20], [70]], ids=["tile", "blocks"])
def test_large_scores_do_not_overflow(lengths, device):
    """Scores of some hundreds: one weight is 1, and a key beyond the end of a block weighs nothing."""
    qkv, dy, _ = draw(lengths, scale=12.0, device=device)
    out = ours(qkv, lengths)
    (grad,) = torch.autograd.grad(out, qkv, dy)
    want_out, want_grad = exact(qkv, dy, lengths, None)
    torch.testing.assert_close(out, want_out.float(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(grad, want_grad.float(), rtol=1e-3, atol=1e-2)


def test_scores_far_below_zero_do_not_make_nan(device):
    """Every score is about −700: were a key beyond the end not masked, it would weigh 2^1000."""
    lengths = [70]
    qkv, dy, _ = draw(lengths, device=device)
    with torch.no_grad():
        qkv[:, 0], qkv[:, 1] = 11.0, -11.0
    (grad,) = torch.autograd.grad(ours(qkv, lengths), qkv, dy)
    torch.testing.assert_close(grad, exact(qkv, dy, lengths, None)[1].float(), rtol=1e-4, atol=1e-3)


def test_neighbours_in_a_tile_do_not_see_each_other(device):
    """Other values in one sequence change no bit of the others, nor of their gradients."""
    lengths = [7, 20, 9]
    qkv, dy, rotary = draw(lengths, device=device)
    other = qkv.detach().clone()
    other[7:27] = 50 * other[7:27].roll(1, 0)
    other.requires_grad_()
    out, out_other = ours(qkv, lengths, rotary), ours(other, lengths, rotary)
    grad, grad_other = torch.autograd.grad(out, qkv, dy)[0], torch.autograd.grad(out_other, other, dy)[0]
    for a, b in ((out, out_other), (grad, grad_other)):
        assert torch.equal(a[:7], b[:7])
        assert torch.equal(a[27:], b[27:])
        assert not torch.equal(a[7:27], b[7:27])


def test_two_runs_give_the_same_bits(device):
    lengths, tile, limit = PACKS["rest"]
    qkv, dy, rotary = draw(lengths, dtype=torch.float16, device=device)

    def run():
        out = ours(qkv, lengths, rotary, tile, limit)
        return out, torch.autograd.grad(out, qkv, dy)[0]

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("lengths", [[7, 9], [70]], ids=["tile", "blocks"])
def test_any_strides_serve_without_a_copy(lengths, device):
    """A [3, H, T, E] layout, within a wider tensor, gives the bits of a [T, 3, H, E] one."""
    qkv, dy, rotary = draw(lengths, device=device)
    wide = torch.full((3, 2, sum(lengths), 48), float("nan"), device=device)
    wide[..., 8:40] = qkv.detach().permute(1, 2, 0, 3)
    strided = wide[..., 8:40].permute(2, 0, 1, 3).requires_grad_()
    strided_rotary = tuple(torch.cat((table, table), 1)[:, : table.shape[1]] for table in rotary)
    out, got = ours(qkv, lengths, rotary), ours(strided, lengths, strided_rotary)
    assert torch.equal(got, out)
    want = torch.autograd.grad(out, qkv, dy)[0]
    back = dy.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(torch.autograd.grad(got, strided, back)[0], want)


def test_forced_triton_serves_varlen_attention(device):
    lengths = [5, 9]
    qkv, _, _ = draw(lengths, device=device)
    q, k, v = qkv.unbind(1)
    got = varlen_attention(q, k, v, *packing(lengths, device), backend="triton")
    torch.testing.assert_close(got, varlen_attention(q, k, v, *packing(lengths, device), backend="reference"))


@pytest.mark.parametrize("backend", ["grouped", "reference"])
def test_other_backends_turn_first(backend):
    lengths = [5, 9]
    qkv, _, rotary = draw(lengths)
    got = qkv_attention(qkv, *packing(lengths), rotary=rotary, backend=backend)
    torch.testing.assert_close(got, eager(qkv, lengths, rotary))


def test_operators_are_proper_operators(device):
    """Schema, fake tensors, autograd registration and ahead-of-time dispatch (torch.library.opcheck)."""
    lengths = [5, 66]
    qkv, dy, (cos, sin) = draw(lengths, heads=1, device=device)
    schedule = make_schedule(torch.tensor(lengths), device, largest_tile=NARROW)
    tables = (schedule.narrow_B2R, schedule.wide_B2R, schedule.blocks_B4, cos, sin)
    torch.library.opcheck(op.attention_forward, (qkv, *tables, None, None))
    out, lse = op.attention_forward(qkv.detach(), *tables, None, None)
    torch.library.opcheck(op.attention_backward, (dy, qkv.detach(), out, lse, *tables))


def test_compiles_into_one_graph(device):
    """A pack with a tile and a sequence beyond the limit, forward and backward, without a graph break."""
    lengths = [5, 9, 66]
    qkv, dy, rotary = draw(lengths, device=device)
    schedule = make_schedule(torch.tensor(lengths), device, largest_tile=NARROW, limit=64)

    def layer(x):
        return op.attend(2 * x, schedule, rotary, lambda rest, _: rest[:, 0] * rest[:, 2]).sin()

    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    got, want = compiled(qkv), layer(qkv)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, qkv, dy), torch.autograd.grad(want, qkv, dy))


# What torch.compile makes of the operators where Triton compiles, with a pretended GPU: prints which
# tensors it believes that each kernel writes. What it is wrong about, it copies first.
WRITTEN = """
import torch, triton
from torch._functorch.aot_autograd import aot_function
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget
from aqqua.kernels.attention import make_schedule, op

class Hopper:
    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

def show(graph, _):
    for node in graph.graph.nodes:
        if "triton_kernel" in str(node.target):
            print(*node.kwargs["tensors_to_clone"])
    return graph.forward

triton.runtime.driver.set_active(Hopper())
schedule = make_schedule(torch.tensor([5, 200]), "cpu")
qkv = torch.zeros(205, 3, 1, 32, dtype=torch.bfloat16, requires_grad=True)
inputs = (qkv, schedule.narrow_B2R, schedule.wide_B2R, schedule.blocks_B4, *torch.zeros(2, 205, 32))
with FakeTensorMode() as fake:
    inputs = [fake.from_tensor(x) for x in inputs]
    attention = aot_function(
        lambda *x: op.attention_forward(*x, None, None)[0], fw_compiler=show, bw_compiler=show
    )
    attention(*inputs).sum().backward()
"""


def test_torch_compile_sees_what_the_kernels_write(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = subprocess.run([sys.executable, "-c", WRITTEN], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == ["out_ptr", "out_ptr lse_ptr", "dqkv_ptr", "dqkv_ptr"]


# A bug in kernel.py (tiles) or kernel_long.py (blocks): what it replaces, what by.
TILE_BUGS = {
    "sequences see each other": ("view_R[:, None] == view_R[None, :]", "view_R[:, None] > -2"),
    "scores not scaled": ("s_RR * scale_log2", "s_RR"),
    "output not normalised": ("v_RE) / sum_R[:, None]", "v_RE)"),
    "first half twice": ("load(ptr + E // 2, at_R", "load(ptr, at_R"),
    "turned the wrong way": ("x * cos - y * sin", "x * cos + y * sin"),
    "gradient turned back the wrong way": ("cos, -sin)", "cos, sin)"),
    "weights not normalised in backward": ("p_RR = p_RR / sum_R[:, None]", "p_RR = p_RR"),
    "no delta": ("(dp_RR - delta_R[:, None])", "dp_RR"),
    "gradient of keys not scaled": ("dka * scale", "dka"),
    "gradient of values in the keys' place": ("dqkv_ptr + 2 * H * E", "dqkv_ptr + H * E"),
}
BLOCK_BUGS = {
    "keys beyond the end": ('tl.where(m_N[None, :], s_RN * scale_log2, float("-inf"))', "s_RN * scale_log2"),
    "output not shrunk": ("o_RE * shrink_R[:, None]", "o_RE"),
    "sum not shrunk": ("sum_R * shrink_R", "sum_R"),
    "log-sum-exp without the sum": ("max_R + tl.math.log2(sum_R)", "max_R"),
    "log-sum-exp of the first block": ("(block + query // R)", "block"),
    "last queries left out": (
        "tl.range(0, length, R, num_stages=STAGES):\n        token_N = start + query",
        "tl.range(0, length - R, R, num_stages=STAGES):\n        token_N = start + query",
    ),
    "no delta": ("dp_RN - delta_N[None, :]", "dp_RN"),
    "second half of keys from the first of queries": ("dkb += dot(ds_RN, qb)", "dkb += dot(ds_RN, qa)"),
    "gradient of queries not scaled": ("dqa * scale", "dqa"),
}


def seed_bug(monkeypatch, module, bug):
    copy = mutated(f"aqqua.kernels.attention.{module}", *bug)
    kind = "tile" if module == "kernel" else "block"
    for kernel in (f"{kind}_forward", f"{kind}_backward"):
        monkeypatch.setattr(op, kernel, getattr(copy, kernel))


@pytest.mark.parametrize("bug", TILE_BUGS.values(), ids=TILE_BUGS.keys())
def test_a_bug_in_the_tiles_is_noticed(bug, device, monkeypatch):
    seed_bug(monkeypatch, "kernel", bug)
    with pytest.raises(AssertionError, match=r"Tensor-likes are not close"):
        assert_serves([7, 20], NARROW, 320, device)


@pytest.mark.parametrize("bug", BLOCK_BUGS.values(), ids=BLOCK_BUGS.keys())
def test_a_bug_in_the_blocks_is_noticed(bug, device, monkeypatch):
    seed_bug(monkeypatch, "kernel_long", bug)
    with pytest.raises(AssertionError, match=r"Tensor-likes are not close"):
        assert_serves([70], NARROW, 320, device)


def test_an_unmasked_key_in_backward_is_noticed(device, monkeypatch):
    masked = "tl.where(m_N[None, :], tl.math.exp2(s_RN * scale_log2 - lse_R[:, None]), 0.0)"
    seed_bug(monkeypatch, "kernel_long", (masked, "tl.math.exp2(s_RN * scale_log2 - lse_R[:, None])"))
    with pytest.raises(AssertionError, match=r"Tensor-likes are not close"):
        test_scores_far_below_zero_do_not_make_nan(device)


def test_every_launch_names_every_argument():
    """What the offline compiler is given; compiling it is aqqua.kernels.offline."""
    found = launches()
    assert len({(launch.name, launch.architectures) for launch in found}) == len(found)
    for launch in found:
        assert {*launch.signature, *launch.constants} == set(launch.kernel.arg_names)
        assert not {*launch.signature} & {*launch.constants}


@pytest.mark.parametrize("kernel", ["tile_forward", "tile_backward", "block_forward", "block_backward"])
def test_launch_parameters_exist_for_every_shape(kernel):
    for rows in [BLOCK] if kernel.startswith("block") else [NARROW, WIDE]:
        for width in (32, 64, 128):
            assert parameters(kernel, rows, torch.bfloat16, width).num_warps in (4, 8)


@pytest.fixture
def fresh_choice():
    choose.cache_clear()
    choice.choose_other.cache_clear()
    yield
    choose.cache_clear()
    choice.choose_other.cache_clear()


def test_triton_serves_where_it_can(monkeypatch, fresh_choice):  # noqa: ARG001
    cpu = torch.device("cpu")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose(cpu, torch.float32, "triton") == "triton"
    assert choose(cpu, torch.float32) == "grouped"
    choose.cache_clear()
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(RuntimeError, match=r"'triton' needs a CUDA device, got cpu; use 'auto'"):
        choose(cpu, torch.float32, "triton")
    assert available(cpu)["triton"].startswith("needs ")


def test_triton_comes_first_only_where_it_was_measured(monkeypatch, fresh_choice):  # noqa: ARG001
    gpu = torch.device("cuda")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    assert choose(gpu, torch.bfloat16) != "triton"
    assert choose(gpu, torch.float32, "triton") == "triton"
    choose.cache_clear()
    monkeypatch.setattr(choice, "TRITON_FIRST", frozenset({(9, 0)}))
    assert choose(gpu, torch.bfloat16) == "triton"
    assert choice.choose_other(gpu, torch.bfloat16) != "triton"


def test_contract_names_the_fix():
    lengths = [2, 3]
    qkv, _, (cos, sin) = draw(lengths)
    shapes = (ValueError, TypeCheckError)  # the second where `make shapes` checks before we do
    with pytest.raises(
        shapes, match=r"qkv must be \[T, 3, H, E\], got \[5, 2, 2, 32\]; unflatten|Type-check"
    ):
        qkv_attention(qkv[:, :2], *packing(lengths))
    with pytest.raises(shapes, match=r"rotary tables must be \[5, 32\].* got \[4, 32\]|Type-check"):
        qkv_attention(qkv, *packing(lengths), rotary=(cos[:4], sin[:4]))
    with pytest.raises(ValueError, match=r"needs heads of 32, 64, 128 .* got 16 in torch.float32"):
        ours(qkv[..., :16], lengths)
    with pytest.raises(ValueError, match=r"values of a head must be neighbours, got strides"):
        ours(qkv.transpose(2, 3).contiguous().transpose(2, 3), lengths)
    with pytest.raises(ValueError, match=r"schedule must be of 5 tokens on cpu, got 6 on cpu"):
        ours(qkv, [2, 4])
    with pytest.raises(ValueError, match=r"at most 64 rows for torch.float32 on this device, got 128"):
        ours(torch.zeros(70, 3, 1, 32), [70], tile=WIDE)
