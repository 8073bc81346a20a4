"""Curation from end to end: the stages in their order, each kept if it was made already.

A curation is a folder with one folder of columns for each stage, named like it:

    signatures ──▶ duplicates, quality, contamination ──┐
    embeddings ──▶ clusters ────────────────────────────┴──▶ weights

A stage whose folder is there, made with the same settings from the same columns, is kept; one made otherwise
stops the curation, so nothing is ever mixed up or silently overwritten. A run that was killed goes on with
the stage it was in. Test: tests/curate/test_pipeline.py.
"""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from aqqua.curate.balance.census import WeightsConfig
from aqqua.curate.balance.evidence import STAGES as EVIDENCE
from aqqua.curate.balance.weights import make_weights
from aqqua.curate.clusters.assign import ClustersConfig, cluster_images
from aqqua.curate.copies.contamination import ContaminationConfig, write_contamination
from aqqua.curate.copies.contamination import sources as contamination_sources
from aqqua.curate.copies.duplicates import DuplicateConfig, write_duplicates
from aqqua.curate.copies.evaluation_set import EvaluationSet
from aqqua.curate.images.quality import QualityConfig, write_quality
from aqqua.curate.images.signatures import ALGORITHM, write_signatures
from aqqua.spread import Engine
from aqqua.store.columns import Columns
from aqqua.store.read import Dataset
from aqqua.train.ranks import Ranks

STAGES = ("signatures", "duplicates", "quality", "contamination", "clusters", "weights")
REPORT = "report.html"
OF_EVALUATION = "signatures-of-evaluation"  # beside the stages: columns of the evaluation set
CONTAMINATION_REPORT = "contamination.json"
Tell = Callable[[str, int, int], None]  # stage, done, in all


class CurateConfig(BaseModel):
    """How a dataset is curated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    duplicates: DuplicateConfig = DuplicateConfig.model_validate({})
    quality: QualityConfig = QualityConfig.model_validate({})
    contamination: ContaminationConfig = ContaminationConfig.model_validate({})
    clusters: ClustersConfig = ClustersConfig.model_validate({})
    weights: WeightsConfig = WeightsConfig.model_validate({})


@dataclass(frozen=True)
class Curation:
    """What is curated, with what, and where to."""

    dataset: Dataset
    out: Path
    config: CurateConfig
    embeddings_path: Path | None = None
    evaluation: Dataset | None = None
    evaluation_embeddings_path: Path | None = None
    engine: Engine = field(default_factory=Engine)  # of signatures and comparisons
    ranks: Ranks = field(default_factory=Ranks)  # of clusters
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))  # of clusters

    def folder(self, stage: str) -> Path:
        """Where a stage's columns are or will be."""
        return self.out / stage

    def columns(self, stage: str) -> Columns:
        """Those of a stage.

        Raises:
            ValueError: it was not run.
        """
        if not self.folder(stage).exists():
            raise ValueError(
                f"curate: this stage needs {stage}, got no {self.folder(stage)}; leave out --only, or run "
                f"--only {stage} first"
            )
        return Columns.open(self.folder(stage), self.dataset, stage)

    @cached_property
    def embeddings(self) -> Columns | None:
        """Of the dataset."""
        return _embeddings(self.embeddings_path, self.dataset)

    @cached_property
    def evaluation_embeddings(self) -> Columns | None:
        """Of the evaluation set."""
        if self.evaluation is None:
            return None
        return _embeddings(self.evaluation_embeddings_path, self.evaluation)

    @property
    def stages(self) -> tuple[str, ...]:
        """Those that can be run with what is given."""
        without = {"clusters": self.embeddings_path, "contamination": self.evaluation}
        return tuple(stage for stage in STAGES if stage not in without or without[stage] is not None)


def curate(job: Curation, only: Collection[str] = (), tell: Tell = lambda *_: None) -> dict[str, bool]:
    """Run the stages that can be run, or some; returns which of them were made now, not kept.

    Every rank calls this; all stages but the clusters are rank 0's work.

    Raises:
        ValueError: a stage lacks what it needs, was made otherwise before, or columns are damaged.
        RuntimeError: the disk is full or failed, or a worker died.
    """
    job.ranks.on_first(partial(_check, job))
    made = {}
    for stage in [stage for stage in STAGES if stage in (only or job.stages)]:
        if stage not in job.stages:
            needed = "--embeddings" if stage == "clusters" else "--evaluation"
            raise ValueError(f"curate: {stage} must have something to compare with; give {needed}")
        made[stage] = not job.ranks.share(job.ranks.on_first(partial(_is_made, job, stage)))
        if made[stage] and stage == "clusters":
            _make_clusters(job, tell)
        elif made[stage]:
            job.ranks.on_first(partial(_MAKERS[stage], job, tell))
    return made


def _check(job: Curation) -> None:
    """All that can be known before hours of work."""
    if job.out.exists():
        ours = {*STAGES, OF_EVALUATION, CONTAMINATION_REPORT, REPORT}
        there = {path.name for path in job.out.iterdir()}
        strange = [name for name in there - ours if ".partial-" not in name]
        if strange:
            raise ValueError(
                f"curate: --out must be a new folder or an earlier curation, got {job.out}, which holds "
                f"{min(strange)}; choose another --out"
            )
    _ = job.embeddings, job.evaluation_embeddings


