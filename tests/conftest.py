"""Pytest set-up: where real data lies, which device is used, one thread for equal timings."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from aqqua.spread import Engine

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


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator["Engine"]:
    """Two workers of a Ray cluster of this machine alone, which can import what tests can."""
    from aqqua.spread import Engine

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'aqqua[ray]'")
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here.parent, here, here / "store")))
    with TemporaryDirectory(prefix="ray-") as folder:  # short: the path of a socket has at most 107 bytes
        ray.init(
            num_cpus=2, include_dashboard=False, object_store_memory=80_000_000, logging_level="error",
            _temp_dir=folder, log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": path}},
        )  # fmt: skip
        yield Engine(name="ray", workers=2)
        ray.shutdown()
