"""25 files that write a sentinel file if anything unpickles or evaluates them."""

import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml


class Writes:
    """Unpickled, it writes the sentinel: what an attacker would replace by a shell."""

    def __init__(self, sentinel: Path, by: Any) -> None:
        self.sentinel, self.by = sentinel, by

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        if self.by is exec:
            return exec, (f"open({str(self.sentinel)!r}, 'w').close()",)
        if self.by is os.system:
            return os.system, (f"touch '{self.sentinel}'",)
        return open, (str(self.sentinel), "w")


def payloads(sentinel: Path) -> dict[str, bytes]:
    """File name → bytes."""
    return {**_pickles(sentinel), **_of_numpy_and_torch(sentinel), **_wrapped(sentinel), **_yaml(sentinel)}


def _pickles(sentinel: Path) -> dict[str, bytes]:
    found = {f"protocol{p}.pkl": pickle.dumps(Writes(sentinel, open), p) for p in range(6)}
    found["exec.pickle"] = pickle.dumps(Writes(sentinel, exec))
    found["system.pk"] = pickle.dumps(Writes(sentinel, os.system))
    found["in_dict.joblib"] = pickle.dumps({"weight": [1, Writes(sentinel, open)]})
    found[".metadata"] = pickle.dumps({"state_dict_metadata": Writes(sentinel, open)})
    return found


def _of_numpy_and_torch(sentinel: Path) -> dict[str, bytes]:
    array = np.array([Writes(sentinel, open)], dtype=object)
    made: dict[str, io.BytesIO] = {
        name: io.BytesIO() for name in ("a.npy", "a.npz", "new.pt", "old.pth", "c.ckpt")
    }
    np.save(made["a.npy"], array, allow_pickle=True)
    np.savez(made["a.npz"], array)
    torch.save({"w": Writes(sentinel, open)}, made["new.pt"])
    torch.save({"w": Writes(sentinel, open)}, made["old.pth"], _use_new_zipfile_serialization=False)
    torch.save([torch.zeros(2), Writes(sentinel, exec)], made["c.ckpt"])
    return {name: stream.getvalue() for name, stream in made.items()}


def _wrapped(sentinel: Path) -> dict[str, bytes]:
    inner = pickle.dumps(Writes(sentinel, open))
    tar, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo("a.pkl")
        info.size = len(inner)
        archive.addfile(info, io.BytesIO(inner))
    with zipfile.ZipFile(zipped, "w") as archive_of_zip:
        archive_of_zip.writestr("data.pkl", inner)
    head = json.dumps({"__metadata__": {"aqqua": inner.decode("latin-1")}}).encode()
    return {
        "a.tar": tar.getvalue(),
        "a.zip": zipped.getvalue(),
        "a.pkl.gz": gzip.compress(inner),
        "a.json": json.dumps(
            {"py/reduce": [{"py/function": "builtins.open"}, [str(sentinel), "w"]]}
        ).encode(),
        "a.safetensors": len(head).to_bytes(8, "little") + head,
    }


def _yaml(sentinel: Path) -> dict[str, bytes]:
    call = f"!!python/object/apply:builtins.open ['{sentinel}', 'w']"
    texts = {
        "a.yaml": call,
        "b.yaml": f"seed: {call}",
        "c.yaml": f"data: {{path: !!python/object/new:os.system ['touch {sentinel}']}}",
        "d.yml": f"? {call}\n: 1",
        "e.yml": f"&a [{call}, *a]",
    }
    return {name: text.encode() for name, text in texts.items()}


def run_unsafely(name: str, data: bytes) -> None:
    """What a loader that trusts its files does with one: it shows that a payload is live."""
    if name.endswith((".yaml", ".yml")):
        yaml.unsafe_load(data)
    elif name.endswith((".npy", ".npz")):
        for array in [np.load(io.BytesIO(data), allow_pickle=True)]:
            _ = array["arr_0"] if name.endswith("z") else array
    elif name.endswith((".pt", ".pth", ".ckpt")):
        torch.load(io.BytesIO(data), weights_only=False)
    elif name == "a.pkl.gz":
        pickle.loads(gzip.decompress(data))
    elif name == "a.tar":
        pickle.loads(data[tarfile.BLOCKSIZE :])  # the member's bytes follow its header
    elif name == "a.zip":
        pickle.loads(zipfile.ZipFile(io.BytesIO(data)).read("data.pkl"))
    elif name == "a.safetensors":
        head = json.loads(data[8:])
        pickle.loads(head["__metadata__"]["aqqua"].encode("latin-1"))
    else:
        pickle.loads(data)