def _is_made(job: Curation, stage: str) -> bool:
    """Whether a stage's folder holds what it would be made to hold."""
    if not job.folder(stage).exists():
        return False
    facts = Columns.open(job.folder(stage), job.dataset, stage).facts
    config = getattr(job.config, stage, None)
    wanted: dict[str, Any] = {"made_from": _sources(job, stage)}
    if stage == "signatures":
        wanted["algorithm"] = ALGORITHM
    if config is not None:
        wanted["config"] = json.loads(config.model_dump_json())
    changed = [name for name, value in wanted.items() if facts.get(name) != value]
    if changed:
        what = "; ".join(_differences(facts.get(changed[0]), wanted[changed[0]], stage)) or "others"
        raise ValueError(
            f"curate: {job.folder(stage)} must be of the same settings and columns, got {what}; remove that "
            "folder and those made from it, or give another --out"
        )
    return True


def _differences(was: Any, now: Any, name: str) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted(was.keys() | now.keys()):
            yield from _differences(was.get(key), now.get(key), f"{name}.{key}")
    elif was != now:
        short = [str(value)[:12] if isinstance(value, str) else value for value in (was, now)]
        yield f"{name} was {short[0]}, now {short[1]}"


def _sources(job: Curation, stage: str) -> dict[str, str]:
    """Names of the columns that a stage is made from."""
    if stage == "signatures":
        return {}
    if stage == "clusters":
        assert job.embeddings is not None
        return {"embeddings": job.embeddings.sha256}
    if stage == "weights":
        return {name: job.columns(name).sha256 for name in EVIDENCE if job.folder(name).exists()}
    signatures = job.columns("signatures")
    if stage == "contamination":
        return contamination_sources(signatures, _evaluation(job), job.config.contamination, job.embeddings)
    found = {"signatures": signatures.sha256}
    if stage == "duplicates" and job.config.duplicates.cosine is not None and job.embeddings is not None:
        found["embeddings"] = job.embeddings.sha256
    return found


def _make_signatures(job: Curation, tell: Tell) -> None:
    write_signatures(
        job.dataset, job.folder("signatures"), job.engine, lambda *done: tell("signatures", *done)
    )


def _make_duplicates(job: Curation, tell: Tell) -> None:
    def told(stage: str, done: int, every: int) -> None:
        tell(f"duplicates: {stage}", done, every)

    write_duplicates(
        job.dataset, job.columns("signatures"), job.folder("duplicates"), job.config.duplicates,
        job.embeddings, told, threads=job.engine.threads,
    )  # fmt: skip


def _make_quality(job: Curation, tell: Tell) -> None:
    tell("quality", 0, job.dataset.rows)
    write_quality(job.dataset, job.columns("signatures"), job.folder("quality"), job.config.quality)


def _evaluation(job: Curation, tell: Tell = lambda *_: None) -> EvaluationSet:
    """With its signatures, which are made if they are not there."""
    assert job.evaluation is not None
    folder = job.out / OF_EVALUATION
    if folder.exists():
        signatures = Columns.open(folder, job.evaluation, "signatures")
    else:
        signatures = write_signatures(
            job.evaluation, folder, job.engine, lambda *done: tell("signatures of the evaluation set", *done)
        )
    return EvaluationSet(job.evaluation, signatures, embeddings=job.evaluation_embeddings)


def _make_contamination(job: Curation, tell: Tell) -> None:
    write_contamination(
        job.dataset,
        job.columns("signatures"),
        _evaluation(job, tell),
        job.folder("contamination"),
        job.config.contamination,
        job.out / CONTAMINATION_REPORT,
        job.embeddings,
        lambda *done: tell("contamination", *done),
        threads=job.engine.threads,
    )


def _make_clusters(job: Curation, tell: Tell) -> None:
    assert job.embeddings is not None
    tell("clusters", 0, job.dataset.rows)
    cluster_images(
        job.embeddings, job.folder("clusters"), job.config.clusters, job.ranks, job.device, scratch=job.out
    )


def _make_weights(job: Curation, tell: Tell) -> None:
    folders = {name: job.folder(name) for name in EVIDENCE if job.folder(name).exists()}

    def told(stage: str, done: int, every: int) -> None:
        tell(f"weights: {stage}", done, every)

    make_weights(job.dataset, job.folder("weights"), job.config.weights, folders, told)


_MAKERS: dict[str, Callable[[Curation, Tell], None]] = {
    "signatures": _make_signatures,
    "duplicates": _make_duplicates,
    "quality": _make_quality,
    "contamination": _make_contamination,
    "weights": _make_weights,
}


def _embeddings(path: Path | None, dataset: Dataset) -> Columns | None:
    return None if path is None else Columns.open(path, dataset, "embeddings")


def facts_of(job: Curation) -> dict[str, Any]:
    """What each stage that was run says of itself."""
    return {stage: job.columns(stage).facts for stage in STAGES if job.folder(stage).exists()}
