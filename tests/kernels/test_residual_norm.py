"""residual_norm: the Triton kernels against their specification, and the chain against the model's blocks."""

import pytest
import torch
from closeness import assert_as_specified, results
from jaxtyping import TypeCheckError
from mutation import mutated
from torch import nn

from aqqua.kernels.residual_norm import Kept, kept_of_branches, norm_rows, op, residual_norm
from aqqua.model.block import Block, kept_views
from aqqua.model.config import ModelConfig
from aqqua.model.sequences import Sequences

LENGTHS = [3, 1, 9, 6, 4]
TOKENS = sum(LENGTHS)
KEPT = {"all": None, "some": [0, 2, 3], "backwards": [4, 1], "one_token": [1], "none": []}
PRECISIONS = {
    "float32": (torch.float32, torch.float32),
    "mixed": (torch.float32, torch.bfloat16),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "float16": (torch.float16, torch.float16),
}


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    """Three programs in the backward pass, so that each walks over several tiles."""
    tiles = {size: [_with_programs(tile) for tile in row] for size, row in op.TILES.items()}
    monkeypatch.setattr(op, "TILES", tiles)


def _with_programs(tile):
    return op.Tile(**{**vars(tile), "backward_programs": 3})


def tables(name, device, lengths=LENGTHS):
    if KEPT[name] is None:
        return None
    views = torch.tensor(KEPT[name], dtype=torch.long)
    return kept_of_branches(torch.tensor(lengths), [views], device)[0]


def drawn(width, kept, precision, device, tokens=TOKENS):
    """x, branch, gamma, weight, bias."""
    generator = torch.Generator().manual_seed(width)
    stream, compute = PRECISIONS[precision]
    rows = tokens if kept is None else len(kept.rows_U)
    sizes = [((tokens, width), stream), ((rows, width), compute), *[((width,), torch.float32)] * 3]
    draws = [torch.randn(size, generator=generator).to(device, dtype) for size, dtype in sizes]
    return [draws[0] * 2 + 0.5, *draws[1:]]


def step(kept, next_kept, gain=1.75):
    def function(backend, *inputs):
        return residual_norm(*inputs, gain=gain, kept=kept, next_kept=next_kept, backend=backend)

    return function


