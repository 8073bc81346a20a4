"""Landmarks: features and positions of the points that a map was fitted on, from which others are placed.

One Parquet file beside the atlas: whitened features of length one in float16, x, y and key of each landmark;
the whitening in the schema's metadata. So embeddings of new images, of the same model, find their places on
the old map, and nothing has to be unpickled. Letter key: L landmarks, D width, R axes, N new
points. Test: tests/explore/atlas/test_landmarks.py.
"""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Float16, Float32, UInt64

from aqqua.curate.clusters.whiten import Whitening
from aqqua.explore.atlas.neighbours import Points, Want
from aqqua.explore.atlas.search import Search
from aqqua.explore.atlas.table import write_whole
from aqqua.explore.atlas.umap_map import PLACED_BY, place

FACTS = "aqqua.landmarks"  # in the schema's metadata
VERSION = 1
ROW_GROUP = 65_536


def landmarks_path(atlas: Path) -> Path:
    """Where the landmarks of an atlas lie."""
    return atlas.with_name(f"{atlas.stem}.landmarks.parquet")


@dataclass(frozen=True)
class Landmarks:
    """Points that say where others lie."""

    unit_LR: Float16[np.ndarray, "L R"]
    xy_L2: Float32[np.ndarray, "L 2"]  # as in the atlas
    key_L: UInt64[np.ndarray, " L"]
    whitening: Whitening
    facts: dict[str, Any]  # model_sha256 and what else is known

    def save(self, path: Path) -> None:
        """
        Raises:
            RuntimeError: the disk is full or failed.
        """
        item = pa.field("item", pa.float16(), nullable=False)
        fields = [
            pa.field("key", pa.uint64(), False, {"description": "of the image"}),
            pa.field(
                "features", pa.list_(item, self.unit_LR.shape[1]), False, {"description": "of length one"}
            ),
            pa.field("x", pa.float32(), False, {"description": "of the map"}),
            pa.field("y", pa.float32(), False, {"description": "of the map"}),
        ]
        whitening = {"mean": _packed(self.whitening.mean_D), "axes": _packed(self.whitening.axes_DR)}
        about = {
            **self.facts,
            "version": VERSION,
            "width": len(self.whitening.mean_D),
            "whitening": whitening,
        }
        schema = pa.schema(fields, metadata={FACTS: json.dumps(about, sort_keys=True)})
        write_whole(path, schema, self._tables(schema), ROW_GROUP)

    def _tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        for first in range(0, len(self.key_L), ROW_GROUP):
            part = slice(first, first + ROW_GROUP)
            features = pa.FixedSizeListArray.from_arrays(
                pa.array(self.unit_LR[part].ravel()), type=schema.field("features").type
            )
            xy = self.xy_L2[part]
            columns = [pa.array(self.key_L[part]), features, pa.array(xy[:, 0]), pa.array(xy[:, 1])]
            yield pa.Table.from_arrays(columns, schema=schema)

    @staticmethod
    def open(path: Path) -> "Landmarks":
        """
        Raises:
            ValueError: the file holds no landmarks, or is damaged.
        """
        try:
            table = pq.read_table(path, page_checksum_verification=True)
            about = json.loads((table.schema.metadata or {})[FACTS.encode()])
            if about.pop("version") != VERSION:
                raise ValueError("landmarks of another version")
            features, width = table["features"].combine_chunks(), about.pop("width")
            axes = table.schema.field("features").type.list_size
            unit_LR = features.flatten().to_numpy(zero_copy_only=False).reshape(len(table), axes).copy()
            packed = about.pop("whitening")
            mean_D, axes_DR = _unpacked(packed["mean"], (width,)), _unpacked(packed["axes"], (width, axes))
            xy_L2 = np.stack([table[name].to_numpy() for name in ("x", "y")], axis=1)
            key_L = table["key"].to_numpy()
        except (OSError, pa.ArrowInvalid, KeyError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"landmarks: {path} must be the landmarks of an atlas, got {error}; they lie beside it as "
                "NAME.landmarks.parquet"
            ) from error
        return Landmarks(unit_LR, xy_L2, key_L, Whitening(mean_D, axes_DR), about)

    def positions(
        self, unit_NR: Float[np.ndarray, "N R"], search: Search, tell: Callable[[int], None] = lambda _: None
    ) -> Float32[np.ndarray, "N 2"]:
        """Positions on this map of further features of length one, made with its whitening.

        Args:
            tell: takes how many of them are done.
        """
        queries, base = _one_group(unit_NR), _one_group(self.unit_LR)
        want = Want(min(PLACED_BY, len(base)))
        return place(search(queries, base, [want], tell=tell)[0], self.xy_L2)


def _one_group(unit_NR: np.ndarray) -> Points:
    return Points(unit_NR, np.zeros(len(unit_NR), np.int64))


def _packed(numbers: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, "<f4").tobytes()).decode("ascii")


def _unpacked(text: str, shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    numbers: np.ndarray = np.frombuffer(base64.b64decode(text, validate=True), "<f4").reshape(shape).copy()
    if not np.isfinite(numbers).all():
        raise ValueError("a whitening that is not finite")
    return numbers
