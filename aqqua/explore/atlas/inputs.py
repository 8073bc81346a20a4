"""What an atlas is made of, and how: what its stages are handed.

Letter key: N points. Test: tests/explore/atlas/test_build.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from aqqua.explore.atlas.features import Embeddings
from aqqua.explore.atlas.known import Known, Lineages
from aqqua.explore.atlas.search import Search
from aqqua.explore.atlas.table import NEIGHBOURS
from aqqua.explore.atlas.umap_map import UmapConfig
from aqqua.store.read import Dataset

LEAST_POINTS = 2 * NEIGHBOURS + 2  # fewer, and twenty neighbours are half of all
Tell = Callable[[str, int, int], None]  # stage, done, in all


class AtlasConfig(BaseModel):
    """How an atlas is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    points: int = Field(
        2_000_000, ge=LEAST_POINTS, description="at most; of more images a sample in which rare classes stay"
    )
    seed: int = Field(0, ge=0, lt=1 << 32, description="of samples, clusters and UMAP")
    umap: UmapConfig = Field(default_factory=lambda: UmapConfig.model_validate({}), description="the map")
    clusters: int | None = Field(None, ge=1, description="None: the root of half the points, at most 200")
    recall: float = Field(
        0.95, gt=0, le=1, description="share of the neighbours to be found where a search must be quick"
    )
    cells: int = Field(
        64, ge=1, description="near cells, of some 512 images, looked into at most; fewer found is told"
    )
    exact_pairs: int | None = Field(
        None, ge=0, description="compared at most, else only near cells are; None: 2.5e9, 2.5e13 on a GPU"
    )
    trust_points: int = Field(2000, ge=1, description="points that trustworthiness is measured at")
    threads: int | None = Field(None, ge=1, description="that draw thumbnails; None: all processors")


@dataclass(frozen=True)
class AtlasInputs:
    """What an atlas is made of, and where to."""

    dataset: Dataset
    embeddings: Path  # columns in a folder or one .parquet file, by aqqua embed
    out: Path  # new, .parquet; landmarks come beside it
    tables: Mapping[str, Path] = field(default_factory=dict)  # predictions, sizes, carbon
    lineages: Lineages | None = None  # of labels, from a label map
    align_to: Path | None = None  # an older atlas; the map is turned to lie like it
    place_on: Path | None = None  # an older atlas of the same model; its map is kept, points are placed on it
    command: str = ""  # that made it, for the facts


@dataclass(frozen=True)
class Job:
    """An atlas in the making."""

    inputs: AtlasInputs
    config: AtlasConfig
    source: Embeddings
    known: Known
    search: Search
    tell: Tell
