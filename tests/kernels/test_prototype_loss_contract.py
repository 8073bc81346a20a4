"""The prototype loss: what it refuses, its operators, launches and blocks, and what it is timed on."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from prototype_rows import K, dino_case, draw, solve
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck

from aqqua.kernels import offline
from aqqua.kernels import prototype_loss as room
from aqqua.kernels.prototype_loss import (
    Projected,
    Teacher,
    balance,
    column_sums,
    dino_targets,
    ibot_targets,
    prototype_loss,
)
from aqqua.kernels.prototype_loss.projected_tiles import Blocks, Chip, Tiles, fit, parts


def test_targets():
    assert dino_targets(3, 2, 2).tolist() == [[-1, 2], [-1, 3], [0, -1], [1, -1], [0, 2], [1, 3]]
    assert dino_targets(2, 1, 2).tolist() == [[-1], [-1], [0], [1]]
    assert ibot_targets(3).tolist() == [[0], [1], [2]]
    for S, G in ((1, 2), (4, 3), (1, 1)):
        with pytest.raises(ValueError, match=f"got {G} and {S}"):
            dino_targets(S, G, 2)


def bad_calls():
    student, teacher, targets, weight = dino_case(torch.float32, "cpu")
    good = solve(teacher, 0.07, "reference")
    wide = torch.zeros(2, 600)

    def loss(student=student, teacher=good, targets=targets, weight=weight, **options):
        return lambda: prototype_loss(student, teacher, targets, weight, **options)

    yield loss(student=student.T.contiguous().T), r"each contiguous, got torch.float32 of shape \(12, 37\)"
    yield loss(student=student.bfloat16()), r"in one form, type and width, got \(12, 37\) torch.bfloat16"
    yield loss(student=Projected(student, student)), "in one form, type and width"
    yield loss(targets=targets.long()), r"contiguous int32 of 12 rows .* got \(12, 2\) torch.int64"
    yield loss(targets=targets.repeat(1, 2)), r"with 1 or 2 teacher rows each, got \(12, 4\)"
    yield loss(weight=weight.double()), r"weight_R must be 12 contiguous torch.float32, got .* torch.float64"
    yield loss(crops=5), "crops must divide the 12 rows, got 5; use 1"
    yield loss(gradient="late"), "gradient must be one of auto, forward, in_place, backward, got 'late'"
    yield loss(temperature=0.0), "temperature must be positive and finite, got 0.0"
    yield loss(teacher=Teacher(teacher, good.log_u_K.double(), good.lse_B, 0.07)), "log_u_K must be 37"
    yield loss(backend="cuda"), "backend must be one of auto, triton, reference, got 'cuda'"
    yield lambda: balance([], 0.07), "at least one tensor of logits"
    yield lambda: balance([teacher], 0.07, iterations=0), "iterations must be at least 1, got 0"
    yield lambda: balance([Projected(wide, wide)], 0.07), "width of 1 to 512, got torch.float32 600"
    yield lambda: column_sums(teacher, 0.07, good.log_u_K, good.lse_B.double()), "lse_R must be 6 contiguous"


@pytest.mark.parametrize(("call", "message"), list(bad_calls()))
def test_contract_names_the_fix(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_projected_float32_has_no_kernel_on_a_gpu():
    with FakeTensorMode():
        z = torch.empty(4, 8, device="cuda")
    rows = Projected(z, z)
    assert room._serving(rows, "reference") == "reference"
    with pytest.raises(RuntimeError, match=r"needs 16 bits for projected rows, got torch\.float32"):
        room._serving(rows, "triton")
    half = Projected(z.bfloat16(), z.bfloat16())
    assert room._serving(half, "triton") == "triton"
    assert room._serving(z, "triton") == "triton"


def test_operators_are_registered_soundly(device):
    from aqqua.kernels.prototype_loss import ops

    student, teacher, targets, weight = dino_case(torch.float32, device)
    solved = solve(teacher, 0.07, "triton")
    given = (solved.log_u_K, solved.lse_B, targets, weight, 10.0, 1 / 0.07)
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    opcheck(ops.row_normalisers, (teacher, solved.log_u_K, 1 / 0.07), test_utils=checks)
    opcheck(ops.column_sums, (teacher, solved.log_u_K, solved.lse_B, 1 / 0.07), test_utils=checks)
    opcheck(ops.loss_stored, (student.requires_grad_(), teacher, *given, 4, True), test_utils=checks)
    projected = [
        x.requires_grad_() for x in (draw(12, 20, seed=1, device=device), draw(K, 20, device=device))
    ]
    frozen = draw(6, 20, seed=2, device=device), draw(K, 20, seed=3, device=device)
    given = (*given[:2], targets[:, 1].contiguous(), *given[3:])
    opcheck(ops.loss_projected, (*projected, *frozen, *given), test_utils=checks)


# What torch.compile makes of the loss where Triton compiles, with a pretended GPU; no kernel runs. Prints for
# each launch of the forward and of the backward graph which tensors it believes to be written.
WRITTEN = """
import torch, triton
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from triton.backends.compiler import GPUTarget
from aqqua.kernels import choice
from aqqua.kernels.prototype_loss import Projected, Teacher, balance, prototype_loss, row_normalisers

