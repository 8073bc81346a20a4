"""Operators: importable without Triton, and on a GPU made of launches that torch.compile can see."""

import subprocess
import sys

import pytest

WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # any import of it fails
import aqqua.kernels.activation, aqqua.kernels.residual_norm, aqqua.kernels.segment
assert not [name for name in sys.modules if name.startswith("aqqua.kernels.") and name.endswith(".op")]
"""

# What torch.compile makes of the operators in a GPU process, as far as it goes without a GPU: the graph that
# it would hand to its code generator. Each must have become launches.
TRACED = """
import torch
from torch._dynamo.backends.common import aot_autograd
from aqqua.kernels.activation import op as activation
from aqqua.kernels.residual_norm import op as residual_norm
from aqqua.kernels.segment import op as segment

x, v, offsets = torch.ones(4, 8), torch.ones(8), torch.tensor([0, 1, 4], dtype=torch.int32)
calls = {
    "activation": lambda x, v: activation.activation(x, False),
    "activated_linear": lambda x, v: activation.activated_linear(x, x[:, :4], v[:4], True),
    "norm_rows": lambda x, v: residual_norm.norm_rows(x, v, v, None, 4, torch.float32, 1e-6),
    "residual_norm": lambda x, v: residual_norm.residual_norm(
        x, x, v, None, v, v, None, 4, 1.5, torch.bfloat16, 1e-6
    ),
    "mean_pool": lambda x, v: segment.mean_pool(x, offsets, 1),
    "split_prefix": lambda x, v: segment.split_prefix(x, offsets, 1),
    "koleo": lambda x, v: segment.koleo_forward(x[None], offsets.new_zeros(4)),
}
for name, call in calls.items():
    seen = []

    def stop(graph, inputs):
        seen.append({str(node.target) for node in graph.graph.nodes if node.op == "call_function"})
        raise RuntimeError("seen")

    try:
        torch.compile(call, backend=aot_autograd(fw_compiler=stop), fullgraph=True)(x, v)
    except Exception as error:
        if not seen:
            raise
    assert "triton_kernel_wrapper_functional" in seen[0], (name, seen)
    assert not any(target.startswith("aqqua") for target in seen[0]), (name, seen)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in which TRITON_INTERPRET is not set."""
    code = f"import os\nos.environ.pop('TRITON_INTERPRET', None)\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)


def test_imports_without_triton():
    done = run(WITHOUT_TRITON)
    assert done.returncode == 0, done.stderr


def test_torch_compile_sees_the_launches():
    pytest.importorskip("triton")
    done = run(TRACED)
    assert done.returncode == 0, done.stderr
