"""Draw how a run learned: its losses, and kNN of each kept checkpoint on the held-out images.

    aqqua evaluate runs/isiis_tiny --data data/isiis --against untrained pixels --out scores.json
    python bench/train/curve.py runs/isiis_tiny data/isiis --scores scores.json --out docs/isiis_curve.svg

The kNN numbers go to <out>.json beside the picture.
"""

import argparse
import json
from pathlib import Path

from aqqua.evaluate.report import evaluate
from aqqua.train.folder import CHECKPOINTS
from aqqua.train.metrics import METRICS

INK, SOFT, WARM = "#17323d", "#2a7a9b", "#b07d1e"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True, help="of `aqqua evaluate`, for the baselines")
    options = parser.parse_args()
    rows = [json.loads(line) for line in (options.run / METRICS).read_text().splitlines()]
    points = knn_of_checkpoints(options.run, options.data)
    scores = json.loads(options.scores.read_text())["scores"]
    baselines = {name: probes["kNN k=20"]["macro_f1"] for name, probes in scores.items() if name != "model"}
    options.out.with_suffix(".json").write_text(
        json.dumps({"knn_20_macro_f1": points, "baselines": baselines}, indent=1) + "\n"
    )
    draw(rows, points, baselines, options.out)


def knn_of_checkpoints(run: Path, data: Path) -> list[dict[str, float]]:
    """Images seen and kNN (k = 20) of every checkpoint that was kept."""
    points = []
    for path in sorted((run / CHECKPOINTS).glob("step-*")):
        images = json.loads((path / "state.json").read_text())["images"]
        scores = evaluate(path, data, against=[], linear=False).scores["model"]["kNN k=20"]
        points.append({"images": images, "macro_f1": scores.macro_f1, "accuracy": scores.accuracy})
    return points


def draw(rows: list[dict], points: list[dict[str, float]], baselines: dict[str, float], out: Path) -> None:
    """Two panels over images seen: losses, kNN."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    images = [row["images"] / 1000 for row in rows]
    left.plot(images, [row["loss"]["dino"] for row in rows], color=SOFT, label="DINO")
    left.plot(
        images, [row["teacher_entropy"] for row in rows], color=SOFT, alpha=0.4, label="teacher entropy"
    )
    left.plot(images, [row["loss"]["ibot"] for row in rows], color=WARM, label="iBOT")
    left.set(xlabel="thousand images seen", ylabel="nats", title="losses")
    seen = [0, *(p["images"] / 1000 for p in points)]
    scores = [baselines.get("untrained", 0.0), *(p["macro_f1"] for p in points)]
    right.plot(seen, scores, "o-", color=INK, label="aqqua")
    for name, colour in (("pixels", WARM), ("untrained", SOFT)):
        if name in baselines:
            right.axhline(
                baselines[name], color=colour, linestyle="--", label=f"{name} {baselines[name]:.3f}"
            )
    right.set(
        xlabel="thousand images seen",
        ylabel="macro-F1",
        title="kNN (k = 20) on held-out images",
        ylim=(0, None),
    )
    for panel in (left, right):
        panel.legend(frameon=False)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(out)


if __name__ == "__main__":
    main()
