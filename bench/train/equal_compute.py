"""Which recipe names plankton better after the same training operations: kNN of native and of fixed 224/98.

Used by bench/train/vs_dinov2.py. Both learn from the same images without the test groups, from the same seed,
with the same schedules over the run's length and as many images a step, until their useful operations
(aqqua/cost/flops.py, by aqqua/train/useful.py from the packs they took) reach the budget. Then the suite's
protocol (aqqua.evaluate) judges frozen features on its held-out groups; each embeds an image as it was
trained: natively, or stretched to 224 px.
"""

import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from aqqua.cost.estimate import workload
from aqqua.cost.sizes import planned_tokens, smallest_pack
from aqqua.evaluate.contenders.contender import Contender, Facts
from aqqua.evaluate.contenders.opening import open_contender
from aqqua.evaluate.report import Result, evaluate
from aqqua.evaluate.suites.prepare import Prepared, prepare
from aqqua.evaluate.suites.split import Split
from aqqua.evaluate.suites.suite import Suite
from aqqua.store.read import Dataset
from aqqua.store.sizes import Sizes
from aqqua.train.run import open_run
from aqqua.train.settings import PretrainConfig
from aqqua.train.step import rates_at, take_step
from aqqua.train.useful import Useful

PROBE = "kNN k=20"
HOLDOUT = 0.2
# What a run of minutes needs (configs/isiis_tiny.yaml), for both: a quick, sharp teacher, gains that are
# there from the start.
SHORT: dict[str, dict[str, Any]] = {
    "model": {"layer_scale": 0.1},
    "teacher": {
        "momentum_start": 0.99, "temperature_start": 0.02, "temperature_end": 0.03,
        "temperature_warmup_share": 1.0,
    },
    "optim": {"lr": 5e-4, "lr_rule": "none", "beta2": 0.99, "layer_decay": 1.0, "patch_embed_lr": 1.0},
}  # fmt: skip


@dataclass(frozen=True)
class FirstBlocks:
    """A contender that looks at the first blocks alone; of the others it says nothing, and nobody asks."""

    of: Contender
    blocks: int

    @property
    def name(self) -> str:
        return self.of.name

    @property
    def facts(self) -> Facts:
        return self.of.facts

    def __call__(self, dataset: Dataset, number: int) -> Float32[np.ndarray, "I D"]:
        if number < self.blocks:
            return self.of(dataset, number)
        return np.zeros((len(dataset.sizes(number)), self.facts.width), np.float32)

    def flops(self, sizes: Sizes) -> float:
        return self.of.flops(sizes)


def equal_compute(
    dataset: Path,
    configs: dict[str, PretrainConfig],
    budget_flops: float,
    images_per_step: int,
    seeds: int,
    suite: str | None,
    blocks: int,
) -> dict[str, Any]:
    """Train each contender with each seed, judge them.

    Args:
        configs: by contender; their lengths, packs and seeds are set here.
        budget_flops: useful operations of each training.
        suite: name of one of aqqua's; None: every label of the dataset is a class.
        blocks: of the dataset, that are embedded and judged: enough for a short form.

    Returns:
        For each seed and contender macro-F1 with its interval, images, steps and operations; the margin
        of the first contender over each other, paired by image groups; means over the seeds.
    """
    prepared = _prepared(dataset, suite, blocks)
    rows = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            trained = {
                name: _train(
                    _sized(config, budget_flops, images_per_step, seed, Path(folder) / name), budget_flops
                )
                for name, config in configs.items()
            }
            contenders = [FirstBlocks(open_contender(str(Path(folder) / name)), blocks) for name in configs]
            rows.append(_row(seed, trained, evaluate(prepared, contenders, probes=["knn"])))
    names = list(configs)
    means = {name: float(np.mean([row[name]["macro_f1"]["value"] for row in rows])) for name in names}
    return {
        "budget_flops": budget_flops, "images_per_step": images_per_step, "blocks_judged": blocks,
        "test_images": len(prepared.splits[0].test), "seeds": rows, "macro_f1_mean": means,
    }  # fmt: skip


def _row(seed: int, trained: dict[str, dict[str, float]], result: Result) -> dict[str, Any]:
    (split,) = result.prepared.splits
    knn = {Path(one.contender).name: one.figures for one in result.scores if one.probe == PROBE}
    ahead = {Path(name).name: asdict(of[split.name][PROBE]) for name, of in result.margins.items()}
    row: dict[str, Any] = {"seed": seed, "ahead_of": ahead}
    return row | {
        name: {**numbers, "macro_f1": asdict(knn[name]["macro_f1"])} for name, numbers in trained.items()
    }


def _prepared(dataset: Path, suite: str | None, blocks: int) -> Prepared:
    """The suite, its split cut to the first blocks; images are shuffled when a dataset is written."""
    chosen = Suite.of_labels(HOLDOUT) if suite is None else Suite.load(suite)
    made = prepare(chosen, {key: dataset for key in chosen.datasets}, tiers=["sample"])
    opened = Dataset.open(dataset)
    last = sum(len(opened.sizes(number)) for number in range(min(blocks, opened.blocks)))
    return replace(made, splits=tuple(_cut(split, made.images.row_I < last) for split in made.splits))


def _cut(split: Split, kept_I: np.ndarray) -> Split:
    train, test = kept_I[split.train], kept_I[split.test]
    return replace(
        split, train=split.train[train], test=split.test[test], train_label=split.train_label[train],
        test_label=split.test_label[test],
    )  # fmt: skip


def _sized(
    config: PretrainConfig, budget_flops: float, images_per_step: int, seed: int, folder: Path
) -> PretrainConfig:
    """So long that the budget is used up at its end, with as many images a step as the others."""
    values = config.model_dump(mode="json")
    for room, changes in SHORT.items():
        values[room] |= changes
    values |= {"run": str(folder), "seed": seed}
    values["data"]["holdout"] = HOLDOUT
    short = PretrainConfig.model_validate(values)
    tokens = planned_tokens(Dataset.open(config.data.path), short)
    pack = max(round(images_per_step * tokens.student.tokens), smallest_pack(short.model, short.views))
    values["data"]["pack_tokens"] = pack
    values["train"]["images"] = max(round(budget_flops / workload(short, tokens).flops.total), 1)
    return PretrainConfig.model_validate(values)


def _train(config: PretrainConfig, budget_flops: float) -> dict[str, float]:
    """Until the operations reach the budget; leaves a checkpoint. The last step may pass it."""
    run = open_run(config)
    useful, spent = Useful(config.model, config.objective), 0.0
    say: Callable[[str], Any] = sys.stderr.write
    with closing(run.feeder.steps(run.lanes, run.step)) as steps:
        while spent < budget_flops:
            data = next(steps)
            run.advance(data, take_step(run, data, rates_at(run)).n_images)
            spent += useful.flops(data.packs)
            say(f"\r{config.run.name} seed {config.seed}: {spent / budget_flops:.0%} of the operations   ")
    say("\n")
    run.save()
    return {"images": run.images, "steps": run.step, "flops": spent}
