"""Making an atlas: from embeddings and a dataset to one table that a person can look into.

    images ─sample─▶ points ─whiten─▶ features ─▶ neighbours ─▶ novelty, label issues, purity
                                          └──▶ UMAP of landmarks ─▶ map ─▶ trustworthiness
    pixels, metadata, other tables ───────────────────────────────────────▶ the table, block by block

Memory is the features of the points in float16, their neighbours, UMAP of the landmarks, and a row group of
the table. Nothing appears under its name before it is whole.

Letter key: N points. Test: tests/explore/atlas/test_build.py. Timing: bench/explore.py.
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from aqqua.explore.atlas.clusters import clusters_of
from aqqua.explore.atlas.drawn import Features, Map, draw
from aqqua.explore.atlas.features import Embeddings
from aqqua.explore.atlas.inputs import LEAST_POINTS, AtlasConfig, AtlasInputs, Job, Tell
from aqqua.explore.atlas.known import Known, by_block, ranks_of
from aqqua.explore.atlas.label_issues import label_issues
from aqqua.explore.atlas.landmarks import landmarks_path
from aqqua.explore.atlas.neighbours import Found, Points, Want
from aqqua.explore.atlas.novelty import novelty
from aqqua.explore.atlas.purity import foreign_purity, purity
from aqqua.explore.atlas.sample import choose_images
from aqqua.explore.atlas.search import best_search
from aqqua.explore.atlas.table import FOREIGN, NEIGHBOURS, atlas_schema, write_whole
from aqqua.explore.atlas.thumbnails import thumbnails_of
from aqqua.explore.atlas.trust import trust
from aqqua.store.new_file import require_no_file

META = (
    *("image_id", "key", "instrument", "sample", "group", "time", "lat", "lon", "depth_m", "um_per_px"),
    *("label", "label_status", "height", "width"),
)


def build_atlas(inputs: AtlasInputs, config: AtlasConfig, tell: Tell = lambda *_: None) -> dict[str, Any]:
    """Make an atlas, and its landmarks beside it; returns its facts.

    Args:
        tell: takes the name of a stage, how much of it is done, and of how much.

    Raises:
        ValueError: the inputs do not fit each other, there are too few images, or `out` exists.
        RuntimeError: umap-learn is not installed, or the disk is full or failed.
    """
    job = _begun(inputs, config, tell)
    features = Features.of(job)
    found, foreign = _neighbours(job, features)
    drawn = draw(job, features, found)
    tell("numbers", 0, len(job.known))
    scores = {
        "cluster": clusters_of(features.unit_NR, config.clusters, config.seed),
        "novelty": novelty(found),
        "label_issue": label_issues(found, job.known.label_N, job.known.instrument_N),
    }
    facts = {
        **_facts(job),
        "umap": drawn.facts,
        "clusters": int(scores["cluster"].max()) + 1,
        "numbers": _numbers(job, features, drawn, found, foreign),
    }
    drawn.landmarks.save(landmarks_path(inputs.out))
    pieces = _pieces(job, drawn, found, foreign, scores)
    write_whole(inputs.out, atlas_schema(inputs.lineages is not None, facts), pieces)
    return facts


def _begun(inputs: AtlasInputs, config: AtlasConfig, tell: Tell) -> Job:
    require_no_file(inputs.out, "explore build", ".parquet")
    if inputs.align_to is not None and inputs.place_on is not None:
        raise ValueError("explore build: at most one older atlas must be given, got two; choose one")
    dataset, source = inputs.dataset, Embeddings.open(inputs.embeddings, inputs.dataset)
    if dataset.rows < LEAST_POINTS:
        raise ValueError(
            f"explore build: there must be at least {LEAST_POINTS} images, got {dataset.rows}; ingest more"
        )
    tell("images", 0, dataset.rows)
    known = Known.read(dataset, choose_images(dataset, config.points, config.seed), inputs.tables)
    search = best_search(config.seed, config.recall, config.cells, config.exact_pairs)
    return Job(inputs, config, source, known, search, tell)


def _neighbours(job: Job, features: Features) -> tuple[Found, Found]:
    """Of each point among all, and among those of other instruments."""
    total = len(job.known)
    points = Points(features.unit_NR, job.known.instrument_N)
    wants = [Want(NEIGHBOURS), Want(FOREIGN, foreign=True)]
    if len(job.known.instruments) == 1:  # nothing is foreign
        wants = wants[:1]
    job.tell("neighbours", 0, total)
    found = job.search(
        points, points, wants, same=np.arange(total), tell=lambda done: job.tell("neighbours", done, total)
    )
    return found[0], found[1] if len(found) > 1 else Found.nobody(total, FOREIGN)


def _facts(job: Job) -> dict[str, Any]:
    return {
        "command": job.inputs.command,
        "dataset_sha256": job.inputs.dataset.manifest_sha256,
        "embeddings_sha256": job.source.facts["sha256"],
        "model_sha256": job.source.facts["model_sha256"],
        "pooling": job.source.facts["pooling"],
        "images": job.inputs.dataset.rows,
        "points": len(job.known),
        "seed": job.config.seed,
        "k": {"neighbours": NEIGHBOURS, "foreign": FOREIGN},
        "searches": job.search.log,
    }


def _numbers(
    job: Job, features: Features, drawn: Map, found: Found, foreign: Found
) -> dict[str, float | int | None]:
    """What says whether the map can be believed; map numbers are of `sampled` points `of` all."""
    known, config = job.known, job.config
    told = trust(features.unit_NR, drawn.xy_N2, NEIGHBOURS, config.trust_points, config.seed)
    figures: dict[str, float | None] = {
        "trustworthiness": told.trustworthiness,
        "continuity": told.continuity,
    }
    for name, kind_N in (("label", known.label_N), ("instrument", known.instrument_N)):
        near, flat = purity(found.row_QK, kind_N), purity(told.row_QK, kind_N, told.query_Q)
        figures |= {
            f"purity_{name}": near.share,
            f"purity_{name}_by_kind": near.by_kind,
            f"purity_{name}_chance": near.chance,
            f"purity_{name}_on_map": flat.share,
        }
    across = foreign_purity(foreign.row_QK, known.label_N, known.instrument_N)
    figures |= {"purity_label_foreign": across.share, "purity_label_foreign_chance": across.chance}
    rounded = {name: None if value is None else round(value, 4) for name, value in figures.items()}
    return {**rounded, "sampled": len(told.query_Q), "of": len(known)}


def _pieces(
    job: Job, drawn: Map, found: Found, foreign: Found, scores: Mapping[str, np.ndarray]
) -> Iterator[pa.Table]:
    """The rows of the table, block by block of the dataset."""
    dataset, known, first = job.inputs.dataset, job.known, 0
    with ThreadPoolExecutor(job.config.threads or os.cpu_count() or 1) as pool:
        for number, inside in by_block(dataset, known.row_N):
            block, table = dataset.block_with(number, META)
            part = slice(first, first + len(inside))
            made = thumbnails_of(block, inside.tolist(), pool)
            about = table.take(pa.array(inside))
            values: dict[str, Any] = {name: about[name] for name in META}
            values |= {
                "x": drawn.xy_N2[part, 0],
                "y": drawn.xy_N2[part, 1],
                "neighbours": _lists(found.row_QK[part].astype(np.uint32)),
                "neighbour_similarity": _lists(found.similarity_QK[part].astype(np.float16)),
                "foreign": _lists(foreign.row_QK[part].astype(np.uint32)),
                "thumbnail": pa.array([one.data for one in made], pa.binary()),
                "thumb_width": np.array([one.width for one in made], np.int16),
                "thumb_height": np.array([one.height for one in made], np.int16),
            }
            values |= {name: pa.array(column[part], from_pandas=True) for name, column in scores.items()}
            values |= {name: array[part] for name, array in known.joined.items()}
            values |= {} if job.inputs.lineages is None else ranks_of(about["label"], job.inputs.lineages)
            yield _table(values)
            first = part.stop
            job.tell("thumbnails", first, len(known))


def _table(values: Mapping[str, Any]) -> pa.Table:
    """Words as they are, not as numbers of words: pieces must be of one kind."""
    plain = {}
    for name, column in values.items():
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else pa.array(column)
        plain[name] = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return pa.table(plain)


def _lists(values_IK: np.ndarray) -> pa.Array:
    item = pa.field("item", pa.from_numpy_dtype(values_IK.dtype), nullable=False)
    flat = pa.array(np.ascontiguousarray(values_IK).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(item, values_IK.shape[1]))
