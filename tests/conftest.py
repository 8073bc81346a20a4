"""Pytest set-up: where real data lies, which device is used, one thread for equal timings."""

import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


def _real_data_folder() -> Path:
    return Path(os.environ.get("AQQUA_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images of many instruments (third-party, not part of the project)."""
    folder = _real_data_folder()
    if not (folder / "MANIFEST.md").exists():
        pytest.skip(f"real data is not here: {folder} (set AQQUA_DATA)")
    return folder


@pytest.fixture
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan():
    """torch.empty and its kin come back filled with NaN, so a row no kernel wrote shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
