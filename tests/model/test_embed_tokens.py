"""Tokens made in one pass by aqqua.kernels.embed equal those that the embedding's own modules make."""

import pytest
import torch

from aqqua.kernels.embed import placing
from aqqua.model.config import ModelConfig
from aqqua.model.embed import TokenEmbedding
from aqqua.model.sequences import Sequences

POSITIONS = ["learned", "offset", "factorised", "gsd", "rope", "none"]
UM = [1.0, 88.0, float("nan"), 0.3, 2.5, float("nan"), 1.0]


def embedding(position, device, backend="auto", **fields):
    """Every parameter loud, so that a difference cannot hide."""
    fields = {"registers": 2, "position_grid": 3, **fields}
    if position == "offset":
        fields |= {"position": "learned", "position_interpolation": "offset"}
    else:
        fields |= {"position": position}
    made = TokenEmbedding(ModelConfig(width=32, heads=2, patch_px=2, **fields), backend)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return made.to(device)


def pack(device, prefix=3, seed=0, views=7):
    """Views of random lengths, some of them alike, one of the table's own grid; patches; mask."""
    generator = torch.Generator().manual_seed(seed)
    grids = torch.randint(1, 5, (views, 2), generator=generator)
    grids[1] = torch.tensor([3, 3])
    grids[-1] = grids[0]
    sequences = Sequences.from_grids(grids, torch.tensor(UM[:views]), 2, prefix, device)
    patches = torch.randn(sequences.patches, 4, generator=generator).to(device)
    return patches, sequences, (torch.rand(sequences.patches, generator=generator) < 0.3).to(device)


def tokens_and_gradients(module, patches, sequences, mask):
    patches = patches.detach().requires_grad_()
    tokens = module(patches, sequences, mask)
    upstream = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1)).to(tokens)
    names = [name for name, _ in module.named_parameters()]
    found = torch.autograd.grad(tokens, [patches, *module.parameters()], upstream, allow_unused=True)
    return {"tokens": tokens, **dict(zip(["patches", *names], found, strict=True))}


def assert_equal(got, want):
    assert got.keys() == want.keys()
    for name, mine in got.items():
        if want[name] is None:  # unused there; here perhaps 0
            assert mine is None or not mine.any(), name
        else:
            label = lambda message, name=name: f"{name}: {message}"  # noqa: E731
            torch.testing.assert_close(mine, want[name], rtol=1e-5, atol=2e-5, msg=label)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_one_pass_equals_the_modules_with_every_gradient(position, seed, device):
    inputs = pack(device, seed=seed)
    want = tokens_and_gradients(embedding(position, device, "reference"), *inputs)
    got = tokens_and_gradients(embedding(position, device, "triton"), *inputs)
    assert_equal(got, want)


@pytest.mark.parametrize("position", ["learned", "gsd"])
def test_without_mask_registers_and_scale(position, device):
    patches, sequences, _ = pack(device, prefix=1)
    fields = {"registers": 0, "scale_token": False}
    want, got = (
        tokens_and_gradients(embedding(position, device, backend, **fields), patches, sequences, None)
        for backend in ("reference", "triton")
    )
    assert_equal(got, want)


def test_hidden_scales_are_hidden_in_one_pass_too(device):
    patches, sequences, mask = pack(device)
    hidden = sequences.hide_scale(torch.arange(7) % 2 == 0)
    made = embedding("gsd", device, "triton")
    want = tokens_and_gradients(embedding("gsd", device, "reference"), patches, hidden, mask)
    assert_equal(tokens_and_gradients(made, patches, hidden, mask), want)
    assert not torch.allclose(want["tokens"], made(patches, sequences, mask))


def test_many_views_of_one_grid(device, monkeypatch):
    """The gradient of the learned table is then summed in two stages."""
    monkeypatch.setattr(placing, "LONGEST", 2)
    grids = torch.tensor([[2, 1]] * 5 + [[1, 3]])
    sequences = Sequences.from_grids(grids, torch.ones(6), 2, 3, device)
    patches = torch.randn(sequences.patches, 4, generator=torch.Generator().manual_seed(0)).to(device)
    want, got = (
        tokens_and_gradients(embedding("learned", device, backend), patches, sequences, None)
        for backend in ("reference", "triton")
    )
    assert_equal(got, want)


@pytest.mark.parametrize("position", ["learned", "gsd"])
def test_under_autocast_the_tokens_stay_in_float32(position, device):
    """Only the products are bfloat16; the bias is added to their float32 value, not to a rounded sum."""
    inputs = pack(device)
    exact = tokens_and_gradients(embedding(position, device, "reference"), *inputs)
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        got = tokens_and_gradients(embedding(position, device, "triton"), *inputs)
    for name, value in got.items():
        assert value.dtype == torch.float32, name
        error = (value - exact[name]).norm() / exact[name].norm()
        assert error < 0.02, f"{name} must be within bfloat16, got {error}"


def test_without_gradients_no_sums_are_prepared(device):
    patches, sequences, mask = pack(device)
    made = embedding("learned", device, "triton")
    with torch.no_grad():
        assert made.position.placed(sequences).sums == ()
        tokens = made(patches, sequences, mask)
    assert torch.equal(tokens, made(patches, sequences, mask))


def test_auto_on_the_cpu_is_the_modules_to_the_bit():
    inputs = pack("cpu")
    a, b = (
        tokens_and_gradients(embedding("learned", "cpu", name), *inputs) for name in ("auto", "reference")
    )
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_forced_backend_that_cannot_serve_is_an_error(device):
    patches, sequences, _ = pack(device)
    with pytest.raises(ValueError, match="embed backend must be one of auto, triton, reference, got 'cuda'"):
        embedding("none", device, "cuda")(patches, sequences)
    with pytest.raises(RuntimeError, match="embed backend 'triton' needs float32, bfloat16 or float16"):
        embedding("none", device, "triton").double()(patches.double(), sequences)
