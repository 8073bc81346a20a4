"""A kernel's module with one bug seeded: do the tests notice?

A comparison that also passes for a kernel with a dropped mask or a wrong scale proves nothing, so each
kernel's test seeds bugs into the kernel's source and asserts that its own comparison fails.
"""

import importlib.util
import itertools
import sys
from importlib.abc import SourceLoader
from pathlib import Path
from types import ModuleType

import pytest
import torch

_numbers = itertools.count()


class _SourceInMemory(SourceLoader):
    """Text that lies in no file. Triton reads a kernel's text through `get_source`, so it sees the bug."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002  the signature of SourceLoader
        return self.path

    def get_data(self, path: str) -> bytes:  # noqa: ARG002  the signature of SourceLoader
        return self.text.encode()


def mutated(module_name: str, old: str, new: str) -> ModuleType:
    """A fresh copy of a module in whose source `old` is replaced by `new`; the module itself stays as it is.

    What the copy imports is not mutated, and what imports the module does not see the copy: call the
    copy's own functions. A module that registers torch operators cannot be copied, as their names are
    taken: keep kernels and their launches in one file and the registration in another.

    Args:
        module_name: full name of an importable module.
        old: text that must occur exactly once.
        new: the bug.

    Raises:
        ValueError: `old` does not occur exactly once, or `new` is `old`.
    """
    if torch.cuda.is_available():
        pytest.skip("a seeded bug may write anywhere on a GPU; the interpreter's kernels have them")
    spec = importlib.util.find_spec(module_name)
    assert spec is not None, f"{module_name} must be importable"
    assert spec.origin is not None, f"{module_name} must have a source file"
    text = Path(spec.origin).read_text(encoding="utf-8")
    if text.count(old) != 1 or new == old:
        raise ValueError(
            f"mutated: {old!r} must occur exactly once in {module_name} and be changed, got "
            f"{text.count(old)} times and {new!r}; give more of its surroundings"
        )
    name = f"{module_name}_mutated_{next(_numbers)}"
    loader = _SourceInMemory(f"<{name}>", text.replace(old, new))
    copied = importlib.util.spec_from_loader(name, loader)
    assert copied is not None, "a loader was given"
    module = importlib.util.module_from_spec(copied)
    # inspect finds the text of a function through sys.modules.
    sys.modules[name] = module
    loader.exec_module(module)
    return module
