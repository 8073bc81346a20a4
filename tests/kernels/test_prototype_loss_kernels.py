"""Each kernel of the prototype loss against the specification in float64, and with bugs seeded into it."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.importorskip("triton")
from mutation import mutated
from prototype_checks import (
    check_join,
    check_projected_gradients,
    check_projected_loss,
    check_projected_sweeps,
    check_scale,
    check_stored_loss,
    check_stored_sweeps,
    small,
)

from aqqua.kernels.prototype_loss import (
    projected_gradients,
    projected_loss,
    projected_sweeps,
    stored_loss,
    stored_sweeps,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_stored_sweeps(dtype, device, monkeypatch):
    check_stored_sweeps(small(stored_sweeps, monkeypatch), dtype, device)


def test_join(device, monkeypatch):
    check_join(small(stored_sweeps, monkeypatch), device)


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_stored_loss(dtype, targets, device, monkeypatch):
    check_stored_loss(small(stored_loss, monkeypatch), dtype, targets, device)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scale(dtype, device, monkeypatch):
    check_scale(small(stored_loss, monkeypatch), dtype, device)


def projected_dtypes():
    return DTYPES[1:] if torch.cuda.is_available() else DTYPES


@pytest.mark.parametrize("dtype", projected_dtypes(), ids=str)
def test_projected_sweeps(dtype, device, monkeypatch):
    check_projected_sweeps(small(projected_sweeps, monkeypatch), dtype, device)


@pytest.mark.parametrize("dtype", projected_dtypes(), ids=str)
def test_projected_loss(dtype, device, monkeypatch):
    check_projected_loss(small(projected_loss, monkeypatch), dtype, device)


@pytest.mark.parametrize("dtype", projected_dtypes(), ids=str)
def test_projected_gradients(dtype, device, monkeypatch):
    check_projected_gradients(small(projected_gradients, monkeypatch), dtype, device)


# The module of the kernels, what must notice, and of each bug its name, what it replaces and what by.
BUGS = [
    (
        "stored_sweeps",
        check_stored_sweeps,
        (torch.float32,),
        [
            ("row: no mask", 'mask=m_k, other=float("-inf"))', "mask=m_k, other=0.0)"),
            ("row: a column short", "columns_per_share, K)", "columns_per_share, K - 1)"),
            ("row: no temperature", " * inverse_temperature + b_u[None, :]\n", " + b_u[None, :]\n"),
            ("both: no rescaling", "b_sum = b_sum * tl.exp(b_largest - b_base) +", "b_sum = b_sum +"),
            ("column: no mask", 'b_x = tl.where(m_r[:, None], b_x, float("-inf"))', "b_x = b_x"),
            ("column: no row scaling", " - b_lse[:, None]", ""),
            ("column: a row short", "rows_per_share, R)", "rows_per_share, R - 1)"),
            ("column: NaN hidden", 'tl.where(b_sum == b_sum, b_largest, float("nan"))', "b_largest"),
        ],
    ),
    (
        "stored_sweeps",
        check_join,
        (),
        [
            ("join: no common scale", "b_sum * tl.exp(b_part - b_largest)", "b_sum"),
            ("join: rounded down", "_FIXED_POINT + 0.5", "_FIXED_POINT"),
            ("join: a partial short", "for n in range(N)", "for n in range(1, N)"),
        ],
    ),
    (
        "stored_loss",
        check_stored_loss,
        (torch.float32, 2),
        [
            ("loss: no shift", "b_cross += b_mass * (b_largest - b_new) + ", "b_cross += "),
            ("loss: no mask", "* inverse_student, _LOWEST)", "* inverse_student, 0.0)"),
            ("loss: no rescaling", "b_sum = b_sum * tl.exp(b_largest - b_new) +", "b_sum = b_sum +"),
            ("loss: rows mixed up", "+ o_at // crops", "+ o_at % crops"),
            ("gradient: first tile left out", "(tiles - 1 - i)", "(tiles - i)"),
            ("gradient: mass of one", "(b_mass / b_sum)", "(1.0 / b_sum)"),
            ("gradient: no temperature", "(b_weight * inverse_student)", "b_weight"),
            ("both: targets of the rows before", "lse_ptr, o_r * G, m_r)", "lse_ptr, o_r, m_r)"),
            ("both: first target twice", "o_r * G + (G - 1)", "o_r * G"),
        ],
    ),
    (
        "stored_loss",
        check_scale,
        (torch.float32,),
        [
            ("scale: only upwards", "if b_factor != 1.0", "if b_factor > 1.0"),
            (
                "scale: first block alone",
                "            o_k = start + tl.arange(0, BLOCK_K)\n            p_g",
                "            o_k = tl.arange(0, BLOCK_K)\n            p_g",
            ),
            ("scale: packed rows", "+ row * stride + o_k", "+ row * K + o_k"),
        ],
    ),
    (
        "projected_sweeps",
        check_projected_sweeps,
        (torch.float32,),
        [
            ("no mask", 'mask=m_n, other=float("-inf"))', "mask=m_n, other=0.0)"),
            ("no bias", " + b_bias[:, None]", ""),
            ("one short", "per_share, N)", "per_share, N - 1)"),
            ("no temperature", "b_x * inverse_temperature", "b_x"),
            ("NaN hidden", 'tl.where(b_sum == b_sum, b_largest, float("nan"))', "b_largest"),
        ],
    ),
    (
        "projected_loss",
        check_projected_loss,
        (torch.float32,),
        [
            ("no shift", "b_cross += b_mass * (b_largest - b_new) + ", "b_cross += "),
            ("no mask", "tl.where(m_k[None, :], b_x, _LOWEST)", "b_x"),
            ("terms swapped", "tl.store(p_out + 2 * step, b_mass", "tl.store(p_out + 2 * step, b_sum"),
            ("one short", "per_share, K)", "per_share, K - 1)"),
            ("no normaliser", "-b_lse, b_u", "-b_lse * 0, b_u"),
            ("a target for none", "tl.where(mask, tl.exp(b_x), 0.0)", "tl.exp(b_x)"),
        ],
    ),
    (
        "projected_gradients",
        check_projected_gradients,
        (torch.float32,),
        [
            ("rows: no weight", "b_scale[:, None] - b_p) * b_factor[:, None]", "b_scale[:, None] - b_p)"),
            ("rows: one short", "per_share, K)", "per_share, K - 1)"),
            ("rows: rest misplaced", "b_dz_1 * b_unit, Z0, Z1, Z)", "b_dz_1 * b_unit, 0, Z1, Z)"),
            ("rows: no mass", "* b_scale[:, None] - b_p", "- b_p"),
            ("prototypes: sign", "b_scale[None, :] - b_p)", "b_scale[None, :] + b_p)"),
            ("prototypes: first rows left out", "range(0, R, BLOCK_R)", "range(BLOCK_R, R, BLOCK_R)"),
            ("prototypes: no shift", "b_x - b_largest[None, :]", "b_x - b_largest[None, :] * 0.99"),
            ("prototypes: no unit", "b_dw_0 * b_unit", "b_dw_0"),
        ],
    ),
]


@pytest.mark.parametrize(
    ("name", "check", "arguments", "old", "new"),
    [
        pytest.param(name, check, arguments, *bug[1:], id=f"{name}-{bug[0]}")
        for name, check, arguments, bugs in BUGS
        for bug in bugs
    ],
)
def test_a_seeded_bug_is_noticed(name, check, arguments, old, new, monkeypatch):
    module = mutated(f"aqqua.kernels.prototype_loss.{name}", old, new)
    with pytest.raises(AssertionError):
        check(small(module, monkeypatch), *arguments)
