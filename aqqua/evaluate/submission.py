"""From an evaluation to the leaderboard's files: one entry for each contender.

Test: tests/evaluate/test_report.py.
"""

import datetime
import re
from pathlib import Path

import numpy as np

import aqqua
from aqqua.evaluate.contenders.contender import Contender
from aqqua.evaluate.contenders.native import Native
from aqqua.evaluate.entry import (
    ClassFigures,
    Entry,
    ModelFacts,
    Overlap,
    ProbeResult,
    SuiteFacts,
    TierResult,
    figure,
    write_entry,
)
from aqqua.evaluate.metrics.classes import confusion
from aqqua.evaluate.metrics.judged import Called
from aqqua.evaluate.metrics.scores import Scores
from aqqua.evaluate.models import run_folder
from aqqua.evaluate.protocol import Task
from aqqua.evaluate.provenance import source_commit
from aqqua.evaluate.report import Result
from aqqua.evaluate.seen import fine_tuned_holdout
from aqqua.evaluate.suites.suite import PROTOCOL
from aqqua.train.usage import USAGE, read_sessions


def entry_paths(folder: Path, suite: str, contenders: list[str]) -> list[Path]:
    """Where entries will lie; asked before the work, so that it is not done in vain.

    Raises:
        ValueError: one is there already.
    """
    paths = [folder / f"{suite}--{_plain(name)}.json" for name in contenders]
    taken = [path for path in paths if path.exists()]
    if taken or len(set(paths)) < len(paths):
        what = taken[0] if taken else paths[0]
        raise ValueError(
            f"evaluate: entries must be new files, got {what}; choose another --entries or remove it"
        )
    return paths


def write_entries(result: Result, folder: Path, command: str) -> list[Path]:
    """Write an entry for each contender.

    Args:
        command: that anybody could type to get the same.

    Raises:
        ValueError: an entry is there already.
    """
    paths = entry_paths(folder, result.prepared.suite.name, [one.name for one in result.contenders])
    for path, contender in zip(paths, result.contenders, strict=True):
        write_entry(entry_of(result, contender, command), path)
    return paths


def entry_of(result: Result, contender: Contender, command: str) -> Entry:
    """A contender's line of the leaderboard."""
    facts, about = contender.facts, result.prepared.facts()
    gflops = result.gflops[contender.name]
    return Entry(
        model=ModelFacts(
            name=contender.name, kind=facts.kind, sha256=facts.sha256 or facts.key,
            parameters=facts.parameters, feature_width=facts.width, resolution=facts.input,
            gflops_per_image=gflops if gflops > 0 else None, gpu_hours=_gpu_hours(contender),
            fine_tuned=fine_tuned_holdout(contender) is not None,
        ),
        suite=SuiteFacts(
            name=about["suite"], protocol=PROTOCOL, sha256=about["suite_sha256"],
            datasets={key: one["sha256"] for key, one in about["datasets"].items()},
            classes=len(result.prepared.classes),
        ),
        tiers={split.name: _tier(result, contender.name, split.name) for split in result.prepared.splits},
        seen_in_pretraining=_overlap(result) if contender is result.contenders[0] else None,
        left_out=about["left_out"], commit=source_commit(),
        aqqua=aqqua.__version__, command=command,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )  # fmt: skip


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")


def _gpu_hours(contender: Contender) -> float | None:
    """Of a run's pretraining; None where nobody kept a ledger, as on a CPU, or of other people's models."""
    if not isinstance(contender, Native) or contender.kind != "aqqua":
        return None
    sessions = read_sessions(run_folder(contender.path) / USAGE)
    return sum(one.gpu_s for one in sessions.values()) / 3600 if sessions else None


def _overlap(result: Result) -> Overlap | None:
    prepared = result.prepared
    if not prepared.looked:
        return None
    tested = np.unique(np.concatenate([prepared.tested(split) for split in prepared.splits]))
    left_out = any("known from pretraining" in split.left_out for split in prepared.splits)
    return Overlap(images=int(prepared.known_I[tested].sum()), of=len(tested), left_out=left_out)


def _tier(result: Result, contender: str, split: str) -> TierResult:
    facts = result.prepared.facts()["splits"][split]
    scores = [one for one in result.scores if (one.contender, one.tier) == (contender, split)]
    names = _class_names(result, split)
    return TierResult(
        train_images=facts["train_images"], test_images=facts["test_images"], groups=facts["test_groups"],
        test_rows_sha256=facts["test_sha256"],
        probes={
            one.probe: _probe(one, result.called.get((contender, split, one.probe)), names)
            for one in scores
            if one.figures
        },
    )  # fmt: skip


def _class_names(result: Result, split: str) -> tuple[str, ...]:
    of = next(one for one in result.prepared.splits if one.name == split)
    return Task(result.prepared, of).labels.names


def _probe(scores: Scores, called: Called | None, names: tuple[str, ...]) -> ProbeResult:
    metrics = {
        name: known
        for name, found in scores.figures.items()
        if (known := figure(found.value, found.low, found.high)) is not None
    }
    if called is None:
        return ProbeResult(metrics=metrics)
    classes = [
        ClassFigures(
            name=row.name, support=row.images, recall=_known(row.recall), precision=_known(row.precision)
        )
        for row in scores.classes
    ]
    place = {row.name: n for n, row in enumerate(scores.classes)}
    table_KK = confusion(called.truth_M, called.predicted_M, len(names))
    pairs = [
        (place[names[a]], place[names[b]], int(table_KK[a, b])) for a, b in np.argwhere(table_KK).tolist()
    ]
    return ProbeResult(metrics=metrics, classes=classes, confusion=pairs)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
