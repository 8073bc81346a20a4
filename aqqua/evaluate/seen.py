"""Which test images a contender had learnt from, as far as anybody can tell.

Test: tests/evaluate/test_report.py, tests/evaluate/test_learned_head.py.
"""

import json
from typing import Any

import numpy as np

from aqqua.evaluate.contenders.contender import Contender
from aqqua.evaluate.contenders.native import Native
from aqqua.evaluate.learned_head import LearnedHead
from aqqua.evaluate.models import run_config
from aqqua.evaluate.suites.prepare import Prepared
from aqqua.evaluate.suites.split import Split
from aqqua.store.split import NAMING, held_out_rows


def unseen(prepared: Prepared, contender: Contender) -> dict[str, bool | None]:
    """Split -> whether all that it tests was held out of training, by the names that the datasets give.

    None where nobody can tell: what the weights of an `init` have seen, or what others were trained on.
    """
    share = _held_share(contender)
    if share is None:
        return {split.name: None for split in prepared.splits}
    held_I = _held_out(prepared, share)
    return {split.name: bool(held_I[prepared.tested(split)].all()) for split in prepared.splits}


def not_judged(prepared: Prepared, contender: Contender) -> dict[str, str]:
    """Split -> why the contender's fine-tuned head is not asked there; empty where it has none."""
    head = contender.head if isinstance(contender, Native) else None
    if head is None:
        return {}
    learnt = [one.trait_id for one in head.traits]
    if learnt and not set(learnt) & {one.trait_id for one in prepared.measured}:
        return {split.name: f"the suite has no measured {', '.join(learnt)}" for split in prepared.splits}
    if head.classes and not prepared.suite.asks_classes:
        return {split.name: "it tells classes, which the suite does not ask for" for split in prepared.splits}
    counts = {split.name: learnt_from(prepared, split, head) for split in prepared.splits}
    return {name: f"it had learnt from {n} of the test images" for name, n in counts.items() if n}


def learnt_from(prepared: Prepared, split: Split, head: LearnedHead) -> int:
    """How many images that a split tests a head may have learnt from: of its dataset, not held out.

    Of a head that learnt from another dataset nobody can tell; it counts as 0.
    """
    tested = prepared.tested(split)
    own = [one.manifest_sha256 == head.dataset_sha256 for one in prepared.datasets]
    own_M = np.array(own)[prepared.images.dataset_I[tested]]
    return int((own_M & ~_held_out(prepared, head.holdout)[tested]).sum())


def fine_tuned_holdout(contender: Contender) -> float | None:
    """Share of groups that fine-tuning held out, of a classifier or the backbone in its folder; else None."""
    if not isinstance(contender, Native):
        return None
    if contender.head is not None:
        return contender.head.holdout
    facts = _classifier_facts(contender)
    return float(facts["holdout"]) if facts else None


def _classifier_facts(contender: Native) -> dict[str, Any]:
    """Of the folder of a classifier, or of the one that the backbone lies in; {} where it is none."""
    path = contender.path
    about = (path if path.is_dir() else path.parent) / "classifier.json"
    found: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))["facts"] if about.is_file() else {}
    return found


def _held_share(contender: Contender) -> float | None:
    """Share of groups that neither pretraining nor fine-tuning learned from; None: nobody can tell."""
    if not isinstance(contender, Native) or contender.kind != "aqqua":
        return None
    if (share := fine_tuned_holdout(contender)) is not None:
        before = _classifier_facts(contender).get("pretraining_holdout")
        return None if before is None else min(share, before)
    config = run_config(contender.path)
    return None if config is None or config.init is not None else config.data.holdout


def _held_out(prepared: Prepared, share: float) -> np.ndarray:
    """True for the images of the suite that a share holds out, bool [I]."""
    return np.concatenate([held_out_rows(one.table(list(NAMING)), share) for one in prepared.datasets])