class Hopper:
    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

def show(graph, _):
    nodes = list(graph.graph.nodes)
    print(*["+".join(n.kwargs["tensors_to_clone"]) for n in nodes if "triton_kernel" in str(n.target)])
    values = [None if n is None else n.meta["val"] for n in nodes[-1].args[0]]
    return make_boxed_func(
        lambda *_: [torch.zeros(v.shape, dtype=v.dtype) if isinstance(v, torch.Tensor) else v for v in values]
    )

def step(student, teacher, targets, weight):
    log_u = balance([teacher], 0.07, 2, backend="triton")
    solved = Teacher(teacher, log_u, row_normalisers(teacher, 0.07, log_u, "triton"), 0.07)
    return prototype_loss(student, solved, targets, weight, gradient="in_place", backend="triton").sum()

def stored(s, t, *rows):
    return step(s * 1, t, *rows)

def projected(z, w, t, *rows):
    return step(Projected(z, w), Projected(t, w.detach()), *rows)

triton.runtime.driver.set_active(Hopper())
choice._check_triton = lambda *_: None
rows = torch.zeros(8, 1, dtype=torch.int32), torch.ones(8)
z, w, x = (torch.ones(*s, dtype=torch.bfloat16, requires_grad=True) for s in ((8, 32), (64, 32), (8, 64)))
for form, inputs in ((stored, (x, x.detach())), (projected, (z, w, z.detach()))):
    compiler = aot_autograd(fw_compiler=show, bw_compiler=show)
    torch.compile(form, fullgraph=True, backend=compiler)(*inputs, *rows).backward()
"""


def test_torch_compile_sees_in_one_graph_what_the_kernels_write(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = subprocess.run([sys.executable, "-c", WRITTEN], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    columns, rows = "largest_ptr+sum_ptr total_ptr", {"stored": "lse_ptr", "projected": "largest_ptr+sum_ptr"}
    assert done.stdout.splitlines() == [
        f"{columns} {rows['stored']} {columns} {rows['stored']} loss_ptr+gradient_ptr",
        "gradient_ptr",
        f"{columns} {rows['projected']} {columns} {rows['projected']} terms_ptr",
        "gradient_ptr gradient_ptr",
    ]


def test_launches_name_every_argument_and_fit_every_chip():
    from aqqua.kernels.prototype_loss.launches import launches

    found = launches()
    assert len({launch.name + str(launch.architectures) for launch in found}) == len(found)
    for launch in found:
        names = set(launch.kernel.arg_names)
        assert set(launch.signature) | set(launch.constants) == names, launch.name
        assert not set(launch.signature) & set(launch.constants)
        assert launch.aligned <= names
    for architecture in offline.ARCHITECTURES:
        assert sum("projected" in x.name and architecture in x.architectures for x in found) == 8


def test_bottlenecks_are_cut_into_blocks_that_hold_them():
    assert (parts(256), parts(384), parts(320), parts(8)) == ((256, 0), (256, 128), (256, 64), (16, 0))
    for Z in range(1, 513):
        assert sum(parts(Z)) >= Z
    wide, narrow = Blocks(128, 64, 8, 2), Blocks(64, 16, 4, 1)
    tiles = Tiles(owned=1, streamed=1, reused=True)
    assert fit((wide, narrow), tiles, 512, Chip(227 * 1024, copies=False)) == wide
    assert fit((wide, narrow), tiles, 512, Chip(130 * 1024, copies=True)) == narrow
    with pytest.raises(ValueError, match="got rows of 2048 bytes; store the logits"):
        fit((wide, narrow), tiles, 2048, Chip(99 * 1024, copies=False))


def test_bench_cases_can_be_made_and_agree(device, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "bench" / "kernels")
    import prototype_loss as bench

    for case in bench.cases(device, K=24, Z=20, rows=6, images=2):
        assert case.forward.keys() == case.both.keys() >= {"eager", "torch.compile", "triton"}
        assert 0 < case.forward_bytes < case.both_bytes
        assert 0 < case.forward_flops < case.both_flops
        want = case.both["eager"]()
        for name in case.both.keys() - {"torch.compile"}:
            for mine, theirs in zip(case.both[name](), want, strict=True):
                torch.testing.assert_close(mine.float(), theirs.float(), rtol=0.1, atol=0.02)
