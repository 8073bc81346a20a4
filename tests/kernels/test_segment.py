"""segment: pooling, splitting and KoLeo, the Triton kernels against their specification."""

import pytest
import torch
from closeness import assert_as_specified, results
from jaxtyping import TypeCheckError
from mutation import mutated

from aqqua.kernels.segment import attentive_pool, cls_gather, koleo, mean_pool, op, split_prefix
from aqqua.model.sequences import Sequences

# Tokens per view; with a prefix of 2, views of 2 have no patch.
PACKS = {"ragged": [3, 40, 2, 17], "one_view": [33], "shortest": [3, 3], "no_patch": [2, 2]}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
PREFIX = 2


@pytest.fixture(autouse=True)
def small_koleo_tiles(monkeypatch):
    """Tiles of 16 rows, the least that a product takes, so that few images need several."""
    monkeypatch.setattr(op, "KOLEO_TILE", {**op.KOLEO_TILE, "BLOCK_J": 16, "BLOCK_D": 32})
    monkeypatch.setattr(op, "KOLEO_LIST", 16)


def packed(lengths, *size, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(len(lengths))
    offsets = torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
    return torch.randn(sum(lengths), *size, generator=generator).to(device, dtype), offsets


def call(name, offsets, prefix=PREFIX):
    """The op as function(backend, *tensors)."""
    return {
        "mean_pool": lambda backend, x: mean_pool(x, offsets, prefix, backend),
        "split_prefix": lambda backend, x: split_prefix(x, offsets, prefix, backend),
        "prefix alone": lambda backend, x: split_prefix(x, offsets, prefix, backend)[0],
        "patches alone": lambda backend, x: split_prefix(x, offsets, prefix, backend)[1],
        "cls_gather": lambda backend, x: cls_gather(x, offsets, backend),
        "attentive_pool": lambda backend, v, s: attentive_pool(v, s, offsets, prefix, backend),
    }[name]


@pytest.mark.parametrize("name", ["mean_pool", "split_prefix", "prefix alone", "patches alone", "cls_gather"])
@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("width", [5, 128, 200])
def test_value_and_gradient(name, pack, width, device):
    x, offsets = packed(PACKS[pack], width, device=device)
    assert_as_specified(call(name, offsets), [x])


@pytest.mark.parametrize("name", ["mean_pool", "split_prefix", "cls_gather"])
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_half_precision(name, dtype, device):
    x, offsets = packed(PACKS["ragged"], 40, dtype=dtype, device=device)
    assert_as_specified(call(name, offsets), [x])


def test_mean_without_a_prefix(device):
    x, offsets = packed([1, 20, 3], 24, device=device)
    assert_as_specified(call("mean_pool", offsets, prefix=0), [x])


def attended(pack, heads, width, dtype, device):
    values, offsets = packed(PACKS[pack], heads, width, dtype=dtype, device=device)
    scores, _ = packed(PACKS[pack], heads, device=device)
    return [values, scores * 8], offsets


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize(("heads", "width"), [(3, 10), (1, 130)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_attentive_pool(pack, heads, width, dtype, device):
    inputs, offsets = attended(pack, heads, width, dtype, device)
    assert_as_specified(call("attentive_pool", offsets), inputs)


def test_attentive_pool_of_many_tiles_and_extreme_scores(device, monkeypatch):
    """Tiles of two tokens; scores far beyond where exp overflows, and −∞ for a token, then a whole tile."""
    monkeypatch.setattr(op, "ATTENTIVE_VALUES", 32)
    (values, scores), offsets = attended("ragged", 2, 16, torch.float32, device)
    scores = scores * 100
    scores[5:9] = -torch.inf
    assert_as_specified(call("attentive_pool", offsets), [values, scores])


def test_rows_are_those_that_the_model_names(device):
    grids = torch.tensor([[2, 3], [1, 1], [4, 4]])
    sequences = Sequences.from_grids(grids, torch.ones(3), patch_px=14, prefix=3, device=device)
    x, offsets = torch.randn(sequences.tokens, 24, device=device), sequences.offsets_V1
    prefix_VRD, patches_ND = split_prefix(x, offsets, 3, "triton")
    assert torch.equal(prefix_VRD, x[sequences.prefix_rows_VR])
    assert torch.equal(patches_ND, x[sequences.patch_rows_N])
    assert torch.equal(cls_gather(x, offsets, "triton"), x[sequences.cls_rows_V])


# KoLeo: crops, images, width, and which image each row shows.
CROPS = {
    "distinct": (2, 9, 40, None),
    "repeated": (2, 24, 33, [i % 7 for i in range(24)]),
    "one_other": (1, 5, 8, [3, 3, 3, 3, 7]),
    "all_the_same": (1, 3, 8, [1, 1, 1]),
    "alone": (2, 1, 8, None),
    "none": (2, 0, 8, None),
}


def crops(name, device, dtype=torch.float32):
    G, images, width, names = CROPS[name]
    features = torch.randn(G, images, width, generator=torch.Generator().manual_seed(images))
    image = None if names is None else torch.tensor(names, device=device)
    return features.to(device, dtype), image


def spread(image):
    return lambda backend, features: koleo(features, image, backend)


@pytest.mark.parametrize("name", CROPS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_koleo(name, dtype, device):
    features, image = crops(name, device, dtype)
    assert_as_specified(spread(image), [features])


def test_koleo_of_equal_rows_and_of_zeros(device):
    """Equal rows: the value of aqqua.objective.koleo; the first of equal neighbours is taken."""
    features = torch.ones(1, 3, 32, device=device).requires_grad_()
    loss = koleo(features, backend="triton")
    assert loss.item() / 3 == pytest.approx(16.525034, rel=1e-5)
    assert torch.isfinite(torch.autograd.grad(loss, features)[0]).all()  # all of it is rounding
    assert op.koleo_forward(features, torch.arange(3, device=device))[1].tolist() == [[1, 0, 0]]
    zeros = torch.zeros(1, 4, 8, device=device)
    want = results(lambda x: koleo(x, backend="reference"), [zeros])
    torch.testing.assert_close(results(lambda x: koleo(x, backend="triton"), [zeros]), want)


def test_koleo_passes_nan_on(device):
    features, _ = crops("distinct", device)
    features[1, 4, 2] = torch.nan
    assert koleo(features, backend="triton").isnan()


def test_koleo_under_autocast_computes_in_float32(device):
    features, image = crops("repeated", device)
    want = koleo(features, image, "triton")
    with torch.autocast(device, dtype=torch.bfloat16):
        got = koleo(features, image, "triton")
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


def test_same_bits_every_time(device):
    x, offsets = packed(PACKS["ragged"], 40, dtype=torch.bfloat16, device=device)
    inputs, _ = attended("ragged", 2, 16, torch.float32, device)
    features, image = crops("repeated", device)
    for function, given in (
        (call("mean_pool", offsets), [x]),
        (call("split_prefix", offsets), [x]),
        (call("attentive_pool", offsets), inputs),
        (spread(image), [features]),
    ):
        runs = [results(lambda *x, f=function: f("triton", *x), given) for _ in range(2)]
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


# Seeded bugs: op, text of kernel.py and what it becomes. None reaches outside a tensor.
MUTATIONS = {
    "mean with the prefix": (
        "mean_pool",
        "range(start + prefix, end, BLOCK_T)",
        "range(start, end, BLOCK_T)",
    ),
    "mean over all rows": (
        "mean_pool",
        "tl.sum(b_sum, axis=0) / count",
        "tl.sum(b_sum, axis=0) / (end - start)",
    ),
    "mean gradient in the prefix": (
        "mean_pool",
        "(o_t >= start + prefix)[:, None], b_share",
        "(o_t >= start)[:, None], b_share",
    ),
    "mean gradient not shared": (
        "mean_pool",
        "other=0.0).to(tl.float32) / count",
        "other=0.0).to(tl.float32)",
    ),
    "prefix one short": ("split_prefix", "m_t & (o_t < start + R)", "m_t & (o_t < start + R - 1)"),
    "patches of the view before": (
        "split_prefix",
        "(o_t - (i_v + 1) * R)",
        "(o_t - i_v * R - tl.minimum(i_v * R, R))",
    ),
    "gradient of patches lost": (
        "split_prefix",
        "            if PATCHES:\n                b_x +=",
        "            if PREFIX:\n                b_x =",
    ),
    "one block of columns": (
        "cls_gather",
        "(tl.program_id(0) % across) * BLOCK_D +",
        "(tl.program_id(0) % across) * 0 +",
    ),
    "softmax over the prefix": (
        "attentive_pool",
        "tl.load(offsets_ptr + i_v) + prefix",
        "tl.load(offsets_ptr + i_v)",
    ),
    "sum not shrunk": ("attentive_pool", "b_sum = b_sum * shrink +", "b_sum = b_sum +"),
    "total not shrunk": ("attentive_pool", "total = total * shrink +", "total = total +"),
    "no level": ("attentive_pool", "b_weight * (b_along - level)", "b_weight * b_along"),
    "gradient in the prefix": (
        "attentive_pool",
        "m_pooled = (o_t >= start + prefix)",
        "m_pooled = (o_t >= start)",
    ),
}


@pytest.mark.parametrize("bug", MUTATIONS)
def test_a_seeded_bug_is_noticed(bug, device, monkeypatch):
    name, old, new = MUTATIONS[bug]
    monkeypatch.setattr(op, "kernel", mutated("aqqua.kernels.segment.kernel", old, new))
    monkeypatch.setattr(op, "ATTENTIVE_VALUES", 64)
    x, offsets = packed(PACKS["ragged"], 200, device=device)
    attentive, _ = attended("ragged", 2, 16, torch.float32, device)
    with pytest.raises(AssertionError):
        assert_as_specified(call(name, offsets), attentive if name == "attentive_pool" else [x])


MUTATIONS_OF_KOLEO = {
    "neighbour of itself": (
        "(b_image[:, None] != b_image_j[None, :]) & m_j",
        "(o_i[:, None] != o_j[None, :]) & m_j",
    ),
    "lengths ignored": ("floored(b_norm, eps)[:, None] * floored(b_norm_j, eps)[None, :]", "b_norm[:, None]"),
    "last tile wins": ("m_better = b_top > b_best", "m_better = b_top > -float('inf')"),
    "length of another": ("m_better, b_top_norm, b_nearest_norm", "m_better, b_norm, b_nearest_norm"),
    "not through the length": ("(b_dx - b_radial)", "b_dx"),
    "neighbours' pull lost": ("b_dx -= pull", "b_dx -= 0.0 * pull"),
    "one pull each": ("tl.sum(m_hit.to(tl.int32), axis=0)", "tl.max(m_hit.to(tl.int32), axis=0)"),
    "wrong slope": ("((distance + eps) * distance)", "(distance + eps)"),
}


@pytest.mark.parametrize("bug", MUTATIONS_OF_KOLEO)
def test_a_bug_seeded_into_koleo_is_noticed(bug, device, monkeypatch):
    copy = mutated("aqqua.kernels.segment.koleo_kernel", *MUTATIONS_OF_KOLEO[bug])
    monkeypatch.setattr(op, "koleo_kernel", copy)
    features, image = crops("repeated", device)
    inputs = [features * torch.linspace(0.5, 2, 24, device=device)[:, None]]
    with pytest.raises(AssertionError):
        assert_as_specified(spread(image), inputs)


@pytest.mark.breaks_shapes
def test_the_operators_are_registered_soundly(device):
    x, offsets = packed([3, 4], 8, device=device)
    features, _ = crops("distinct", device)
    images = torch.arange(9, device=device)
    x, features = x.requires_grad_(), features.requires_grad_()
    values, scores = x.detach().unflatten(1, (2, 4)).clone().requires_grad_(), x[:, :2].detach().clone()
    torch.library.opcheck(op.mean_pool, (x, offsets, 1))
    torch.library.opcheck(op.split_prefix, (x, offsets, 1))
    torch.library.opcheck(op.take_prefix, (x, offsets, 1))
    torch.library.opcheck(op.attentive_pool, (values, scores.requires_grad_(), offsets, 1))
    torch.library.opcheck(op.koleo_forward, (features, images))


def refused(message):
    """By the op's own check, or before it by that of `make shapes`."""
    return pytest.raises((ValueError, TypeCheckError), match=f"{message}|Type-check")


def test_contract_names_the_fix(device):
    x, offsets = packed([3, 4], 8, device=device)
    with refused(r"offsets must be int32, got torch.int64; convert when packing"):
        mean_pool(x, offsets.long(), 1)
    with refused(r"tokens must be contiguous, got strides"):
        cls_gather(x[:, ::2], offsets)
    with refused(r"prefix must be at least 1, got 0"):
        split_prefix(x, offsets, 0)
    with refused(r"\[T, H, E\] .* got \[7, 2, 4\] and \[7, 3\]"):
        attentive_pool(x.unflatten(1, (2, 4)), x[:, :3].contiguous(), offsets, 1)
    with refused(r"must name each of the 7 images, got \[6\]"):
        koleo(x[None], torch.arange(6, device=device))
    with refused(r"features must be contiguous and \[G, I, D\]"):
        koleo(x)
