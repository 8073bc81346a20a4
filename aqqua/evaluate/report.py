"""One evaluation: contenders on a suite, for machines (JSON), for people (a table), for the leaderboard.

Test: tests/evaluate/test_report.py.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import aqqua
from aqqua.evaluate.asking import FEW_SHOT, ON_TOKENS, USUAL, Rows, check_probe
from aqqua.evaluate.contenders.contender import Contender, WithPatches
from aqqua.evaluate.contenders.native import Native
from aqqua.evaluate.feature_cache import FeatureCache
from aqqua.evaluate.metrics.interval import Interval
from aqqua.evaluate.metrics.judge import macro_f1_margin
from aqqua.evaluate.metrics.judged import Called
from aqqua.evaluate.metrics.scores import Scores
from aqqua.evaluate.protocol import (
    CLASS_FAMILIES,
    SEED,
    Task,
    judge_features,
    judge_few_shot,
    judge_head,
    judge_probe,
    tasks_of,
)
from aqqua.evaluate.provenance import source_commit
from aqqua.evaluate.quantities import judge_quantities
from aqqua.evaluate.seen import not_judged, unseen
from aqqua.evaluate.suites.prepare import Prepared
from aqqua.evaluate.tokens import PatchTokens
from aqqua.progress import Bar
from aqqua.store.sizes import Sizes

SIZED_BLOCKS = 16  # of each data set, whose images' sizes say what one costs
SHOWN = ("macro_f1", "balanced_accuracy", "plankton_macro_f1", "ece")


@dataclass(frozen=True)
class Result:
    """Figures of all contenders on all splits."""

    prepared: Prepared
    contenders: list[Contender]
    scores: list[Scores]
    called: dict[tuple[str, str, str], Called]  # contender, split, answer
    not_judged: dict[str, dict[str, str]]  # contender -> split -> why its fine-tuned head was not asked
    unseen: dict[str, bool | None]  # split -> whether the first held its test images out; None: nobody knows
    gflops: dict[str, float]  # of an image, by contender

    @property
    def margins(self) -> dict[str, dict[str, dict[str, Interval]]]:
        """Other contender -> split -> answer -> macro-F1 of the first contender minus its own, paired."""
        first, *others = (one.name for one in self.contenders)
        found: dict[str, dict[str, dict[str, Interval]]] = {name: {} for name in others}
        for (name, split, answer), called in self.called.items():
            if name != first and (first, split, answer) in self.called:
                margin = macro_f1_margin(self.called[first, split, answer], called, SEED)
                found[name].setdefault(split, {})[answer] = margin
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        scores: dict[str, Any] = {}
        for one in self.scores:
            scores.setdefault(one.contender, {}).setdefault(one.tier, {})[one.probe] = one.as_dict()
        margins = {
            name: {split: {a: asdict(m) for a, m in answers.items()} for split, answers in splits.items()}
            for name, splits in self.margins.items()
        }
        return {
            **self.prepared.facts(),
            "aqqua": aqqua.__version__,
            "commit": source_commit(),
            "test_images_unseen_in_pretraining": self.unseen,
            "fine_tuned_heads_not_judged": self.not_judged,
            "contenders": {
                one.name: {**asdict(one.facts), "gflops_per_image": self.gflops[one.name]}
                for one in self.contenders
            },
            "scores": scores,
            "macro_f1_margins": margins,
        }

    def lines(self) -> list[str]:
        """For people."""
        margins = self.margins
        return [line for split in self.prepared.splits for line in self._lines_of(split.name, margins)]

    def _lines_of(self, split: str, margins: dict[str, dict[str, dict[str, Interval]]]) -> Iterator[str]:
        yield self._heading(split)
        if self.unseen[split] is False:
            yield f"note: {self.contenders[0].name} was trained on some of these test images; see --holdout"
        for name, splits in self.not_judged.items():
            if split in splits:
                yield f"note: the fine-tuned head of {name} is not judged: {splits[split]}"
        scores = [one for one in self.scores if one.tier == split]
        shown = [name for name in SHOWN if any(name in one.figures for one in scores)]
        names = [one.name for one in self.contenders]
        wide = max(map(len, names))
        heads = "".join(f" {_short(name):>22}" for name in shown)
        ahead = f"   {names[0]} ahead in macro-F1 by" if len(names) > 1 else ""
        yield f"  {'':{wide}} {'':18}{heads}{ahead}"
        for one in scores:
            if not set(shown) & set(one.figures):
                continue
            cells = "".join(f" {_cell(one.figures.get(name)):>22}" for name in shown)
            margin = margins.get(one.contender, {}).get(split, {}).get(one.probe)
            yield f"  {one.contender:{wide}} {one.probe:18}{cells}   {_cell(margin, sign=True)}".rstrip()
        yield from self._others(scores, wide)
        yield ""

    def _heading(self, split: str) -> str:
        facts = self.prepared.facts()["splits"][split]
        tested = f"{split}: {facts['test_images']} test images"
        groups = f"in {facts['test_groups']} groups"
        if not self.prepared.suite.asks_classes:
            return f"{tested} {groups}, with measured values"
        return (
            f"{tested} of {facts['classes_tested']} classes {groups}, {facts['train_images']} labelled "
            f"images of {facts['classes']} classes to learn from"
        )

    def _others(self, scores: list[Scores], wide: int) -> Iterator[str]:
        """Figures of instruments, of the unknown and of traits, which have columns of their own."""
        for one in scores:
            if set(SHOWN) & set(one.figures):
                continue
            told = ", ".join(f"{_short(name)} {_cell(found)}" for name, found in one.figures.items())
            yield f"  {one.contender:{wide}} {one.probe.replace('_', ' ')}: {told}"


def evaluate(
    prepared: Prepared,
    contenders: Sequence[Contender],
    *,
    probes: Sequence[str] = USUAL,
    cache: Path | None = None,
) -> Result:
    """Judge contenders by frozen features; the first is the one whom the others are compared with.

    Args:
        prepared: a suite (aqqua.evaluate.suites).
        probes: names of aqqua.evaluate.asking.PROBES.
        cache: folder in which features are kept for the next time; None: they are not.

    Raises:
        ValueError: no contender, one twice, no such probe, or patch tokens asked of what has none.
    """
    names = [one.name for one in contenders]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"evaluate: models must be given, each once, got {', '.join(names) or 'none'}; correct the list"
        )
    for probe in probes:
        check_probe(probe)
    tasks, scores, called = tasks_of(prepared), [], {}
    unasked: dict[str, dict[str, str]] = {}
    for contender in contenders:
        if why := not_judged(prepared, contender):
            unasked[contender.name] = why
        for found, of in _judged_by_all(prepared, tasks, contender, probes, cache, why):
            scores.append(found)
            if of is not None:
                called[contender.name, found.tier, found.probe] = of
    gflops = {one.name: _gflops(one, prepared) for one in contenders}
    of_first = unseen(prepared, contenders[0])
    return Result(prepared, list(contenders), scores, called, unasked, of_first, gflops)


def _judged_by_all(
    prepared: Prepared,
    tasks: list[Task],
    contender: Contender,
    probes: Sequence[str],
    cache: Path | None,
    not_judged: Mapping[str, str],
) -> Iterator[tuple[Scores, Called | None]]:
    with (
        _features(prepared, contender, probes, cache) as (rows_ID, tokens),
        Bar(f"probes of {contender.name}", len(tasks) * (len(probes) + 1), "fits") as bar,
    ):
        done = 0
        for task in tasks:
            head = contender.head if isinstance(contender, Native) else None
            head = None if task.split.name in not_judged else head
            for probe in probes if task.asks(*CLASS_FAMILIES) else ():
                rows: Rows | None = tokens if probe in ON_TOKENS else rows_ID
                assert rows is not None, "tokens are there where a probe wants them"
                if probe == FEW_SHOT:
                    few = judge_few_shot(contender.name, rows_ID, task)
                    yield from ((scores, None) for scores in few)
                else:
                    yield from judge_probe(contender.name, probe, rows, task).values()
                done += 1
                bar.update(done)
            if head is not None and head.classes and task.asks(*CLASS_FAMILIES):
                yield judge_head(contender.name, head, rows_ID, task)
            yield from ((scores, None) for scores in judge_features(contender.name, rows_ID, task))
            yield from ((one, None) for one in judge_quantities(contender.name, rows_ID, head, task))
            done += 1
            bar.update(done)


@contextmanager
def _features(
    prepared: Prepared, contender: Contender, probes: Sequence[str], folder: Path | None
) -> Iterator[tuple[np.ndarray, PatchTokens | None]]:
    """Features of all images of the suite in its order, and their patch tokens where a probe wants them."""
    on_tokens = [probe for probe in probes if probe in ON_TOKENS]
    if on_tokens and not isinstance(contender, WithPatches):
        raise ValueError(
            f"evaluate: the probe {on_tokens[0]} needs patch tokens, got {contender.name}, which has none; "
            "leave out the one or the other"
        )
    with tempfile.TemporaryDirectory() as temporary:
        cache, total = FeatureCache(folder or Path(temporary)), sum(d.rows for d in prepared.datasets)
        with Bar(f"features of {contender.name}", total, "images") as bar:
            done, found = 0, []
            for dataset in prepared.datasets:
                found.append(cache.features(contender, dataset, partial(_further, bar, done)))
                done += dataset.rows
        rows_ID = np.concatenate(found) if len(found) > 1 else found[0]
        tokens = None
        if on_tokens and isinstance(contender, WithPatches):
            tokens = PatchTokens.chained([cache.tokens(contender, one) for one in prepared.datasets])
        yield rows_ID, tokens


def _further(bar: Bar, before: int, done: int) -> None:
    bar.update(before + done)


def _gflops(contender: Contender, prepared: Prepared) -> float:
    """10⁹ operations of an image, the mean over some blocks of the suite."""
    parts = [
        dataset.sizes(block)
        for dataset in prepared.datasets
        for block in range(0, dataset.blocks, max(dataset.blocks // SIZED_BLOCKS, 1))
    ]
    return contender.flops(Sizes.concatenate(parts)) / 1e9


def _short(figure: str) -> str:
    return figure.replace("_", " ").replace("macro f1", "macro-F1").replace("ece", "ECE")


def _cell(found: Interval | None, *, sign: bool = False) -> str:
    """0.712 (0.640 to 0.780); nothing where there is no figure."""
    if found is None or math.isnan(found.value):
        return ""
    form = "+.3f" if sign else ".3f"
    if found.low is None or found.high is None:
        return f"{found.value:{form}}"
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"
