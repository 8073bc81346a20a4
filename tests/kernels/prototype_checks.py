"""Checks of each kernel of the prototype loss against the specification in float64.

Every check is a function of the module that launches the kernel, so that it is run on the module and on its
mutated copies, where it must fail. Blocks are small and sizes odd, so that every loop takes several turns,
the last of them cut short. Tolerance: twice the error of the specification in the inputs' own type, or
two millionths of the size of the result where that is more.
"""

from types import ModuleType

import pytest
import torch
from prototype_rows import K, draw

from aqqua.kernels.prototype_loss import reference
from aqqua.kernels.prototype_loss.projected_tiles import Blocks
from aqqua.kernels.prototype_loss.tile import Tile

TEACHER_T, STUDENT_T = 0.07, 0.1
B = 6
TARGETS = {
    1: [[3], [0], [5], [-1], [2], [2], [4], [1], [0]],
    2: [[-1, 3], [0, -1], [5, 1], [-1, -1], [2, 0], [2, 2], [4, 5], [1, 3], [0, 4]],
}
SMALL = {
    "stored_sweeps": {
        "ROW_TILE": Tile(2, 8, 1),
        "COLUMN_TILE": Tile(2, 16, 1),
        "JOIN_TILE": Tile(1, 16, 1),
        "ROWS_PER_SHARE": 5,
        "COLUMNS_PER_SHARE": 20,
    },
    "stored_loss": {
        "MANY_ROWS_TILE": Tile(2, 16, 1),
        "FEW_ROWS_TILE": Tile(2, 16, 1),
        "SCALE_TILE": Tile(1, 16, 1),
    },
    "projected_sweeps": {
        "SWEEP_BLOCKS": (Blocks(16, 16, 1, 1),),
        "ROWS_PER_SHARE": 20,
        "COLUMNS_PER_SHARE": 20,
    },
    "projected_loss": {"TERMS_BLOCKS": (Blocks(16, 16, 1, 1),), "COLUMNS_PER_SHARE": 20},
    "projected_gradients": {"GRADIENT_BLOCKS": (Blocks(16, 16, 1, 1),), "COLUMNS_PER_SHARE": 20},
}


