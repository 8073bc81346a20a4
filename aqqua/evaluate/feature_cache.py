"""Features kept on disk, so that many probes and suites ask a contender once.

    <folder>/<key>-features.npy   float32 [I, D], rows in the order of the dataset
    <folder>/<key>-tokens.npy     float16 [N, D], patch tokens of all images end to end
    <folder>/<key>-offsets.npy    int64 [I + 1], where each image's tokens start
    <folder>/<key>-*.json         what they are: the contender's facts and the dataset's checksum

The key is a checksum of the contender's facts (weights, pooling and all settings) and of the dataset, so a
file is right or is not there. Files are memory-mapped, plain .npy without pickle, and appear whole under
their name or not at all. Letters: I images, N patches, D width.
Test: tests/evaluate/test_feature_cache.py.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from aqqua.evaluate.contenders.contender import Contender, WithPatches
from aqqua.evaluate.tokens import PatchTokens
from aqqua.progress import silent
from aqqua.store.new_file import whole_file
from aqqua.store.read import Dataset

HEADER_BYTES = 128  # of a .npy of one or two dimensions: NumPy leaves room for any number of rows


@dataclass(frozen=True)
class FeatureCache:
    """A folder of features."""

    folder: Path

    def features(
        self, contender: Contender, dataset: Dataset, progress: Callable[[int], None] = silent
    ) -> Float32[np.ndarray, "I D"]:
        """Features of every image, in dataset order, as a memory map; made where they are not there yet.

        Raises:
            ValueError: a feature is not finite, or a file of the cache is not what its name says.
        """
        file = self._file(contender, dataset, "features.npy")
        width = contender.facts.width
        if not file.exists():
            blocks = (contender(dataset, number) for number in range(dataset.blocks))
            with _Growing(file, np.dtype(np.float32), width) as out:
                for found in blocks:
                    out.append(found)
                    progress(out.rows)
            self._tell(file, contender, dataset)
        return _opened(file, (dataset.rows, width), np.dtype(np.float32))

    def tokens(
        self, contender: Contender, dataset: Dataset, progress: Callable[[int], None] = silent
    ) -> PatchTokens:
        """Patch tokens of every image, in float16 on disk; `progress` is called with the images done.

        Raises:
            ValueError: as for features; or the contender says nothing of patches, or one is beyond float16.
        """
        if not isinstance(contender, WithPatches):
            raise ValueError(
                f"tokens: the contender must say something of each patch, got {contender.name}; leave the "
                "attentive probe out"
            )
        file = self._file(contender, dataset, "tokens.npy")
        starts = file.with_name(file.name.replace("-tokens", "-offsets"))
        if not file.exists() or not starts.exists():
            self._write_tokens(contender, dataset, file, starts, progress)
        offsets = _opened(starts, (dataset.rows + 1,), np.dtype(np.int64))
        table = np.load(file, mmap_mode="r", allow_pickle=False)
        _opened(file, (int(offsets[-1]), table.shape[-1]), np.dtype(np.float16))
        return PatchTokens.packed(table, offsets)

    def _write_tokens(
        self,
        contender: WithPatches,
        dataset: Dataset,
        file: Path,
        starts: Path,
        progress: Callable[[int], None],
    ) -> None:
        offsets = [np.zeros(1, np.int64)]
        with _Growing(file, np.dtype(np.float16), None) as out:
            for tokens_ND, offsets_I1 in _patches(contender, dataset):
                offsets.append(out.rows + offsets_I1[1:])
                out.append(tokens_ND)
                progress(sum(map(len, offsets)) - 1)
            with _Growing(starts, np.dtype(np.int64), 0) as out_starts:
                out_starts.append(np.concatenate(offsets))
        self._tell(file, contender, dataset)

    def _file(self, contender: Contender, dataset: Dataset, name: str) -> Path:
        key = hashlib.sha256(f"{contender.facts.key}\0{dataset.manifest_sha256}".encode()).hexdigest()
        return self.folder / f"{key[:32]}-{name}"

    def _tell(self, file: Path, contender: Contender, dataset: Dataset) -> None:
        about = {
            "contender": contender.name,
            "facts": asdict(contender.facts),
            "dataset_sha256": dataset.manifest_sha256,
            "rows": dataset.rows,
        }
        text = json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        with whole_file(file.with_suffix(".json"), "feature cache") as partial:
            partial.write_text(text, encoding="utf-8")


def _patches(contender: WithPatches, dataset: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return (contender.patches(dataset, number) for number in range(dataset.blocks))


def _opened(file: Path, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    found = np.load(file, mmap_mode="r", allow_pickle=False)
    if found.shape != shape or found.dtype != kind:
        raise ValueError(
            f"feature cache: {file} must hold {kind} {list(shape)}, got {found.dtype} {list(found.shape)}; "
            "remove it"
        )
    return found


class _Growing:
    """A .npy file that rows are appended to; it appears under its name when the work in `with` is done."""

    def __init__(self, file: Path, kind: np.dtype, width: int | None) -> None:
        """`width` None: that of the first rows; 0: one dimension."""
        self._file, self._kind, self._width = file, kind, width
        self._temporary = file.with_name(f".partial-{os.getpid()}-{file.name}")
        self.rows = 0

    def __enter__(self) -> "_Growing":
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._out: BinaryIO = self._temporary.open("wb")
        self._out.write(bytes(HEADER_BYTES))
        return self

    def append(self, rows: np.ndarray) -> None:
        """Write rows, converted to the file's type.

        Raises:
            ValueError: one is not finite in it, or of another width.
        """
        if self._width is None:
            self._width = int(rows.shape[1])
        if rows.shape[1:] != ((self._width,) if self._width else ()):
            raise ValueError(
                f"feature cache: rows must be {self._width} wide, got {list(rows.shape)}; look at the model"
            )
        with np.errstate(over="ignore"):  # told below
            converted = np.ascontiguousarray(rows, self._kind)
        if not np.isfinite(converted).all():
            raise ValueError(
                f"feature cache: features must be finite and within {self._kind}, got others after row "
                f"{self.rows}; look at the model"
            )
        self._out.write(converted.tobytes())
        self.rows += len(rows)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._out.close()
            self._temporary.unlink(missing_ok=True)
            return
        shape = (self.rows, self._width) if self._width else (self.rows,)
        self._out.seek(0)
        header = {"descr": np.lib.format.dtype_to_descr(self._kind), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._out, header)
        assert self._out.tell() == HEADER_BYTES, f"a header of {self._out.tell()} bytes"
        self._out.flush()
        os.fsync(self._out.fileno())
        self._out.close()
        self._temporary.replace(self._file)
