"""embed: the Triton kernels against their specification, value and every gradient."""

import inspect

import pytest
import torch
from closeness import assert_as_specified, results
from mutation import mutated

from aqqua.kernels.embed import (
    Fractions,
    Grid,
    Packing,
    SineCosine,
    embed,
    op,
    placing,
    sums_over_views,
)

GRIDS = [[2, 3], [1, 1], [3, 2], [2, 3], [5, 1], [2, 3], [1, 4]]
KINDS = ["none", "grid", "fractions", "sine"]
PRECISIONS = {
    "float32": (torch.float32, torch.float32),
    "mixed": (torch.float32, torch.bfloat16),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "float16": (torch.float16, torch.float16),
}  # of tokens, of patch rows
PARTS = ["bias", "mask", "scale"]


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    """Two programs where tokens are summed, so that each walks over several tiles."""
    monkeypatch.setattr(op, "PROGRAMS", 2)
    monkeypatch.setattr(op, "FRACTIONS_PROGRAMS", 2)
    monkeypatch.setattr(op, "FRACTIONS_TILE", {**op.FRACTIONS_TILE, "ROWS": 16})


def packed(device, grids=None, prefix=3):
    grids = torch.tensor(grids or GRIDS)
    lengths = grids.prod(dim=1) + prefix
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
    view = torch.arange(len(grids)).repeat_interleave(lengths)
    return Packing(offsets.to(device), view.to(device), grids.int().to(device), prefix)


def tables_of_grids(packing):
    """Distinct grids' table: its rows, each view's first, and the sums of its gradient."""
    grids, grid_V = packing.grids_V2.cpu().long().unique(dim=0, return_inverse=True)
    area = grids.prod(dim=1)
    first = (area.cumsum(0) - area)[grid_V].int().to(packing.view_T.device)
    sums = sums_over_views(grids, grid_V, packing.prefix, packing.view_T.device)
    return int(area.sum()), first, sums


