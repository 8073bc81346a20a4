"""The house: which room may import which, no catch-all modules, nothing unpickled or evaluated.

The source is read (ast), never run. A finding names the offending file and line.
"""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "aqqua"
PIPELINES = PACKAGE.parent / "dali_pipelines"

# Who may import whom: a room may import those before it in its chain. `train` joins both chains.
DATA = ["instruments", "store", "plan", "render"]
NETWORK = ["kernels", "model", "objective"]
TOP = ["train", "cost", "launch", "curate", "evaluate", "downstream", "explore", "doctor", "ingest", "cli"]
ALLOWED: dict[str, set[str]] = {
    **{room: set(DATA[:i]) for i, room in enumerate(DATA)},
    **{room: set(NETWORK[:i]) for i, room in enumerate(NETWORK)},
    **{room: {*DATA, *NETWORK, "taxonomy", *TOP[:i]} for i, room in enumerate(TOP)},
    "taxonomy": set(),
    "sample": {"instruments"},
    "progress": set(),
    "spread": set(),
    "config": set(),
    "__init__": set(),
    "__main__": {"cli"},
}
ALLOWED["cli"] |= {"sample"}
ALLOWED["render"] |= {"kernels"}  # one of the renderers is a kernel
# Formulas of operations and peaks of GPUs: of `cost`, but below `train`, which tells its MFU by them.
COUNTS = ("activations", "facts", "flops", "parameters", "tokens", "traffic", "work")
COUNTED = tuple(f"aqqua.cost.{name}" for name in COUNTS)
EVERYONE_MAY = {"progress", "spread", "config", "_core", "__version__"}  # leaves: they import nothing of ours
# The package beside aqqua: what it may import of it, and who of aqqua may import it, inside functions.
ALLOWED_IN_PIPELINES = {*DATA, "kernels"}
USERS_OF_PIPELINES = {"train", "doctor"}

# `aqqua --help` answers in half a second, so these wait until a verb needs them.
LATE_IN_CLI = {"aqqua", "torch", "numpy", "pyarrow", "pydantic", "sklearn", "PIL", "triton", "safetensors"}

CATCH_ALL = {"util", "utils", "common", "helper", "helpers", "misc"}

