"""From what a user types to a dataset: paths and URLs, their readers, one store."""

from collections.abc import Sequence
from pathlib import Path

from aqqua.instruments.detect import READERS, find
from aqqua.instruments.ifcb_dashboard import fetch_dashboard
from aqqua.instruments.record import ReadOptions
from aqqua.instruments.registry import UM_PER_PX_RANGE
from aqqua.instruments.tree import Tree, open_tree
from aqqua.store.write import IngestReport, Progress, ingest


def ingest_paths(
    paths: Sequence[str],
    out: Path,
    options: ReadOptions,
    *,
    only: str | None = None,
    seed: int = 0,
    workers: int | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> IngestReport:
    """Read folders, archives and IFCB dashboard URLs into one dataset at `out`.

    A dashboard is first copied beside the output, to `<out>.download`, where a second try finds it.

    Args:
        paths: inputs; each becomes the first part of its images' ids.
        out: folder of the dataset, new or empty.
        options: what the user says of all images.
        only: the one reader to use; None looks at the files.
        seed: of the shuffle.
        workers: decoding processes; None is one per core.
        command: how the dataset is made, kept in its manifest.
        progress: called with the stage, images done and images in all.

    Raises:
        ValueError, FileNotFoundError: an input that is not there, an output that is, or an option
            out of range; the options are looked at before any input.
    """
    _check(paths, out, options, only, workers)
    trees = _open_all([_local(path, out) for path in paths])
    found = ((tree, find(tree, options, only)) for tree in trees)
    return ingest(found, out, seed=seed, workers=workers, progress=progress, command=command)


def _check(
    paths: Sequence[str], out: Path, options: ReadOptions, only: str | None, workers: int | None
) -> None:
    """Mistakes that need no look at the inputs, so that nobody waits for a long listing to hear of them."""
    low, high = UM_PER_PX_RANGE
    if options.um_per_px is not None and not low <= options.um_per_px <= high:
        raise ValueError(
            f"ingest: um_per_px must be {low:g} to {high:g}, got {options.um_per_px:g}; give µm per pixel"
        )
    if only is not None and only.lower() not in READERS:
        raise ValueError(
            f"ingest: the format must be one of {', '.join(READERS)}, got {only}; leave it out to detect it"
        )
    if options.columns and options.table is None:
        raise ValueError("ingest: a column map needs a table, got none; name it with --table")
    if workers is not None and workers < 1:
        raise ValueError(f"ingest: workers must be at least 1, got {workers}; leave it out for one per core")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"ingest: the output must be a new or empty folder, got {out}; choose another --out")
    places = [path if "://" in path else str(Path(path).resolve()) for path in paths]
    twice = [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise ValueError(f"ingest: every input must be given once, got {twice[0]} again; leave one out")


def _local(path: str, out: Path) -> Path:
    if path.startswith(("http://", "https://")):
        return fetch_dashboard(path, out.with_name(out.name + ".download"))
    return Path(path)


def _open_all(paths: Sequence[Path]) -> list[Tree]:
    """Trees with distinct labels: a second input of the same name becomes `name~2`."""
    trees: list[Tree] = []
    for path in paths:
        tree = open_tree(path)
        same = sum(t.label.partition("~")[0] == tree.label for t in trees)
        tree.label += f"~{same + 1}" if same else ""
        trees.append(tree)
    return trees


def report_lines(report: IngestReport) -> list[str]:
    """How an ingest ended, for people."""
    mb = 1e6
    lines = [
        f"{report.path}: {report.read} images read = {report.accepted} accepted + "
        f"{report.quarantined} quarantined",
        f"{report.dataset_bytes / mb:.1f} MB on disk for {report.pixel_bytes / mb:.1f} MB of pixels "
        f"(the original files: {report.original_bytes / mb:.1f} MB), "
        f"{report.blocks} blocks in {report.parts} parts",
    ]
    lines += [f"  quarantined: {reason} {count}" for reason, count in sorted(report.reasons.items())]
    if report.duplicate_groups:
        lines.append(
            f"  the same pixels more than once: {report.duplicate_groups} groups, "
            f"{report.two_label_groups} of them under two labels (duplicates.parquet)"
        )
    return lines
