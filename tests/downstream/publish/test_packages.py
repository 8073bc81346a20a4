"""Packages that are not there, and files that are there whole or not at all."""

import sys

import pytest

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
