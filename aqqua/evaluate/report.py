"""One evaluation: contenders on a suite, for machines (JSON), for people (a table), for the leaderboard.

Test: tests/evaluate/test_report.py.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
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
from aqqua.evaluate.metrics.judged import Judged
from aqqua.evaluate.metrics.scores import Scores
from aqqua.evaluate.models import run_config
from aqqua.evaluate.protocol import SEED, Task, judge_features, judge_few_shot, judge_probe, tasks_of
from aqqua.evaluate.provenance import source_commit
from aqqua.evaluate.suites.prepare import Prepared
from aqqua.evaluate.tokens import PatchTokens
from aqqua.progress import Bar
from aqqua.store.sizes import Sizes
from aqqua.store.split import NAMING, held_out_rows

SIZED_BLOCKS = 16  # of each data set, whose images' sizes say what one costs
SHOWN = ("macro_f1", "balanced_accuracy", "plankton_macro_f1", "ece")


@dataclass(frozen=True)
class Result:
    """Figures of all contenders on all splits."""

    prepared: Prepared
    contenders: list[Contender]
    scores: list[Scores]
    judged: dict[tuple[str, str, str], Judged]  # contender, split, answer
    unseen: dict[str, bool | None]  # split -> whether the first held its test images out; None: nobody knows
    gflops: dict[str, float]  # of an image, by contender

    @property
    def margins(self) -> dict[str, dict[str, dict[str, Interval]]]:
        """Other contender -> split -> answer -> macro-F1 of the first contender minus its own, paired."""
        first, *others = (one.name for one in self.contenders)
        found: dict[str, dict[str, dict[str, Interval]]] = {name: {} for name in others}
        for (name, split, answer), judged in self.judged.items():
            if name != first and (first, split, answer) in self.judged:
                margin = macro_f1_margin(self.judged[first, split, answer], judged, SEED)
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
        facts = self.prepared.facts()["splits"][split]
        yield (
            f"{split}: {facts['test_images']} test images of {facts['classes_tested']} classes in "
            f"{facts['test_groups']} groups, {facts['train_images']} labelled images of {facts['classes']} "
            "classes to learn from"
        )
        if self.unseen[split] is False:
            yield f"note: {self.contenders[0].name} was trained on some of these test images; see --holdout"
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

    def _others(self, scores: list[Scores], wide: int) -> Iterator[str]:
        """Figures of instruments and of the unknown, which have columns of their own."""
        for one in scores:
            if set(SHOWN) & set(one.figures):
                continue
            told = ", ".join(f"{_short(name)} {_cell(found)}" for name, found in one.figures.items())
            yield f"  {one.contender:{wide}} {told}"


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
    unasked = [name for name in ("traits", "carbon") if name in prepared.suite.metrics]
    if unasked:
        raise ValueError(
            f"evaluate: a suite may ask for classes, instruments and novelty, got {unasked[0]}; take it out "
            "of metrics: traits and carbon are judged by aqqua finetune on the values it holds back"
        )
    tasks, scores, judged = tasks_of(prepared), [], {}
    for contender in contenders:
        for found, of in _judged_by_all(prepared, tasks, contender, probes, cache):
            scores.append(found)
            if of is not None:
                judged[contender.name, found.tier, found.probe] = of
    gflops = {one.name: _gflops(one, prepared) for one in contenders}
    return Result(prepared, list(contenders), scores, judged, _unseen(prepared, contenders[0]), gflops)


def _judged_by_all(
    prepared: Prepared, tasks: list[Task], contender: Contender, probes: Sequence[str], cache: Path | None
) -> Iterator[tuple[Scores, Judged | None]]:
    with (
        _features(prepared, contender, probes, cache) as (rows_ID, tokens),
        Bar(f"probes of {contender.name}", len(tasks) * (len(probes) + 1), "fits") as bar,
    ):
        done = 0
        for task in tasks:
            for probe in probes:
                rows: Rows | None = tokens if probe in ON_TOKENS else rows_ID
                assert rows is not None, "tokens are there where a probe wants them"
                if probe == FEW_SHOT:
                    few = judge_few_shot(contender.name, rows_ID, task)
                    yield from ((scores, None) for scores in few)
                else:
                    yield from judge_probe(contender.name, probe, rows, task).values()
                done += 1
                bar.update(done)
            yield from ((scores, None) for scores in judge_features(contender.name, rows_ID, task))
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
                before = done
                found.append(cache.features(contender, dataset, lambda n, b=before: bar.update(b + n)))  # type: ignore[misc]
                done += dataset.rows
        rows_ID = np.concatenate(found) if len(found) > 1 else found[0]
        tokens = None
        if on_tokens and isinstance(contender, WithPatches):
            tokens = PatchTokens.chained([cache.tokens(contender, one) for one in prepared.datasets])
        yield rows_ID, tokens


def _gflops(contender: Contender, prepared: Prepared) -> float:
    """10⁹ operations of an image, the mean over some blocks of the suite."""
    parts = [
        dataset.sizes(block)
        for dataset in prepared.datasets
        for block in range(0, dataset.blocks, max(dataset.blocks // SIZED_BLOCKS, 1))
    ]
    return contender.flops(Sizes.concatenate(parts)) / 1e9


def _unseen(prepared: Prepared, contender: Contender) -> dict[str, bool | None]:
    """Whether all that a split tests was held out of training, by the names that the datasets give.

    What the weights of an `init` have seen, nobody can tell; nor what others were trained on.
    """
    share = _held_share(contender)
    if share is None:
        return {split.name: None for split in prepared.splits}
    held_I = np.concatenate([held_out_rows(one.table(list(NAMING)), share) for one in prepared.datasets])
    return {split.name: bool(held_I[split.test].all()) for split in prepared.splits}


def _held_share(contender: Contender) -> float | None:
    """Share of groups that neither pretraining nor fine-tuning learned from; None: nobody can tell."""
    if not isinstance(contender, Native) or contender.kind != "aqqua":
        return None
    if (share := fine_tuned_holdout(contender)) is not None:
        return share
    config = run_config(contender.path)
    return None if config is None or config.init is not None else config.data.holdout


def fine_tuned_holdout(contender: Contender) -> float | None:
    """Share of groups that fine-tuning held out, of the backbone in a classifier's folder; else None."""
    if not isinstance(contender, Native):
        return None
    if not (about := contender.path.with_name("classifier.json")).is_file():
        return None
    return float(json.loads(about.read_text(encoding="utf-8"))["facts"]["holdout"])


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