@pytest.mark.parametrize(
    ("kept", "following"),
    [("all", "all"), ("some", "backwards"), ("one_token", "all"), ("all", "none"), ("none", "some")],
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_value_and_every_gradient(kept, following, precision, device):
    kept, following = tables(kept, device), tables(following, device)
    assert_as_specified(step(kept, following), drawn(40, kept, precision, device))


@pytest.mark.parametrize("width", [1, 16, 128, 192, 513])
def test_widths(width, device):
    kept = tables("some", device)
    assert_as_specified(step(kept, kept), drawn(width, kept, "float32", device))


@pytest.mark.parametrize("tokens", [1, 4, 13])
def test_tokens(tokens, device):
    assert_as_specified(step(None, None), drawn(24, None, "float32", device, tokens))


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_rows(kept, dtype, device):
    table = tables(kept, device)
    x, _, _, weight, bias = drawn(40, None, "float32", device)

    def function(backend, *inputs):
        return norm_rows(*inputs, kept=table, backend=backend)

    assert_as_specified(function, [x.to(dtype), weight, bias])


def test_normed_rows_of_another_type(device):
    """The last norm of a bfloat16 pass gives float32 features."""
    x, branch, *vectors = drawn(24, None, "mixed", device)
    for backend in ("triton", "reference"):
        y, z = residual_norm(x, branch, *vectors, dtype=torch.float32, backend=backend)
        assert (y.dtype, z.dtype) == (torch.float32, torch.float32)
        assert norm_rows(x, *vectors[1:], dtype=torch.float16, backend=backend).dtype == torch.float16


@pytest.mark.parametrize("used", [0, 1])
def test_gradient_where_only_one_output_is_used(used, device):
    kept = tables("some", device)
    both = step(kept, kept)

    def function(backend, x, branch, gamma):
        return both(backend, x, branch, gamma, gamma.detach() + 1, gamma.detach())[used]

    assert_as_specified(function, drawn(24, kept, "float32", device)[:3])


def test_same_bits_every_time(device):
    kept, following = tables("some", device), tables("backwards", device)
    inputs = drawn(40, kept, "mixed", device)
    runs = [results(lambda *x: step(kept, following)("triton", *x), inputs) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_constant_rows_and_large_values(device):
    """A row without variance, and one a thousand standard deviations off zero."""
    x, branch, *vectors = drawn(40, None, "float32", device)
    x[0], branch[0], x[1] = 3.0, 0.0, x[1] + 1000
    got = step(None, None)("triton", x, branch, *vectors)
    want = step(None, None)("reference", *(t.double() for t in (x, branch, *vectors)))
    torch.testing.assert_close(got[1], want[1].float(), rtol=1e-3, atol=1e-3)


def test_nan_stays_in_its_row(device):
    x, branch, *vectors = drawn(24, None, "float32", device)
    x[5, 7] = torch.nan
    _, z = step(None, None)("triton", x, branch, *vectors)
    assert z.isnan().any(dim=1).nonzero().flatten().tolist() == [5]


# Seeded bugs: text of kernel.py and what it becomes. None reaches outside a tensor.
MUTATIONS = {
    "variance over padding": ("tl.where(m_td, b_y - b_mean[:, None], 0.0)", "b_y - b_mean[:, None]"),
    "mean over the block": ("tl.sum(b_y, axis=1) / D", "tl.sum(b_y, axis=1) / BLOCK_D"),
    "no gain": ("(gain * b_gamma)[None, :]", "b_gamma[None, :]"),
    "norm scattered as the branch": (
        "places(next_ptr, o_t, m_t, NEXT_TABLE)\n    tl.store",
        "places(position_ptr, o_t, m_t, TABLE)\n    tl.store",
    ),
    "first kept row taken for dropped": ("m_u = o_u >= 0", "m_u = o_u >= 1"),
    "no level": (" - b_level[:, None]) * b_rstd", ") * b_rstd"),
    "stream not added": ("b_dx += b_dy", "b_dx = b_dy"),
    "gamma without gain": ("b_dgamma * gain", "b_dgamma"),
    "branch without gamma": ("b_dx * b_gamma[None, :]", "b_dx * gain"),
    "tiles left out": ("ROWS), tl.num_programs(0)):", "ROWS), tl.num_programs(0) + 1):"),
}


@pytest.mark.parametrize("bug", MUTATIONS)
def test_a_seeded_bug_is_noticed(bug, device, monkeypatch):
    monkeypatch.setattr(op, "kernel", mutated("aqqua.kernels.residual_norm.kernel", *MUTATIONS[bug]))
    kept, following = tables("backwards", device), tables("some", device)  # the next branch has more rows
    inputs = drawn(40, kept, "float32", device)
    with pytest.raises(AssertionError):
        assert_as_specified(step(kept, following), inputs)


def test_tables_of_all_branches_equal_those_of_each(device):
    grids = torch.tensor([[2, 3], [1, 1], [4, 4], [2, 2], [5, 1]])
    sequences = Sequences.from_grids(grids, torch.ones(5), patch_px=14, prefix=2, device=device)
    views = [torch.tensor(kept) for kept in ([0, 2, 3], [4, 1], [0, 1, 2, 3, 4], [2])]
    found = kept_of_branches(sequences.lengths, views, device)
    for kept, chosen in zip(found, views, strict=True):
        _, rows = sequences.select(chosen)
        want = Kept.of(rows, sequences.tokens)
        assert torch.equal(kept.rows_U, rows)
        assert torch.equal(kept.position_T, want.position_T)
        assert kept.position_T.dtype == want.position_T.dtype == torch.int32


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_the_chain_equals_the_models_blocks(backend, device):
    """Two blocks with stochastic depth and the last norm: value, and the gradient of every parameter."""
    torch.manual_seed(0)
    config = ModelConfig(width=24, layers=2, heads=2, position="none", drop_path=0.4, layer_scale=0.5)
    blocks, last = (
        nn.ModuleList(Block(config) for _ in range(2)).to(device),
        nn.LayerNorm(24, 1e-6).to(device),
    )
    for block in blocks:
        block.init_weights()
    grids = torch.tensor([[1, 3], [1, 1], [2, 2], [1, 2], [3, 1]])
    sequences = Sequences.from_grids(grids, torch.ones(5), patch_px=14, prefix=1, device=device)
    x = torch.randn(sequences.tokens, 24, device=device)
    scores = torch.rand(2, 2, 5)

    want = x
    for block, scores_2V in zip(blocks, scores, strict=True):
        want = block(want, sequences, None, scores_2V)
    want = last(want)

    views = [kept_views(scores_V, 0.4) for scores_V in scores.flatten(0, 1)]
    kept = [*kept_of_branches(sequences.lengths, views, device), None]
    norms = [norm for block in blocks for norm in (block.norm1, block.norm2)] + [last]
    got, z = x, norm_rows(x, norms[0].weight, norms[0].bias, kept=kept[0], backend=backend)
    for i, (block, attends) in enumerate((block, attends) for block in blocks for attends in (True, False)):
        part, _ = sequences.select(views[i])
        branch = block.attn(z, part, None) if attends else block.mlp(z)
        gamma = (block.ls1 if attends else block.ls2).gamma
        got, z = residual_norm(
            got, branch, gamma, norms[i + 1].weight, norms[i + 1].bias,
            gain=5 / len(views[i]), kept=kept[i], next_kept=kept[i + 1], backend=backend,
        )  # fmt: skip
    torch.testing.assert_close(z, want)
    parameters = [*blocks.parameters(), *last.parameters()]
    upstream = torch.randn_like(z)
    gradients = [torch.autograd.grad(out, parameters, upstream) for out in (z, want)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


@pytest.mark.breaks_shapes
def test_torch_compile_takes_the_op_whole(device):
    kept, following = tables("some", device), tables("backwards", device)
    inputs = drawn(24, kept, "float32", device)
    compiled = torch.compile(step(kept, following), backend="aot_eager", fullgraph=True)
    got = results(lambda *x: compiled("triton", *x), inputs)
    torch.testing.assert_close(got, results(lambda *x: step(kept, following)("triton", *x), inputs))


@pytest.mark.breaks_shapes
def test_the_operators_are_registered_soundly(device):
    kept, following = tables("some", device), tables("backwards", device)
    x, branch, gamma, weight, bias = (t.requires_grad_() for t in drawn(24, kept, "float32", device))
    norm = weight, bias, following.position_T, len(following.rows_U)
    settings = torch.float32, 1e-6
    torch.library.opcheck(op.residual_norm, (x, branch, gamma, kept.position_T, *norm, 1.5, *settings))
    torch.library.opcheck(op.norm_rows, (x, *norm, *settings))


def refused(message):
    """By the op's own check, or before it by that of `make shapes`."""
    return pytest.raises((ValueError, TypeCheckError), match=f"{message}|Type-check")


def test_contract_names_the_fix(device):
    x, branch, *vectors = drawn(24, None, "float32", device)
    short = tables("some", device, [3, 1, 9, 6, 5])
    with refused(r"x must be contiguous and \[T, D\] .* got \[24, 23\]"):
        residual_norm(x.t(), branch, *vectors)
    with refused(r"D up to 2048, got \[2, 2049\]"):
        norm_rows(torch.zeros(2, 2049), torch.zeros(2049), torch.zeros(2049))
    with refused(r"the branch must be contiguous and \[18, 24\].*got \[23, 24\]"):
        residual_norm(x, branch, *vectors, kept=tables("some", device))
    with refused(r"next_kept must be made for the 23 tokens of x, int32, got \[24\]"):
        residual_norm(x, branch, *vectors, next_kept=short)
    with refused(r"gamma must be contiguous and \[24\], got \[23\]"):
        residual_norm(x, branch, vectors[0][1:], *vectors[1:])
