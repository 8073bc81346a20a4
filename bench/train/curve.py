"""Draw how a run learned: its losses, and kNN of each kept checkpoint on the held-out images.

    aqqua evaluate runs/isiis_tiny --data data/isiis --against untrained pixels --out scores.json
    python bench/train/curve.py runs/isiis_tiny data/isiis --scores scores.json --out docs/isiis_curve.svg

The kNN numbers go to <out>.json beside the picture.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from aqqua.train.folder import CHECKPOINTS
from aqqua.train.metrics import METRICS

BASELINES = ("untrained", "pixels")
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
    baselines = {
        name: figure["macro_f1"]
        for name, figure in knn_of(options.scores).items()
        if name.partition(":")[0] in BASELINES
    }
    options.out.with_suffix(".json").write_text(
        json.dumps({"knn_20_macro_f1": points, "baselines": baselines}, indent=1) + "\n"
    )
    draw(rows, points, baselines, options.out)


def knn_of_checkpoints(run: Path, data: Path) -> list[dict[str, float]]:
    """Images seen and kNN (k = 20) of every checkpoint that was kept."""
    paths = sorted((run / CHECKPOINTS).glob("step-*"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "scores.json")
        words = [*paths, "--data", data, "--probes", "knn", "--against", "--out", out]
        subprocess.run([sys.executable, "-m", "aqqua.cli", "evaluate", *map(str, words)], check=True)
        figures = knn_of(out)
    images = [json.loads((path / "state.json").read_text())["images"] for path in paths]
    return [{"images": n, **figures[str(path)]} for n, path in zip(images, paths, strict=True)]


def knn_of(scores: Path) -> dict[str, dict[str, float]]:
    """Macro-F1 and accuracy of kNN (k = 20) of each model, from the JSON of `aqqua evaluate`."""
    found = {}
    for name, tiers in json.loads(scores.read_text())["scores"].items():
        (probes,) = tiers.values()
        figures = probes["kNN k=20"]["figures"]
        found[name] = {figure: figures[figure]["value"] for figure in ("macro_f1", "accuracy")}
    return found


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
    scores = [
        next((f1 for name, f1 in baselines.items() if name.startswith("untrained")), 0.0),
        *(p["macro_f1"] for p in points),
    ]
    right.plot(seen, scores, "o-", color=INK, label="aqqua")
    for name, f1 in baselines.items():
        kind = name.partition(":")[0]
        colour = WARM if kind == "pixels" else SOFT
        right.axhline(f1, color=colour, linestyle="--", label=f"{kind} {f1:.3f}")
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
