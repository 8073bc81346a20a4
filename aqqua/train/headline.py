"""The first line of a run's log. Test: tests/train/test_serving.py."""

from aqqua.train.run import Run
from aqqua.train.serving import serving


def headline(run: Run) -> str:
    """Where the run stands, model, precision, who computes what, data."""
    shape, data = run.config.model, run.config.data
    who = serving(run.config, run.device, run.compute_dtype)
    weights = sum(n.numel() for name, n in run.engine.shapes.items() if name.startswith("student.backbone."))
    precision = str(run.compute_dtype).removeprefix("torch.")
    changed = f" (with other {', '.join(run.changed)})" if run.changed else ""
    resumed = f"continued after step {run.step}, {run.images} images{changed}; " if run.step else ""
    where = run.device.type if run.ranks.size == 1 else f"{run.ranks.size} × {run.device.type}"
    held_out = f" ({data.holdout:.0%} of their groups held out)" if data.holdout else ""
    return (
        f"{resumed}ViT {shape.width} wide, {shape.layers} layers, patch {shape.patch_px} px, "
        f"{weights / 1e6:.1f} M parameters{_follows(run)}, {precision} on "
        f"{where}; {', '.join(f'{setting} {name}' for setting, name in who.items())}; "
        f"{run.dataset.rows} images{held_out}, views {_augmentation(run)}, "
        f"{data.lanes} lanes of {data.pack_tokens} tokens, "
        f"about {run.images_per_step:.0f} images a step"
    )


def _follows(run: Run) -> str:
    """Whose answers are learned, where they are not the run's own."""
    if run.model.followed is None or run.config.distill is None:
        return ""
    theirs = run.model.followed.network.backbone.config
    return f" distilled from {run.config.distill.teacher}, {theirs.width} wide, {theirs.layers} layers"


def _augmentation(run: Run) -> str:
    """The set that serves, what of it was changed, and what it does to colour."""
    views, changed = run.config.views, run.config.views.departures()
    but = f" but for {', '.join(changed)}" if changed else ""
    colour = any("colour" in facts for facts in run.dataset.manifest["instruments"].values())
    grey = ", colour made grey by model.channels=1" if colour and run.config.model.channels == 1 else ""
    return f"{views.augmentation}{but}{grey}"
