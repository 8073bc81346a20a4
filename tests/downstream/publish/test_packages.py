"""Packages that are not there, and files that are there whole or not at all."""

import errno
import sys

import pytest

from aqqua.downstream.publish.new_file import new_file
from aqqua.downstream.publish.packages import needed


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        RuntimeError, match=r"needs the package h5py, got none; pip install 'aqqua\[publish\]'"
    ):
        needed("h5py", "x")


def test_verbs_load_nothing_heavy():
    import subprocess

    modules = ["ecotaxa", "ecotaxa_push", "ifcb_class_h5", "darwin_core", "plain"]
    program = "import sys\n" + "".join(f"import aqqua.downstream.publish.{name}\n" for name in modules)
    program += "import aqqua.downstream.grid.netcdf, aqqua.downstream.grid.picture\n"
    heavy = ["h5py", "httpx", "netCDF4", "cartopy", "matplotlib", "onnx", "xarray", "pandas"]
    program += f"print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def write(out, text, error=None):
    with new_file(out, "x") as partial:
        partial.write_text(text)
        if error is not None:
            raise error


def test_a_file_is_whole_or_not_there(tmp_path):
    out = tmp_path / "sub" / "out.txt"
    with pytest.raises(KeyError):
        write(out, "half", KeyError())
    with pytest.raises(RuntimeError, match="x: the disk must take the output"):
        write(out, "half", OSError(errno.ENOSPC, "No space left on device"))
    assert list(out.parent.iterdir()) == []
    write(out, "whole")
    assert [(path.name, path.read_text()) for path in out.parent.iterdir()] == [("out.txt", "whole")]
    with pytest.raises(ValueError, match="must not exist yet"):
        write(out, "again")
