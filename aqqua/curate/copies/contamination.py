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
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from aqqua.curate.copies.cells import TILE
from aqqua.curate.copies.duplicates import unit_embeddings
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


@dataclass(frozen=True)
class EvaluationSet:
    """The images that must stay unseen.

    Args:
        dataset: in which they are; may be the one that is searched.
        signatures: its signatures.
        image_ids, groups: the images, and the groups all of whose images; both None: the whole dataset.
        embeddings: its embeddings by the same model, if cosines are asked for.
    """

    dataset: Dataset
    signatures: Columns
    image_ids: frozenset[str] | None = None
    groups: frozenset[str] | None = None
    embeddings: Columns | None = None


@dataclass
class _Loaded:
    """The E evaluation images, sorted by their longer side."""

    looks: np.ndarray  # LOOK [E]
    can: np.ndarray  # [E] bool, have a picture
    ids: list[str]  # [E]
    vectors: np.ndarray | None  # [E, D] float32


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
    made_from = {"signatures": signatures.sha256, **_evaluation_facts(evaluation)}
    if embeddings is not None and config.cosine is not None:
        made_from["embeddings"] = embeddings.sha256
    facts: dict[str, object] = {"config": config.model_dump(mode="json"), "made_from": made_from}
    loaded = _load(evaluation, config)
    with write_columns(out, dataset, KIND, FIELDS, facts, "contamination") as writer:
        hits = _Hits()
        if dataset.manifest_sha256 == evaluation.dataset.manifest_sha256:
            rows = loaded.looks["row"].tolist()
            hits.add(WHYS.index("evaluation"), rows, list(range(len(rows))))
        with TemporaryDirectory(prefix="contamination-", dir=out.parent) as scratch:
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


def _evaluation_facts(evaluation: EvaluationSet) -> dict[str, str]:
    """What of an evaluation set decides: the dataset, its columns, and which images are chosen."""
    chosen = [None if one is None else sorted(one) for one in (evaluation.image_ids, evaluation.groups)]
    facts = {
        "evaluation_dataset": evaluation.dataset.manifest_sha256,
        "evaluation_signatures": evaluation.signatures.sha256,
        "evaluation_chosen": sha256(json.dumps(chosen).encode()).hexdigest(),
    }
    if evaluation.embeddings is not None:
        facts["evaluation_embeddings"] = evaluation.embeddings.sha256
    return facts


def _load(evaluation: EvaluationSet, config: ContaminationConfig) -> _Loaded:
    dataset, first = evaluation.dataset, first_rows(evaluation.dataset)
    looks, can, ids, vectors = [], [], [], []
    for block in range(dataset.blocks):
        table = dataset.table(["image_id", "group", "content"], [block])
        chosen = _chosen(table, evaluation)
        if not chosen.any():
            continue
        sizes, signed = dataset.sizes(block), evaluation.signatures.block(block, SIGNATURE_NAMES)
        rows = first[block] + np.arange(len(sizes))
        looks.append(looks_of(signed, sizes, contents_of(table), rows)[chosen])
        can.append(can_be_near(signed, sizes, config.same)[chosen])
        ids += np.array(table["image_id"].to_pylist(), object)[chosen].tolist()
        if config.cosine is not None and evaluation.embeddings is not None:
            vectors.append(unit_embeddings(evaluation.embeddings, block)[chosen])
    if not ids:
        raise ValueError(
            f"contamination: the evaluation set must have images, got none of them in {dataset.path}; check "
            "its image ids and groups"
        )
    all_looks = np.concatenate(looks)
    order = np.lexsort((all_looks["row"], all_looks["order"]))
    return _Loaded(
        all_looks[order],
        np.concatenate(can)[order],
        [ids[i] for i in order.tolist()],
        np.concatenate(vectors)[order] if vectors else None,
    )


def _chosen(table: pa.Table, evaluation: EvaluationSet) -> np.ndarray:
    if evaluation.image_ids is None and evaluation.groups is None:
        return np.ones(len(table), bool)
    ids, groups = evaluation.image_ids or frozenset(), evaluation.groups or frozenset()
    pairs = zip(table["image_id"].to_pylist(), table["group"].to_pylist(), strict=True)
    return np.array([name in ids or group in groups for name, group in pairs], bool)


def _search(
    dataset: Dataset,
    signatures: Columns,
    evaluation: EvaluationSet,
    loaded: _Loaded,
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
    loaded: _Loaded,
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


def _counts(hits: _Hits, loaded: _Loaded) -> dict[str, object]:
    whys = [why for why, _ in hits.of.values()]
    return {
        "evaluation_images": len(loaded.ids),
        "evaluation_images_hit": len({e for why, e in hits.of.values() if why != 0}),
        "images": {name: whys.count(k) for k, name in enumerate(WHYS)},
    }


def _report(dataset: Dataset, hits: _Hits, loaded: _Loaded) -> dict[str, object]:
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


def _table(hits: _Hits, loaded: _Loaded, first: int, count: int) -> pa.Table:
    found = [hits.of.get(row) for row in range(first, first + count)]
    near = [one is not None for one in found]
    ids = [None if one is None else loaded.ids[one[1]] for one in found]
    return pa.table({"near_evaluation": near, "evaluation_id": ids}, schema=pa.schema(FIELDS))
