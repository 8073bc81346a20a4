"""What a Triton kernel becomes on a GPU that is not here: registers, spills and shared memory.

Triton compiles for any architecture without one, so that a change which spills, or no longer fits a
chip's shared memory, is seen before anyone pays for a GPU-hour. Needs Triton, in a process where
TRITON_INTERPRET was not set when it was imported.
Test: tests/kernels/test_offline.py. Table: bench/kernels/offline.py.
"""

import importlib
import pkgutil
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aqqua.kernels

# Shared memory one program may use, bytes. Source: CUDA C++ programming guide, technical
# specifications per compute capability ("maximum amount of shared memory per thread block").
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
ARCHITECTURES = tuple(SHARED_LIMIT)
MATRIX_INSTRUCTION = re.compile(r"^\s*(?:@%p\d+ )?(?:wgmma\.mma|mma\.sync|tcgen05\.mma)", re.MULTILINE)


@dataclass(frozen=True)
class Launch:
    """One kernel as a shape class launches it."""

    name: str  # what is launched, for people: "attention forward, ≤ 32 tokens, bf16"
    kernel: Any  # the @triton.jit function
    signature: Mapping[str, str]  # argument -> "*bf16", "i32", ...; all that are not in constants
    constants: Mapping[str, Any]  # the tl.constexpr arguments
    num_warps: int = 4
    num_stages: int = 3  # Triton's own default, where a launch names none
    max_spill_bytes: int = 0  # more is a defect; say why where it is not 0
    architectures: tuple[int, ...] = ARCHITECTURES
    aligned: frozenset[str] = field(default_factory=frozenset)  # integers known to be multiples of 16


@dataclass(frozen=True)
class Usage:
    """What one launch takes on one architecture."""

    registers: int  # per thread
    spill_bytes: int  # stored to local memory, per thread
    shared_bytes: int  # per program
    matrix_instructions: int  # mma, wgmma or tcgen05 in the PTX
    ptx_lines: int


def every_launch() -> dict[str, list[Launch]]:
    """What each op launches in training, for each shape class: its `launches` module says."""
    found = {}
    for package in pkgutil.iter_modules(aqqua.kernels.__path__):
        if package.ispkg:
            found[package.name] = importlib.import_module(f"aqqua.kernels.{package.name}.launches").launches()
    return found


def compile_launch(launch: Launch, architecture: int) -> Usage:
    """Compile for compute capability `architecture` (80, 90, 100) and read what it takes.

    Raises:
        RuntimeError: Triton or ptxas refuses the kernel; the message is theirs.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {**launch.signature, **{name: "constexpr" for name in launch.constants}}
    names = launch.kernel.arg_names
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if signature[name].startswith("*") or name in launch.aligned
    }
    source = ASTSource(
        fn=launch.kernel,
        signature={name: signature[name] for name in names},
        constexprs={(names.index(name),): value for name, value in launch.constants.items()},
        attrs=aligned,
    )
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    ptx = compiled.asm["ptx"]
    registers, spills = _assemble(ptx, architecture)
    return Usage(
        registers=registers,
        spill_bytes=spills,
        shared_bytes=int(compiled.metadata.shared),
        matrix_instructions=len(MATRIX_INSTRUCTION.findall(ptx)),
        ptx_lines=ptx.count("\n"),
    )


def _assemble(ptx: str, architecture: int) -> tuple[int, int]:
    """Registers and spilled bytes per thread, as ptxas reports them."""
    from triton.backends.nvidia.compiler import get_ptxas  # knows which of its assemblers reads its PTX

    target = re.search(r"^\.target (\S+?),?\s*$|^\.target (\w+)", ptx, re.M)
    chip = next(name for name in target.groups() if name) if target else f"sm_{architecture}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.ptx")
        file.write_text(ptx)
        done = subprocess.run(
            [get_ptxas(architecture).path, "-v", f"--gpu-name={chip}", str(file), "-o", f"{file}.cubin"],
            capture_output=True,
            text=True,
            timeout=300,
        )
    if done.returncode != 0:
        raise RuntimeError(f"ptxas refuses the kernel for {chip}: {done.stderr[-2000:]}")
    registers = re.search(r"Used (\d+) registers", done.stderr)
    spills = re.search(r"(\d+) bytes spill stores", done.stderr)
    if registers is None or spills is None:
        raise RuntimeError(f"ptxas must report registers and spills, got {done.stderr[-500:]!r}")
    return int(registers[1]), int(spills[1])
