"""Contamination: training images that an evaluation would know again.

Near an evaluation image is one with equal pixels, one that is the same picture in another pose, cut,
brightness or compression (as for duplicates, but of any group and instrument), one whose embedding is as
close as asked for; and, where the evaluation set is part of the dataset itself, every image of that set.
The evaluation images are held in memory (306 bytes each and 4 a dimension of their embeddings), the dataset
is passed once, block by block; of both, pixels are read of candidates alone.

Test: tests/curate/copies/test_contamination.py.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from aqqua.curate.copies.cells import TILE
from aqqua.curate.copies.evaluation_set import EvaluationSet, Loaded, facts_of_evaluation, load_evaluation
from aqqua.curate.copies.looks import (
    PAIR,
    SIGNATURE_NAMES,
    can_be_near,
    candidates,
    contents_of,
    first_rows,
    looks_of,
    spill_pixels,
    verified,
)
from aqqua.curate.copies.vectors import unit_embeddings
from aqqua.curate.copies.verify import SamePicture
from aqqua.store.columns import Columns, write_columns
from aqqua.store.read import Dataset

KIND = "contamination"
WHYS = ("evaluation", "exact", "near", "embedding")
EXAMPLES = 20
FIELDS = [
    pa.field("near_evaluation", pa.bool_(), False, {"description": "an evaluation would know this image"}),
    pa.field("evaluation_id", pa.string(), True, {"description": "image_id of the evaluation image"}),
]


class ContaminationConfig(BaseModel):
    """What counts as near an evaluation image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    near: bool = Field(True, description="look for near duplicates, not only for equal pixels")
    same: SamePicture = Field(
        SamePicture.model_validate({}), description="when two images are the same picture"
    )
    cosine: float | None = Field(
        None, gt=0, le=1, description="least cosine of embeddings that count as near; null: they are not used"
    )


@dataclass
class _Hits:
    """Rows found near, each with the evaluation image and why; the first reason of a row counts."""

    of: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, why: int, rows: Iterator[int] | list[int], images: Iterator[int] | list[int]) -> None:
        for row, image in zip(rows, images, strict=True):
            known = self.of.get(row)
            if known is None or (why, image) < known:
                self.of[row] = (why, image)


def write_contamination(
    dataset: Dataset,
    signatures: Columns,
    evaluation: EvaluationSet,
    out: Path,
    config: ContaminationConfig,
    report: Path | None = None,
    embeddings: Columns | None = None,
    tell: Callable[[int, int], None] = lambda *_: None,
    threads: int = 1,
) -> Columns:
    """Mark the images of a dataset that are near an evaluation set.

    Args:
        out: new folder, of Columns `contamination`.
        report: JSON file to write: how many and why, which evaluation images are hit, examples.
        embeddings: of the dataset; needed with those of the evaluation set for `config.cosine`.
        tell: called with the blocks done and all of them.
        threads: that compare pixels; the result does not depend on them.

    Raises:
        ValueError: an evaluation set without images, a cosine without embeddings, damaged files.
        RuntimeError: the disk is full or failed.
    """
    if config.cosine is not None and (embeddings is None or evaluation.embeddings is None):
        raise ValueError(
            f"contamination: embeddings of both must be given for cosine, got cosine {config.cosine}; "
            "give Columns made by aqqua embed with one model, or leave cosine out"
        )
    if config.cosine is None:
        embeddings, evaluation = None, replace(evaluation, embeddings=None)
    facts: dict[str, object] = {
        "config": config.model_dump(mode="json"),
        "made_from": sources(signatures, evaluation, config, embeddings),
    }
    loaded = load_evaluation(evaluation, config.same)
    with write_columns(out, dataset, KIND, FIELDS, facts, "contamination") as writer:
        hits = _Hits()
        if dataset.manifest_sha256 == evaluation.dataset.manifest_sha256:
            rows = loaded.looks["row"].tolist()
            hits.add(WHYS.index("evaluation"), rows, list(range(len(rows))))
        with TemporaryDirectory(prefix="contamination.partial-", dir=out.parent) as scratch:
            _search(
                dataset,
                signatures,
                evaluation,
                loaded,
                embeddings,
                config,
                Path(scratch),
                hits,
                tell,
                threads,
            )
        facts.update(_counts(hits, loaded))
        first = first_rows(dataset)
        for part in range(dataset.parts):
            writer.write_part(part, lambda b: _table(hits, loaded, int(first[b]), dataset.rows_of(b)))
    if report is not None:
        report.write_text(json.dumps(_report(dataset, hits, loaded), indent=1) + "\n", encoding="utf-8")
    return Columns.open(out, dataset, KIND)


def sources(
    signatures: Columns, evaluation: EvaluationSet, config: ContaminationConfig, embeddings: Columns | None
) -> dict[str, str]:
    """Names all that contamination is made from; embeddings where they have a say."""
    if config.cosine is None:
        embeddings, evaluation = None, replace(evaluation, embeddings=None)
    found = {"signatures": signatures.sha256, **facts_of_evaluation(evaluation)}
    return found if embeddings is None else {**found, "embeddings": embeddings.sha256}


