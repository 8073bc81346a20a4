"""The images of an evaluation set, as the search for contamination holds them in memory.

Test: tests/curate/copies/test_contamination.py.
"""

import json
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa

from aqqua.curate.copies.looks import SIGNATURE_NAMES, can_be_near, contents_of, first_rows, looks_of
from aqqua.curate.copies.vectors import unit_embeddings
from aqqua.curate.copies.verify import SamePicture
from aqqua.store.columns import Columns
from aqqua.store.read import Dataset


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
class Loaded:
    """The E evaluation images, sorted by their longer side."""

    looks: np.ndarray  # LOOK [E]
    can: np.ndarray  # [E] bool, have a picture
    ids: list[str]  # [E]
    vectors: np.ndarray | None  # [E, D] float32


def facts_of_evaluation(evaluation: EvaluationSet) -> dict[str, str]:
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


def load_evaluation(evaluation: EvaluationSet, rule: SamePicture) -> Loaded:
    """Read the evaluation images.

    Args:
        evaluation: with embeddings, where cosines are asked for.
        rule: when two images are the same picture.

    Raises:
        ValueError: there is none, or a file is damaged.
    """
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
        can.append(can_be_near(signed, sizes, rule)[chosen])
        ids += np.array(table["image_id"].to_pylist(), object)[chosen].tolist()
        if evaluation.embeddings is not None:
            vectors.append(unit_embeddings(evaluation.embeddings, block)[chosen])
    if not ids:
        raise ValueError(
            f"contamination: the evaluation set must have images, got none of them in {dataset.path}; check "
            "its image ids and groups"
        )
    all_looks = np.concatenate(looks)
    order = np.lexsort((all_looks["row"], all_looks["order"]))
    return Loaded(
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
