"""From a user's question to its answer: a config, its size histogram, the machines asked for, what is in the
way.

Test: tests/cost/test_plan.py.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from aqqua.config import load_config
from aqqua.cost import blockers
from aqqua.cost.engines import Engine, engines_of
from aqqua.cost.estimate import Prediction, as_dinov2, predict, workload
from aqqua.cost.facts import Facts, load_facts
from aqqua.cost.flops import DistilledFrom
from aqqua.cost.machines import Kind, every_gpu, parse_nodes
from aqqua.cost.sizes import planned_tokens, stated_tokens
from aqqua.cost.tokens import Tokens
from aqqua.cost.work import Workload
from aqqua.store.read import Dataset
from aqqua.store.weights import SamplingWeights
from aqqua.train.distill import distilled_from, follow
from aqqua.train.ranks import Ranks
from aqqua.train.settings import PretrainConfig
from aqqua.train.weighted import images_per_epoch


@dataclass(frozen=True)
class Question:
    """What a user asks for."""

    config: Path
    overrides: tuple[str, ...] = ()
    nodes: str | None = None  # "4", "1,2,8" or "1..32"; None: one GPU, or one node where a kind is given
    kind: Kind | None = None  # of nodes; None: every GPU that is known
    gpus_per_node: int | None = None  # where no kind is given; None: as many as usual
    confirm: tuple[str, ...] = ()  # what of the cluster's facts is to be confirmed
    tokens: str | None = None  # stated, in the place of a dataset
    grant: float | None = None  # GPU-hours that may be used


@dataclass(frozen=True)
class Costed:
    """What is computed, and what that takes where."""

    work: Workload
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class Plan:
    """The answer. Where the tokens of an image are not known there is nothing but what is in the way."""

    config: PretrainConfig
    facts: Facts
    images_total: float | None  # length of the run
    native: Costed | None
    fixed: Costed | None  # at 224/98, on the same machines
    engines: tuple[Engine, ...]  # that of the run, which is predicted, and the others that could serve it
    blockers: tuple[str, ...]
    notes: tuple[str, ...]


def make_plan(question: Question, facts: Facts | None = None) -> Plan:
    """The answer to a question.

    Raises:
        ValueError: the question cannot be understood: config, nodes, GPUs, tokens, grant.
    """
    facts = load_facts() if facts is None else facts
    for option, value in (("--grant", question.grant), ("--gpus-per-node", question.gpus_per_node)):
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"plan: {option} must be above 0, got {value}; correct it")
    config = load_config(PretrainConfig, question.config, question.overrides)
    asked, found, notes = _machines(question, facts, config.data.lanes)
    found += [*blockers.of_config(config), *blockers.of_disk(config)]
    tokens, per_epoch, missing = _tokens(question, config, in_the_way=bool(found))
    followed, no_teacher = _followed(config)
    found += missing + no_teacher
    images_total = _images(config, per_epoch)
    engines = engines_of(config)
    native = fixed = None
    if tokens is not None:
        work = workload(config, tokens, followed)
        native, fixed = (
            _cost(of, engines[0], facts, asked, images_total, question.grant)
            for of in (work, as_dinov2(config, work))
        )
        found += blockers.of_memory(native.predictions, work, engines)
    return Plan(config, facts, images_total, native, fixed, engines, tuple(found), tuple(notes))


def _machines(
    question: Question, facts: Facts, lanes: int
) -> tuple[list[tuple[str, int, int]], list[str], list[str]]:
    """(GPU, nodes, GPUs of a node) to predict for; what is in the way of others; what is to be said."""
    gpus = 1 if question.nodes is None and question.gpus_per_node is None else question.gpus_per_node
    kinds = every_gpu(facts, gpus) if question.kind is None else [question.kind]
    nodes = parse_nodes(question.nodes or "1")
    asked: list[tuple[str, int, int]] = []
    found: list[str] = []
    for kind in kinds:
        possible, in_the_way = nodes.possible(kind, lanes)
        asked += [(kind.gpu, count, kind.gpus_per_node) for count in possible]
        found += [line for line in in_the_way if line not in found]
    notes = [f"confirm on site: {what}" for what in question.confirm]
    counts = sorted({count for _, count, _ in asked})
    if nodes.is_range and len(counts) < len(nodes.counts):
        shown = ", ".join(map(str, counts)) or "none"
        notes.append(f"of {question.nodes} nodes, those there whose GPUs divide data.lanes={lanes}: {shown}")
    return asked, found, notes


def _tokens(
    question: Question, config: PretrainConfig, in_the_way: bool
) -> tuple[Tokens | None, float | None, list[str]]:
    """Tokens of an image, images of an epoch, and what is in the way of knowing them."""
    stated = None if question.tokens is None else stated_tokens(question.tokens, config)
    try:
        dataset = Dataset.open(config.data.path)
    except (ValueError, OSError) as error:
        what = " ".join(str(error).split()).removeprefix("dataset: ")
        hint = "" if stated else "; --tokens isiis or --tokens 60,20 goes on without it"
        return stated, None, [f"data.path must be a dataset: {what}{hint}"]
    data = config.data
    try:
        sampling = None if data.weights is None else SamplingWeights.open(data.weights, dataset)
    except (ValueError, OSError) as error:
        return stated, None, [f"data.weights must be of the dataset: {' '.join(str(error).split())}"]
    per_epoch = images_per_epoch(dataset, data.holdout, sampling)
    if stated is not None:
        return stated, per_epoch, []
    try:
        return planned_tokens(dataset, config), per_epoch, []
    except ValueError as error:  # a pack too small is named already
        return None, per_epoch, [] if in_the_way else [str(error)]


def _followed(config: PretrainConfig) -> tuple[DistilledFrom | None, list[str]]:
    """What the teacher of a distillation is, and what is in the way of following it."""
    try:
        return distilled_from(follow(config, Ranks(), torch.device("cpu"))), []
    except (ValueError, OSError) as error:
        return None, [" ".join(str(error).split()).removeprefix("pretrain: ")]


def _images(config: PretrainConfig, per_epoch: float | None) -> float | None:
    """Length of the run; None where only a dataset could say."""
    if config.train.images is not None:
        return config.train.images
    return None if per_epoch is None else per_epoch * (config.train.epochs or 1)


def _cost(
    work: Workload,
    engine: Engine,
    facts: Facts,
    asked: list[tuple[str, int, int]],
    images_total: float | None,
    grant_hours: float | None,
) -> Costed:
    predictions = [
        predict(work, facts, *machine, images_total=images_total, grant_hours=grant_hours, engines=[engine])
        for machine in asked
    ]
    return Costed(work, tuple(predictions))