FORBIDDEN = {
    "unpickles": "pickle.load pickle.loads pickle.Unpickler dill.load dill.loads cloudpickle.load "
    "cloudpickle.loads joblib.load shelve.open marshal.load marshal.loads pandas.read_pickle",
    "unpickles; weights travel as safetensors": "torch.load",
    "evaluates text": "eval exec builtins.eval builtins.exec",
    "makes objects; use yaml.safe_load": "yaml.load yaml.load_all yaml.full_load yaml.unsafe_load",
    "runs a shell": "os.system os.popen",
}
FORBIDDEN_CALLS = {name: why for why, names in FORBIDDEN.items() for name in names.split()}
FORBIDDEN_ARGUMENTS = {"shell": "runs a shell", "allow_pickle": "unpickles"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted([*PACKAGE.rglob("*.py"), *PIPELINES.rglob("*.py")]):
        yield path.relative_to(PACKAGE.parent), ast.parse(path.read_text(encoding="utf-8"))


def imported(node: ast.AST, package: list[str]) -> list[str]:
    """Dotted names a statement or call imports, absolute; `package` is where its file lies."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        base = base + (node.module.split(".") if node.module else [])
        return [".".join([*base, alias.name]) for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        return [
            arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        ]
    return []


def upward_imports(path: Path, tree: ast.Module) -> list[str]:
    room = path.parts[1].removesuffix(".py")
    if path.parts[0] == PIPELINES.name:
        return [
            f"{path}:{node.lineno}: {PIPELINES.name} must not import {name}"
            for node, name in imports(path, tree)
            if name.split(".")[0] == "aqqua" and not {*name.split(".")[1:2]} & ALLOWED_IN_PIPELINES
        ]
    if room not in ALLOWED:
        return [f"{path}:1: aqqua.{room} is no known room; give it its place in tests/test_layers.py"]
    counted = ".".join(path.with_suffix("").parts) in COUNTED
    below = {*DATA, *NETWORK} if counted else ALLOWED[room] | {room}
    found = []
    for node in ast.walk(tree):
        for name in imported(node, list(path.parent.parts)):
            first, *rest = name.split(".")
            if first != "aqqua" or not rest or rest[0] in EVERYONE_MAY | below:
                continue
            if (counted or room == "train") and ".".join(name.split(".")[:3]) in COUNTED:
                continue
            found.append(f"{path}:{getattr(node, 'lineno', 0)}: aqqua.{room} must not import {name}")
    return found


def imports(path: Path, tree: ast.AST) -> list[tuple[ast.stmt | ast.expr, str]]:
    """Every import of a file, wherever it stands."""
    return [
        (node, name)
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt | ast.expr)
        for name in imported(node, list(path.parent.parts))
    ]


def imports_of_pipelines(path: Path, tree: ast.Module) -> list[str]:
    """Imports that would load DALI where nobody asked for it, or by who has no business with it."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    late = {id(node) for f in ast.walk(tree) if isinstance(f, functions) for node in ast.walk(f)}
    ours = path.parts[0] == PIPELINES.name
    found = []
    for node, name in imports(path, tree):
        top = name.split(".")[0]
        if top == "nvidia" and (not ours or path.name == "__init__.py"):
            found.append(f"{path}:{node.lineno}: import DALI in a module of {PIPELINES.name}")
        if top == PIPELINES.name and not ours:
            room = path.parts[1].removesuffix(".py")
            if room not in USERS_OF_PIPELINES or id(node) not in late:
                found.append(f"{path}:{node.lineno}: import {name} in train or doctor, inside a function")
    return found


def early_imports(path: Path, tree: ast.Module) -> list[str]:
    """Heavy imports a command line pays for before it knows its verb."""
    found = []
    for node in tree.body:
        for name in imported(node, list(path.parent.parts)):
            ours = name.startswith("aqqua.cli.") or name in {"aqqua.__version__", "aqqua.progress"}
            if name.split(".")[0] in LATE_IN_CLI and not ours:
                found.append(f"{path}:{node.lineno}: import {name} inside the verb that needs it")
    return found


def unsafe_calls(path: Path, tree: ast.Module) -> list[str]:
    full_names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full_names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            full_names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, *rest = ast.unparse(node.func).split(".")
        name = ".".join([full_names.get(first, first), *rest])
        if name in FORBIDDEN_CALLS:
            found.append(f"{path}:{node.lineno}: {name} {FORBIDDEN_CALLS[name]}")
        for keyword in node.keywords:
            off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg in FORBIDDEN_ARGUMENTS and not off:
                found.append(f"{path}:{node.lineno}: {keyword.arg} {FORBIDDEN_ARGUMENTS[keyword.arg]}")
    return found


def report(findings: list[str]) -> None:
    assert not findings, "\n" + "\n".join(findings)


def test_no_import_runs_upward():
    report([line for path, tree in sources() for line in upward_imports(path, tree)])


def test_dali_is_imported_by_who_asks_for_it():
    report([line for path, tree in sources() for line in imports_of_pipelines(path, tree)])


def test_the_command_line_imports_late():
    entry = [(p, tree) for p, tree in sources() if p.as_posix() == "aqqua/__init__.py" or p.parts[1] == "cli"]
    assert len(entry) > 5
    report([line for path, tree in entry for line in early_imports(path, tree)])


def test_no_catch_all_modules():
    parts = {path: {part.removesuffix(".py") for part in path.parts} for path, _ in sources()}
    report([f"{path}:1: name it after what it does" for path, names in parts.items() if names & CATCH_ALL])


def test_nothing_is_unpickled_or_evaluated():
    report([line for path, tree in sources() for line in unsafe_calls(path, tree)])


@pytest.mark.parametrize(
    ("file", "source", "count"),
    [
        ("store/read.py", "from aqqua.plan.lanes import Lane", 1),
        ("store/read.py", "def f():\n    import aqqua.train.loop", 1),
        ("store/read.py", "from ..model import vit", 1),
        ("store/read.py", "from aqqua import objective", 1),
        ("store/read.py", "import importlib\nimportlib.import_module('aqqua.cli')", 1),
        (
            "store/read.py",
            "from aqqua.instruments.record import Record\nfrom . import schema\nimport torch",
            0,
        ),
        ("kernels/attention/__init__.py", "from aqqua.model import vit", 1),
        ("kernels/attention/__init__.py", "from .reference import f\nfrom ... import store", 1),
        ("objective/ssl.py", "from aqqua.render import reference", 1),
        ("train/loop.py", "from aqqua.render import reference\nfrom aqqua.objective import ssl", 0),
        ("train/loop.py", "from aqqua.config import load_config\nfrom aqqua.evaluate import knn", 1),
        ("train/useful.py", "from aqqua.cost.flops import image_flops\nfrom aqqua.cost import plan", 1),
        ("cost/flops.py", "from aqqua.cost.tokens import Role\nfrom aqqua.train import loop", 1),
        ("cost/flops.py", "from aqqua.cost.step import StepSeconds", 1),
        ("sample/sketch.py", "from aqqua.store import write", 1),
        ("cli.py", "from aqqua.config import Config\nfrom aqqua import sample", 0),
        ("utilities/x.py", "", 1),
        ("../dali_pipelines/x.py", "from aqqua.train import loop\nfrom aqqua.render import contract", 1),
        ("../dali_pipelines/x.py", "import aqqua", 1),
    ],
)
def test_upward_imports_are_seen(file, source, count):
    path = Path(os.path.normpath(Path("aqqua") / file))
    found = upward_imports(path, ast.parse(source))
    assert len(found) == count
    assert all(line.startswith(f"{path}:") for line in found)


@pytest.mark.parametrize(
    ("file", "source", "count"),
    [
        ("aqqua/train/backend.py", "def f():\n    from dali_pipelines.decode import Decoder", 0),
        ("aqqua/train/backend.py", "from dali_pipelines.decode import Decoder", 1),
        ("aqqua/train/backend.py", "def f():\n    import nvidia.dali", 1),
        ("aqqua/render/__init__.py", "def f():\n    import dali_pipelines", 1),
        ("dali_pipelines/__init__.py", "import nvidia.dali", 1),
        ("dali_pipelines/graph.py", "from nvidia.dali import fn\nfrom dali_pipelines import augment", 0),
    ],
)
def test_imports_of_dali_are_seen(file, source, count):
    assert len(imports_of_pipelines(Path(file), ast.parse(source))) == count


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import pickle\npickle.loads(b)", 1),
        ("from pickle import load as read\nread(f)", 1),
        ("import torch as t\nt.load(p, weights_only=True)", 1),
        ("eval(x)\nexec(x)", 2),
        ("import yaml\nyaml.load(f, Loader=yaml.SafeLoader)", 1),
        ("import subprocess\nsubprocess.run(c, shell=True)", 1),
        ("import numpy as np\nnp.load(p, allow_pickle=True)", 1),
        ("import numpy as np\nnp.load(p, allow_pickle=False)\nmodel.eval()\nyaml.safe_load(f)", 0),
    ],
)
def test_unsafe_calls_are_seen(source, count):
    assert len(unsafe_calls(Path("aqqua/x.py"), ast.parse(source))) == count


def test_early_imports_are_seen():
    source = (
        "import torch\nfrom aqqua.config import Config\nfrom aqqua.cli.verb import answer\nimport sys\n\n"
        "def verb():\n    import numpy"
    )
    assert len(early_imports(Path("aqqua/cli/data.py"), ast.parse(source))) == 2


def test_tests_that_docstrings_name_exist():
    root = PACKAGE.parent
    ours = [*PACKAGE.rglob("*.py"), *PIPELINES.rglob("*.py")]
    sources_of_names = [*ours, *(root / "csrc").iterdir(), *(root / "bench").rglob("*.py")]
    missing = [
        f"{path.relative_to(root)}: {name}"
        for path in sources_of_names
        for name in re.findall(r"\b(?:tests|bench)/[a-z_/]+\.py", path.read_text(encoding="utf-8"))
        if not (root / name).exists()
    ]
    assert missing == []
