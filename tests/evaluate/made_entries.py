"""Made-up entries of a leaderboard, for tests of the page and of what reads them."""

import numpy as np

from aqqua.evaluate.entry import (
    ClassFigures,
    Entry,
    Figure,
    ModelFacts,
    Overlap,
    ProbeResult,
    SuiteFacts,
    TierResult,
)

CLASSES = ("Acantharia", "Calanoida", "Copepoda (egg)", "detritus", "<b>Hydrozoa</b>")


def made_entry(
    name: str = "aqqua ViT-S/14",
    skill: float = 0.8,
    *,
    kind: str = "aqqua",
    suite: str = "mix",
    data: str = "a" * 64,
    gflops: float | None = 4.6,
) -> Entry:
    """An entry of a model that is right with the probability `skill`, in two tiers and two probes."""
    tiers = {
        tier: TierResult(
            train_images=4000, test_images=500, groups=40, test_rows_sha256="c" * 64,
            probes={probe: _probe(skill - harder - worse, seed=n) for n, (probe, worse) in enumerate(PROBES)},
        )
        for tier, harder in (("sample", 0.0), ("instrument", 0.3))
    }  # fmt: skip
    return Entry(
        model=ModelFacts(
            name=name, kind=kind, sha256="b" * 64, parameters=22_000_000, feature_width=384,
            resolution="native", gflops_per_image=gflops, gpu_hours=None if kind == "pixels" else 12.5,
        ),
        suite=SuiteFacts(name=suite, protocol=3, sha256="d" * 64, datasets={"isiis": data}, classes=5),
        tiers=tiers, seen_in_pretraining=Overlap(images=3, of=500, left_out=True),
        left_out={"no label": 12}, commit="0123456789ab", aqqua="0.1.0",
        command="aqqua evaluate --model runs/first --suite mix", date="2026-11-23",
    )  # fmt: skip


PROBES = (("logistic", 0.0), ("kNN k=20", 0.05))


def _probe(skill: float, seed: int) -> ProbeResult:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, len(CLASSES), 500)
    predicted = np.where(generator.random(500) < skill, truth, generator.integers(0, len(CLASSES), 500))
    table = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(table, (truth, predicted), 1)
    recall = table.diagonal() / table.sum(axis=1)
    figures = [
        ClassFigures(name=name, support=int(table[c].sum()), recall=float(recall[c]),
                     precision=float(table[c, c] / table[:, c].sum()))
        for c, name in enumerate(CLASSES)
    ]  # fmt: skip
    mean = float(recall.mean())
    return ProbeResult(
        metrics={
            "macro_f1": Figure(value=mean, low=mean - 0.03, high=mean + 0.03),
            "balanced_accuracy": Figure(value=mean),
        },
        classes=figures,
        confusion=[(int(a), int(b), int(table[a, b])) for a, b in zip(*np.nonzero(table), strict=True)],
    )
