"""From what a user types to a dataset: paths and URLs, their readers, one store."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from aqqua.instruments.detect import READERS, find
from aqqua.instruments.ifcb_dashboard import dashboard_name, fetch_dashboard
from aqqua.instruments.record import ReadOptions
from aqqua.instruments.registry import UM_PER_PX_RANGE, registry
from aqqua.instruments.tree import Tree, open_tree
from aqqua.progress import count
from aqqua.store.write import IngestReport, Progress, ingest

LIKE_ENOUGH = 0.5  # of difflib: a name less like the one given is no suggestion


def ingest_paths(
    paths: Sequence[str],
    out: Path,
    options: ReadOptions,
    *,
    only: str | None = None,
    seed: int = 0,
    keep_encoded: bool = False,
    workers: int | None = None,
    engine: Literal["local", "ray"] = "local",
    command: str = "",
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> IngestReport:
    """Read folders, archives and IFCB dashboard URLs into one dataset at `out`.

    A dashboard is first copied beside the output, to a folder of its own in `<out>.download`, where a
    second try with the same URL finds it. The folder is kept: delete it when the dataset is whole.

    Args:
        paths: inputs; each becomes the first part of its images' ids.
        out: folder of the dataset, new or empty.
        options: what the user says of all images.
        only: the one reader to use; None looks at the files.
        seed: of the shuffle.
        keep_encoded: hold original image files instead of pixels, where they can be (aqqua.store.write).
        workers: decoding processes; None is one per core, and must not be with Ray.
        engine: this machine, or a Ray cluster whose machines see inputs and output under the same names.
        command: how the dataset is made, kept in its manifest.
        progress: called with the stage, what is done and what there is in all: bins in the stage
            'download', images in the stages after it.
        note: called with a line the user should read before the work begins.

    Raises:
        ValueError, FileNotFoundError: an input that is not there, an output that is, or an option
            out of range; the options are looked at before any input.
        RuntimeError: the list of a dashboard's bins could not be fetched, or a worker on Ray died.
    """
    _check(paths, out, options, only, workers, engine)
    options = _spelled(options, note)
    trees = _open_all(paths, out.with_name(out.name + ".download"), progress)
    found = ((tree, find(tree, options, only)) for tree in trees)
    return ingest(
        found, out, seed=seed, keep_encoded=keep_encoded, workers=workers, engine=engine, progress=progress,
        command=command,
    )  # fmt: skip


def _check(
    paths: Sequence[str],
    out: Path,
    options: ReadOptions,
    only: str | None,
    workers: int | None,
    engine: str,
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
    if workers is None and engine != "local":
        raise ValueError(
            f"ingest: workers must be given with engine {engine}, got none; add --workers 16, say"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"ingest: the output must be a new or empty folder, got {out}; choose another --out")
    places = [path if "://" in path else str(Path(path).resolve()) for path in paths]
    twice = [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise ValueError(f"ingest: every input must be given once, got {twice[0]} again; leave one out")
    for path in paths:
        if _is_url(path):
            dashboard_name(path)


def _spelled(options: ReadOptions, note: Callable[[str], None] | None) -> ReadOptions:
    """The instrument as the registry spells it; a name it does not have is kept, and spoken of."""
    given = options.instrument
    if not given or given == "unknown":
        return options
    names = {name.lower(): name for name in registry()}
    known = names.get(given.lower())
    if known is not None:
        return replace(options, instrument=known)
    if note is not None:
        near = difflib.get_close_matches(given.lower(), names, n=1, cutoff=LIKE_ENOUGH)
        meant = f"did you mean {names[near[0]]}?" if near else f"known are {', '.join(registry())}"
        note(f"{given} is not in the instrument registry, nothing is known of its scale; {meant}")
    return options


def _is_url(path: str) -> bool:
    return path.startswith(("http://", "https://"))


def _open_all(paths: Sequence[str], downloads: Path, progress: Progress | None) -> list[Tree]:
    """Trees with distinct labels: a second input of the same name becomes `name~2`."""
    # Local inputs first: a path that is not there is told before hours of download.
    local = {path: open_tree(Path(path)) for path in paths if not _is_url(path)}
    trees: list[Tree] = []
    for path in paths:
        tree = local.get(path) or _open_dashboard(path, downloads, progress)
        taken, name, number = {t.label for t in trees}, tree.label, 1
        while tree.label in taken:
            number += 1
            tree.label = f"{name}~{number}"
        trees.append(tree)
    return trees


def _open_dashboard(url: str, downloads: Path, progress: Progress | None) -> Tree:
    """What a URL means, in a folder of its own: two URLs never mix their bins or their failures."""
    name = dashboard_name(url)
    folder = downloads / f"{name}-{blake2b(url.encode(), digest_size=4).hexdigest()}"

    def on_bin(done: int, total: int) -> None:
        if progress is not None:
            progress("download", done, total)

    return open_tree(fetch_dashboard(url, folder, on_bin=on_bin), label=name)


def report_lines(report: IngestReport) -> list[str]:
    """How an ingest ended, for people."""
    mb = 1e6
    lines = [
        f"{report.path}: {report.read} images read = {report.accepted} accepted + "
        f"{report.quarantined} quarantined",
        f"{report.dataset_bytes / mb:.1f} MB on disk for {report.pixel_bytes / mb:.1f} MB of pixels "
        f"(the original files: {report.original_bytes / mb:.1f} MB), "
        f"{count(report.blocks, 'block')} in {count(report.parts, 'part')}",
    ]
    lines += [
        f"  kept as the original {name}: {kept['images']} images, {kept['bytes'] / mb:.1f} MB"
        for name, kept in report.encoded.items()
    ]
    lines += [f"  quarantined: {reason} {count}" for reason, count in sorted(report.reasons.items())]
    if report.duplicate_groups:
        lines.append(
            f"  the same pixels more than once: {report.duplicate_groups} groups, "
            f"{report.two_label_groups} of them under two labels (duplicates.parquet)"
        )
    return lines