def _search(
    dataset: Dataset,
    signatures: Columns,
    evaluation: EvaluationSet,
    loaded: Loaded,
    embeddings: Columns | None,
    config: ContaminationConfig,
    scratch: Path,
    hits: _Hits,
    tell: Callable[[int, int], None],
    threads: int,
) -> None:
    by_content = {tuple(c): e for e, c in reversed(list(enumerate(loaded.looks["content"].tolist())))}
    near_looks = loaded.looks[loaded.can]
    first, pairs = first_rows(dataset), [np.zeros(0, PAIR)]
    for block in range(dataset.blocks):
        sizes, content = dataset.sizes(block), contents_of(dataset.table(["content"], [block]))
        rows = first[block] + np.arange(len(sizes))
        equal = [(int(r), by_content.get(tuple(c))) for r, c in zip(rows, content.tolist(), strict=True)]
        for row, image in equal:
            if image is not None:
                hits.add(WHYS.index("exact"), [row], [image])
        if config.near:
            signed = signatures.block(block, SIGNATURE_NAMES)
            looks = looks_of(signed, sizes, content, rows)[can_be_near(signed, sizes, config.same)]
            pairs += _candidates(looks, near_looks, config.same)
        if config.cosine is not None and embeddings is not None and loaded.vectors is not None:
            cosines = unit_embeddings(embeddings, block) @ loaded.vectors.T
            best = cosines.argmax(axis=1)
            close = np.flatnonzero(cosines[np.arange(len(best)), best] >= config.cosine)
            hits.add(WHYS.index("embedding"), rows[close].tolist(), best[close].tolist())
        tell(block + 1, dataset.blocks)
    _add_near(dataset, evaluation, loaded, np.concatenate(pairs), config.same, scratch, hits, threads)


def _candidates(looks: np.ndarray, evaluation: np.ndarray, rule: SamePicture) -> list[np.ndarray]:
    """PAIRs of a: row of the dataset, b: row of the evaluation set; both are sorted by their longer side."""
    looks = looks[np.argsort(looks["order"], kind="stable")]
    found = []
    for begin in range(0, len(looks), TILE):
        tile = looks[begin : begin + TILE]
        low, high = tile["order"][0] - rule.size_px, tile["order"][-1] + rule.size_px
        start, end = np.searchsorted(evaluation["order"], [low, np.nextafter(high, np.inf)]).tolist()
        for at in range(start, end, TILE):
            found.append(candidates(tile, evaluation[at : min(at + TILE, end)], False, rule))
    return found


def _add_near(
    dataset: Dataset,
    evaluation: EvaluationSet,
    loaded: Loaded,
    pairs: np.ndarray,
    rule: SamePicture,
    scratch: Path,
    hits: _Hits,
    threads: int,
) -> None:
    pairs = pairs[np.lexsort((pairs["b"], pairs["a"]))]
    ours = spill_pixels(dataset, np.unique(pairs["a"]), scratch / "pixels.bin")
    theirs = spill_pixels(evaluation.dataset, np.unique(pairs["b"]), scratch / "evaluation-pixels.bin")
    same = pairs[verified(pairs, ours, theirs, rule, threads)]
    image_of = {row: e for e, row in enumerate(loaded.looks["row"].tolist())}
    hits.add(WHYS.index("near"), same["a"].tolist(), [image_of[b] for b in same["b"].tolist()])


def _counts(hits: _Hits, loaded: Loaded) -> dict[str, object]:
    whys = [why for why, _ in hits.of.values()]
    return {
        "evaluation_images": len(loaded.ids),
        "evaluation_images_hit": len({e for why, e in hits.of.values() if why != 0}),
        "images": {name: whys.count(k) for k, name in enumerate(WHYS)},
    }


def _report(dataset: Dataset, hits: _Hits, loaded: Loaded) -> dict[str, object]:
    """The counts; how often each evaluation image is hit; the first examples of each reason."""
    first = first_rows(dataset)
    times: dict[str, int] = {}
    examples: dict[str, list[dict[str, str]]] = {name: [] for name in WHYS[1:]}
    for row, (why, e) in sorted(hits.of.items()):
        if why == 0:
            continue
        times[loaded.ids[e]] = times.get(loaded.ids[e], 0) + 1
        some = examples[WHYS[why]]
        if len(some) < EXAMPLES:
            block = int(np.searchsorted(first, row, side="right")) - 1
            ids = dataset.table(["image_id"], [block])["image_id"]
            some.append({"image_id": ids[row - int(first[block])].as_py(), "evaluation_id": loaded.ids[e]})
    return {**_counts(hits, loaded), "hits_of": dict(sorted(times.items())), "examples": examples}


def _table(hits: _Hits, loaded: Loaded, first: int, count: int) -> pa.Table:
    found = [hits.of.get(row) for row in range(first, first + count)]
    near = [one is not None for one in found]
    ids = [None if one is None else loaded.ids[one[1]] for one in found]
    return pa.table({"near_evaluation": near, "evaluation_id": ids}, schema=pa.schema(FIELDS))