def small(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    name = module.__name__.rsplit(".", 1)[1].split("_mutated")[0]
    for constant, value in SMALL[name].items():
        monkeypatch.setattr(module, constant, value)
    return module


def strided(x):
    """The same rows in a wider buffer, whose other columns are NaN."""
    wide = x.new_full((len(x), x.shape[1] + 3), torch.nan)
    wide[:, : x.shape[1]] = x
    return wide[:, : x.shape[1]]


def assert_close(got, eager, exact):
    # The interpreter cuts off what bfloat16 cannot hold, where a GPU rounds.
    cut_off = 2**-7 if got.dtype == torch.bfloat16 and not got.is_cuda else 0.0
    got, eager, exact = (x.detach().double().cpu() for x in (got, eager, exact))
    assert got.shape == exact.shape
    error, allowed = (got - exact).norm(), 2 * (eager - exact).norm() + (2e-6 + cut_off) * exact.norm()
    assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"


def log_sums(largest_NK, sum_NK):
    return (largest_NK + sum_NK.log()).logsumexp(dim=0)


def check_stored_sweeps(room: ModuleType, dtype, device="cpu"):
    logits = draw(11, K, dtype=dtype, device=device) - 3  # below the 0 that a lost mask would let in
    logits[:, -1] += 2  # and no column too small to be missed
    log_u = draw(K, seed=1, device=device)
    exact_rows = reference.row_normalisers_reference(logits.double(), log_u.double(), TEACHER_T)
    eager_rows = reference.row_normalisers_reference(logits, log_u, TEACHER_T)
    assert_close(room.row_normalisers(strided(logits), log_u, 1 / TEACHER_T), eager_rows, exact_rows)

    lse = exact_rows.float()
    exact = reference.column_sums_reference(logits.double(), log_u.double(), lse.double(), TEACHER_T)
    eager = reference.column_sums_reference(logits, log_u, lse, TEACHER_T)
    got = room.column_sums(strided(logits), log_u, lse, 1 / TEACHER_T)
    assert len(got[0]) == 3  # shares of 5 rows
    assert_close(log_sums(*got), log_sums(*eager), log_sums(*exact))
    poisoned = logits.clone()
    poisoned[7, 20] = torch.nan
    largest = room.column_sums(poisoned, log_u, lse, 1 / TEACHER_T)[0]
    assert largest.isnan().nonzero().tolist() == [[1, 20]]


def check_join(room: ModuleType, device="cpu"):
    """The same whole numbers, up to what exp rounds."""
    partial, total = draw(7, K, device=device), draw(7, K, seed=1, device=device).exp()
    partial[2, 5] = -torch.inf  # a share whose logits are all -inf
    total[2, 5] = 0
    largest = partial.amax(dim=0)
    want = reference.join_reference(partial.double(), total.double(), largest.double())
    got = room.join(partial, total, largest)
    assert got.dtype == torch.int64
    torch.testing.assert_close(got.double(), want.double(), rtol=5e-7, atol=0)
    # Multiples of half a unit, where every step is exact: rounded to the nearest, halves up.
    tiny = (
        torch.tensor([[0.25, 0.5, 0.75, 1.5], [1.0, 1.0, 1.25, 3.0]], device=device) / reference.FIXED_POINT
    )
    assert room.join(torch.zeros_like(tiny), tiny, torch.zeros_like(tiny[0])).tolist() == [1, 2, 2, 5]


def solved(logits_or_pair, log_u):
    if isinstance(logits_or_pair, tuple):
        z, w = logits_or_pair
        logits_or_pair = z @ w.T
    return reference.row_normalisers_reference(logits_or_pair.double(), log_u.double(), TEACHER_T).float()


def rows_of_loss(targets, device):
    table = torch.tensor(TARGETS[targets], dtype=torch.int32, device=device)
    weight = draw(len(table), seed=5, device=device).abs()
    weight[1] = 0
    return table, weight


def check_stored_loss(room: ModuleType, dtype, targets, device="cpu"):
    table, weight = rows_of_loss(targets, device)
    student, teacher = draw(9, K, dtype=dtype, device=device), draw(B, K, dtype=dtype, seed=2, device=device)
    student += torch.arange(K, device=device).to(dtype) / 8 - 8  # the maximum moves from tile to tile
    log_u = draw(K, seed=3, device=device)
    lse = solved(teacher, log_u)

    def specified(kind):
        leaf = student.to(kind).requires_grad_()
        wide = [x.to(torch.promote_types(kind, torch.float32)) for x in (log_u, lse, weight)]
        loss = reference.prototype_loss_reference(
            leaf, teacher.to(kind), wide[0], wide[1], table, wide[2], STUDENT_T, TEACHER_T
        )
        return loss, torch.autograd.grad(loss.sum(), leaf)[0]

    exact, eager = specified(torch.float64), specified(dtype)
    inverses = (1 / STUDENT_T, 1 / TEACHER_T)
    fixed = (strided(teacher), log_u, lse, table, weight, inverses)
    for crops in (1, 3):
        out = torch.full_like(student, torch.nan)
        loss = room.cross_entropy(strided(student), *fixed, crops, out)
        assert_close(loss, eager[0], exact[0])
        assert_close(out, eager[1], exact[1])
    in_place = strided(student.clone())
    assert torch.equal(room.cross_entropy(in_place, *fixed, 3, in_place), loss)
    assert torch.equal(in_place, out)
    kept = student.clone()
    assert torch.equal(room.cross_entropy(kept, *fixed, 1, None), loss)
    assert torch.equal(kept, student)


def check_scale(room: ModuleType, dtype, device="cpu"):
    x = draw(4, K, dtype=dtype, device=device)
    factor = torch.tensor([1.0, 0.0, -2.0, 0.3], device=device)
    got = strided(x)
    room.scale_(got, factor)
    torch.testing.assert_close(got, (x.float() * factor[:, None]).to(dtype))
    assert torch.equal(got[0], x[0])


def projected_pair(rows, dtype, seed, device, width=24):
    z = torch.nn.functional.normalize(draw(rows, width, seed=seed), dim=1)
    w = draw(K, width, seed=seed + 1)
    return tuple(strided(x.to(device=device, dtype=dtype)) for x in (z, w))


def check_projected_sweeps(room: ModuleType, dtype, device="cpu"):
    z, w = projected_pair(43, dtype, 0, device)
    log_u = draw(K, seed=4, device=device)
    wide, narrow = z.double() @ w.double().T, (z @ w.T)
    exact_rows = reference.row_normalisers_reference(wide, log_u.double(), TEACHER_T)
    eager_rows = reference.row_normalisers_reference(narrow, log_u, TEACHER_T)
    assert_close(room.row_normalisers(z, w, log_u, 1 / TEACHER_T), eager_rows, exact_rows)

    lse = exact_rows.float()
    exact = reference.column_sums_reference(wide, log_u.double(), lse.double(), TEACHER_T)
    eager = reference.column_sums_reference(narrow, log_u, lse, TEACHER_T)
    got = room.column_sums(z, w, log_u, lse, 1 / TEACHER_T)
    assert len(got[0]) == 3  # shares of 20 rows
    assert_close(log_sums(*got), log_sums(*eager), log_sums(*exact))
    z = z.clone()
    z[41, 3] = torch.nan
    assert room.column_sums(z, w, log_u, lse, 1 / TEACHER_T)[0].isnan().any(dim=1).tolist() == [
        False,
        False,
        True,
    ]


class Projection:
    """Inputs of the loss without stored logits; 9 rows twice and a half, so that row blocks are several."""

    def __init__(self, dtype, device):
        table, weight = rows_of_loss(1, device)
        self.table, self.weight = torch.cat([table, table, table[:5]]), weight.repeat(3)[:23]
        self.student = projected_pair(23, dtype, 10, device)
        self.teacher = projected_pair(B, dtype, 20, device)
        self.log_u = draw(K, seed=3, device=device)
        self.lse = solved(tuple(x.double() for x in self.teacher), self.log_u)
        self.inverses = (1 / STUDENT_T, 1 / TEACHER_T)

    def specified(self, kind):
        leaves = [x.to(kind, copy=True).requires_grad_() for x in self.student]
        wide = [x.to(torch.promote_types(kind, torch.float32)) for x in (self.log_u, self.lse, self.weight)]
        teacher = self.teacher[0].to(kind) @ self.teacher[1].to(kind).T
        loss = reference.prototype_loss_reference(
            leaves[0] @ leaves[1].T, teacher, wide[0], wide[1], self.table, wide[2], STUDENT_T, TEACHER_T
        )
        return loss, *torch.autograd.grad(loss.sum(), leaves)

    def statistics(self):
        """Row maximum and mass / sum of the scaled logits, from the definition."""
        x = (self.student[0].double() @ self.student[1].double().T) / STUDENT_T
        mass = (self.table >= 0).sum(dim=1)
        largest = x.amax(dim=1)
        return largest.float(), (mass / (x - largest[:, None]).exp().sum(dim=1)).float()


def check_projected_loss(room: ModuleType, dtype, device="cpu"):
    case = Projection(dtype, device)
    exact, eager = case.specified(torch.float64), case.specified(dtype)
    loss, largest, total, mass = room.loss_terms(
        case.student, case.teacher, case.log_u, case.lse, case.table.flatten(), case.inverses
    )
    assert_close(loss * case.weight, eager[0], exact[0])
    want_largest, want_scale = case.statistics()
    torch.testing.assert_close(largest, want_largest, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mass / total, want_scale, rtol=1e-4, atol=1e-6)


def check_projected_gradients(room: ModuleType, dtype, device="cpu"):
    case = Projection(dtype, device)
    exact, eager = case.specified(torch.float64), case.specified(dtype)
    got = room.gradients(
        case.student,
        case.teacher,
        case.log_u,
        case.lse,
        case.table.flatten(),
        case.statistics(),
        case.weight / STUDENT_T,
        case.inverses,
    )
    for mine, theirs, want, given in zip(got, eager[1:], exact[1:], case.student, strict=True):
        assert mine.dtype == given.dtype
        assert_close(mine, theirs, want)
