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


@pytest.fixture(scope="session")
def sample_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 150 procedural images of five instruments, 64 % labelled. Read only."""
    from aqqua.ingest import ingest_paths
    from aqqua.instruments.record import ReadOptions
    from aqqua.sample import write_sample

    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder / "ocean", 150)
    ingest_paths([str(folder / "ocean")], folder / "dataset", ReadOptions(), workers=1)
    return folder / "dataset"


@pytest.fixture(scope="session")
def tiny_run(sample_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of a few steps over `sample_dataset`, with a checkpoint. Read only."""
    from aqqua.train.loop import pretrain
    from aqqua.train.settings import PretrainConfig

    run = tmp_path_factory.mktemp("runs") / "tiny"
    values = {
        "run": run,
        "data": {"path": sample_dataset, "holdout": 0.3, "lanes": 1, "pack_tokens": 3000, "prefetch": False},
        "views": {"locals": 2, "max_tokens": [64, 16]},
        "model": {"width": 32, "layers": 2, "heads": 2, "patch_px": 12, "drop_path": 0, "layer_scale": 0.1},
        "objective": {"head": {"prototypes": 64, "hidden": 32, "bottleneck": 16}},
        "optim": {"lr_rule": "none", "warmup_share": 0},
        "train": {"images": 60, "log_every": 1, "threads": 1, "tensorboard": False},
    }
    pretrain(PretrainConfig.model_validate(values))
    return run