def prepared(kind, packing, width, precision="float32", parts=PARTS, positions=4):
    """The function of a kind of code, and its inputs: rows, CLS, registers, the parts, the code's own."""
    device, (tokens, rows) = packing.view_T.device, PRECISIONS[precision]
    generator = torch.Generator().manual_seed(width)
    relative = torch.tensor([1.0, 0.5, torch.nan, 3.0, torch.nan, 2.0, 0.1])[: packing.views].to(device)
    mask = (torch.rand(packing.patches, generator=generator) < 0.4).to(device)
    frequencies = torch.linspace(1, 0.01, width // 4).to(device)
    table, first, sums = tables_of_grids(packing)
    sizes = [(packing.patches, width), (width,), (packing.prefix - 1, width)]
    own = {"bias": (width,), "mask": (width,), "scale": (packing.views, width)}
    sizes += [own[part] for part in parts]
    sizes += {
        "none": [],
        "grid": [(table, width)],
        "fractions": [(positions, width)] * 2,
        "sine": [(width,)],
    }[kind]
    dtypes = [rows, *[tokens] * (len(sizes) - 1)]
    draws = [torch.randn(size, generator=generator) for size in sizes]

    def function(backend, rows, cls, registers, *others):
        given = dict(zip(parts, others, strict=False))
        codes = others[len(parts) :]
        position = {
            "none": lambda: None,
            "grid": lambda table: Grid(table, first, sums),
            "fractions": Fractions,
            "sine": lambda unknown: SineCosine(relative, frequencies, unknown),
        }[kind](*codes)
        return embed(
            rows, packing, cls, registers, bias_D=given.get("bias"), scale_VD=given.get("scale"),
            mask_N=mask if "mask" in parts else None, mask_D=given.get("mask"),
            position=position, backend=backend,
        )  # fmt: skip

    return function, [x.to(device, dtype) for x, dtype in zip(draws, dtypes, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_value_and_every_gradient(kind, precision, device):
    assert_as_specified(*prepared(kind, packed(device), 40, precision))


@pytest.mark.parametrize("parts", [[], ["bias"], ["mask", "scale"]], ids=str)
@pytest.mark.parametrize("prefix", [1, 6])
def test_parts_that_are_not_there(parts, prefix, device):
    assert_as_specified(*prepared("none", packed(device, prefix=prefix), 24, parts=parts))


@pytest.mark.parametrize(("kind", "width"), [("none", 1), ("grid", 130), ("sine", 196), ("fractions", 130)])
def test_widths(kind, width, device):
    """Also of more than one block of columns, and no whole number of blocks."""
    assert_as_specified(*prepared(kind, packed(device, GRIDS[:3], 2), width))


@pytest.mark.parametrize("positions", [2, 16, 40])
def test_positions_of_a_fractional_table(positions, device):
    assert_as_specified(*prepared("fractions", packed(device, GRIDS[:5]), 16, positions=positions))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_of_one_patch(kind, device):
    assert_as_specified(*prepared(kind, packed(device, [[1, 1]], 1), 8, parts=[]))


@pytest.mark.parametrize("longest", [1, 2])
def test_long_lists_are_summed_in_stages(longest, device, monkeypatch):
    monkeypatch.setattr(placing, "LONGEST", 2)
    grids = [[1, 2]] * (3 * longest) + [[2, 2], [1, 2], [3, 1]]
    packing = packed(device, grids)
    assert len(tables_of_grids(packing)[2]) == 1 + longest
    assert_as_specified(*prepared("grid", packing, 16, parts=[]))


def test_what_a_masked_patch_shows_reaches_nothing(device):
    packing = packed(device)
    _, (rows, cls, registers, _, token, _) = prepared("none", packing, 16)
    mask = (torch.arange(packing.patches) % 3 == 0).to(device)
    inputs = [rows.masked_fill(mask[:, None], torch.nan), cls, registers, token]

    def function(rows, cls, registers, token):
        return embed(rows, packing, cls, registers, mask_N=mask, mask_D=token, backend="triton")

    x, drows, *_ = results(function, inputs)
    assert not x.isnan().any()
    assert not drows[mask].any()
    assert drows[~mask].all()


@pytest.mark.parametrize("kind", KINDS)
def test_same_bits_every_time(kind, device):
    function, inputs = prepared(kind, packed(device), 40, "mixed")
    runs = [results(lambda *x: function("triton", *x), inputs) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_only_what_wants_a_gradient_gets_one(device):
    """As with a frozen backbone, of which one register is tuned."""
    function, inputs = prepared("grid", packed(device), 16)
    inputs[2].requires_grad_()
    (found,) = torch.autograd.grad(function("triton", *inputs).sum(), inputs[2])
    torch.testing.assert_close(found, torch.full_like(found, len(GRIDS)))


# Seeded bugs: text of kernel.py and what it becomes. None reaches outside a tensor. By the kind of code that
# must show it.
MUTATIONS = {
    "none": {
        "rows of the wrong patch": ("    m_own = m_n\n", "    o_n -= b_view > 0\n    m_own = m_n\n"),
        "mask turned around": ("m_n, other=0) == 0)", "m_n, other=0) != 0)"),
        "bias under the mask": ("m_own[:, None], b_bias", "m_n[:, None], b_bias"),
        "no mask token": ("(m_n & ~m_own)[:, None]", "(m_own & ~m_own)[:, None]"),
        "CLS everywhere": ("m_t & (b_place == -R)", "m_t & (b_place < 0)"),
        "scale of the first view": ("o_vd = b_view[:, None] * D", "o_vd = (b_view * 0)[:, None] * D"),
        "registers in turn": ("o_rd = (b_place + R - 1)", "o_rd = (-b_place - 1)"),
        "gradient under the mask": ("b_dx = tl.where(m_mask[:, None], 0.0, b_dx)", "b_dx += 0.0"),
        "masked sum of all": ("b_masked += tl.sum(tl.where(m_mask[:", "b_masked += tl.sum(tl.where(m_n[:"),
        "tiles left out": ("tl.cdiv(V, ROWS), all_pr // R", "tl.cdiv(V, ROWS) - 1, all_pr // R"),
        "every register the CLS": ("other=0).to(tl.int64) + i_r", "other=0).to(tl.int64)"),
        "scale of a register": ("i_r == 0, m_vd", "i_r == 1, m_vd"),
    },
    "grid": {
        "code of the first grid": ("tl.load(of_view_ptr + b_view, mask=m_n, other=0) + b_place", "b_place"),
        "list without its last": ("m_k = k < b_entries", "m_k = k < b_entries - 1"),
        "list of another grid": ("starts_ptr + b_first + k", "starts_ptr + 0 * b_first + k"),
    },
    "fractions": {
        "middle of a patch": ("b_index + 0.5", "b_index"),
        "no upper end": ("tl.minimum(tl.maximum(b_at, 0.0), M - 1.0)", "tl.maximum(b_at, 0.0)"),
        "sides exchanged": ("b_c, b_columns, M), M, o_d", "b_c, b_rows, M), M, o_d"),
        "no step between": ("(b_at - b_low.to(tl.float32))[:, None]", "0.5"),
        "half a share": ("1.0 - tl.abs(b_places[:, None] - b_row", "0.5 - tl.abs(b_places[:, None] - b_row"),
        "columns by rows": ("b_column = place_in_table(b_c, b_columns, M)", "b_column = b_row"),
    },
    "sine": {
        "sine for cosine": ("tl.cos(b_angle)", "tl.sin(b_angle)"),
        "rows first": ("(o_d < 2 * quarter)", "(o_d >= 2 * quarter)"),
        "unknown not told": ("b_unknown[:, None], b_vector", "b_scale[:, None] > 0, b_vector"),
        "known for unknown": ("(b_relative != b_relative)[:", "(b_relative == b_relative)[:"),
    },
}
BUGS = [(kind, bug) for kind, bugs in MUTATIONS.items() for bug in bugs]


@pytest.mark.parametrize(("kind", "bug"), BUGS)
def test_a_seeded_bug_is_noticed(kind, bug, device, monkeypatch):
    monkeypatch.setattr(op, "kernel", mutated("aqqua.kernels.embed.kernel", *MUTATIONS[kind][bug]))
    function, inputs = prepared(kind, packed(device, GRIDS[:4]), 8, positions=2)
    with pytest.raises(AssertionError):
        assert_as_specified(function, inputs)


def flat(kind, device):
    """Arguments of the operator: those with a gradient, then the others."""
    packing = packed(device, GRIDS[:3])
    _, (*given, token, scale) = prepared("none", packing, 8)
    mask = torch.arange(packing.patches, device=device) % 2 == 0
    places = packing.offsets_V1, packing.view_T, packing.grids_V2, packing.prefix
    if kind == "none":
        return [*given, token, scale], (mask, None, None, None, kind, *places, [])
    rows, first, sums = tables_of_grids(packing)
    lists = [table for stage in sums for table in (stage.list_P, stage.lists_S3, stage.starts_K)]
    table = torch.randn(rows, 8, generator=torch.Generator().manual_seed(0)).to(device)
    return [*given, token, scale, table], (mask, None, first, kind, *places, lists)


def call(others, rows, cls, registers, bias, token, scale, *code):
    mask, *others = others
    return op.embed(rows, bias, cls, registers, token, mask, scale, *code, *others)


@pytest.mark.parametrize("kind", ["none", "grid"])
def test_torch_compile_takes_the_op_whole(kind, device):
    inputs, others = flat(kind, device)
    compiled = torch.compile(lambda *x: call(others, *x), backend="aot_eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(results(compiled, inputs), results(lambda *x: call(others, *x), inputs))


@pytest.mark.parametrize("kind", ["none", "grid"])
def test_the_operators_are_registered_soundly(kind, device):
    inputs, (mask, *others) = flat(kind, device)
    rows, cls, registers, bias, token, scale, *code = (x.requires_grad_() for x in inputs)
    torch.library.opcheck(op.embed, (rows, bias, cls, registers, token, mask, scale, *code, *others))


def test_contract_names_the_fix(device):
    ours = inspect.unwrap(embed)  # `make shapes` would find some of these first
    packing = packed(device)
    _, (rows, cls, registers, bias, token, *_) = prepared("none", packing, 16)
    with pytest.raises(ValueError, match=r"must have 34 patch rows, got 33; give the rows of this pack"):
        ours(rows[1:], packing, cls, registers)
    with pytest.raises(ValueError, match=r"registers must be contiguous and \[2, 16\], got \[1, 16\]"):
        ours(rows, packing, cls, registers[1:])
    with pytest.raises(ValueError, match=r"bias must be contiguous and \[16\], got \[15\]"):
        ours(rows, packing, cls, registers, bias_D=bias[1:])
    with pytest.raises(ValueError, match=r"rows must be contiguous.*strides \(1, 34\)"):
        ours(rows.t().contiguous().t(), packing, cls, registers)
    with pytest.raises(ValueError, match="a mask needs a mask token, got None; give mask_D"):
        ours(rows, packing, cls, registers, mask_N=torch.zeros(34, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask must be contiguous and \[34\], got \[33\]"):
        ours(rows, packing, cls, registers, mask_N=torch.zeros(33, dtype=torch.bool), mask_D=token)
    with pytest.raises(ValueError, match=r"rows' table must be contiguous and \[4, 16\], got \[4, 15\]"):
        ours(rows, packing, cls, registers, position=Fractions(rows[:4, 1:], rows[:4, 1:]))
    with pytest.raises(ValueError, match=r"rows' table must be contiguous and \[2, 16\], got \[1, 16\]"):
        ours(rows, packing, cls, registers, position=Fractions(rows[:1], rows[:1]))
    _, first, sums = tables_of_grids(packing)
    with pytest.raises(ValueError, match=r"sums must make the 5 rows of the table, got \[22\]"):
        ours(rows, packing, cls, registers, position=Grid(rows[:5], first, sums))
    wrong = Packing(packing.offsets_V1.long(), packing.view_T, packing.grids_V2, 3)
    with pytest.raises(ValueError, match="offsets and grids must be int32 and view int64"):
        ours(rows, wrong, cls, registers)
    scales = torch.ones(7, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"divisible by 4 and float32 scales, got 16 and torch\.float64"):
        ours(rows, packing, cls, registers, position=SineCosine(scales, scales[:4], cls))
