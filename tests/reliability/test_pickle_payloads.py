"""Files that run code when they are unpickled, handed to everything in aqqua that reads a file.

That no such call stands in the source is tested by tests/test_layers.py.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_states import state_of
from pickle_payloads import payloads, run_unsafely

from aqqua.config import load_config
from aqqua.instruments.detect import find
from aqqua.instruments.record import ReadOptions, Record, RejectedInputError
from aqqua.instruments.tree import open_tree
from aqqua.model.config import ModelConfig
from aqqua.model.weights import load_backbone, load_model, load_pretrained
from aqqua.store.read import Dataset
from aqqua.store.verify import verify as verify_dataset
from aqqua.train import checkpoint
from aqqua.train.settings import PretrainConfig

SMALL = {"width": 32, "layers": 1, "heads": 2, "patch_px": 12}
CHECKPOINT_FILES = ("manifest.json", "state.json", "tensors.safetensors")
# Names under which the readers look into a file: each gets the payload once.
MEMBERS = (
    *(
        "image.png",
        "table.tsv",
        "ecotaxa_table.txt",
        "table.csv",
        "table.parquet",
        "data.mdb",
        "release.json",
    ),
    *("metadata.parquet", "D20240101T000000_IFCB110.hdr", "D20240101T000000_IFCB110.adc", "run.lst", "a.zid"),
    *("D20240101T000000_IFCB110.roi", "20240101-000000_data.txt", "config.txt", "pickle.tar.gz", "inner.zip"),
)


def read_weights(path: Path, _folder: Path) -> None:
    config = ModelConfig.model_validate(SMALL)
    for as_is in (path, path.with_name("renamed.safetensors")):
        if as_is != path:
            shutil.copy(path, as_is)
        for load in (load_model, lambda p: load_backbone(p, config), lambda p: load_pretrained(p, config)):
            with suppress(ValueError):
                load(as_is)


def read_config(path: Path, _folder: Path) -> None:
    for overrides in ([], [f"seed={path.read_bytes().decode('latin-1')}"]):
        with suppress(ValueError):
            load_config(PretrainConfig, path, overrides)


def read_checkpoints(path: Path, folder: Path) -> None:
    """The payload in place of each file of a checkpoint, with a manifest that vouches for it."""
    for name in CHECKPOINT_FILES:
        run = folder / name
        made = checkpoint.save(run, state_of(1))
        shutil.copy(path, made / name)
        if name != "manifest.json":
            _vouch_for(made, name)
        for load in (lambda p: checkpoint.load_newest(p.parent), checkpoint.load, checkpoint.verify):
            with suppress(*_OF_A_BROKEN_FILE):
                load(made)


# With a manifest forged to vouch for it, a payload reaches json and safetensors, which refuse it.
_OF_A_BROKEN_FILE = (ValueError, OSError, checkpoint.SafetensorError)


def _vouch_for(made: Path, name: str) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    manifest.pop("seal")
    manifest["files"][name] = checkpoint._fingerprint(made / name)
    manifest["seal"] = checkpoint._seal(manifest)
    (made / "manifest.json").write_text(json.dumps(manifest))


def read_inputs(path: Path, folder: Path) -> None:
    """The payload as an input of an ingest: alone, and under every name a reader looks for."""
    (folder / "in").mkdir()
    for name in (path.name, *MEMBERS):
        shutil.copy(path, folder / "in" / name)
    for root in (folder / "in", folder / "in" / path.name, folder / "in" / "inner.zip"):
        with suppress(ValueError):
            tree = open_tree(root)
            for found in find(tree, ReadOptions()):
                if isinstance(found, Record):
                    with suppress(RejectedInputError):
                        found.pixels.load(tree)


def read_datasets(path: Path, folder: Path) -> None:
    """The payload in place of a dataset's manifest, of a part, and in the metadata of a part."""
    source = folder.parent / "dataset"
    for name in ("dataset.json", "part-00000.parquet"):
        copy = shutil.copytree(source, folder / name)
        shutil.copy(path, copy / name)
        for read in (verify_dataset, lambda p: list(Dataset.open(p).iter_blocks())):
            with suppress(ValueError, OSError):
                read(copy)
    copy = shutil.copytree(source, folder / "typed")
    _as_python_type(copy / "part-00000.parquet", path.read_bytes())
    for read in (lambda p: verify_dataset(p, deep=True), lambda p: list(Dataset.open(p).iter_blocks())):
        with suppress(ValueError, OSError):
            read(copy)


def _as_python_type(part: Path, data: bytes) -> None:
    """A column of the type that pyarrow before 14.0.1 unpickled (CVE-2023-47248)."""
    said = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": data}
    schema = pa.schema([pa.field("pixels", pa.binary(), metadata=said)])
    pq.write_table(pa.table([pa.array([data])], schema=schema), part)


READERS: tuple[Callable[[Path, Path], None], ...] = (
    *(read_weights, read_config, read_checkpoints, read_inputs, read_datasets),
)


@pytest.mark.reliability("14")
@pytest.mark.filterwarnings("ignore")
def test_nothing_that_reads_a_file_runs_it(sample_dataset, tmp_path, full, measured):
    sentinel, executed, live, reads = tmp_path / "executed", [], 0, 0
    made = payloads(sentinel)
    for number, (name, data) in enumerate(made.items()):
        here = tmp_path / str(number)
        here.mkdir()
        (here / "dataset").symlink_to(sample_dataset)
        (here / name).write_bytes(data)
        for read in READERS if full or number % 5 == 0 else (READERS[number % len(READERS)],):
            (here / read.__name__).mkdir()
            read(here / name, here / read.__name__)
            reads += 1
            if sentinel.exists():
                executed.append((name, read.__name__))
                sentinel.unlink()
        with suppress(Exception):
            run_unsafely(name, data)
        live += sentinel.exists()
        sentinel.unlink(missing_ok=True)
        shutil.rmtree(here)
    measured(f"{len(executed)} executed in {reads} reads of {len(made)} payloads; a trusting loader: {live}")
    assert executed == []
    assert len(made) >= 25
    assert live >= len(made) - 2, "the payloads must be live, or they show nothing"
