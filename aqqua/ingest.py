"""From what a user types to a dataset: paths and URLs, their readers, one store."""

import sys
from collections.abc import Sequence
from pathlib import Path

from aqqua.instruments.detect import find
from aqqua.instruments.ifcb_dashboard import fetch_dashboard
from aqqua.instruments.record import ReadOptions
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
    progress: Progress | None = None,
) -> IngestReport:
    """Read folders, archives and IFCB dashboard URLs into one dataset at `out`.

    A dashboard is first copied beside the output, to `<out>.download`, where a second try finds it.

    Raises:
        ValueError, FileNotFoundError: an input that is not there, or an output that is.
    """
    trees = _open_all([_local(path, out) for path in paths])
    found = ((tree, find(tree, options, only)) for tree in trees)
    return ingest(found, out, seed=seed, workers=workers, progress=progress, command=" ".join(sys.argv[1:]))


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
        trees.append(open_tree(path, f"{tree.label}~{same + 1}") if same else tree)
    return trees


def report_lines(report: IngestReport) -> list[str]:
    """How an ingest ended, for people."""
    mb = 1e6
    lines = [
        f"{report.path}: {report.read} images read = {report.accepted} accepted + {report.quarantined} quarantined",
        f"{report.dataset_bytes / mb:.1f} MB on disk for {report.pixel_bytes / mb:.1f} MB of pixels "
        f"(the original files: {report.original_bytes / mb:.1f} MB), {report.blocks} blocks in {report.parts} parts",
    ]
    lines += [f"  quarantined: {reason} {count}" for reason, count in sorted(report.reasons.items())]
    if report.duplicate_groups:
        lines.append(
            f"  the same pixels more than once: {report.duplicate_groups} groups, {report.two_label_groups} of them "
            "under two labels (duplicates.parquet)"
        )
    return lines
